//! `[input]`: what the network sees.

use edge_runtime::model::contract::{InputContract, ResizeRule};
use serde::{Deserialize, Serialize};

/// The input of the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side in pixels.
    pub size: u32,
    /// 1 or 3.
    pub channels: u32,
    /// How radiographs are resized.
    pub resize: ResizeRule,
    /// Subtracted from each 8-bit pixel.
    pub mean: PerChannel,
    /// Divides each pixel afterwards.
    pub std: PerChannel,
    /// What the ImageNet weights' authors divided by, where it is not `std`: the first convolution is scaled, so that
    /// it gives what it gave them.
    #[serde(default)]
    pub weights_std: Option<PerChannel>,
}

/// A number for all channels, or one for each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PerChannel {
    /// The same for all.
    All(f32),
    /// One for each.
    Each(Vec<f32>),
}

impl PerChannel {
    fn values(&self, channels: u32) -> Vec<f32> {
        match self {
            PerChannel::All(value) => vec![*value; channels as usize],
            PerChannel::Each(values) => values.clone(),
        }
    }
}

impl Input {
    /// The input contract that the exported model carries.
    pub fn contract(&self) -> InputContract {
        InputContract {
            size: self.size,
            channels: self.channels,
            resize: self.resize,
            mean: self.mean.values(self.channels),
            std: self.std.values(self.channels),
        }
    }

    /// Factors on the planes of the first convolution of ImageNet weights.
    pub fn weights_scale(&self) -> Option<Vec<f32>> {
        let theirs = self.weights_std.as_ref()?.values(self.channels);
        let ours = self.std.values(self.channels);
        Some(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
    }

    /// Says which value makes no sense, and what is possible.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(16..=1024).contains(&self.size) || (self.channels != 1 && self.channels != 3) {
            return Err("input.size must be 16 to 1024, input.channels 1 or 3".into());
        }
        let InputContract { mean, std, .. } = self.contract();
        let is_one_each = |values: &[f32]| values.len() == self.channels as usize;
        if !is_one_each(&mean) || !is_one_each(&std) {
            return Err("input.mean and input.std must be one number, or one for each of input.channels".into());
        }
        if mean.iter().any(|m| !(-1e3..=1e3).contains(m)) || std.iter().any(|s| !(1e-3..=1e4).contains(s)) {
            return Err("input.mean must be -1000 to 1000, input.std 0.001 to 10000, in units of 8-bit pixels".into());
        }
        if self.weights_scale().is_some_and(|s| s.len() != mean.len() || s.iter().any(|s| !(s.is_finite() && *s > 0.0)))
        {
            return Err("input.weights_std must be above 0, one number or one for each of input.channels".into());
        }
        Ok(())
    }
}
