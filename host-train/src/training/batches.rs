//! Where the images of a step come from.

use super::TrainError;
use super::mixup::Mixup;
use super::teachers::Teachers;
use crate::augment::{augment, rng};
use crate::recipe::{Recipe, Sampling};
use burn::tensor::TensorData;
use data::frame_store::FrameStore;
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
    fn batch(&self, indices: &[usize], epoch: usize) -> Result<Drawn, TrainError>;
}

/// Images as they were drawn.
pub struct Drawn {
    /// `[n, c, h, w]`.
    pub images: TensorData,
    /// What the teachers say of each, a probability a class, row by row; `None` without teachers.
    pub taught: Option<Vec<f32>>,
}

/// One image as it was drawn.
pub struct View {
    /// What the network sees.
    pub values: Vec<f32>,
    /// What the teachers say of it.
    pub taught: Option<Vec<f32>>,
}

impl Drawn {
    /// `rows` of values and what is said of each.
    pub fn of(rows: Vec<View>, dims: [usize; 3]) -> Drawn {
        let [channels, height, width] = dims;
        let shape = [rows.len(), channels, height, width];
        let mut values = Vec::with_capacity(shape.iter().product());
        let mut taught = Vec::new();
        for row in rows {
            values.extend(row.values);
            taught.extend(row.taught);
        }
        let taught = (!taught.is_empty()).then(|| taught.concat());
        Drawn { images: TensorData::new(values, shape), taught }
    }
}

/// Images at the network's size.
pub struct Frames<'a> {
    /// The images.
    pub frames: &'a FrameStore,
    /// How they are normalised.
    pub input: &'a InputContract,
    /// Draws a fresh variant for each epoch; `None` gives them as they are.
    pub augmenting: Option<&'a Recipe>,
    /// Who says what each is; those of training images alone are asked.
    pub teachers: Option<&'a Teachers>,
}

impl Frames<'_> {
    /// Image `index` as it is drawn in `epoch`.
    pub fn view(&self, index: usize, epoch: usize) -> Result<View, TrainError> {
        let Some(recipe) = self.augmenting else {
            let plane = self.frames.get(index).map_err(TrainError::Frames)?;
            return Ok(View { values: normalise(&plane, self.input), taught: None });
        };
        let one = |index: usize| {
            let mut rng = rng(recipe.seed, epoch, index);
            let plane = augment(self.frames, index, &recipe.augment, &mut rng).map_err(TrainError::Frames)?;
            let taught = self.teachers.map_or(Ok(None), |teachers| teachers.say(&plane))?;
            Ok::<View, TrainError>(View { values: normalise(&plane, self.input), taught })
        };
        let mixup = Mixup { alpha: recipe.augment.mixup, seed: recipe.seed, images: self.frames.len() };
        let mut view = one(index)?;
        if let Some(partner) = mixup.partner(index, epoch) {
            let other = one(partner.index)?;
            let mix = |own: &mut f32, other: f32| *own = *own * (1.0 - partner.share) + other * partner.share;
            view.values.iter_mut().zip(other.values).for_each(|(own, other)| mix(own, other));
            if let (Some(own), Some(other)) = (&mut view.taught, other.taught) {
                own.iter_mut().zip(other).for_each(|(own, other)| mix(own, other));
            }
        }
        Ok(view)
    }
}

impl Images for Frames<'_> {
    fn len(&self) -> usize {
        self.frames.len()
    }

    fn batch(&self, indices: &[usize], epoch: usize) -> Result<Drawn, TrainError> {
        let side = self.input.size as usize;
        let rows: Result<Vec<View>, TrainError> = indices.par_iter().map(|i| self.view(*i, epoch)).collect();
        Ok(Drawn::of(rows?, [self.input.channels as usize, side, side]))
    }
}

/// A batch, and which images are in it.
pub struct Batch<'a> {
    /// Indices of the images.
    pub indices: &'a [usize],
    /// The images.
    pub drawn: Drawn,
}

/// The order in which images with these `labels` are drawn in `epoch`.
pub fn order(labels: &[usize], sampling: Sampling, seed: u64, epoch: usize) -> Vec<usize> {
    let mut rng = rng(seed, epoch, usize::MAX >> 32);
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.shuffle(&mut rng);
    match sampling {
        Sampling::Shuffled => order,
        Sampling::Balanced => {
            let classes = labels.iter().max().map_or(0, |most| most + 1);
            let of_class: Vec<Vec<usize>> =
                (0..classes).map(|class| order.iter().copied().filter(|i| labels[*i] == class).collect()).collect();
            let drawn = |k: usize| {
                let images = &of_class[k % classes];
                images[k / classes % images.len()]
            };
            let mut order: Vec<usize> = (0..labels.len()).map(drawn).collect();
            order.shuffle(&mut rng);
            order
        }
    }
}

/// Reads and augments the next batch of `size` images beside the step on this one. A receiver that is dropped ends it.
pub fn ahead<'scope, 'env: 'scope>(
    scope: &'scope Scope<'scope, 'env>,
    images: &'env dyn Images,
    order: &'env [usize],
    size: usize,
    epoch: usize,
) -> Receiver<Result<Batch<'env>, TrainError>> {
    let (send, batches) = sync_channel(1);
    scope.spawn(move || {
        // A batch norm has no variance over one image.
        for indices in order.chunks(size).filter(|indices| indices.len() > 1) {
            if send.send(images.batch(indices, epoch).map(|drawn| Batch { indices, drawn })).is_err() {
                return;
            }
        }
    });
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_sampling_draws_all_classes_alike() {
        let labels: Vec<usize> = (0..90).map(|i| if i < 60 { 0 } else { 1 + i % 2 }).collect();
        let order = order(&labels, Sampling::Balanced, 1, 1);
        let count = |class: usize| order.iter().filter(|i| labels[**i] == class).count();
        assert_eq!((order.len(), count(0), count(1), count(2)), (90, 30, 30, 30));
        assert!((0..90).filter(|i| labels[*i] > 0).all(|i| order.contains(&i)));
    }

    #[test]
    fn shuffled_sampling_draws_each_image_once() {
        let mut order = order(&[0; 40], Sampling::Shuffled, 1, 1);
        assert_ne!(order, (0..40).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..40).collect::<Vec<_>>());
    }
}
