//! The command line of `boards`.

use clap::{Parser, Subcommand};
use edge_runtime::board::Board;
use edge_runtime::process::{self, Failure, output};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  no such board, or its file cannot be read
  2  the command line was not understood";

/// The devices that Hilum runs on.
#[derive(Parser)]
#[command(name = "boards", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All boards, a line each
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One board, whole
    Show {
        /// Name of a board, or a board file
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("boards", |_| {
        match Cli::parse().command {
            Command::List { json } => list(json)?,
            Command::Show { name, json } => show(&name, json)?,
        }
        Ok(0)
    })
}

fn list(json: bool) -> Result<(), Failure> {
    let boards = Board::all().map_err(Failure::work)?;
    if json {
        return output::json(&boards, true);
    }
    let mut lines = vec![format!("{:<22} {:<28} {:<17} {:>8} {:>9}", "board", "cores", "SoC", "memory", "budget")];
    lines.extend(boards.iter().map(|b| {
        let cores = format!("{} × {} at {} MHz", b.cores, b.core, b.clock_mhz);
        let memory = format!("{} MiB", b.memory_mib);
        let budget = format!("{:.0} ms", b.budget_ms.total());
        format!("{:<22} {cores:<28} {:<17} {memory:>8} {budget:>9}", b.name, b.soc)
    }));
    output::line(lines.join("\n"))
}

fn show(name: &str, json: bool) -> Result<(), Failure> {
    let board = Board::find(name).map_err(Failure::work)?;
    match json {
        true => output::json(&board, true),
        false => output::line(text(&board)),
    }
}

fn text(b: &Board) -> String {
    let mut lines = Vec::new();
    let mut row = |key: &str, value: &str| lines.push(format!("{key:<10} {value}"));
    row("board", &format!("{} ({})", b.title, b.name));
    row("SoC", &format!("{}, {} × {} at {} MHz", b.soc, b.cores, b.core, b.clock_mhz));
    row("features", &b.features.join(", "));
    row("memory", &format!("{} MiB", b.memory_mib));
    row("target", &b.target);
    row("display", &b.display.in_words());
    row("input", &b.input);
    row("flash", &b.flash);
    let stages: Vec<String> = b.budget_ms.iter().map(|(stage, ms)| format!("{} {ms:.0}", stage.name())).collect();
    row("budget", &format!("{} = {:.0} ms", stages.join(" + "), b.budget_ms.total()));
    row("", &b.budget_basis);
    if let Some(a) = &b.assumed {
        let rate = a.instructions_per_cycle;
        let memory = a.memory_mb_per_s;
        row("assumed", &format!("{rate} instructions a cycle, weights at {memory:.0} MB/s (for predicted latencies)"));
    }
    for source in &b.sources {
        row("source", source);
    }
    lines.join("\n")
}
