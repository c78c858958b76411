//! The chain: phantom → prepare → train → evaluate → quantize → inspect → scan → bench, and the device against ONNX
//! Runtime.

use edge_runtime::engine::Compute;
use edge_runtime::image::folder::image_files;
use edge_runtime::model::Model;
use edge_runtime::model::contract::ranges_to_metadata;
use edge_runtime::onnx;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tests::generate::random_planes;
use tests::peers::{agrees_with_onnxruntime, python};
use tests::{json, ok, run, run_with};

/// The chain up to the quantised model, made once for all tests here.
fn chain() -> &'static Path {
    static CHAIN: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = CHAIN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().to_owned();
        ok("host-train", &["phantom", "data", "--images", "160"], &at);
        let summary = json("host-train", &["prepare", "data", "--json"], &at);
        assert_eq!(summary["images"], 200);
        ok("host-train", &["train", "--recipe", "phantom-cnn", "--data", "manifest.csv", "--out", "run"], &at);
        let report = json("quantize", &["run/model.onnx", "--data", "data", "--split", "test", "--json"], &at);
        assert!(report["agreement"].as_f64().unwrap() >= 0.9, "{report}");
        (dir, at)
    });
    path
}

#[test]
fn a_trained_model_finds_what_it_was_trained_for() {
    let at = chain();
    for model in ["run/model.onnx", "run/model.int8.onnx", "run/model.hilum"] {
        let m = json("host-train", &["evaluate", "--model", model, "--data", "data", "--json"], at);
        assert_eq!(m["n"], 40, "{model}");
        assert!(m["auroc"].as_f64().unwrap() > 0.75, "{model}: {m}");
        let keys = [
            "threshold",
            "accuracy",
            "auroc_ci95",
            "average_precision",
            "sensitivity",
            "specificity",
            "precision",
            "npv",
            "f1",
            "macro_f1",
            "brier",
            "ece",
            "confusion",
        ];
        assert!(keys.iter().all(|k| !m[k].is_null()), "{m}");
    }
}

#[test]
fn quantize_alone_needs_nothing_but_the_model() {
    let at = chain();
    std::fs::create_dir_all(at.join("alone")).unwrap();
    std::fs::copy(at.join("run/model.onnx"), at.join("alone/m.onnx")).unwrap();
    ok("quantize", &["alone/m.onnx"], at);
    assert!(at.join("alone/m.int8.onnx").is_file() && at.join("alone/m.hilum").is_file());
}

#[test]
fn bundle_and_int8_onnx_give_the_same_logits() {
    let at = chain();
    let a = Model::load(&at.join("run/model.hilum"), &Compute::default()).unwrap();
    let b = Model::load(&at.join("run/model.int8.onnx"), &Compute::default()).unwrap();
    for frame in random_planes(64, 20) {
        assert_eq!(a.infer(&frame).unwrap(), b.infer(&frame).unwrap());
    }
}

