//! What a run leaves after every epoch, and how it goes on from there.

use super::TrainError;
use super::early_stopping::EarlyStopping;
use super::schedule::Course;
use crate::network::{Network, Operators};
use crate::optimizer::adamw;
use crate::recipe::{Keep, Train};
use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn::store::ModuleRecord;
use edge_runtime::process::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1, counted through all stages.
    pub epoch: usize,
    /// The recipe's stage, from 1.
    #[serde(default = "one")]
    pub stage: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss over the training images, as trained on (augmented, smoothed, weighted).
    pub train_loss: f64,
    /// Plain cross-entropy on the validation images.
    pub val_loss: f64,
    /// AUROC on the validation images.
    pub val_auroc: f64,
    /// Share of the validation images whose likeliest class is the right one.
    #[serde(default)]
    pub val_accuracy: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// Share of them in which a step waited for its images.
    #[serde(default)]
    pub waiting: f64,
    /// True if these are the best weights so far.
    pub best: bool,
}

fn one() -> usize {
    1
}

impl EpochMetrics {
    /// The line of the log.
    pub fn line(&self, keep: Keep) -> String {
        format!(
            "epoch {}: train loss {:.4}, val loss {:.4}, val AUROC {:.4}, val accuracy {:.4}, {:.0} s, {:.0} % of them \
             waiting for images{}",
            self.epoch,
            self.train_loss,
            self.val_loss,
            self.val_auroc,
            self.val_accuracy,
            self.seconds,
            self.waiting * 100.0,
            if self.best && keep == Keep::Best { ", best" } else { "" }
        )
    }
}

/// `state.json`: which run this is, and how far it is.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    identity: Identity,
    stage: usize,
    started: usize,
    epoch: usize,
    best_epoch: usize,
    best_score: f64,
    course: Course,
}

/// What makes a run the one that it is: a checkpoint of another one is not gone on from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// The recipe's text.
    pub recipe: String,
    /// The data's digest.
    pub data: String,
    /// Who teaches.
    #[serde(default)]
    pub teachers: Vec<String>,
    /// The digest of the weights that it starts from, empty for none; `None` in states of programs that did not keep
    /// it.
    #[serde(default)]
    pub weights: Option<String>,
}

impl Identity {
    /// What of `self` another run does not share; `None` of the same run.
    fn differs_from(&self, other: &Identity) -> Option<&'static str> {
        let same_weights = match (&self.weights, &other.weights) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        let same = [
            ("recipe", self.recipe == other.recipe),
            ("data set", self.data == other.data),
            ("set of teachers", self.teachers == other.teachers),
            ("file of weights", same_weights),
        ];
        same.into_iter().find(|(_, is_same)| !is_same).map(|(what, _)| what)
    }
}

/// A run's folder.
pub struct RunFolder {
    out: PathBuf,
    identity: Identity,
}

/// A run between two epochs.
pub struct Checkpoint {
    /// Index of the recipe's stage.
    pub stage: usize,
    /// The epoch after which it began.
    pub started: usize,
    /// The last finished epoch.
    pub epoch: usize,
    /// The best of the stage so far.
    pub stopping: EarlyStopping,
    /// What has been taken off the learning rate.
    pub course: Course,
    /// The network after that epoch.
    pub network: Network,
    /// The running mean of its weights, if the stage keeps one.
    pub average: Option<Network>,
    /// Its optimiser.
    pub optimizer: ModuleOptimizer,
}

impl Checkpoint {
    /// Before the first epoch of `stage`, the first one.
    pub fn first(network: Network, stage: &Train, operators: Operators) -> Checkpoint {
        Checkpoint {
            stage: 0,
            started: 0,
            epoch: 0,
            stopping: EarlyStopping::new(stage.patience, stage.keep),
            course: Course::new(),
            average: (stage.ema > 0.0).then(|| network.clone()),
            optimizer: adamw(stage, network.stages.len(), operators),
            network,
        }
    }

    /// The weights that are judged and kept.
    pub fn kept_network(&self) -> &Network {
        self.average.as_ref().unwrap_or(&self.network)
    }
}

impl RunFolder {
    /// The folder `out` of a run.
    pub fn new(out: &Path, identity: Identity) -> RunFolder {
        RunFolder { out: out.to_owned(), identity }
    }

