//! The self-test of a release that is tried: a known radiograph has to have its known finding, within the budget.

use crate::system::APPLICATION;
use anyhow::{Context, bail};
use slots::KNOWN_FINDING;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the scan may take before it is taken to hang.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Scans the release's own radiograph and compares. An emulated machine has no budget.
pub fn scan(is_emulated: bool) -> anyhow::Result<()> {
    let within = |name: &str| Path::new(APPLICATION).join(name);
    let mut command = Command::new(within("edge-runtime"));
    command.args(["scan", "--json", "--board"]).arg(within("board.toml")).arg(within("self-test.jpeg"));
    let model = within("model.hilum");
    if model.exists() {
        command.arg("--model").arg(model);
    }
    if !is_emulated {
        command.arg("--enforce-budget");
    }
    let mut child = command.stdout(Stdio::piped()).spawn().context("the program cannot be started")?;
    let begin = Instant::now();
    // A line of JSON fits the pipe, so that waiting first does not block.
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            bail!("the scan takes longer than {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if !status.success() {
        bail!("the scan failed ({status})");
    }
    let mut line = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().context("no output")?, &mut line)?;
    let expected = std::fs::read_to_string(within("self-test.json")).context("the known finding cannot be read")?;
    compare(&line, &expected)
}

fn compare(found: &str, expected: &str) -> anyhow::Result<()> {
    let found: serde_json::Value = serde_json::from_str(found).context("the finding is not understood")?;
    let expected: serde_json::Value = serde_json::from_str(expected).context("the known finding is not understood")?;
    for key in KNOWN_FINDING {
        if expected[key].is_null() || found[key] != expected[key] {
            bail!("{key} is {} and not {}", found[key], expected[key]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::compare;

    #[test]
    fn another_finding_is_noticed() {
        let finding = r#"{"probability":0.25,"positive":false,"threshold":0.5,"sha256":"a"}"#;
        compare(finding, finding).unwrap();
        for (from, to) in [("0.25", "0.26"), ("false", "true"), ("\"a\"", "\"b\""), ("0.5", "null")] {
            assert!(compare(&finding.replace(from, to), finding).is_err());
            assert!(compare(finding, &finding.replace(from, to)).is_err());
        }
    }
}
