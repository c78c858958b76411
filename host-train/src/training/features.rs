//! Frozen stages are run on the device's own engine: once for each kept variant of an image, or beside each step.

use super::batches::{Drawn, Frames, Images, View};
use super::{Progress, TrainError};
use crate::export;
use crate::network::Network;
use burn::tensor::TensorData;
use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::model::contract::InputContract;
use half::f16;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Features of images, in some variants of each.
pub struct KeptFeatures {
    values: Vec<Vec<f16>>,
    dims: [usize; 4],
    variants: usize,
}

impl Images for KeptFeatures {
    fn len(&self) -> usize {
        self.values.len() / self.variants
    }

    fn batch(&self, indices: &[usize], epoch: usize) -> Result<Drawn, TrainError> {
        // Another variant of each image in each epoch, all of them before any comes again.
        let variant = |i: &usize| &self.values[i * self.variants + (i + epoch) % self.variants];
        let values: Vec<f32> = indices.par_iter().flat_map_iter(|i| variant(i).iter().map(|v| v.to_f32())).collect();
        let [_, channels, height, width] = self.dims;
        let images = TensorData::new(values, [indices.len(), channels, height, width]);
        Ok(Drawn { images, taught: None })
    }
}

/// Features of a fresh variant of each image in each epoch.
pub struct FreshFeatures<'a> {
    /// What they are features of.
    pub frames: Frames<'a>,
    /// What gives them.
    pub stages: &'a FrozenStages,
}

impl Images for FreshFeatures<'_> {
    fn len(&self) -> usize {
        self.frames.frames.len()
    }

    fn batch(&self, indices: &[usize], epoch: usize) -> Result<Drawn, TrainError> {
        let features = |i: &usize| {
            let View { values, taught } = self.frames.view(*i, epoch)?;
            Ok(View { values: self.stages.run(&values)?, taught })
        };
        let rows: Result<Vec<View>, TrainError> = indices.par_iter().map(features).collect();
        let [_, channels, height, width] = self.stages.dims;
        Ok(Drawn::of(rows?, [channels, height, width]))
    }
}

/// The frozen stages, run by the device's own engine.
pub struct FrozenStages {
    plan: FloatPlan,
    input_dims: [usize; 4],
    dims: [usize; 4],
}

impl FrozenStages {
    /// The first `count` stages of `network`.
    pub fn new(network: &Network, count: usize, input: &InputContract) -> Result<FrozenStages, TrainError> {
        let side = input.size as usize;
        let input_dims = [1, input.channels as usize, side, side];
        let (model, dims) = export::trunk(network, count, input_dims);
        Ok(FrozenStages { plan: FloatPlan::new(&model, None)?, input_dims, dims })
    }

    fn run(&self, values: &[f32]) -> Result<Vec<f32>, EngineError> {
        let outputs = self.plan.run(&self.input_dims, values)?;
        Ok(floats(&outputs[0])?.to_vec())
    }

    /// Keeps the features of so many `variants` of each of `frames`; `what` says in the progress whose they are.
    pub fn keep(
        &self,
        what: &str,
        frames: &Frames,
        variants: usize,
        progress: &impl Progress,
    ) -> Result<KeptFeatures, TrainError> {
        let total = frames.frames.len() * variants;
        let done = AtomicUsize::new(0);
        let clock = Instant::now();
        let one = |k: usize| {
            let view = frames.view(k / variants, k % variants)?;
            let features = self.run(&view.values)?;
            let at = done.fetch_add(1, Ordering::Relaxed) + 1;
            progress.step(what, at, total, &format!("{:.1} img/s", at as f64 / clock.elapsed().as_secs_f64()));
            Ok(features.into_iter().map(f16::from_f32).collect())
        };
        let values: Result<Vec<Vec<f16>>, TrainError> = (0..total).into_par_iter().map(one).collect();
        Ok(KeptFeatures { values: values?, dims: self.dims, variants })
    }
}
