//! A test for each fault that was reported, named by what went wrong.

use std::path::{Path, PathBuf};
use tests::generate::ramp_png;
use tests::{Run, assert_sentence, json, ok, run, run_with};

/// Synthetic inputs that were read wrongly.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A scan of the fixture `file` for machines.
fn scan(file: &str) -> Run {
    run("edge-runtime", &["scan", file, "--json"], &fixtures())
}

fn probability(finding: &str) -> f64 {
    let value: serde_json::Value = serde_json::from_str(finding).expect("one finding");
    value["probability"].as_f64().expect("a probability")
}

/// `inspect`, `quantize` and `host-train` ignored a kernel's name that means nothing; `scan` and `bench` refused it.
#[test]
fn a_misspelt_kernel_was_ignored_by_some_commands() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("chest.png"), ramp_png()).unwrap();
    for (binary, args) in [
        ("edge-runtime", &["scan", "chest.png"][..]),
        ("edge-runtime", &["bench", "--runs", "1"]),
        ("edge-runtime", &["inspect"]),
        ("quantize", &["model.onnx"]),
        ("host-train", &["prepare", "data"]),
    ] {
        let r = run_with(binary, args, dir.path(), &[("HILUM_KERNEL", "avx3")]);
        assert_eq!(r.code, Some(2), "{binary} {args:?}: {}", r.stderr);
        assert!(r.stderr.contains("HILUM_KERNEL=avx3") && r.stderr.contains("portable"), "{}", r.stderr);
        assert_sentence(&r.stderr);
    }
}

/// `phantom` advised to train on the folder, where `prepare` had just written a manifest to train on.
#[test]
fn the_advice_of_phantom_passed_over_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let advice = ok("host-train", &["phantom", "chests", "--images", "16"], dir.path());
    assert!(advice.contains("--data manifest.csv"), "{advice}");
    ok("host-train", &["prepare", "chests"], dir.path());
    assert!(dir.path().join("manifest.csv").is_file());
}

/// A full disk at standard output made the programs panic.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_at_standard_output_was_a_panic() {
    use std::fs::File;
    use std::process::{Command, Stdio};
    for (binary, args) in [("edge-runtime", &["inspect", "--json"][..]), ("boards", &["list"])] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(tests::binary(binary));
        let out = command.args(args).stdout(Stdio::from(full)).output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{binary}: {stderr}");
        assert_sentence(&stderr);
    }
}

/// `scan --json` explained and drew a screen that nobody saw.
#[test]
fn a_screen_was_drawn_for_machines() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("chest.png"), ramp_png()).unwrap();
    let line = run("edge-runtime", &["scan", "chest.png", "--json"], dir.path()).stdout;
    let finding: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&finding["latency_ms"]["explain"], &finding["latency_ms"]["render"]), (&0.0.into(), &0.0.into()));
}

/// Components in scans of their own became stripes.
#[test]
fn a_jpeg_of_separate_scans_was_read_as_stripes() {
    let whole = probability(&scan("jpeg/interleaved.jpg").stdout);
    for (file, tolerance) in [("jpeg/scans.jpg", 0.01), ("jpeg/scans-tall.jpg", 0.05)] {
        let found = probability(&scan(file).stdout);
        assert!((found - whole).abs() <= tolerance, "{file}: {found} where the same picture gives {whole}");
    }
}

/// Data that end early were filled with grey, since an end marker was there.
#[test]
fn a_jpeg_with_data_lost_before_its_end_marker_got_a_finding() {
    for file in ["cut50.jpg", "cut85.jpg", "taller.jpg"] {
        let r = scan(&format!("jpeg/{file}"));
        assert_eq!(r.code, Some(1), "{file}: {}", r.stdout);
        assert!(r.stderr.contains("copy it again"), "{}", r.stderr);
        assert_sentence(&r.stderr);
    }
}

/// Sound files of kinds that are not read were called damaged.
#[test]
fn a_jpeg_of_an_unsupported_kind_was_called_damaged() {
    for file in ["12bit.jpg", "lossless8.jpg", "lossless16.jpg", "grey3x3.jpg", "ycc3x1.jpg"] {
        let r = scan(&format!("jpeg/{file}"));
        if r.code == Some(0) {
            continue;
        }
        assert!(r.stderr.contains("is not supported") && !r.stderr.contains("damaged"), "{file}: {}", r.stderr);
        assert_sentence(&r.stderr);
    }
}

