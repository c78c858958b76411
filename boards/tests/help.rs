//! The binary starts and explains itself. This integration test also makes cargo build the binary that `tests/` drives.

use std::process::Command;

#[test]
fn help_names_the_exit_codes() {
    let out = Command::new(env!("CARGO_BIN_EXE_boards")).arg("--help").output().unwrap();
    assert!(out.status.success());
    assert!(String::from_utf8_lossy(&out.stdout).contains("Exit codes"));
}

#[test]
fn nonsense_is_a_usage_error() {
    let out = Command::new(env!("CARGO_BIN_EXE_boards")).arg("--no-such-option").output().unwrap();
    assert_eq!(out.status.code(), Some(2));
}
