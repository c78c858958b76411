//! Training through the real binary: every network trains, exports what it trained and quantises; Hilum's operators end
//! where burn's do; the benchmark and the devices.

use serde_json::Value;
use std::path::Path;
use tests::{json, ok, run};

/// A recipe of one epoch for `network`, and the images for it.
fn prepare(at: &Path, network: &str) {
    ok("host-train", &["phantom", "data", "--images", "64"], at);
    let recipe = format!(
        "name = 'tiny'\n[input]\nsize = 64\nchannels = 1\nresize = 'stretch'\nmean = 128\nstd = 128\n\
         [network]\n{network}\n[train]\nepochs = 1\nbatch = 8\nlearning_rate = 1e-3\npatience = 1\n\
         [operating_point]\nrule = 'youden'\n"
    );
    std::fs::write(at.join("recipe.toml"), recipe).unwrap();
}

fn last_epoch(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn every_network_trains_exports_and_quantises() {
    let networks = [
        "kind = 'resnet50'\ndropout = 0.1",
        "kind = 'densenet121'\ndropout = 0.1",
        "kind = 'mobilenet-v2'\nfrozen = 0\nlast = 1280\ndropout = 0.1",
        "kind = 'cnn'\nchannels = [8, 16]\nbatch_norm = false\nhead = 'flatten-dense'\ndropout = 0.1",
    ];
    for network in networks {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        prepare(at, network);
        ok("host-train", &["train", "-q", "--recipe", "recipe.toml", "--data", "data", "--out", "run"], at);
        // The epoch was judged by the network that trained, the evaluation by the exported one on the device's engine.
        let trained = last_epoch(&at.join("run"));
        let exported: Value =
            serde_json::from_str(&std::fs::read_to_string(at.join("run/evaluation.json")).unwrap()).unwrap();
        let apart = (trained["val_auroc"].as_f64().unwrap() - exported["auroc"].as_f64().unwrap()).abs();
        assert!(apart < 0.02, "{network}: {trained} {exported}");
        ok("quantize", &["run/model.onnx"], at);
        let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phantom-chest.jpeg");
        let scan = json("edge-runtime", &["scan", image, "--model", "run/model.hilum", "--json"], at);
        assert!(scan["probability"].is_number(), "{network}: {scan}");
    }
}

#[test]
fn own_operators_end_where_burns_do() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    ok("host-train", &["phantom", "data", "--images", "160"], at);
    let ends = ["own", "burn"].map(|operators| {
        let mut args = vec!["train", "-q", "--recipe", "phantom-cnn", "--data", "data", "--out", operators];
        if operators == "burn" {
            args.push("--burn-operators");
        }
        ok("host-train", &args, at);
        last_epoch(&at.join(operators))
    });
    // The same random numbers, sums in another order: what differs at the end is what rounding has grown to.
    for (key, apart) in [("train_loss", 0.03), ("val_loss", 0.05), ("val_auroc", 0.05)] {
        let [own, burn] = [0, 1].map(|i: usize| ends[i][key].as_f64().unwrap());
        assert!((own - burn).abs() < apart, "{key}: {own} with our operators, {burn} with burn's");
    }
}

#[test]
fn the_benchmark_reports_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "-q", "--network", "mobilenetv2", "--size", "32", "--batch", "2", "--steps", "1", "--json"];
    let report = json("host-train", &args, dir.path());
    assert_eq!(report["parameters"], 3_504_872);
    for key in ["train_images_per_s", "infer_images_per_s", "threads", "forward_ms", "backward_ms", "update_ms"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}: {report}");
    }
    let out = run("host-train", &["bench", "--network", "no-such-network"], dir.path());
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("mobilenetv2, densenet121, resnet50"), "{}", out.stderr);
}

#[test]
fn a_missing_graphics_card_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let out = run("host-train", &["bench", "--network", "phantom-cnn", "--device", "gpu", "--steps", "1"], dir.path());
    // The tests build host-train without the GPU backend.
    assert_eq!(out.code, Some(1), "{}", out.stderr);
    assert!(out.stderr.contains("--features wgpu") && out.stderr.trim_end().lines().count() == 1, "{}", out.stderr);
}
