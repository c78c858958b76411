//! Models of other origins and other times through `quantize`: their int8 form loads in ONNX Runtime, computes what the
//! float model computes, and the device computes the same.

use edge_runtime::engine::Compute;
use edge_runtime::model::Model;
use std::path::Path;
use std::process::Command;
use tests::json;
use tests::peers::{agrees_within, python};

#[test]
fn models_of_other_origins_keep_their_meaning() {
    let Some(python) = python("numpy, onnx, onnxruntime, PIL") else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign_models.py");
    let run = |args: &[&str]| {
        let out = Command::new(&python).arg(&script).args(args).current_dir(at).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        eprint!("{}", String::from_utf8_lossy(&out.stdout));
    };
    run(&["make", "."]);
    let cases: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(at.join("cases.json")).unwrap()).unwrap();
    assert!(cases.len() > 30);
    let images = edge_runtime::image::folder::image_files(&at.join("images")).unwrap();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let [model, contract, bundle, int8] = ["onnx", "toml", "hilum", "int8.onnx"].map(|e| format!("{name}.{e}"));
        let mut args = vec![model.as_str(), "--contract", &contract, "--calibrate", "images", "--json"];
        args.extend(case["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()));
        let report = json("quantize", &args, at);
        if case["integer"] == true {
            assert_eq!(report["float_layers"].as_array().map(Vec::len), Some(0), "{name}: {}", report["float_layers"]);
        }
        let input = Model::load(&at.join(&bundle), &Compute::default()).unwrap().contract.input;
        let frames: Vec<_> = images.iter().map(|file| data::frames::frame(file, &input).unwrap()).collect();
        // ONNX Runtime enlarges codes, and cuts what lies between them; here real values are enlarged and rounded.
        let steps = if name.contains("linear") { 4.0 } else { 1.0 };
        agrees_within(steps, &python, at, &bundle, &int8, &frames);
        run(&["compare", name]);
    }
}
