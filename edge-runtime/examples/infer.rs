//! Nothing but inference, for counting instructions: `infer MODEL RUNS [THREADS]` runs one random frame RUNS times and
//! prints the kernel and a logit. The difference between two counts is what the runs between them cost.

use edge_runtime::model::Model;
use edge_runtime::preprocess::Frame;
use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, model, runs, threads @ ..] = args.as_slice() else {
        eprintln!("usage: infer MODEL RUNS [THREADS]");
        std::process::exit(2);
    };
    let threads = threads.first().and_then(|t| t.parse().ok()).unwrap_or(1);
    let _ = edge_runtime::engine::kernels::team::lead(threads);
    let model = match Model::load(Path::new(model)) {
        Ok(model) => model,
        Err(e) => {
            eprintln!("infer: {e}");
            std::process::exit(3);
        }
    };
    let size = model.contract.input.size;
    let frame = Frame { size, pixels: (0..size * size).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect() };
    let mut logit = 0.0;
    for _ in 0..runs.parse::<u32>().unwrap_or(1) {
        match model.infer(&frame) {
            Ok(i) => logit = i.logits[0],
            Err(e) => eprintln!("infer: {e}"),
        }
    }
    println!("{} {logit}", model.kernel());
}
