//! Training: data and recipe in, `model.onnx` with its contract out. Every epoch leaves a checkpoint; a resumed run
//! draws the same random numbers as an unbroken one.
//!
//! `run.rs` holds the loop. What it loops over is elsewhere: where images come from (`batches`, `features`), what is
//! minimised (`objective`), which images are mixed (`mixup`), how the learning rate goes (`schedule`), when it ends
//! (`early_stopping`), what is kept (`checkpoint`), and what becomes of the best weights (`finish`).

mod batches;
mod checkpoint;
mod early_stopping;
mod features;
mod finish;
mod material;
mod mixup;
mod objective;
mod run;
mod schedule;
mod scores;
mod targets;
mod teachers;

pub use checkpoint::{EpochMetrics, Identity, RunFolder, kept_weights, remove_checkpoint, require_same};
pub use material::require_groups;
pub use run::train;
pub use scores::{FILE as SCORES_FILE, ScoredImage, Scores, ShiftScores};
pub use teachers::{TeacherError, Teachers};

use crate::network::{Operators, WeightsError};
use crate::recipe::Recipe;
use burn::store::RecordError;
use burn::tensor::Device;
use data::frame_store::StoreError;
use data::{Dataset, DatasetError};
use edge_runtime::engine::EngineError;
use edge_runtime::model::ModelError;
use edge_runtime::onnx;
use edge_runtime::process::files::sha256_hex;
use std::io;
use std::path::{Path, PathBuf};

/// What a run needs besides its recipe.
pub struct Options {
    /// The recipe.
    pub recipe: Recipe,
    /// Its text, which the model carries.
    pub recipe_text: String,
    /// The data.
    pub dataset: Dataset,
    /// The run's folder; made if it is not there.
    pub out: PathBuf,
    /// ImageNet weights, for recipes that start from them.
    pub weights: Option<PathBuf>,
    /// Where decoded images are kept for the next run, if anywhere.
    pub frame_cache: Option<PathBuf>,
    /// Radiographs of people that the model is not for.
    pub others: Vec<PathBuf>,
    /// Models that it learns from.
    pub teachers: Teachers,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Where the steps run.
    pub device: Device,
    /// Whose operators they run on.
    pub operators: Operators,
}

impl Options {
    /// What makes the run the one that it is.
    pub fn identity(&self) -> Result<Identity, TrainError> {
        let weights = match &self.weights {
            None => String::new(),
            Some(path) => sha256_hex(&std::fs::read(path).map_err(TrainError::io(path))?),
        };
        Ok(Identity {
            recipe: self.recipe_text.clone(),
            data: self.dataset.digest(),
            teachers: self.teachers.names(),
            weights: Some(weights),
        })
    }
}

/// Where a run tells what it does.
pub trait Progress: Sync {
    /// A stage of `of` steps is at step `done`; `note` holds the figures of the moment.
    fn step(&self, stage: &str, done: usize, of: usize, note: &str);
    /// A line for the log.
    fn line(&self, text: &str);
}

/// Why a run ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data do not serve.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// Files tell ages that the recipe's population does not have, once they are decoded.
    #[error(
        "{0} images are of patients of other ages than population.ages, as their files say: write a manifest with \
         `host-train prepare`, which knows their ages, and train with that"
    )]
    Ages(usize),
    /// `data.leave_out` leaves no training image of a class.
    #[error("data.leave_out leaves no training image that is {0}: leave out fewer groups")]
    LeftOut(String),
    /// `data.leave_out` names what is not there.
    #[error("data.leave_out names the group {name} = \"{value}\", and no training image is of it")]
    NoGroup {
        /// What the groups are called.
        name: String,
        /// Which one.
        value: String,
    },
    /// Decoded images cannot be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A decoded image cannot be read back.
    #[error("decoded images cannot be read back ({0}): the run goes on with --resume")]
    Frames(io::Error),
    /// The weights do not serve.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of the run cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is something in the folder already.
    #[error("{0} holds a run already: give --resume to go on with it, or another --out")]
    Occupied(PathBuf),
    /// The checkpoint belongs to another run.
    #[error("{0}: the run there has another {1}; start again in another --out")]
    OtherRun(PathBuf, &'static str),
    /// The checkpoint cannot be used.
    #[error("{path}: the checkpoint cannot be used ({reason})")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The loss is no number any more.
    #[error("the loss became {loss} in step {step} of epoch {epoch}: lower train.learning_rate in the recipe")]
    Diverged {
        /// What it became.
        loss: f32,
        /// From 1.
        epoch: usize,
        /// From 1.
        step: usize,
    },
    /// tract refuses the exported network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The exported network and its contract do not belong together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model cannot be written.
    #[error(transparent)]
    Onnx(#[from] onnx::OnnxError),
}

impl TrainError {
    fn io(path: &Path) -> impl Fn(std::io::Error) -> TrainError {
        let path = path.to_owned();
        move |source| TrainError::Io { path: path.clone(), source }
    }

    fn record(path: &Path) -> impl Fn(RecordError) -> TrainError {
        let path = path.to_owned();
        move |e| TrainError::Checkpoint { path: path.clone(), reason: e.to_string() }
    }
}