/// A device that is given public keys takes bundles that one of them signed, and no others.
#[test]
fn a_signed_model_is_taken_and_no_other() {
    let at = tempfile::tempdir().unwrap();
    let at = at.path();
    let model = chain().join("run/model.onnx");
    let model = model.to_str().unwrap();
    let ok = |program: &str, args: &[&str]| {
        let out = run(program, args, at);
        assert_eq!(out.code, Some(0), "{program} {args:?}: {}", out.stderr);
        out.stdout
    };
    let scan = |model: &str, keys: &str| {
        let out = run("edge-runtime", &["scan", &first_image(chain()), "--model", model, "--model-keys", keys], at);
        (out.code, out.stderr)
    };
    for [name, ring] in [["clinic", "keys.toml"], ["stranger", "others.toml"]] {
        let secret = format!("{name}.key");
        ok("quantize", &["keygen", name, "--secret", &secret, "--keys", ring]);
    }
    ok("quantize", &[model, "-o", "signed", "--sign", "clinic.key", "-q"]);
    ok("quantize", &[model, "-o", "plain", "-q"]);
    let of = |model: &str| json("edge-runtime", &["inspect", model, "--json"], at);
    let public = of("signed.hilum")["signer"].as_str().unwrap().to_owned();
    assert!(std::fs::read_to_string(at.join("keys.toml")).unwrap().contains(&public));
    assert_eq!(of("signed.hilum")["digest"], of("plain.hilum")["digest"]);
    assert_eq!(scan("signed.hilum", "keys.toml").0, Some(0));
    let refused = |model: &str, keys: &str, words: &str| {
        let (code, stderr) = scan(model, keys);
        assert!(code == Some(3) && stderr.contains(words), "{model} {keys}: {stderr}");
    };
    refused("signed.hilum", "others.toml", "does not know");
    refused("plain.hilum", "keys.toml", "is not signed");
    refused("plain.int8.onnx", "keys.toml", "is not signed");
    ok("quantize", &["keygen", "next", "--secret", "next.key", "--keys", "keys.toml", "--revoke", "clinic"]);
    refused("signed.hilum", "keys.toml", "revoked");
    let mut bytes = std::fs::read(at.join("signed.hilum")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(at.join("changed.hilum"), bytes).unwrap();
    refused("changed.hilum", "others.toml", "signature is wrong");
    let config = "model = \"plain.hilum\"\nmodel_keys = \"keys.toml\"\n[findings]\nfolder = \"f\"\nkey = \"f.key\"\n";
    std::fs::write(at.join("device.toml"), config).unwrap();
    let doctor = serde_json::from_str::<Value>(
        &run("edge-runtime", &["doctor", "--config", "device.toml", "--json"], at).stdout,
    )
    .unwrap();
    let checks = doctor["checks"].as_array().unwrap();
    let check = checks.iter().find(|c| c["sentence"].as_str().unwrap().contains("is not signed"));
    assert_eq!(check.unwrap()["passed"], false, "{doctor}");
    let out = run("quantize", &[model, "-o", "x", "--sign", "keys.toml"], at);
    assert!(out.code == Some(2) && !out.stderr.contains(&public), "{}", out.stderr);
}

/// Training records how often values were seen, so that every method of ranges works without images.
#[test]
fn every_method_of_ranges_works_on_the_model_alone() {
    let at = chain();
    let digest = |method: &str| {
        let args = ["run/model.onnx", "--method", method, "-o", "alone_by", "--dry-run", "--force", "-q", "--json"];
        let report = json("quantize", &args, at);
        assert_eq!(report["ranges_by"], if method == "auto" { "min-max" } else { method });
        report["bundle"]["digest"].as_str().unwrap().to_owned()
    };
    let digests = ["min-max", "percentile", "entropy", "mse"].map(digest);
    assert_eq!(digest("auto"), digests[0]);
    assert_ne!(digest("mse"), digests[0]);
    let mut bare = onnx::load(&at.join("run/model.onnx")).unwrap();
    bare.metadata_props.retain(|property| property.key != "hilum.histograms");
    onnx::save(&bare, &at.join("bare.onnx")).unwrap();
    let out = run("quantize", &["bare.onnx", "--method", "mse", "--dry-run"], at);
    assert!(out.code == Some(1) && out.stderr.contains("--calibrate DIR"), "{}", out.stderr);
}

/// Both forms of the int8 ONNX are one model.
#[test]
fn operators_of_the_int8_onnx_are_chosen() {
    let at = chain();
    let operators = |file: &str| onnx::operators(&std::fs::read(at.join(file)).unwrap());
    for (format, has) in [("qoperator", true), ("qdq", false)] {
        ok("quantize", &["run/model.onnx", "--format", format, "-o", format, "--force", "-q"], at);
        let operators = operators(&format!("{format}.int8.onnx"));
        assert_eq!(operators.contains(&"QLinearConv".to_owned()), has, "{operators:?}");
        assert_eq!(operators.contains(&"Conv".to_owned()), !has, "{operators:?}");
    }
    let [a, b] = ["qdq.hilum", "qoperator.hilum"].map(|file| std::fs::read(at.join(file)).unwrap());
    assert!(a == b);
    let [a, b] =
        ["qdq.int8.onnx", "qoperator.int8.onnx"].map(|file| Model::load(&at.join(file), &Compute::default()).unwrap());
    for frame in random_planes(64, 20) {
        assert_eq!(a.infer(&frame).unwrap(), b.infer(&frame).unwrap());
    }
}

#[test]
fn inspect_shows_the_contract() {
    let at = chain();
    let i = json("edge-runtime", &["inspect", "run/model.hilum", "--json"], at);
    assert_eq!(i["labels"][1], "PNEUMONIA");
    assert_eq!(i["input"]["size"], 64);
    assert!(i["layers"].as_array().unwrap().len() > 5);
    assert!(i["operating_point"]["threshold"].as_f64().is_some());
    assert!(ok("edge-runtime", &["inspect"], at).contains("operating point"));
}

#[test]
fn a_scan_says_everything_a_machine_needs() {
    let at = chain();
    let out = ok("edge-runtime", &["scan", "data/test", "--model", "run/model.hilum", "--json"], at);
    let lines: Vec<Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 40);
    let files: Vec<&str> = lines.iter().map(|l| l["file"].as_str().unwrap()).collect();
    assert!(files.is_sorted());
    for l in &lines {
        let p = l["probability"].as_f64().unwrap();
        assert_eq!(l["positive"].as_bool().unwrap(), p >= l["threshold"].as_f64().unwrap());
        assert_eq!(l["label"], if l["positive"] == true { "PNEUMONIA" } else { "NORMAL" });
        assert_eq!(l["sha256"].as_str().unwrap().len(), 64);
        for stage in ["read", "decode", "preprocess", "infer", "explain", "render", "total"] {
            assert!(l["latency_ms"][stage].as_f64().is_some(), "{l}");
        }
        for key in ["name", "version", "digest", "format"] {
            assert!(l["model"][key].is_string(), "{l}");
        }
        assert!(l["budget_ms"].is_number() && l["within_budget"].is_boolean() && l["image"]["width"] == 192, "{l}");
    }
}

