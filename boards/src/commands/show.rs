//! `boards show`.

use edge_runtime::board::Board;
use edge_runtime::process::{Failure, output};

#[derive(clap::Args)]
pub struct Args {
    /// Name of a board, or a board file
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let board = Board::find(&args.name).map_err(Failure::work)?;
    match args.json {
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
    match &b.card {
        Some(card) => row("card", &format!("`boards build {}`; {}", b.name, card.limits)),
        None => row("card", "none can be built"),
    }
    for source in &b.sources {
        row("source", source);
    }
    lines.join("\n")
}
