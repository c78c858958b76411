//! Bad input: one clear sentence, the documented exit code, no panic, nothing written.

use edge_runtime::image::Radiograph;
use image::{GrayImage, Luma};
use std::path::{Path, PathBuf};
use tests::generate::{bomb_png, png, ramp_png};
use tests::{assert_sentence, json, run};

#[test]
fn bad_images_are_refused_in_a_sentence_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty.png", vec![], "empty"),
        ("cut.png", ramp_png()[..200].to_vec(), "truncated"),
        ("text.png", b"this is not an image at all".to_vec(), "neither DICOM, PNG, JPEG nor TIFF"),
        ("dot.png", png(&GrayImage::new(1, 1)), "too few"),
        ("bomb.png", bomb_png(), "30000×30000"),
        ("flat.png", png(&GrayImage::from_pixel(200, 200, Luma([77]))), "no contrast"),
        ("cut.jpg", b"\xFF\xD8\xFF\xE0\x00\x10JFIF\x00\x01".to_vec(), "truncated"),
        (
            "pixels.png",
            {
                let mut b = ramp_png();
                let n = b.len();
                b[n / 2] ^= 0xFF;
                b
            },
            "damaged",
        ),
    ];
    for (name, bytes, says) in cases {
        std::fs::write(at.join(name), bytes).unwrap();
        let r = run("edge-runtime", &["scan", name, "--heatmap", "h.png", "--screen", "s.png"], at);
        assert_eq!(r.code, Some(1), "{name}: {}", r.stderr);
        assert!(r.stderr.contains(says) && r.stderr.contains(name), "{name}: {}", r.stderr);
        assert_sentence(&r.stderr);
        assert!(r.stdout.is_empty() && !at.join("h.png").exists() && !at.join("s.png").exists(), "{name}");
    }
}

#[test]
fn one_bad_file_does_not_stop_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in [("a.png", ramp_png()), ("b.png", vec![]), ("c.png", ramp_png())] {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let r = run("edge-runtime", &["scan", ".", "--json"], dir.path());
    assert_eq!(r.code, Some(1));
    let lines: Vec<serde_json::Value> = r.stdout.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[1]["error"].as_str().unwrap().contains("empty") && lines[2]["probability"].is_number());
}

#[test]
fn missing_paths_and_empty_folders_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    for name in ["nowhere", "nowhere.png", "empty"] {
        let r = run("edge-runtime", &["scan", name], dir.path());
        assert_eq!(r.code, Some(1), "{name}");
        assert!(r.stderr.contains(name), "{}", r.stderr);
        assert_sentence(&r.stderr);
    }
    for args in [
        &["prepare", "nowhere"][..],
        &["evaluate", "--model", "m.onnx", "--data", "nowhere"],
        &["train", "--recipe", "phantom-cnn", "--data", "nowhere", "--out", "o"],
        &["train", "--recipe", "nothing", "--data", "empty", "--out", "o"],
    ] {
        let r = run("host-train", args, dir.path());
        assert_eq!(r.code, Some(1), "{args:?}");
        assert_sentence(&r.stderr);
    }
    assert!(!dir.path().join("o").exists() && !dir.path().join("manifest.csv").exists());
}

#[test]
fn bad_models_are_refused_with_their_own_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::write(at.join("chest.png"), ramp_png()).unwrap();
    let bundle = edge_runtime::model::DEFAULT;
    let mut flipped = bundle.to_vec();
    flipped[bundle.len() / 2] ^= 0x10;
    let mut future = bundle.to_vec();
    future[8] = 9;
    let cases: [(&str, &[u8], &str); 6] = [
        ("flipped.hilum", &flipped, "digest"),
        ("cut.hilum", &bundle[..bundle.len() / 2], "cut"),
        ("future.hilum", &future, "format 9"),
        ("empty.hilum", b"", "not a Hilum bundle"),
        ("noise.onnx", b"GIF89a and then some", "not an ONNX model"),
        ("foreign.onnx", &foreign(), "hilum."),
    ];
    for (name, bytes, says) in cases {
        std::fs::write(at.join(name), bytes).unwrap();
        for args in [&["scan", "chest.png", "--model", name][..], &["inspect", name], &["bench", "--model", name]] {
            let r = run("edge-runtime", args, at);
            assert_eq!(r.code, Some(3), "{args:?}: {}", r.stderr);
            assert!(r.stderr.contains(says), "{args:?}: {}", r.stderr);
            assert_sentence(&r.stderr);
        }
    }
    let r = run("quantize", &["foreign.onnx"], at);
    assert_eq!(r.code, Some(1));
    assert!(r.stderr.contains("--calibrate"), "{}", r.stderr);
    assert_sentence(&r.stderr);
    let r = run("quantize", &["noise.onnx"], at);
    assert_eq!(r.code, Some(1));
    let left: Vec<_> = edge_files(at);
    assert!(!left.iter().any(|f| f.contains("int8") || f == "foreign.hilum"), "{left:?}");
}

