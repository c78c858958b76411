//! Nothing but inference, for counting instructions: `infer MODEL RUNS [THREADS]` runs one random frame RUNS times and
//! prints the kernel and a logit. The difference between two counts is what the runs between them cost.

use anyhow::anyhow;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::Model;
use edge_runtime::process::{self, Failure, Process, output};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    process::main("infer", run)
}

fn run(process: Process) -> Result<u8, Failure> {
    let args: Vec<String> = std::env::args().collect();
    let usage = || Failure::usage(anyhow!("usage: infer MODEL RUNS [THREADS]"));
    let [_, model, runs, threads @ ..] = args.as_slice() else { return Err(usage()) };
    let runs: u32 = runs.parse().map_err(|_| usage())?;
    let threads = threads.first().map_or(Ok(1), |t| t.parse()).map_err(|_| usage())?;
    let model = Model::load(Path::new(model), &process.compute(threads)?)?;
    let size = model.contract.input.size;
    let pixels = (0..size * size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let plane = GreyPlane::square(size, pixels);
    let mut logit = 0.0;
    for _ in 0..runs {
        logit = model.infer(&plane).map_err(Failure::work)?.logits[0];
    }
    output::line(format!("{} {logit}", model.kernel()))?;
    Ok(0)
}
