//! Where the images of a step come from.

use crate::augment::{augment, rng};
use crate::recipe::Recipe;
use burn::tensor::TensorData;
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::Scope;

/// Images ready for the network.
pub trait Images: Sync {
    /// How many there are.
    fn len(&self) -> usize;

    /// Images `indices` as a batch `[n, c, h, w]`, in the variants of `epoch`.
    fn batch(&self, indices: &[usize], epoch: usize) -> TensorData;
}

/// Images at the network's size.
pub struct Frames<'a> {
    /// The images.
    pub frames: &'a [GreyPlane],
    /// How they are normalised.
    pub input: &'a InputContract,
    /// Draws a fresh variant for each epoch; `None` gives them as they are.
    pub augmenting: Option<&'a Recipe>,
}

impl Images for Frames<'_> {
    fn len(&self) -> usize {
        self.frames.len()
    }

    fn batch(&self, indices: &[usize], epoch: usize) -> TensorData {
        let input = self.input;
        let side = input.size as usize;
        let image = |i: &usize| match self.augmenting {
            Some(r) => normalise(&augment(self.frames, *i, &r.augment, &mut rng(r.seed, epoch, *i)), input),
            None => normalise(&self.frames[*i], input),
        };
        let values: Vec<f32> = indices.par_iter().flat_map_iter(image).collect();
        TensorData::new(values, [indices.len(), input.channels as usize, side, side])
    }
}

/// A batch, and which images are in it.
pub struct Batch<'a> {
    /// Indices of the images.
    pub indices: &'a [usize],
    /// The images.
    pub images: TensorData,
}

/// The order of `count` images in `epoch`.
pub fn order(count: usize, seed: u64, epoch: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut rng(seed, epoch, usize::MAX >> 32));
    order
}

/// Reads and augments the next batch of `size` images beside the step on this one. A receiver that is dropped ends it.
pub fn ahead<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    images: &'env dyn Images,
    order: &'env [usize],
    size: usize,
    epoch: usize,
) -> Receiver<Batch<'env>> {
    let (send, batches) = sync_channel(1);
    scope.spawn(move || {
        // A batch norm has no variance over one image.
        for indices in order.chunks(size).filter(|indices| indices.len() > 1) {
            if send.send(Batch { indices, images: images.batch(indices, epoch) }).is_err() {
                return;
            }
        }
    });
    batches
}
