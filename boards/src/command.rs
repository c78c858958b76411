//! The command line of `boards`.

use clap::{Parser, Subcommand};
use edge_runtime::board::{Board, BoardError};
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
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::List { json } => list(json),
        Command::Show { name, json } => show(&name, json),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("boards: {e}");
            ExitCode::FAILURE
        }
    }
}

fn list(json: bool) -> Result<(), BoardError> {
    let boards = Board::all()?;
    if json {
        println!("{:#}", serde_json::json!(boards));
        return Ok(());
    }
    println!("{:<22} {:<28} {:<17} {:>8} {:>9}", "board", "cores", "SoC", "memory", "budget");
    for b in &boards {
        let cores = format!("{} × {} at {} MHz", b.cores, b.core, b.clock_mhz);
        let (memory, budget) = (format!("{} MiB", b.memory_mib), format!("{:.0} ms", b.budget_ms.total()));
        println!("{:<22} {cores:<28} {:<17} {memory:>8} {budget:>9}", b.name, b.soc);
    }
    Ok(())
}

fn show(name: &str, json: bool) -> Result<(), BoardError> {
    let b = Board::find(name)?;
    if json {
        println!("{:#}", serde_json::json!(b));
        return Ok(());
    }
    let row = |k: &str, v: &str| println!("{k:<10} {v}");
    row("board", &format!("{} ({})", b.title, b.name));
    row("SoC", &format!("{}, {} × {} at {} MHz", b.soc, b.cores, b.core, b.clock_mhz));
    row("features", &b.features.join(", "));
    row("memory", &format!("{} MiB", b.memory_mib));
    row("target", &b.target);
    row("display", &format!("{}, {}×{}", b.display.kind, b.display.width, b.display.height));
    row("input", &b.input);
    row("flash", &b.flash);
    let stages: Vec<String> = b.budget_ms.stages().iter().map(|(n, ms)| format!("{n} {ms:.0}")).collect();
    row("budget", &format!("{} = {:.0} ms", stages.join(" + "), b.budget_ms.total()));
    row("", &b.budget_basis);
    if let Some(a) = &b.assumed {
        let (rate, memory) = (a.instructions_per_cycle, a.memory_mb_per_s);
        row("assumed", &format!("{rate} instructions a cycle, weights at {memory:.0} MB/s (for predicted latencies)"));
    }
    for source in &b.sources {
        row("source", source);
    }
    Ok(())
}
