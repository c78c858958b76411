//! What is minimised, and how validation images are judged by it. Another head or loss is another [`Objective`].

use super::targets::Targets;
use burn::tensor::{Device, Tensor, TensorData, activation};
use data::Labels;
use data::metrics::Metrics;

/// What training minimises.
pub trait Objective: Sync {
    /// The mean loss of `logits`, `[n, classes]`, of the training images `indices`.
    fn loss(&self, logits: Tensor<2>, indices: &[usize], device: &Device) -> Tensor<1>;

    /// Probabilities, `[n, classes]`, of `logits`.
    fn probabilities(&self, logits: Tensor<2>) -> Tensor<2>;

    /// What probabilities of all validation images, row by row, say.
    fn judge(&self, rows: &[f32]) -> Judged;
}

/// What the validation images say.
pub struct Judged {
    /// Mean loss.
    pub loss: f64,
    /// Area under the curve for the label that is looked for.
    pub auroc: f64,
}

/// Cross-entropy of a softmax with smoothed, weighted targets: of several labels one is true.
pub struct CrossEntropy<'a> {
    /// Of the training images.
    pub targets: Targets,
    /// Labels of the validation images.
    pub truth: &'a [usize],
    /// The classes.
    pub labels: &'a Labels,
}

impl Objective for CrossEntropy<'_> {
    fn loss(&self, logits: Tensor<2>, indices: &[usize], device: &Device) -> Tensor<1> {
        let count = indices.len();
        let rows = TensorData::new(self.targets.rows(indices), [count, self.targets.classes()]);
        let target = Tensor::<2>::from_data(rows, device);
        (activation::log_softmax(logits, 1) * target).sum().neg() / count as f32
    }

    fn probabilities(&self, logits: Tensor<2>) -> Tensor<2> {
        activation::softmax(logits, 1)
    }

    fn judge(&self, rows: &[f32]) -> Judged {
        judge(rows, self.truth, self.labels)
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
    let loss: f64 = each().map(|(row, label)| -f64::from(of_label(row, *label).max(1e-7)).ln()).sum();
    let probabilities: Vec<f32> = each().map(|(row, _)| row[labels.positive()]).collect();
    let truths = labels.truths(truth.iter().copied());
    // Both classes are there: the split was refused otherwise.
    let auroc = Metrics::new(&probabilities, &truths, 0.5).auroc.unwrap_or(f64::NAN);
    Judged { loss: loss / truth.len() as f64, auroc }
}
