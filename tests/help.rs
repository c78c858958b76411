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

/// Bash, asked as it asks when a person presses Tab behind the last subcommand and two hyphens.
#[test]
fn bash_completes_the_options_of_a_subcommand() {
    let program = env!("CARGO_PKG_NAME");
    let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("completions-of-{program}"));
    assert!(run(&["--manuals", prefix.to_str().unwrap()]).status.success());
    let pages = std::fs::read_dir(prefix.join("share/man/man1")).unwrap();
    let names = pages.map(|page| page.unwrap().file_name().into_string().unwrap());
    let subcommand = |name: String| Some(name.strip_prefix(&format!("{program}-"))?.strip_suffix(".1")?.to_owned());
    let words = match names.filter_map(subcommand).max() {
        Some(subcommand) => format!("{program} {subcommand} --"),
        None => format!("{program} --"),
    };
    let script = format!(
        "source share/bash-completion/completions/{program}
        COMP_WORDS=({words})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        function=$(complete -p {program} | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function {program} -- \"${{COMP_WORDS[COMP_CWORD-1]}}\"
        echo \"${{COMPREPLY[@]}}\""
    );
    let Ok(out) = Command::new("bash").args(["-c", &script]).current_dir(&prefix).output() else { return };
    let offered = String::from_utf8_lossy(&out.stdout);
    assert!(offered.contains("--help"), "{words}: {offered}{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn manuals_stand_alone_and_a_missing_command_is_still_an_error() {
    assert_eq!(run(&["--manuals", ".", "--version-of-nothing"]).status.code(), Some(2));
    // A subcommand, or for `quantize` the model.
    assert_eq!(run(&["--manuals", ".", "list"]).status.code(), Some(2));
    assert_eq!(run(&[]).status.code(), Some(2));
}
