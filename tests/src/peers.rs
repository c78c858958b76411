//! Other engines to compare with.

use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::Model;
use std::path::Path;
use std::process::Command;

/// The Python that `HILUM_PYTHON` names (or `python3`), if it has `modules`; else says that the test is skipped.
pub fn python(modules: &str) -> Option<String> {
    let python = std::env::var("HILUM_PYTHON").unwrap_or_else(|_| "python3".into());
    let there = Command::new(&python).args(["-c", &format!("import {modules}")]).output();
    if there.is_ok_and(|o| o.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {python} lacks some of {modules} (set HILUM_PYTHON to one that has them)");
    None
}

/// Holds the logits of `model` (a bundle, or the int8 ONNX itself) against ONNX Runtime's on `int8`, within one step.
pub fn agrees_with_onnxruntime(python: &str, folder: &Path, model: &str, int8: &str, planes: &[GreyPlane]) {
    agrees_within(1.0, python, folder, model, int8, planes);
}

/// As [`agrees_with_onnxruntime`], within `steps`. The logits leave without a quantisation of their own; the step they
/// would have is their range over 255.
pub fn agrees_within(steps: f32, python: &str, folder: &Path, model: &str, int8: &str, planes: &[GreyPlane]) {
    let model = Model::load(&folder.join(model), &Compute::default()).expect("a model");
    // A bundle's pixels may be shifted, which the ONNX model does itself.
    let input = &Model::load(&folder.join(int8), &Compute::default()).expect("a model").contract.input;
    let bytes: Vec<u8> = planes.iter().flat_map(|p| normalise(p, input)).flat_map(f32::to_le_bytes).collect();
    let inputs = folder.join("inputs.f32");
    std::fs::write(&inputs, bytes).expect("inputs are written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnxruntime_logits.py");
    let mut command = Command::new(python);
    let out = command.arg(script).args([int8, "inputs.f32"]).current_dir(folder).output().expect("python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let theirs: Vec<Vec<f32>> = serde_json::from_slice(&out.stdout).expect("logits in JSON");
    let ours: Vec<Vec<f32>> = planes.iter().map(|p| model.infer(p).expect("an inference").logits).collect();
    let all = || ours.iter().flatten().copied();
    let step = (all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min)) / 255.0;
    let pairs = || ours.iter().flatten().zip(theirs.iter().flatten());
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert_eq!(pairs().count(), planes.len() * model.contract.logits());
    assert!(worst <= steps * step, "{int8}: logits differ by up to {worst}, a step is {step}");
    eprintln!("{int8}: {} images agree with ONNX Runtime within {worst}; a step is {step}", planes.len());
}