#[test]
fn a_scan_says_to_people_that_it_is_no_diagnosis_and_draws() {
    let at = chain();
    let image = first_image(at);
    let args = ["scan", image.as_str(), "--heatmap", "h.png", "--screen", "s.png", "--board", "raspberry-pi-4"];
    let text = ok("edge-runtime", &args, at);
    assert!(
        text.contains("not a diagnosis") && text.contains("Raspberry Pi 4") && text.contains("operating point"),
        "{text}"
    );
    let size = |f: &str| image::image_dimensions(at.join(f)).unwrap();
    assert_eq!(size("s.png"), (320, 240));
    assert_eq!(size("h.png"), (192, 192));
}

#[test]
fn bench_measures_every_stage() {
    let at = chain();
    let b = json("edge-runtime", &["bench", "--model", "run/model.hilum", "--runs", "5", "--json"], at);
    for key in ["infer_ms", "network_cpu_ms", "total_ms", "decode_ms"] {
        for p in ["p50", "p95", "p99"] {
            assert!(b[key][p].as_f64().unwrap() >= 0.0, "{b}");
        }
    }
    assert!(b["cold_start_ms"].as_f64().unwrap() > 0.0 && b["cold_start_cpu_ms"].as_f64().unwrap() > 0.0);
    assert!(b["peak_rss_mib"].as_f64().unwrap() > 1.0 && b["threads"] == 1 && b["kernel"].is_string());
}

/// A model of another origin, whose threshold nobody has judged, got one that missed almost every pneumonia.
#[test]
fn a_threshold_that_nobody_judged_keeps_the_float_models_sensitivity() {
    let at = chain();
    let path = at.join("run/model.onnx");
    let mut model = edge_runtime::onnx::decode(&std::fs::read(&path).unwrap(), &path).unwrap();
    model.metadata_props.clear();
    std::fs::write(at.join("foreign.onnx"), edge_runtime::onnx::encode(&model)).unwrap();
    let contract = "labels = [\"NORMAL\", \"PNEUMONIA\"]\npositive = \"PNEUMONIA\"\nthreshold = 0.3\n";
    std::fs::write(at.join("foreign.toml"), contract).unwrap();
    let images = ["--calibrate", "data/train", "--data", "data"];
    let args = [&["foreign.onnx", "--contract", "foreign.toml", "--json", "-q"][..], &images].concat();
    let report = json("quantize", &args, at);
    let [float, int8] = ["float_metrics", "int8_metrics"].map(|m| report[m]["sensitivity"].as_f64().unwrap());
    assert!(float >= 0.5 && int8 > float - 0.1, "{report}");
}

