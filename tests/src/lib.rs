//! What the whole-binary tests share: running the real binaries as a person would, and inputs made on the spot.

#![forbid(unsafe_code)]

pub mod generate;
pub mod peers;

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
    run_with(name, args, folder, &[])
}

/// As [`run`], with variables of the environment.
pub fn run_with(name: &str, args: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(binary(name));
    command.args(args).current_dir(folder).envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
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

/// Asserts one line on stderr, and no panic.
pub fn assert_sentence(stderr: &str) {
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}
