//! The images of a run, decoded once.

use super::{Options, Progress, TrainError};
use data::frame_store::{FrameStore, Keep, Loaded};
use data::{Dataset, Reading, Split, dataset};
use edge_runtime::model::contract::InputContract;

/// The images of one split at the network's size.
pub struct SplitFrames {
    /// The images.
    pub frames: FrameStore,
    /// Label of each.
    pub labels: Vec<usize>,
    /// Which item of the data set each is.
    pub items: Vec<usize>,
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
    let reading = &options.recipe.data;
    let of = |i: usize| &dataset.items[items[i]];
    let is_left_out = |i: usize| of(i).split == Split::Train && reading.leaves_out(&of(i).groups);
    let left_out = (0..items.len()).filter(|i| is_left_out(*i)).count();
    if left_out > 0 {
        progress.line(&format!("{left_out} images do not train: data.leave_out names their groups"));
    }
    require_groups(dataset, reading)?;
    let chosen =
        |side: Split| -> Vec<usize> { (0..items.len()).filter(|i| of(*i).split == side && !is_left_out(*i)).collect() };
    let train = chosen(Split::Train);
    let val = chosen(Split::Val);
    let labels = |chosen: &[usize]| -> Vec<usize> { chosen.iter().map(|i| of(*i).label).collect() };
    for (label, name) in dataset.labels.names().iter().enumerate() {
        if !train.iter().any(|i| of(*i).label == label) {
            return Err(TrainError::LeftOut(name.clone()));
        }
    }
    let split = |frames: FrameStore, chosen: &[usize]| SplitFrames {
        frames,
        labels: labels(chosen),
        items: chosen.iter().map(|i| items[*i]).collect(),
    };
    let [train_frames, val_frames] = frames.select([&train, &val]).map_err(TrainError::Frames)?;
    Ok(Material { train: split(train_frames, &train), val: split(val_frames, &val) })
}

/// Refused if `reading` leaves out groups that no training image is of: a mistyped name would leave out nothing.
pub fn require_groups(dataset: &Dataset, reading: &Reading) -> Result<(), TrainError> {
    let train = dataset.of(Split::Train);
    for (name, values) in &reading.leave_out {
        for value in values {
            let is_of = |(n, v): &(String, String)| n == name && v == value;
            if !train.iter().any(|item| item.groups.iter().any(is_of)) {
                return Err(TrainError::NoGroup { name: name.clone(), value: value.clone() });
            }
        }
    }
    Ok(())
}

fn require(dataset: &Dataset) -> Result<(), TrainError> {
    dataset.require(Split::Train)?;
    dataset.require(Split::Val)?;
    Ok(())
}
