//! What a run leaves after every epoch, and how it goes on from there.

use super::TrainError;
use super::early_stopping::EarlyStopping;
use crate::network::Network;
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use edge_runtime::process::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss over the training images, as trained on (augmented, smoothed, weighted).
    pub train_loss: f64,
    /// Plain cross-entropy on the validation images.
    pub val_loss: f64,
    /// AUROC on the validation images.
    pub val_auroc: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// True if these are the best weights so far.
    pub best: bool,
}

/// `state.json`: which run this is, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    recipe: String,
    data: String,
    epoch: usize,
    best_epoch: usize,
    best_loss: f64,
}

/// A run's folder.
pub struct RunFolder {
    out: PathBuf,
    recipe: String,
    data: String,
}

/// A run between two epochs.
pub struct Checkpoint {
    /// The last finished epoch.
    pub epoch: usize,
    /// The best so far.
    pub stopping: EarlyStopping,
    /// The network after that epoch.
    pub network: Network,
    /// Its optimiser.
    pub optimizer: ModuleOptimizer,
}

impl RunFolder {
    /// The folder `out` of a run of the recipe with the text `recipe` on data with the digest `data`.
    pub fn new(out: &Path, recipe: &str, data: &str) -> RunFolder {
        RunFolder { out: out.to_owned(), recipe: recipe.to_owned(), data: data.to_owned() }
    }

    /// True if there is a run, finished or not, in `out`.
    pub fn is_occupied(out: &Path) -> bool {
        out.join("state.json").exists() || out.join("model.onnx").exists()
    }

    /// Writes a file of the run, whole or not at all.
    pub fn write(&self, name: &str, text: &str) -> Result<(), TrainError> {
        let path = self.out.join(name);
        write_atomically(&path, text.as_bytes()).map_err(TrainError::io(&path))
    }

    /// Makes the folder.
    pub fn create(out: &Path) -> Result<(), TrainError> {
        std::fs::create_dir_all(out).map_err(TrainError::io(out))
    }

    fn state_file(&self) -> PathBuf {
        self.out.join("state.json")
    }

    fn checkpoint(&self, epoch: usize) -> PathBuf {
        self.out.join(format!("checkpoint-{epoch}"))
    }

    /// The last checkpoint, or `start` where there is none.
    pub fn resume(&self, start: Checkpoint) -> Result<Checkpoint, TrainError> {
        let path = self.state_file();
        if !path.exists() {
            return Ok(start);
        }
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let state: State = serde_json::from_str(&text)
            .map_err(|e| TrainError::Checkpoint { path: path.clone(), reason: e.to_string() })?;
        if state.recipe != self.recipe {
            return Err(TrainError::OtherRun(path, "recipe"));
        }
        if state.data != self.data {
            return Err(TrainError::OtherRun(path, "data set"));
        }
        let folder = self.checkpoint(state.epoch);
        let network = load(start.network, &folder.join("network.bpk"))?;
        let path = folder.join("optimizer.bpk");
        Ok(Checkpoint {
            epoch: state.epoch,
            stopping: start.stopping.resumed(state.best_epoch, state.best_loss),
            network,
            optimizer: start.optimizer.load(&path).map_err(TrainError::record(&path))?,
        })
    }

    /// Keeps an epoch: its metrics, network and optimiser, and the weights as the best if they are. The checkpoint
    /// before it goes when this one is whole.
    pub fn keep(&self, metrics: &EpochMetrics, now: &Checkpoint) -> Result<(), TrainError> {
        let path = self.out.join("metrics.jsonl");
        append_metrics(&path, metrics).map_err(TrainError::io(&path))?;
        let folder = self.checkpoint(metrics.epoch);
        std::fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let path = folder.join("network.bpk");
        now.network.clone().into_record().save(&path).map_err(TrainError::record(&path))?;
        if metrics.best {
            std::fs::copy(&path, self.out.join("best.bpk")).map_err(TrainError::io(&path))?;
        }
        let path = folder.join("optimizer.bpk");
        now.optimizer.save(&path).map_err(TrainError::record(&path))?;
        let state = State {
            recipe: self.recipe.clone(),
            data: self.data.clone(),
            epoch: metrics.epoch,
            best_epoch: now.stopping.best_epoch,
            best_loss: now.stopping.best_loss,
        };
        self.write("state.json", &serde_json::to_string(&state).expect("plain data serialises"))?;
        let _ = std::fs::remove_dir_all(self.checkpoint(metrics.epoch - 1));
        Ok(())
    }

    /// The best weights of the run in `network`.
    pub fn best(&self, network: Network) -> Result<Network, TrainError> {
        load(network, &self.out.join("best.bpk"))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.out
    }
}

fn load(network: Network, path: &Path) -> Result<Network, TrainError> {
    Ok(network.load_record(ModuleRecord::load(path).map_err(TrainError::record(path))?))
}

/// Appends a line, first dropping any of the same or a later epoch: a resumed run repeats the epoch it was stopped in.
fn append_metrics(path: &Path, metrics: &EpochMetrics) -> std::io::Result<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let earlier = |line: &&str| serde_json::from_str::<EpochMetrics>(line).is_ok_and(|m| m.epoch < metrics.epoch);
    let mut text: String = old.lines().filter(earlier).map(|l| format!("{l}\n")).collect();
    text.push_str(&serde_json::to_string(metrics).expect("plain data serialises"));
    text.push('\n');
    write_atomically(path, text.as_bytes())
}
