//! The images of a run, decoded once.

use super::{Progress, TrainError};
use data::{Dataset, Item, PixelStatistics, Split, frames};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::contract::InputContract;
use std::collections::HashMap;
use std::convert::Infallible;

/// The images of one split at the network's size.
pub struct SplitFrames {
    /// The images.
    pub frames: Vec<GreyPlane>,
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

/// Decodes the training and validation images of `dataset`, which leaves out those that are none.
pub fn load(dataset: &mut Dataset, input: &InputContract, progress: &impl Progress) -> Result<Material, TrainError> {
    let train = load_split(dataset, Split::Train, input, progress)?;
    let val = load_split(dataset, Split::Val, input, progress)?;
    Ok(Material { train, val })
}

fn load_split(
    dataset: &mut Dataset,
    split: Split,
    input: &InputContract,
    progress: &impl Progress,
) -> Result<SplitFrames, TrainError> {
    let items = dataset.require(split)?;
    let done = |done: usize| progress.step("reading images", done, items.len(), "");
    let frame = |_: &Item, radiograph: &Radiograph| {
        let statistics = PixelStatistics::of(&radiograph.plane);
        Ok::<_, Infallible>((preprocess(&radiograph.plane, input), statistics))
    };
    let decoded = frames::decode(dataset, &items, done, frame)?;
    let mut statistics = HashMap::new();
    let mut loaded = SplitFrames { frames: Vec::new(), labels: Vec::new() };
    for (i, (frame, pixels)) in decoded.results {
        statistics.insert(items[i].file.clone(), pixels);
        loaded.frames.push(frame);
        loaded.labels.push(items[i].label);
    }
    for file in &decoded.unreadable {
        progress.line(&format!("left out: {}: {}", file.path.display(), file.reason));
    }
    dataset.keep_statistics(statistics, decoded.unreadable);
    dataset.require(split)?;
    Ok(loaded)
}
