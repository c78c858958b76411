//! Models over a data set, on the device's own engine and preprocessing.

use edge_runtime::engine::EngineError;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::Model;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `model` over `frames`, which have its size, on all threads: for each the probability of the label that is
/// looked for. `progress(done)` is called from any thread.
pub fn probabilities(
    model: &Model,
    frames: &[&GreyPlane],
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<f32>, EngineError> {
    let done = AtomicUsize::new(0);
    let one = |frame: &&GreyPlane| {
        let inference = model.infer(frame);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        inference.map(|i| i.probability)
    };
    frames.par_iter().map(one).collect()
}
