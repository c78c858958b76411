//! What is minimised, and how validation images are judged by it. Another head or loss is another [`Objective`].

use super::mixup::Mixup;
use super::targets::Targets;
use burn::tensor::{Device, Tensor, TensorData, activation};
use data::Labels;
use data::metrics::Metrics;

/// What training minimises.
pub trait Objective: Sync {
    /// The mean loss of `logits`, `[n, logits]`, of the training images in `drawn`.
    fn loss(&self, logits: Tensor<2>, drawn: TrainedOn, device: &Device) -> Tensor<1>;

    /// Probabilities, `[n, classes]`, of `logits`, `[n, logits]`.
    fn probabilities(&self, logits: Tensor<2>) -> Tensor<2>;

    /// What probabilities of all validation images, row by row, say.
    fn judge(&self, rows: &[f32]) -> Judged;
}

/// Training images of a step.
#[derive(Clone, Copy)]
pub struct TrainedOn<'a> {
    /// Their indices.
    pub indices: &'a [usize],
    /// When they were drawn.
    pub epoch: usize,
    /// What teachers say of them, a probability a class, row by row.
    pub taught: Option<&'a [f32]>,
}

/// What the validation images say.
pub struct Judged {
    /// Mean loss.
    pub loss: f64,
    /// Area under the curve for the label that is looked for.
    pub auroc: f64,
    /// Share of the images whose likeliest class is the right one.
    pub accuracy: f64,
}

/// Cross-entropy with smoothed, weighted targets: of several labels one is true. A single logit is that of the second
/// of two classes.
pub struct CrossEntropy<'a> {
    /// Of the training images.
    pub targets: Targets,
    /// Exponent of the focal loss (Lin et al. 2017); 0 is none.
    pub focal: f32,
    /// Share of the target that is what teachers say, where there are any.
    pub taught_share: f32,
    /// Which training images are laid over each other.
    pub mixup: Mixup,
    /// Labels of the validation images.
    pub truth: &'a [usize],
    /// The classes.
    pub labels: &'a Labels,
}

impl Objective for CrossEntropy<'_> {
    fn loss(&self, logits: Tensor<2>, drawn: TrainedOn, device: &Device) -> Tensor<1> {
        let count = drawn.indices.len();
        let rows = (0..count).flat_map(|k| self.target(drawn, k)).collect::<Vec<f32>>();
        let target = Tensor::<2>::from_data(TensorData::new(rows, [count, self.targets.classes()]), device);
        let log = activation::log_softmax(columns(logits), 1);
        let log = match self.focal {
            0.0 => log,
            focal => (log.clone().exp().neg() + 1.0).clamp_min(1e-6).powf_scalar(focal) * log,
        };
        (log * target).sum().neg() / count as f32
    }

    fn probabilities(&self, logits: Tensor<2>) -> Tensor<2> {
        activation::softmax(columns(logits), 1)
    }

    fn judge(&self, rows: &[f32]) -> Judged {
        judge(rows, self.truth, self.labels)
    }
}

impl CrossEntropy<'_> {
    /// What the loss compares number `k` of the images in `drawn` with.
    fn target(&self, drawn: TrainedOn, k: usize) -> Vec<f32> {
        let index = drawn.indices[k];
        let mixed = |own: Vec<f32>, other: Vec<f32>, share: f32| -> Vec<f32> {
            own.iter().zip(other).map(|(own, other)| own * (1.0 - share) + other * share).collect()
        };
        let own = self.targets.row(index);
        let labelled = match self.mixup.partner(index, drawn.epoch) {
            None => own,
            Some(partner) => mixed(own, self.targets.row(partner.index), partner.share),
        };
        let Some(taught) = drawn.taught else { return labelled };
        let weight: f32 = labelled.iter().sum();
        let said = taught[k * labelled.len()..][..labelled.len()].iter().map(|p| p * weight).collect();
        mixed(labelled, said, self.taught_share)
    }
}

/// One logit a class: a single one is that of the second class, beside a zero.
fn columns(logits: Tensor<2>) -> Tensor<2> {
    match logits.dims() {
        [_, 1] => Tensor::cat(vec![logits.zeros_like(), logits], 1),
        _ => logits,
    }
}