    /// True if there is a run, finished or not, in `out`.
    pub fn is_occupied(out: &Path) -> bool {
        let files = ["state.json", "model.onnx", "recipe.toml", "manifest.csv", "metrics.jsonl", "report.html"];
        files.iter().any(|name| out.join(name).exists())
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

    /// The last checkpoint of a run of `stages`, or `start` where there is none.
    pub fn resume(&self, start: Checkpoint, stages: &[Train], operators: Operators) -> Result<Checkpoint, TrainError> {
        let path = self.state_file();
        if !path.exists() {
            return Ok(start);
        }
        let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
        let bad = |reason: String| TrainError::Checkpoint { path: path.clone(), reason };
        let state: State = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if let Some(what) = state.identity.differs_from(&self.identity) {
            return Err(TrainError::OtherRun(path, what));
        }
        let stage = stages.get(state.stage).ok_or_else(|| bad(format!("stage {}", state.stage)))?;
        let folder = self.checkpoint(state.epoch);
        let fresh = Checkpoint::first(start.network, stage, operators);
        let average = fresh.average.map(|average| load(average, &folder.join("average.bpk"))).transpose()?;
        let path = folder.join("optimizer.bpk");
        Ok(Checkpoint {
            stage: state.stage,
            started: state.started,
            epoch: state.epoch,
            stopping: fresh.stopping.resumed(state.best_epoch, state.best_score),
            course: state.course,
            network: load(fresh.network, &folder.join("network.bpk"))?,
            average,
            optimizer: fresh.optimizer.load(&path).map_err(TrainError::record(&path))?,
        })
    }

    /// Keeps an epoch: its metrics, network and optimiser, and the weights as the best if they are. The checkpoint
    /// before it goes when this one is whole.
    pub fn keep(&self, metrics: &EpochMetrics, now: &Checkpoint) -> Result<(), TrainError> {
        let path = self.out.join("metrics.jsonl");
        append_metrics(&path, metrics).map_err(TrainError::io(&path))?;
        let folder = self.checkpoint(metrics.epoch);
        std::fs::create_dir_all(&folder).map_err(TrainError::io(&folder))?;
        let save = |network: &Network, name: &str| -> Result<PathBuf, TrainError> {
            let path = folder.join(name);
            network.clone().into_record().save(&path).map_err(TrainError::record(&path))?;
            Ok(path)
        };
        let mut kept = save(&now.network, "network.bpk")?;
        if let Some(average) = &now.average {
            kept = save(average, "average.bpk")?;
        }
        // Under a name of its own until `state.json` says that it is the best: a run that is killed in between goes on
        // from the epoch before, with the best of before.
        if metrics.best {
            std::fs::copy(&kept, best_file(&self.out, metrics.epoch)).map_err(TrainError::io(&kept))?;
        }
        let path = folder.join("optimizer.bpk");
        now.optimizer.save(&path).map_err(TrainError::record(&path))?;
        let state = State {
            identity: self.identity.clone(),
            stage: now.stage,
            started: now.started,
            epoch: metrics.epoch,
            best_epoch: now.stopping.best_epoch,
            best_score: now.stopping.best_score,
            course: now.course,
        };
        self.write("state.json", &serde_json::to_string(&state).expect("plain data serialises"))?;
        let _ = std::fs::remove_dir_all(self.checkpoint(metrics.epoch - 1));
        for other in (1..metrics.epoch).filter(|epoch| *epoch != state.best_epoch) {
            let _ = std::fs::remove_file(best_file(&self.out, other));
        }
        Ok(())
    }

    /// The weights of epoch `best`, which were kept, in `network`.
    pub fn best(&self, network: Network, best: usize) -> Result<Network, TrainError> {
        load(network, &best_file(&self.out, best))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.out
    }
}

/// The kept weights of the run in `folder`, as its last epoch left it.
pub fn kept_weights(folder: &Path) -> std::io::Result<PathBuf> {
    let text = std::fs::read_to_string(folder.join("state.json"))?;
    let state: State = serde_json::from_str(&text).map_err(std::io::Error::other)?;
    Ok(best_file(folder, state.best_epoch))
}

/// Refused unless the run in `folder` is the one with `identity`.
pub fn require_same(folder: &Path, identity: &Identity) -> Result<(), TrainError> {
    let path = folder.join("state.json");
    let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
    let state: State = serde_json::from_str(&text)
        .map_err(|e| TrainError::Checkpoint { path: path.clone(), reason: e.to_string() })?;
    match state.identity.differs_from(identity) {
        Some(what) => Err(TrainError::OtherRun(folder.to_owned(), what)),
        None => Ok(()),
    }
}

/// Removes what the finished run in `folder` would go on from, and keeps its best weights.
pub fn remove_checkpoint(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("checkpoint-") {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn best_file(folder: &Path, epoch: usize) -> PathBuf {
    folder.join(format!("best-{epoch}.bpk"))
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
