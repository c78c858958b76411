//! The images of a run, decoded once.

use super::{Progress, TrainError};
use data::{Dataset, Item, Split, dataset, frames};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::contract::InputContract;

/// The images of one split at the network's size.
#[derive(Default)]
pub struct SplitFrames {
    /// The images.
    pub frames: Vec<GreyPlane>,
    /// Label of each.
    pub labels: Vec<usize>,
}

/// The images that train and those that choose.
#[derive(Default)]
pub struct Material {
    /// Training images.
    pub train: SplitFrames,
    /// Validation images.
    pub val: SplitFrames,
}

/// Decodes the training and validation images of `dataset`, which leaves out those that are none.
pub fn load(dataset: &mut Dataset, input: &InputContract, progress: &impl Progress) -> Result<Material, TrainError> {
    require(dataset)?;
    let known = dataset.unreadable.len();
    let done = |done: usize, of: usize| progress.step("reading images", done, of, "");
    let frame = |_: &Item, radiograph: &Radiograph| preprocess(&radiograph.plane, input);
    let loaded = frames::load(dataset, &[Split::Train, Split::Val], done, frame)?;
    dataset::grouped(&dataset.unreadable[known..]).iter().for_each(|line| progress.line(line));
    require(dataset)?;
    let mut material = Material::default();
    for (i, frame) in loaded {
        let item = &dataset.items[i];
        let split = if item.split == Split::Train { &mut material.train } else { &mut material.val };
        split.frames.push(frame);
        split.labels.push(item.label);
    }
    Ok(material)
}

fn require(dataset: &Dataset) -> Result<(), TrainError> {
    dataset.require(Split::Train)?;
    dataset.require(Split::Val)?;
    Ok(())
}
