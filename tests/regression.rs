//! A test for each fault that was reported, named by what went wrong.

use tests::generate::ramp_png;
use tests::{assert_sentence, ok, run, run_with};

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