/// Float layers counted as if they took no time, so that a network was predicted faster with them.
#[test]
fn no_latency_is_predicted_for_float_layers() {
    let at = chain();
    let args = ["run/model.onnx", "--dry-run", "--force", "-q", "--json", "--board", "raspberry-pi-4"];
    assert!(json("quantize", &args, at)["expected"]["network_ms"].as_f64().unwrap() > 0.0);
    let with_float = json("quantize", &[&args[..], &["--float", "stage0/conv0"]].concat(), at);
    assert!(with_float["expected"].is_null() && with_float["float_layers"][0].is_object(), "{with_float}");
}

/// What int8 does to each layer, measured and written as a page that replaces nothing.
#[test]
fn quantize_explains_itself() {
    let at = chain();
    let args = ["run/model.onnx", "--output", "explained", "--explain", "explained.html", "-q", "--json"];
    let report = json("quantize", &[&args[..], &["--data", "data", "--split", "test"]].concat(), at);
    let analysis = &report["analysis"];
    let layers = analysis["layers"].as_array().unwrap();
    let first = layers.iter().find(|layer| layer["layer"] == "stage0/conv0").unwrap();
    let decibels = |of: &Value, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{key} of {of}"));
    assert!(decibels(first, "weights_db") > 25.0 && decibels(first, "output_db") > 20.0, "{first}");
    assert!(decibels(first, "only_int8_db") > decibels(analysis, "logits_db") - 1.0, "{analysis}");
    assert!(decibels(first, "work") > 0.0 && first["weights"] == 72, "{first}");
    assert!(layers.iter().map(|layer| decibels(layer, "work")).sum::<f64>() > 0.99);
    let html = std::fs::read_to_string(at.join("explained.html")).unwrap();
    for words in ["not a diagnosis", "Layer by layer", "stage0/conv0", "another finding", "test/NORMAL/"] {
        assert!(html.contains(words), "{words}");
    }
    assert_eq!(html.matches("<svg").count(), 2);
    assert_eq!(html.matches("data:image/png").count(), 20);
    let image = first_image(at);
    for (args, words) in [
        (vec!["run/model.onnx", "--output", "other", "--explain", "other.html"], "--calibrate DIR or --data"),
        (vec!["run/model.onnx", "--output", "other", "--explain", "explained.html", "--data", "data"], "--force"),
        (vec!["run/model.onnx", "--output", "other", "--max-drop", "0.01"], "--data"),
        // Files that are no page stay, also with --force: here weights, an image and a folder.
        (
            vec!["run/model.onnx", "--output", "other", "--data", "data", "--force", "--explain", "run/model.hilum"],
            "another file",
        ),
        (vec!["run/model.onnx", "--output", "other", "--data", "data", "--force", "--explain", &image], "another file"),
        (vec!["run/model.onnx", "--output", "other", "--data", "data", "--force", "--explain", "run"], "is a folder"),
        (vec!["run/model.onnx", "--output", "other", "--max-drop", "1", "--data", "data"], "0 to 0.5"),
    ] {
        let refused = run("quantize", &args, at);
        assert!(refused.code != Some(0) && refused.stderr.contains(words), "{args:?}: {}", refused.stderr);
        assert!(!at.join("other.hilum").exists());
    }
}

