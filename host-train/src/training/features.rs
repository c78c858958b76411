//! Frozen stages are run once for each variant of an image, on the device's own engine, and their features kept.

use super::batches::Images;
use super::{Progress, TrainError};
use crate::augment::{augment, rng};
use crate::export;
use crate::network::Network;
use crate::recipe::Recipe;
use burn::tensor::TensorData;
use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;
use half::f16;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Features of images, in some variants of each.
pub struct Features {
    values: Vec<Vec<f16>>,
    dims: [usize; 4],
    variants: usize,
}

impl Images for Features {
    fn len(&self) -> usize {
        self.values.len() / self.variants
    }

    fn batch(&self, indices: &[usize], epoch: usize) -> TensorData {
        // Another variant of each image in each epoch, all of them before any comes again.
        let variant = |i: &usize| &self.values[i * self.variants + (i + epoch) % self.variants];
        let values: Vec<f32> = indices.par_iter().flat_map_iter(|i| variant(i).iter().map(|v| v.to_f32())).collect();
        let [_, channels, height, width] = self.dims;
        TensorData::new(values, [indices.len(), channels, height, width])
    }
}

/// The frozen stages, run by the device's own engine.
pub struct FrozenStages<'a> {
    plan: FloatPlan,
    input: &'a InputContract,
    input_dims: [usize; 4],
    dims: [usize; 4],
}

impl<'a> FrozenStages<'a> {
    /// The first `count` stages of `network`.
    pub fn new(network: &Network, count: usize, input: &'a InputContract) -> Result<FrozenStages<'a>, TrainError> {
        let side = input.size as usize;
        let input_dims = [1, input.channels as usize, side, side];
        let (model, dims) = export::trunk(network, count, input_dims);
        Ok(FrozenStages { plan: FloatPlan::new(&model, None)?, input, input_dims, dims })
    }

    /// Features of `frames` as they are.
    pub fn plain(&self, frames: &[GreyPlane], progress: &impl Progress) -> Result<Features, TrainError> {
        self.features("features of validation images", frames, 1, None, progress)
    }

    /// Features of as many augmented variants of each of `frames` as `recipe` says.
    pub fn augmented(
        &self,
        frames: &[GreyPlane],
        recipe: &Recipe,
        progress: &impl Progress,
    ) -> Result<Features, TrainError> {
        let variants = recipe.train.variants;
        self.features("features of augmented training images", frames, variants, Some(recipe), progress)
    }

    fn features(
        &self,
        stage: &str,
        frames: &[GreyPlane],
        variants: usize,
        augmenting: Option<&Recipe>,
        progress: &impl Progress,
    ) -> Result<Features, TrainError> {
        let total = frames.len() * variants;
        let done = AtomicUsize::new(0);
        let clock = Instant::now();
        let one = |k: usize| {
            let image = k / variants;
            let variant = k % variants;
            let frame = match augmenting {
                Some(r) => &augment(frames, image, &r.augment, &mut rng(r.seed, variant, image)),
                None => &frames[image],
            };
            let outputs = self.plan.run(&self.input_dims, &normalise(frame, self.input))?;
            let features = floats(&outputs[0])?.iter().map(|v| f16::from_f32(*v)).collect();
            let at = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress.step(stage, at, total, &format!("{:.1} img/s", at as f64 / clock.elapsed().as_secs_f64()));
            Ok(features)
        };
        let values: Result<Vec<Vec<f16>>, EngineError> = (0..total).into_par_iter().map(one).collect();
        Ok(Features { values: values?, dims: self.dims, variants })
    }
}
