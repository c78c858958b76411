//! `boards list`.

use edge_runtime::board::Board;
use edge_runtime::process::{Failure, output};

#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let boards = Board::all().map_err(Failure::work)?;
    if args.json {
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
