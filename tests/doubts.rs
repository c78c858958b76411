//! What speaks against a radiograph: policies, exit codes, and reports for a clinic's archive.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tests::{json, run};

fn fixture(name: &str) -> String {
    format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A DICOM radiograph that says it is of a hand.
fn hand(folder: &Path) -> PathBuf {
    let bytes = std::fs::read(fixture("dicom/native.dcm")).unwrap();
    let at = bytes.windows(6).position(|w| w == b"CHEST ").unwrap();
    let hand = [&bytes[..at], b"HAND  ", &bytes[at + 6..]].concat();
    let path = folder.join("hand.dcm");
    std::fs::write(&path, hand).unwrap();
    path
}

#[test]
fn a_policy_refuses_marks_or_ignores() {
    let dir = tempfile::tempdir().unwrap();
    let hand = hand(dir.path());
    let scan =
        |policy: &str| run("edge-runtime", &["scan", "--json", "--policy", policy, hand.to_str().unwrap()], dir.path());
    let line = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let refused = scan("refuse");
    assert_eq!(refused.code, Some(4), "{}", refused.stderr);
    let value = line(&refused.stdout);
    assert_eq!(value["refusal"]["code"], "not-a-chest");
    assert!(value.get("probability").is_none() && refused.stderr.contains("no radiograph of a chest"));
    let marked = scan("warn");
    assert_eq!(marked.code, Some(0), "{}", marked.stderr);
    let value = line(&marked.stdout);
    assert_eq!(value["warnings"][0]["code"], "not-a-chest");
    assert!(value["probability"].is_number());
    let ignored = scan("ignore");
    assert_eq!((ignored.code, line(&ignored.stdout)["warnings"].as_array().unwrap().len()), (Some(0), 0));
}

#[test]
fn a_profile_that_the_model_lacks_is_named() {
    let r = run("edge-runtime", &["scan", "--profile", "nothing", &fixture("dicom/native.dcm")], Path::new("."));
    assert_eq!(r.code, Some(2));
    assert!(r.stderr.contains("no operating point called `nothing`"), "{}", r.stderr);
}

#[test]
fn a_report_is_valid_dicom_of_the_same_study() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args = ["scan", &fixture("dicom/native.dcm"), "--json", "--dicom-out", out.to_str().unwrap()];
    json("edge-runtime", &args, dir.path());
    let files: Vec<PathBuf> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        assert!(name.starts_with("2.25.") && name.ends_with(".dcm"), "{name}");
        let Ok(checked) = Command::new("dciodvfy").arg(file).output() else {
            return eprintln!("skipped: no dciodvfy (Debian's dicom3tools)");
        };
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success() && !said.contains("Error"), "{said}");
    }
}

#[test]
fn a_report_is_no_radiograph() {
    let dir = tempfile::tempdir().unwrap();
    json("edge-runtime", &["scan", &fixture("dicom/native.dcm"), "--json", "--dicom-out", "out"], dir.path());
    let r = run("edge-runtime", &["scan", "out", "--json"], dir.path());
    let lines: Vec<Value> = r.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let is_said = |line: &Value| line["warnings"][0]["code"] == "not-a-chest" || line["error"].is_string();
    assert!(lines.iter().all(is_said), "{}", r.stdout);
}

#[test]
fn a_picture_that_is_no_dicom_gets_no_report() {
    let dir = tempfile::tempdir().unwrap();
    let image = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/phantom-chest.jpeg");
    let r = run("edge-runtime", &["scan", image, "--dicom-out", "out"], dir.path());
    assert_eq!(r.code, Some(1));
    assert!(r.stdout.contains("Finding") && r.stderr.contains("whose study"), "{}", r.stderr);
}