/// Ranges that are far too narrow clip: layers stay float until little enough is lost, or nothing is written.
#[test]
fn a_loss_is_held_by_layers_in_float_or_refused() {
    let at = chain();
    let mut model = onnx::load(&at.join("run/model.onnx")).unwrap();
    let ranges = onnx::ranges(&model).unwrap().unwrap();
    let narrow = ranges.into_iter().map(|(name, range)| match name.ends_with("conv0/relu") {
        true => (name, range.map(|end| end / 20.0)),
        false => (name, range),
    });
    let (key, value) = ranges_to_metadata(&narrow.collect());
    onnx::set_metadata(&mut model, key, value);
    onnx::save(&model, &at.join("narrow.onnx")).unwrap();
    let quantize = |output: &str, rest: &[&str]| {
        let args = ["narrow.onnx", "--output", output, "-q", "--json"];
        run("quantize", &[&args[..], &["--data", "data", "--split", "test"], rest].concat(), at)
    };
    let report =
        |out: tests::Run| -> Value { serde_json::from_str(&out.stdout).unwrap_or_else(|_| panic!("{}", out.stderr)) };
    let lost = |report: &Value| -report["auroc_change"]["value"].as_f64().unwrap();
    let much = lost(&report(quantize("lossy", &[])));
    assert!(much > 0.001, "{much}");
    let allowed = report(quantize("allowed", &["--max-drop", "0.49"]));
    assert_eq!(allowed["held"]["layers"].as_array().map(Vec::len), Some(0), "{allowed}");
    let bound = much - 1e-6;
    let out = quantize("held", &["--max-drop", &bound.to_string()]);
    if out.code == Some(0) {
        let report = report(out);
        let layers = report["held"]["layers"].as_array().unwrap();
        assert!(!layers.is_empty() && !report["float_layers"].as_array().unwrap().is_empty(), "{report}");
        assert!(lost(&report) <= bound + 1e-9, "{report}");
    } else {
        assert!(out.stderr.contains("cannot be held") && !at.join("held.hilum").exists(), "{}", out.stderr);
    }
}

/// A page to a pipe waited for ever, since what stands there already was looked at.
#[test]
fn bench_writes_its_page_to_a_pipe() {
    let out = run("edge-runtime", &["bench", "-q", "--runs", "2", "--json", "--report", "/dev/stdout"], chain());
    assert!(out.code == Some(0) && out.stdout.trim_end().ends_with("</html>"), "{}", out.stderr);
}

/// The page has the plots, says where it was measured, and replaces no file of another kind.
#[test]
fn bench_writes_a_page() {
    let at = chain();
    let page = ["--runs", "5", "--board", "raspberry-pi-4", "--report", "bench.html"];
    let args = [&["bench", "--model", "run/model.hilum"][..], &page].concat();
    let report = json("edge-runtime", &[&args[..], &["--json", "-q"]].concat(), at);
    let html = std::fs::read_to_string(at.join("bench.html")).unwrap();
    assert_eq!(html.matches("<svg").count(), 2);
    let machine = report["machine"].as_str().unwrap();
    assert!(html.contains("Raspberry Pi 4") && html.contains(machine.split(['<', '&', '"']).next().unwrap()));
    assert_eq!(report["runs_ms"]["total"].as_array().unwrap().len(), 5);
    assert_eq!(report["processor"].as_array().unwrap().len(), 2);
    std::fs::write(at.join("letter.html"), "Dear colleague").unwrap();
    let refused = run("edge-runtime", &["bench", "--report", "letter.html"], at);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(at.join("letter.html")).unwrap(), "Dear colleague");
}

#[test]
fn every_kernel_and_thread_count_gives_the_same_probability() {
    let at = chain();
    let image = first_image(at);
    let scan = |kernel: &str, threads: &str| {
        let args = ["scan", &image, "--json", "--threads", threads];
        let out = run_with("edge-runtime", &args, at, &[("HILUM_KERNEL", kernel)]);
        let line: Value = serde_json::from_str(&out.stdout).unwrap();
        line["probability"].as_f64().unwrap()
    };
    let want = scan("portable", "1");
    for kernel in edge_runtime::engine::kernels::available() {
        assert_eq!(scan(kernel.name, "1"), want, "{}", kernel.name);
        assert_eq!(scan(kernel.name, "2"), want, "{}", kernel.name);
    }
}