/// 16-bit files that use fewer bits were read darker than they are.
#[test]
fn a_16_bit_png_that_uses_fewer_bits_was_read_dark() {
    let whole = probability(&scan("chest.png").stdout);
    for bits in [8, 11, 13, 15] {
        let line = scan(&format!("png-16-bit/used{bits}.png")).stdout;
        assert!((probability(&line) - whole).abs() <= 0.01, "{bits} bits: {line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["image"]["bits_used"], bits);
    }
}

/// Files with other endings were passed over in silence.
#[test]
fn radiographs_with_other_endings_were_passed_over() {
    let r = scan("folder");
    let said = format!("{}{}", r.stdout, r.stderr);
    for file in ["a.png", "b.jfif", "c.jpe", "d.tif", "e.dcm", "f.bmp"] {
        assert!(said.contains(file), "nothing was said of {file}: {said}");
    }
    assert_eq!(r.code, Some(1));
}

/// A map was written over the radiograph that it was of.
#[test]
fn a_radiograph_was_replaced_by_its_own_picture() {
    let dir = tempfile::tempdir().unwrap();
    let chest = std::fs::read(fixtures().join("chest.png")).unwrap();
    std::fs::write(dir.path().join("own.png"), &chest).unwrap();
    for (option, output) in [("--heatmap", "own.png"), ("--screen", "./own.png")] {
        let r = run("edge-runtime", &["scan", "own.png", option, output], dir.path());
        assert!(r.code != Some(0), "{option}: {}", r.stdout);
        assert_eq!(std::fs::read(dir.path().join("own.png")).unwrap(), chest, "{option}");
    }
}

/// A set of one class got an AUROC of 0.5 and a specificity of 0.
#[test]
fn figures_without_a_value_were_printed_as_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let ill = dir.path().join("data/test/PNEUMONIA");
    std::fs::create_dir_all(&ill).unwrap();
    for i in 0..4 {
        let image = std::fs::read(fixtures().join(format!("images/c0{i}.png"))).unwrap();
        std::fs::write(ill.join(format!("person{i}_bacteria_1.png")), image).unwrap();
    }
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../edge-runtime/models/default.hilum");
    let model = model.to_string_lossy();
    let report = ok("host-train", &["evaluate", "--model", &model, "--data", "data", "--split", "all"], dir.path());
    assert!(!report.contains("AUROC 0.5") && !report.contains("specificity 0.0"), "{report}");
}

/// A copy of the fixture model `name` in a folder of its own, with the images beside it.
fn model(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (from, to) in [(format!("models/{name}"), "."), ("images".to_owned(), "images")] {
        std::fs::create_dir_all(dir.path().join(to)).unwrap();
        for entry in std::fs::read_dir(fixtures().join(from)).unwrap() {
            let file = entry.unwrap();
            std::fs::copy(file.path(), dir.path().join(to).join(file.file_name())).unwrap();
        }
    }
    dir
}

/// What is read of a model of another origin must be what ONNX Runtime computes of its float form.
fn keeps_its_findings(name: &str, tolerance: f64) {
    let dir = model(name);
    let at = dir.path();
    json("quantize", &["model.onnx", "--calibrate", "images", "--contract", "contract.toml", "--json"], at);
    let found = ok("edge-runtime", &["scan", "images", "--json", "--model", "model.hilum"], at);
    let expected = std::fs::read_to_string(at.join("expected.txt")).unwrap();
    let expected: Vec<f64> = expected.lines().map(|line| line.trim().parse().unwrap()).collect();
    let found: Vec<f64> = found.lines().map(probability).collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{name}: probabilities differ from the float model's by up to {worst}");
}

/// `Clip` of operator sets before 11 lost its bounds.
#[test]
fn a_clamp_of_an_old_operator_set_was_lost() {
    keeps_its_findings("opset7", 0.13);
    keeps_its_findings("opset10", 0.13);
}

/// Networks that end in a probability were squashed a second time.
#[test]
fn a_probability_was_taken_for_a_logit() {
    keeps_its_findings("sigmoid1", 0.13);
    keeps_its_findings("softmax2", 0.13);
}

/// Weights beside the model were not read, and the message was a parser's.
#[test]
fn weights_in_a_file_beside_were_not_read() {
    keeps_its_findings("beside", 0.13);
    keeps_its_findings("pytorch-default", 0.13);
    let dir = model("missing");
    let r = run("quantize", &["model.onnx", "--calibrate", "images", "--contract", "contract.toml"], dir.path());
    assert_eq!(r.code, Some(1));
    assert!(r.stderr.contains("model.onnx.data"), "{}", r.stderr);
    assert_sentence(&r.stderr);
}

