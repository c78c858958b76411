//! Each binary starts and explains itself. Every package with a binary has this test as its own (`[[test]]` in its
//! `Cargo.toml`): that also makes cargo build the binary that the other tests here drive.

use std::path::Path;
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

#[test]
fn manuals_and_completions_are_written_below_the_prefix() {
    let program = env!("CARGO_PKG_NAME");
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("manuals-of-{program}"));
    let out = run(&["--manuals", prefix.to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let written = String::from_utf8_lossy(&out.stdout).lines().count();
    assert!(written >= 4, "a page and three completions at least, and not {written} files");
    for (file, said) in [
        (format!("share/man/man1/{program}.1"), "Exit codes"),
        (format!("share/bash-completion/completions/{program}"), "COMPREPLY"),
        (format!("share/zsh/site-functions/_{program}"), "#compdef"),
        (format!("share/fish/vendor_completions.d/{program}.fish"), "complete -c"),
    ] {
        let text = std::fs::read_to_string(prefix.join(&file)).unwrap();
        assert!(text.contains(said), "{file}");
        // The option that writes the manuals is part of them.
        assert!(text.replace('\\', "").contains("manuals"), "{file}");
    }
}

#[test]
fn manuals_stand_alone_and_a_missing_command_is_still_an_error() {
    assert_eq!(run(&["--manuals", ".", "--version-of-nothing"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}