#[test]
fn training_resumes_exactly_and_will_not_overwrite() {
    let at = chain();
    let recipe = std::fs::read_to_string(at.join("run/recipe.toml")).unwrap().replace("epochs = 12", "epochs = 3");
    std::fs::write(at.join("short.toml"), recipe).unwrap();
    let args = ["train", "--recipe", "short.toml", "--data", "data", "--out"];
    let train = |out: &'static str, more: &[&str]| run("host-train", &[&args[..], &[out], more].concat(), at);
    assert_eq!(train("whole", &[]).code, Some(0));
    let again = train("whole", &[]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("--resume"), "{}", again.stderr);

    // Stop a second run as soon as its first epoch is kept, then go on with it.
    let mut child = Command::new(tests::binary("host-train")).args(args).arg("broken").current_dir(at).spawn().unwrap();
    let state = at.join("broken/state.json");
    while !state.is_file() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(train("broken", &["--resume"]).code, Some(0));
    let losses = |run: &str| -> Vec<(Value, Value)> {
        let text = std::fs::read_to_string(at.join(run).join("metrics.jsonl")).unwrap();
        text.lines()
            .map(|l| serde_json::from_str::<Value>(l).unwrap())
            .map(|m| (m["epoch"].clone(), m["val_loss"].clone()))
            .collect()
    };
    assert_eq!(losses("whole"), losses("broken"));
}

#[test]
fn boards_are_listed_and_shown() {
    let at = Path::new(".");
    let all = json("boards", &["list", "--json"], at);
    assert!(all.as_array().unwrap().len() >= 7);
    assert!(ok("boards", &["list"], at).contains("jetson-orin-nano"));
    assert!(ok("boards", &["show", "raspberry-pi-5"], at).contains("Cortex-A76"));
    assert_eq!(run("boards", &["show", "raspberry-pi-9"], at).code, Some(1));
}

#[test]
fn the_device_computes_what_onnx_runtime_computes() {
    let at = chain();
    let Some(python) = python("onnxruntime, numpy") else { return };
    let model = Model::load(&at.join("run/model.hilum"), &Compute::default()).unwrap();
    let input = &model.contract.input;
    let mut frames = random_planes(input.size, 100);
    for path in image_files(&at.join("data/train")).unwrap().iter().take(100) {
        frames.push(data::frames::frame(path, input).unwrap());
    }
    ok("quantize", &["run/model.onnx", "--format", "qoperator", "-o", "judged", "--force", "-q"], at);
    for int8 in ["run/model.int8.onnx", "judged.int8.onnx"] {
        for model in ["run/model.hilum", int8] {
            agrees_with_onnxruntime(&python, at, model, int8, &frames);
        }
    }
}

#[test]
fn the_embedded_model_is_that_of_its_kept_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let record = root.join("host-train/runs/2026-11-27-mobilenet-v2-160/validation-int8.json");
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(record).unwrap()).unwrap();
    let contract = Model::embedded(&Compute::default()).unwrap().contract;
    let point = &contract.operating_point;
    assert_eq!(u64::from(point.images), kept["n"].as_u64().unwrap());
    let figures = &contract.provenance.metrics;
    for (name, here) in [
        ("threshold", f64::from(point.threshold)),
        ("auroc", figures["int8_val_auroc"]),
        ("sensitivity", figures["int8_val_sensitivity"]),
        ("specificity", figures["int8_val_specificity"]),
    ] {
        assert!((here - kept[name].as_f64().unwrap()).abs() < 1e-6, "{name}: {here} and {}", kept[name]);
    }
}

fn first_image(at: &Path) -> String {
    let files = image_files(&at.join("data/test/PNEUMONIA")).unwrap();
    files[0].display().to_string()
}

/// Scores of a clinic whose ill and healthy overlap little: so many of each, from a number that differs by sample.
fn scores(path: &Path, ill: usize, healthy: usize, from: usize) {
    let mut text = String::from("patient,probability,reference\n");
    for i in 0..ill + healthy {
        let is_ill = i < ill;
        // Nine of ten of the ill are above 0.6, nine of ten of the others below 0.4.
        let place = (i * 37 % 100) as f64 / 100.0;
        let likely = if place < 0.9 { 0.6 + place * 0.4 } else { 0.3 + place * 0.2 };
        let probability = if is_ill { likely } else { 1.0 - likely };
        text += &format!("p{},{probability:.4},{}\n", from + i, u8::from(is_ill));
    }
    std::fs::write(path, text).unwrap();
}