/// What `rows` of probabilities say, one for each of the images with `truth`.
fn judge(rows: &[f32], truth: &[usize], labels: &Labels) -> Judged {
    let each = || rows.chunks_exact(labels.len()).zip(truth);
    // Of two labels, the other's probability as one minus that of the positive label, as the operating point sees it.
    let of_label = |row: &[f32], label: usize| match labels.len() {
        2 if label != labels.positive() => 1.0 - row[labels.positive()],
        _ => row[label],
    };
    let positive =
        |row: &[f32]| (0..row.len()).filter(|label| labels.is_positive(*label)).map(|label| row[label]).sum();
    let loss: f64 = each().map(|(row, label)| -f64::from(of_label(row, *label).max(1e-7)).ln()).sum();
    let probabilities: Vec<f32> = each().map(|(row, _)| positive(row)).collect();
    let truths = labels.truths(truth.iter().copied());
    // Both classes are there: the split was refused otherwise.
    let auroc = Metrics::new(&probabilities, &truths, 0.5).auroc.unwrap_or(f64::NAN);
    let likeliest = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]));
    let right = each().filter(|(row, label)| likeliest(row) == Some(**label)).count();
    Judged { loss: loss / truth.len() as f64, auroc, accuracy: right as f64 / truth.len() as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::values;
    use crate::recipe::Recipe;
    use std::path::Path;

    fn objective<'a>(labels: &'a Labels, focal: f32, alpha: f32) -> CrossEntropy<'a> {
        let (recipe, _) = Recipe::parse(include_str!("../../recipes/phantom-cnn.toml"), Path::new("")).unwrap();
        CrossEntropy {
            targets: Targets::new(vec![0, 1, 1], 2, &recipe.train[0]),
            focal,
            taught_share: 0.25,
            mixup: Mixup { alpha, seed: 1, images: 3 },
            truth: &[0, 1, 1],
            labels,
        }
    }

    fn drawn<'a>(indices: &'a [usize], taught: Option<&'a [f32]>) -> TrainedOn<'a> {
        TrainedOn { indices, epoch: 1, taught }
    }

    #[test]
    fn what_teachers_say_is_a_share_of_the_target() {
        let labels = Labels::new(vec!["no".into(), "yes".into()], 1).unwrap();
        let objective = objective(&labels, 0.0, 0.0);
        let plain = objective.target(drawn(&[1], None), 0);
        let taught = objective.target(drawn(&[1], Some(&[0.4, 0.6])), 0);
        let weight: f32 = plain.iter().sum();
        for (class, said) in [0.4, 0.6].into_iter().enumerate() {
            assert!((taught[class] - (0.75 * plain[class] + 0.25 * said * weight)).abs() < 1e-6, "{taught:?}");
        }
        // Of the second image of a step, the second row.
        let both = objective.target(drawn(&[0, 1], Some(&[1.0, 0.0, 0.4, 0.6])), 1);
        assert_eq!(both, taught);
    }

    #[test]
    fn one_logit_is_as_two_of_which_the_first_is_zero() {
        let labels = Labels::new(vec!["no".into(), "yes".into()], 1).unwrap();
        let device = Device::flex();
        let one = Tensor::<2>::from_data([[0.3], [-1.0], [2.0]], &device);
        let two = Tensor::<2>::from_data([[0.0, 0.3], [0.0, -1.0], [0.0, 2.0]], &device);
        for (focal, alpha) in [(0.0, 0.0), (2.0, 0.0), (0.0, 0.5)] {
            let objective = objective(&labels, focal, alpha);
            let loss = |logits: &Tensor<2>| values(objective.loss(logits.clone(), drawn(&[0, 1, 2], None), &device))[0];
            assert_eq!(loss(&one), loss(&two));
        }
    }

    #[test]
    fn the_focal_loss_weighs_what_is_known_already_less() {
        let labels = Labels::new(vec!["no".into(), "yes".into()], 1).unwrap();
        let device = Device::flex();
        let known = Tensor::<2>::from_data([[2.0f32, -2.0]], &device);
        let loss = |focal| values(objective(&labels, focal, 0.0).loss(known.clone(), drawn(&[0], None), &device))[0];
        let p = 1.0 / (1.0 + (-4f32).exp());
        assert!((loss(2.0) - loss(0.0) * (1.0 - p).powi(2)).abs() < 1e-7);
    }
}
