//! torchvision's MobileNetV2, ResNet50, DenseNet121, ResNeXt50, SqueezeNet and ShuffleNet, as PyTorch exports them,
//! through `quantize` and the device, against ONNX Runtime. Skipped, aloud, where Python has no torchvision; then the
//! chain's own networks still are compared.

use edge_runtime::engine::Compute;
use edge_runtime::model::Model;
use std::process::Command;
use tests::generate::random_planes;
use tests::peers::{agrees_with_onnxruntime, python};
use tests::{json, ok};

#[test]
fn torchvision_networks_compute_what_onnx_runtime_computes() {
    let Some(python) = python("onnxruntime, numpy, onnx, onnxscript, torch, torchvision") else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "phantoms", "--images", "160"], at);
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("torchvision_models.py");
    let export = Command::new(&python).arg(script).current_dir(at).output().unwrap();
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
    let phantoms = edge_runtime::image::folder::image_files(&at.join("phantoms")).unwrap();
    // The last two have layers that stay float.
    for (name, images) in [
        ("mobilenet_v2", 200),
        ("resnet50", 200),
        ("densenet121", 200),
        ("resnext50_32x4d", 20),
        ("squeezenet1_1", 20),
        ("shufflenet_v2_x1_0", 20),
    ] {
        let model = format!("{name}.onnx");
        json("quantize", &[&model, "--calibrate", "phantoms/test", "--json"], at);
        let contract = Model::load(&at.join(format!("{name}.hilum")), &Compute::default()).unwrap().contract;
        let mut frames = random_planes(contract.input.size, images);
        frames.extend(phantoms.iter().take(images).map(|p| data::frames::frame(p, &contract.input).unwrap()));
        assert_eq!(frames.len(), 2 * images);
        let int8 = format!("{name}.int8.onnx");
        agrees_with_onnxruntime(&python, at, &format!("{name}.hilum"), &int8, &frames);
        agrees_with_onnxruntime(&python, at, &int8, &int8, &frames[..8]);
    }
}