#[test]
fn usage_errors_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.png", "b.png"] {
        std::fs::write(dir.path().join(name), ramp_png()).unwrap();
    }
    for args in [
        &["scan"][..],
        &["scan", "a.png", "--board", "no-such-board"],
        &["scan", "a.png", "b.png", "--screen", "s.png"],
        &["bench", "--runs", "0"],
    ] {
        assert_eq!(run("edge-runtime", args, dir.path()).code, Some(2), "{args:?}");
    }
    let r = run("edge-runtime", &["scan", "a.png", "--screen", "no/such/folder/s.png"], dir.path());
    assert_eq!(r.code, Some(1), "{}", r.stderr);
}

/// A sound ONNX model that is not ours.
fn foreign() -> Vec<u8> {
    use edge_runtime::onnx::{GraphBuilder, encode};
    let mut b = GraphBuilder::default();
    b.input("x", &[1, 3, 8, 8]);
    b.node("Relu", &["x"], "y", vec![]);
    b.output("y", &[1, 3, 8, 8]);
    encode(&b.finish("foreign", vec![]))
}

fn edge_files(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// One DICOM file of each transfer syntax, of the same stored values.
fn dicom_fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dicom");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_radiograph_gives_the_same_finding_in_every_transfer_syntax() {
    let mut found = Vec::new();
    for file in dicom_fixtures() {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let finding = json("edge-runtime", &["scan", &file.to_string_lossy(), "--json"], Path::new("."));
        assert_eq!(finding["image"]["format"], "DICOM");
        if name != "baseline.dcm" && name != "jpegls-near.dcm" {
            found.push((name, finding["probability"].clone()));
        }
    }
    assert!(found.len() > 8);
    assert!(found.iter().all(|(_, probability)| *probability == found[0].1), "{found:?}");
}

#[test]
fn broken_dicom_files_are_refused_without_a_panic() {
    for file in dicom_fixtures() {
        let whole = std::fs::read(&file).unwrap();
        Radiograph::decode(&whole).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for cut in (0..whole.len() - 2).step_by(whole.len() / 50) {
            assert!(Radiograph::decode(&whole[..cut]).is_err(), "{} cut at {cut}", file.display());
        }
        // In the process of its own a file has some seconds; a JPEG 2000 stream of tiny tiles takes them all.
        let end = if file.ends_with("j2k.dcm") { 700 } else { whole.len() };
        for at in (0..end.min(900)).chain((900..end).step_by(97)) {
            let mut changed = whole.clone();
            changed[at] ^= if at % 2 == 0 { 0xFF } else { 0x81 };
            // What it gives does not matter, as long as it comes back.
            let _ = Radiograph::decode(&changed);
        }
    }
}

#[test]
fn a_dicom_file_that_eats_memory_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(&dicom_fixtures()[0]).unwrap();
    // Sequences within sequences, each of undefined length, until no stack is left.
    let mut nested = whole[..132].to_vec();
    let open = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff";
    nested.extend(open.repeat(400_000));
    std::fs::write(dir.path().join("nested.dcm"), nested).unwrap();
    let r = run("edge-runtime", &["scan", "nested.dcm"], dir.path());
    assert_eq!(r.code, Some(1), "{}", r.stderr);
    assert_sentence(&r.stderr);
}