#[test]
fn a_site_study_decides_for_one_model_and_every_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../edge-runtime/models/default.hilum");
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phantom-chest.jpeg");
    scores(&at.join("first.csv"), 200, 200, 0);
    scores(&at.join("second.csv"), 300, 200, 1000);
    let study = ["site-study", "--model", model, "--scores", "first.csv", "--prevalence", "0.1", "--site", "Kisumu 2"];
    let study = [&study[..], &["--sensitivity", "0.85", "--out", "site"]].concat();
    let report = json("host-train", &[&study[..], &["--confirm-scores", "second.csv", "--json"]].concat(), at);
    assert_eq!(report["confirmation"]["verdict"], "confirmed", "{report}");
    let low = report["chosen"]["sensitivity"]["ci95"][0].as_f64().unwrap();
    assert!(low >= 0.85 && report["chosen"]["missed"]["value"].as_f64().unwrap() < 15.0, "{report}");
    let intercept = report["profile"]["intercept"].as_f64().unwrap();
    assert!(intercept < -0.5, "one in ten is ill there, and one in two in the sample: {intercept}");
    assert!(std::fs::read_to_string(at.join("site/site-study.html")).unwrap().contains("Confirmed"));

    let plain = json("edge-runtime", &["scan", image, "--json"], at);
    let there = json("edge-runtime", &["scan", image, "--json", "--site", "site/site.toml"], at);
    assert_eq!((&there["site"]["name"], &plain["site"]), (&"Kisumu 2".into(), &serde_json::Value::Null));
    assert_eq!(there["threshold"].as_f64(), report["chosen"]["threshold"].as_f64());
    let logit = |finding: &serde_json::Value| {
        let p = finding["probability"].as_f64().unwrap();
        (p / (1.0 - p)).ln()
    };
    assert!((logit(&there) - logit(&plain) - intercept).abs() < 1e-3, "{there} {plain}");
    let text = ok("edge-runtime", &["scan", image, "--site", "site/site.toml"], at);
    assert!(text.contains("of site Kisumu 2: ") && text.contains("confirmed on 500 radiographs there"), "{text}");

    // Another model, and a sample that says otherwise.
    let profile = std::fs::read_to_string(at.join("site/site.toml")).unwrap();
    std::fs::write(at.join("other.toml"), profile.replace("model_digest = \"", "model_digest = \"0")).unwrap();
    let refused = run("edge-runtime", &["scan", image, "--site", "other.toml"], at);
    assert_eq!(refused.code, Some(3), "{}", refused.stderr);
    assert!(refused.stderr.contains("a threshold serves one model alone"), "{}", refused.stderr);
    let reversed = std::fs::read_to_string(at.join("second.csv")).unwrap();
    let reversed = reversed.replace(",0\n", ",x\n").replace(",1\n", ",0\n").replace(",x\n", ",1\n");
    std::fs::write(at.join("second.csv"), reversed).unwrap();
    std::fs::remove_dir_all(at.join("site")).unwrap();
    let contradicted = run("host-train", &[&study[..], &["--confirm-scores", "second.csv"]].concat(), at);
    assert_eq!(contradicted.code, Some(1), "{}", contradicted.stdout);
    assert!(contradicted.stdout.contains("CONTRADICTED") && !at.join("site/site.toml").exists());
    // As many of the ill are caught, and more of the others called ill.
    scores(&at.join("second.csv"), 300, 200, 1000);
    let alarms = std::fs::read_to_string(at.join("second.csv")).unwrap();
    let alarm = |line: &str| match line.split(',').collect::<Vec<_>>()[..] {
        [patient, probability, "0"] if probability != "probability" => format!("{patient},0.9{},0", &probability[2..]),
        _ => line.to_owned(),
    };
    let alarms: Vec<String> = alarms.lines().map(alarm).collect();
    std::fs::write(at.join("second.csv"), alarms.join("\n") + "\n").unwrap();
    let contradicted = run("host-train", &[&study[..], &["--confirm-scores", "second.csv"]].concat(), at);
    assert!(contradicted.stdout.contains("the specificity is 0.000"), "{}", contradicted.stdout);
    let same = run("host-train", &[&study[..], &["--confirm-scores", "first.csv"]].concat(), at);
    assert!(same.stderr.contains("400 people are in both samples"), "{}", same.stderr);
    scores(&at.join("first.csv"), 15, 200, 0);
    let few = run("host-train", &study, at);
    assert!(few.stderr.contains("15 people who are ill are too few"), "{}", few.stderr);
}
