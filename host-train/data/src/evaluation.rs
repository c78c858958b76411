//! Models over a data set, on the device's own engine and preprocessing.

use crate::calibration::Answers;
use crate::shifts::SHIFTS;
use edge_runtime::engine::EngineError;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::Model;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seed of the shifts, so that every model is asked the same.
pub const SHIFT_SEED: u64 = 1;

/// Runs `model` over `frames`, which have its size, on all threads: the logits of each. `progress(done)` is called from
/// any thread.
pub fn logits(
    model: &Model,
    frames: &[&GreyPlane],
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<Vec<f32>>, EngineError> {
    let done = AtomicUsize::new(0);
    let one = |frame: &&GreyPlane| {
        let inference = model.infer(frame);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        inference.map(|i| i.logits)
    };
    frames.par_iter().map(one).collect()
}

/// As [`logits`], the probability of the label that is looked for.
pub fn probabilities(
    model: &Model,
    frames: &[&GreyPlane],
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<f32>, EngineError> {
    let all = logits(model, frames, progress)?;
    Ok(all.iter().map(|logits| model.contract.probability(logits)).collect())
}

/// What `model` gives for `frames` and, if `shifted`, for each of the shifts of them as well, one after the other.
/// `progress(done, of)` is called from any thread.
pub fn answers(
    model: &Model,
    frames: &[&GreyPlane],
    truths: &[bool],
    shifted: bool,
    progress: impl Fn(usize, usize) + Sync,
) -> Result<Answers, EngineError> {
    let shifts = if shifted { SHIFTS } else { &SHIFTS[..1] };
    let total = shifts.len() * frames.len();
    let mut answers = Answers { logits: vec![], truths: vec![], images: frames.len() };
    for (k, shift) in shifts.iter().enumerate() {
        let changed = shift.apply(frames, truths, SHIFT_SEED);
        let changed: Vec<&GreyPlane> = changed.iter().collect();
        answers.logits.extend(logits(model, &changed, |done| progress(k * frames.len() + done, total))?);
        answers.truths.extend(truths);
    }
    Ok(answers)
}
