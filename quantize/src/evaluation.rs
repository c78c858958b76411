//! A model over a data set, on the device's own engine and preprocessing.

use crate::dataset::{Dataset, Item};
use edge_runtime::contract::{ContractError, InputContract};
use edge_runtime::engine::EngineError;
use edge_runtime::model::Model;
use edge_runtime::preprocess::{Frame, preprocess};
use edge_runtime::radiograph::{Radiograph, RadiographError, read_file};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why an evaluation stopped.
#[derive(Debug, thiserror::Error)]
pub enum EvaluationError {
    /// An image does not serve.
    #[error("{path}: {source}")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: RadiographError,
    },
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The contract does not hold.
    #[error(transparent)]
    Contract(#[from] ContractError),
}

/// Reads and preprocesses one image file.
pub fn frame(path: &Path, input: &InputContract) -> Result<Frame, EvaluationError> {
    let image = |source| EvaluationError::Image { path: path.to_owned(), source };
    let source = read_file(path).map_err(image)?;
    Ok(preprocess(&Radiograph::decode(&source.bytes).map_err(image)?, input))
}

/// Probability of the positive label for each of `items`, in their order. `progress(done)` is called from any thread.
pub fn probabilities(
    model: &Model,
    dataset: &Dataset,
    items: &[&Item],
    progress: impl Fn(usize) + Sync,
) -> Result<Vec<f32>, EvaluationError> {
    let done = AtomicUsize::new(0);
    items
        .par_iter()
        .map(|item| {
            let frame = frame(&dataset.root.join(&item.file), &model.contract.input)?;
            let inference = model.infer(&frame)?;
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(inference.probability)
        })
        .collect()
}

/// True where the item has the positive label.
pub fn labels(items: &[&Item]) -> Vec<bool> {
    items.iter().map(|i| i.label == 1).collect()
}
