//! `edge-runtime doctor`.

use super::ModelSource;
use crate::board::Board;
use crate::config::Config;
use crate::display::screens::Check;
use crate::finding::{Outcome as Came, STATEMENT};
use crate::kiosk::input;
use crate::kiosk::self_test::{self, Outcome, name};
use crate::log::{Contents, Folder, Log};
use crate::panel::Shown;
use crate::process::measure::percentile;
use crate::process::{Failure, Process, output};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

#[derive(clap::Args)]
pub struct Args {
    /// The configuration instead of /etc/hilum/edge-runtime.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the display of this board (a name of `boards list`, or a board file)
    #[arg(long)]
    board: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Serialize)]
struct Diagnosis {
    board: String,
    kernel: &'static str,
    checks: Vec<Outcome>,
    /// Findings that are kept.
    findings: usize,
    /// Milliseconds of the findings that are kept, from file to screen.
    latency_ms: Option<Latency>,
    budget_ms: f64,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
}

pub fn run(args: Args, process: Process) -> Result<u8, Failure> {
    let config = Config::open(args.config.as_deref()).map_err(Failure::usage)?;
    let board = Board::find(args.board.as_deref().unwrap_or(&config.board)).map_err(Failure::usage)?;
    let compute = process.compute(config.threads as usize)?;
    let source = ModelSource::of(&config);
    let model = match source.load(&compute) {
        Ok(model) => self_test::model(&model, |compute| source.load(compute)),
        Err(e) => Outcome { check: Check::Model, passed: false, sentence: e.to_string() },
    };
    let opened = Folder::existing(config.findings.folder.clone()).map(|folder| Log::read(&folder));
    let (contents, unread) = match opened {
        Ok(Ok(contents)) => (contents, None),
        Ok(Err(e)) => (Contents::default(), Some(e.to_string())),
        // The check of the disk says it.
        Err(_) => (Contents::default(), None),
    };
    let (to, _inputs) = channel();
    let checks = vec![
        display(&board),
        self_test::buttons(input::read_devices(&to)),
        disk(&config.findings.folder, &contents, unread),
        self_test::clock(),
        self_test::temperature(),
        model,
    ];
    let diagnosis = Diagnosis {
        board: board.title.clone(),
        kernel: compute.kernel.name,
        checks,
        findings: contents.entries.len(),
        latency_ms: latency(&contents),
        budget_ms: board.budget_ms.total(),
    };
    match args.json {
        true => output::json(&diagnosis, true)?,
        false => output::line(text(&diagnosis))?,
    }
    Ok(u8::from(diagnosis.checks.iter().any(|check| !check.passed)))
}

fn display(board: &Board) -> Outcome {
    let outcome = |passed, sentence| Outcome { check: Check::Display, passed, sentence };
    // A file that holds the screen is written where it does no harm.
    let file = std::env::temp_dir().join(format!("hilum-doctor-{}.png", std::process::id()));
    let opened = Shown::open(&board.display, &file);
    let _ = std::fs::remove_file(&file);
    match opened {
        Ok(_) => outcome(true, board.display.in_words()),
        Err(e) => outcome(false, e.to_string()),
    }
}

fn disk(folder: &Path, contents: &Contents, unread: Option<String>) -> Outcome {
    let mut outcome = self_test::disk(folder);
    let Contents { damaged, unreadable, torn, .. } = contents;
    if *torn > 0 {
        // The two cannot be told apart: a finding that was being written was never shown as kept.
        let cut = "the power was cut while one was written, or the last one is damaged";
        outcome.sentence += &format!("; {torn} bytes at the end hold no finding: {cut}");
    }
    let lost = contents.has_lost().then(|| {
        format!(
            "{damaged} bytes and {unreadable} files of the findings are damaged: export the others, replace the card"
        )
    });
    match unread.or(lost) {
        Some(sentence) if outcome.passed => Outcome { passed: false, sentence, ..outcome },
        _ => outcome,
    }
}

fn latency(contents: &Contents) -> Option<Latency> {
    let totals: Vec<f64> = contents
        .entries
        .iter()
        .filter_map(|entry| match &entry.record.outcome {
            Came::Finding(finding) => Some(finding.latency_ms.total()),
            Came::Refusal(_) => None,
        })
        .collect();
    let at = |p| percentile(&totals, p);
    Some(Latency { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)? })
}

fn text(d: &Diagnosis) -> String {
    let mut lines = vec![format!("board        {}", d.board), format!("kernel       {}", d.kernel)];
    lines.extend(d.checks.iter().map(|check| {
        let verdict = if check.passed { "ok" } else { "FAILED" };
        format!("{:<12} {verdict:<7} {}", name(check.check), check.sentence)
    }));
    lines.push(format!("findings     {}", d.findings));
    if let Some(Latency { p50, p95, p99 }) = d.latency_ms {
        lines.push(format!(
            "latency      {p50:.0} ms (half of all), {p95:.0} ms (95 %), {p99:.0} ms (99 %); the budget is {:.0} ms",
            d.budget_ms
        ));
    }
    lines.push(STATEMENT.to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A last entry that is damaged looks like one that was cut, and went without a word.
    #[test]
    fn bytes_without_a_finding_are_said() {
        let folder = tempfile::tempdir().unwrap();
        let whole = disk(folder.path(), &Contents::default(), None);
        assert!(whole.passed && !whole.sentence.contains("hold no finding"), "{}", whole.sentence);
        let torn = disk(folder.path(), &Contents { torn: 7, ..Contents::default() }, None);
        assert!(torn.passed && torn.sentence.contains("7 bytes at the end hold no finding"), "{}", torn.sentence);
        let lost = disk(folder.path(), &Contents { damaged: 7, ..Contents::default() }, None);
        assert!(!lost.passed && lost.sentence.contains("are damaged"), "{}", lost.sentence);
    }
}
