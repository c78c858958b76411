//! Models over a data set, on the device's own engine and preprocessing. Each image is decoded once for all of them.

use crate::dataset::{Dataset, Item, Unreadable};
use crate::frames::{self, ReadError};
use edge_runtime::engine::EngineError;
use edge_runtime::image::Radiograph;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::model::Model;

/// Why an evaluation stopped.
pub type EvaluationError = ReadError<EngineError>;

/// Probabilities of the label that is looked for.
pub struct Scores<'a> {
    /// The images that were read, in their order.
    pub items: Vec<&'a Item>,
    /// For each model, a probability for each of `items`.
    pub probabilities: Vec<Vec<f32>>,
    /// Images that are none.
    pub unreadable: Vec<Unreadable>,
}

/// Runs each of `models` over `items`. `progress(done)` is called from any thread.
pub fn scores<'a>(
    models: &[&Model],
    dataset: &Dataset,
    items: &[&'a Item],
    progress: impl Fn(usize) + Sync,
) -> Result<Scores<'a>, EvaluationError> {
    let infer = |_: &Item, radiograph: &Radiograph| -> Result<Vec<f32>, EngineError> {
        let one = |model: &&Model| {
            let frame = preprocess(&radiograph.plane, &model.contract.input);
            model.infer(&frame).map(|inference| inference.probability)
        };
        models.iter().map(one).collect()
    };
    let decoded = frames::decode(dataset, items, progress, infer)?;
    let mut scores = Scores {
        items: decoded.results.iter().map(|(i, _)| items[*i]).collect(),
        probabilities: vec![Vec::new(); models.len()],
        unreadable: decoded.unreadable,
    };
    for (_, probabilities) in decoded.results {
        scores.probabilities.iter_mut().zip(probabilities).for_each(|(to, p)| to.push(p));
    }
    Ok(scores)
}
