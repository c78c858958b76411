//! A finished run, opened again: its recipe, its network and how its training went.

use crate::device::{self, DeviceError, DeviceKind};
use crate::explain::Explainer;
use crate::network::Network;
use crate::recipe::{Recipe, RecipeError};
use crate::training::{EpochMetrics, kept_weights};
use burn::module::Module;
use burn::store::ModuleRecord;
use data::Labels;
use edge_runtime::model::contract::InputContract;
use std::path::{Path, PathBuf};

/// Why a run cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum TrainedError {
    /// There is none.
    #[error("{0}: not the folder of a run of `host-train train`")]
    NoRun(PathBuf),
    /// Its recipe does not serve.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// There is no device for it.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Its weights cannot be read.
    #[error("{path}: the weights cannot be used ({reason}); train the run to its end")]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A finished run.
pub struct TrainedRun {
    /// Its folder.
    pub folder: PathBuf,
    /// Its recipe.
    pub recipe: Recipe,
    /// The recipe's text.
    pub text: String,
    /// The course of its training; empty where nothing is left of it.
    pub training: Vec<EpochMetrics>,
}

impl TrainedRun {
    /// Opens the run in `folder`.
    pub fn open(folder: &Path) -> Result<TrainedRun, TrainedError> {
        if !folder.join("recipe.toml").is_file() {
            return Err(TrainedError::NoRun(folder.to_owned()));
        }
        let (recipe, text) = Recipe::load(&folder.join("recipe.toml"))?;
        let metrics = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        let training = metrics.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        Ok(TrainedRun { folder: folder.to_owned(), recipe, text, training })
    }

    /// `model.onnx`.
    pub fn model(&self) -> PathBuf {
        self.folder.join("model.onnx")
    }

    /// Its network with the kept weights, which tells `labels` apart, to be asked what it looks at.
    pub fn explainer(&self, labels: &Labels, input: InputContract) -> Result<Explainer, TrainedError> {
        let (device, operators) = device::open(DeviceKind::Cpu)?;
        let device = device.autodiff();
        let path = kept_weights(&self.folder)
            .map_err(|e| TrainedError::Weights { path: self.folder.join("state.json"), reason: e.to_string() })?;
        let record = ModuleRecord::load(&path)
            .map_err(|e| TrainedError::Weights { path: path.clone(), reason: e.to_string() })?;
        let network = Network::new(&self.recipe, labels.len(), operators, &device).load_record(record);
        Ok(Explainer::new(network, device, input, labels))
    }
}
