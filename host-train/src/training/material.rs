//! The images of a run, decoded once.

use super::{Options, Progress, TrainError};
use data::frame_store::{FrameStore, Keep, Loaded};
use data::{Dataset, Split, dataset};
use edge_runtime::model::contract::InputContract;

/// The images of one split at the network's size.
pub struct SplitFrames {
    /// The images.
    pub frames: FrameStore,
    /// Label of each.
    pub labels: Vec<usize>,
}

/// The images that train and those that choose.
pub struct Material {
    /// Training images.
    pub train: SplitFrames,
    /// Validation images.
    pub val: SplitFrames,
}

/// Decodes the training and validation images of the run's data set, which leaves out those that are none.
pub fn load(options: &mut Options, input: &InputContract, progress: &impl Progress) -> Result<Material, TrainError> {
    let keep = match &options.frame_cache {
        Some(folder) => Keep::Cache(folder),
        None => Keep::Folder(&options.out),
    };
    let ages = options.recipe.population.ages;
    let dataset = &mut options.dataset;
    require(dataset)?;
    let known = dataset.unreadable.len();
    let done = |done: usize, of: usize| progress.step("reading images", done, of, "");
    let Loaded { items, frames, cached } = FrameStore::load(dataset, &[Split::Train, Split::Val], input, keep, done)?;
    if cached > 0 {
        progress.line(&format!("{cached} of {} images were decoded before", items.len()));
    }
    dataset::grouped(&dataset.unreadable[known..]).iter().for_each(|line| progress.line(line));
    require(dataset)?;
    if let Some(ages) = ages {
        let others = dataset.count_other_ages(ages);
        if others > 0 {
            return Err(TrainError::Ages(others));
        }
    }
    let is_train = |i: usize| dataset.items[items[i]].split == Split::Train;
    let labels = |train: bool| -> Vec<usize> {
        let of_split = (0..items.len()).filter(|i| is_train(*i) == train);
        of_split.map(|i| dataset.items[items[i]].label).collect()
    };
    let labels = [true, false].map(labels);
    let [train, val] = frames.partition(is_train).map_err(TrainError::Frames)?;
    let [train_labels, val_labels] = labels;
    Ok(Material {
        train: SplitFrames { frames: train, labels: train_labels },
        val: SplitFrames { frames: val, labels: val_labels },
    })
}

fn require(dataset: &Dataset) -> Result<(), TrainError> {
    dataset.require(Split::Train)?;
    dataset.require(Split::Val)?;
    Ok(())
}
