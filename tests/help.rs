//! Each binary starts and explains itself. Every package with a binary has this test as its own (`[[test]]` in its
//! `Cargo.toml`): that also makes cargo build the binary that the other tests here drive.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    let binary = env!(concat!("CARGO_BIN_EXE_", env!("CARGO_PKG_NAME")));
    Command::new(binary).args(args).output().unwrap()
}

#[test]
fn help_names_the_exit_codes() {
    let out = run(&["--help"]);
    assert!(out.status.success());
    assert!(String::from_utf8_lossy(&out.stdout).contains("Exit codes"));
}

#[test]
fn nonsense_is_a_usage_error() {
    assert_eq!(run(&["--no-such-option"]).status.code(), Some(2));
}