/// Gates of one channel, and rows added to an image, were refused or wrong.
#[test]
fn broadcasts_over_channels_were_refused() {
    for name in ["spatial", "cbam", "add"] {
        keeps_its_findings(name, 0.2);
    }
}

/// Pixels from 0 to 1 were taken for pixels from 0 to 255.
#[test]
fn a_normalisation_of_unit_pixels_was_taken_for_one_of_bytes() {
    let dir = model("unit");
    let r = run("quantize", &["model.onnx", "--calibrate", "images", "--contract", "contract.toml"], dir.path());
    assert_eq!(r.code, Some(1));
    assert!(r.stderr.contains("0 to 1") && r.stderr.contains("0 to 255"), "{}", r.stderr);
    assert_sentence(&r.stderr);
}

/// Models that ONNX Runtime had quantised failed for other reasons than that.
#[test]
fn a_quantised_model_was_not_called_so() {
    for name in ["QDQ-QUInt8", "QDQ-QInt8", "QOperator-QUInt8", "QOperator-QInt8", "dynamic"] {
        let dir = model(name);
        let r = run("quantize", &["model.onnx", "--calibrate", "images"], dir.path());
        assert_eq!(r.code, Some(1), "{name}");
        assert!(r.stderr.contains("quantised already"), "{name}: {}", r.stderr);
        assert_sentence(&r.stderr);
    }
}

/// A negative of a radiograph got a finding, and nothing was said of it.
#[test]
fn a_negative_was_read_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let chest = image::open(fixtures().join("chest.png")).unwrap().into_luma8();
    let inverted = image::GrayImage::from_fn(chest.width(), chest.height(), |x, y| {
        image::Luma([255 - chest.get_pixel(x, y).0[0]])
    });
    inverted.save(dir.path().join("inverted.png")).unwrap();
    let finding = json("edge-runtime", &["scan", "inverted.png", "--json"], dir.path());
    let is_called_so = |finding: &serde_json::Value| {
        finding["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == "inverted")
    };
    assert!(is_called_so(&finding));
    assert!(!is_called_so(&serde_json::from_str(&scan("chest.png").stdout).unwrap()));
}

/// An image that cannot be read ended a calibration; few images were not warned of.
#[test]
fn one_bad_image_ended_a_calibration() {
    let dir = model("sigmoid1");
    std::fs::write(dir.path().join("images/broken.png"), "no picture").unwrap();
    let args = ["model.onnx", "--calibrate", "images", "--contract", "contract.toml", "--json"];
    let report = json("quantize", &args, dir.path());
    let calibration = &report["calibration"];
    assert!(calibration["left_out"][0].as_str().unwrap().contains("broken.png"), "{report}");
    assert!(calibration["warnings"][0].as_str().unwrap().contains("are few"), "{report}");
    for entry in std::fs::read_dir(dir.path().join("images")).unwrap() {
        std::fs::write(entry.unwrap().path(), "no picture").unwrap();
    }
    let r = run("quantize", &[&args[..], &["--force", "-q"]].concat(), dir.path());
    assert_eq!(r.code, Some(1));
    assert!(r.stderr.contains("cannot be read; the first: "), "{}", r.stderr);
    assert_sentence(&r.stderr);
}

/// A second run wrote over the files of the first without a word.
#[test]
fn quantised_files_were_written_over() {
    let dir = model("sigmoid1");
    let args = ["model.onnx", "--calibrate", "images", "--contract", "contract.toml", "-q"];
    let with = |more: &[&str]| run("quantize", &[&args[..], more].concat(), dir.path());
    let dry = with(&["--dry-run", "--board", "raspberry-pi-4"]);
    assert!(dry.stdout.contains("would write") && dry.stdout.contains("Raspberry Pi 4"), "{}", dry.stdout);
    assert!(!dir.path().join("model.hilum").exists());
    assert_eq!(with(&[]).code, Some(0));
    let bundle = std::fs::read(dir.path().join("model.hilum")).unwrap();
    let again = with(&[]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_sentence(&again.stderr);
    assert_eq!(with(&["--force"]).code, Some(0));
    assert_eq!(with(&["--output", "other.v2"]).code, Some(0));
    assert_eq!(std::fs::read(dir.path().join("other.v2.hilum")).unwrap(), bundle);
    let folder = with(&["--output", "images"]);
    assert!(folder.code == Some(1) && folder.stderr.contains("is a folder"), "{}", folder.stderr);
    let nowhere = with(&["--output", "nowhere/model"]);
    assert!(nowhere.code == Some(1) && nowhere.stderr.contains("no such folder"), "{}", nowhere.stderr);
}
