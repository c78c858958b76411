//! Runs the real binaries, as a person would, and looks at what they print and leave behind.

use edge_runtime::contract::InputContract;
use edge_runtime::model::Model;
use edge_runtime::preprocess::Frame;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A binary of the workspace, from the folder that this test was built into.
pub fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test runs from a file");
    path.pop(); // deps
    path.pop();
    path.push(name);
    assert!(path.is_file(), "{} is not built: run the tests with `cargo test --workspace`", path.display());
    path
}

/// What a command did.
pub struct Run {
    /// Exit code; a signal has none.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `name` with `args` in `folder`.
pub fn run(name: &str, args: &[&str], folder: &Path) -> Run {
    let Output { status, stdout, stderr } =
        Command::new(binary(name)).args(args).current_dir(folder).output().expect("the binary starts");
    Run {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// As [`run`], for commands that must succeed; gives what they print.
pub fn ok(name: &str, args: &[&str], folder: &Path) -> String {
    let r = run(name, args, folder);
    assert_eq!(r.code, Some(0), "{name} {args:?}\n{}{}", r.stdout, r.stderr);
    r.stdout
}

/// As [`ok`], for one JSON value.
pub fn json(name: &str, args: &[&str], folder: &Path) -> serde_json::Value {
    let text = ok(name, args, folder);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} {args:?} printed no JSON ({e}):\n{text}"))
}

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

/// Random frames, the same each time.
pub fn random_frames(size: u32, count: usize) -> Vec<Frame> {
    let mut x = 88_172_645_463_325_252u64;
    let mut next = move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 40) as u8
    };
    (0..count).map(|_| Frame { size, pixels: (0..size * size).map(|_| next()).collect() }).collect()
}

/// Holds the logits of `model` (a bundle, or the int8 ONNX itself) against ONNX Runtime's on `int8`, within one step. The
/// logits leave without a quantisation of their own; the step they would have is their range over 255.
pub fn agrees_with_onnxruntime(python: &str, folder: &Path, model: &str, int8: &str, frames: &[Frame]) {
    let model = Model::load(&folder.join(model)).expect("a model");
    let input: &InputContract = &model.contract.input;
    let bytes: Vec<u8> = frames.iter().flat_map(|f| f.to_f32(input)).flat_map(f32::to_le_bytes).collect();
    let inputs = folder.join("inputs.f32");
    std::fs::write(&inputs, bytes).expect("inputs are written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("onnxruntime_logits.py");
    let out = Command::new(python)
        .arg(script)
        .args([int8, "inputs.f32"])
        .current_dir(folder)
        .output()
        .expect("python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let theirs: Vec<Vec<f32>> = serde_json::from_slice(&out.stdout).expect("logits in JSON");
    let ours: Vec<Vec<f32>> = frames.iter().map(|f| model.infer(f).expect("an inference").logits).collect();
    let all = || ours.iter().flatten().copied();
    let step = (all().fold(f32::MIN, f32::max) - all().fold(f32::MAX, f32::min)) / 255.0;
    let pairs = || ours.iter().flatten().zip(theirs.iter().flatten());
    let worst = pairs().map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    assert_eq!(pairs().count(), frames.len() * model.contract.logits());
    assert!(worst <= step, "{int8}: logits differ by up to {worst}, a step is {step}");
    eprintln!("{int8}: {} images agree with ONNX Runtime within {worst}; a step is {step}", frames.len());
}
