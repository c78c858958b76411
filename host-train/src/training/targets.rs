//! What the loss compares with: smoothed one-hot targets, weighted by class.

use crate::recipe::Train;

/// Targets of training images.
pub struct Targets {
    /// Label of each image.
    labels: Vec<usize>,
    /// Weight of each class.
    weights: Vec<f32>,
    /// Share of the target that is given to all classes alike.
    smoothing: f32,
}

impl Targets {
    /// For images of `classes` classes, of which each is there.
    pub fn new(labels: Vec<usize>, classes: usize, train: &Train) -> Targets {
        let weights = if train.class_weights { class_weights(&labels, classes) } else { vec![1.0; classes] };
        Targets { labels, weights, smoothing: train.label_smoothing }
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.weights.len()
    }

    /// One number a class: the smoothed one-hot target of image `index` times the weight of its class.
    pub fn row(&self, index: usize) -> Vec<f32> {
        let classes = self.classes();
        let rest = self.smoothing / classes as f32;
        let right = 1.0 - self.smoothing * (classes - 1) as f32 / classes as f32;
        let label = self.labels[index];
        let weight = self.weights[label];
        (0..classes).map(|class| if class == label { right * weight } else { rest * weight }).collect()
    }
}

/// Inverse frequencies, which weigh all classes alike and an image of mean frequency as 1.
fn class_weights(labels: &[usize], classes: usize) -> Vec<f32> {
    let share = |class: usize| labels.iter().filter(|l| **l == class).count() as f32 / labels.len() as f32;
    let mut shares: Vec<f32> = (0..classes).map(share).collect();
    // So that they sum to 1 whatever was rounded.
    shares[0] = 1.0 - shares[1..].iter().sum::<f32>();
    shares.into_iter().map(|s| 1.0 / classes as f32 / s).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_sum_to_the_class_weight() {
        let targets = Targets { labels: vec![0, 1], weights: vec![2.0, 0.5], smoothing: 0.1 };
        assert_eq!([targets.row(0), targets.row(1)].concat(), [1.9, 0.1, 0.025, 0.475]);
    }

    #[test]
    fn three_classes_weigh_alike() {
        let labels = [0, 0, 1, 1, 1, 1, 2, 2].to_vec();
        assert_eq!(class_weights(&labels, 3), [4.0 / 3.0, 2.0 / 3.0, 4.0 / 3.0]);
        let targets = Targets { labels, weights: vec![1.0; 3], smoothing: 0.3 };
        let row = targets.row(2);
        assert!(row[1] > 0.79 && (row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
    }
}
