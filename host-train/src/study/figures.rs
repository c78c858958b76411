//! What one run, or the mean of several, says of the validation images.

use crate::training::{ScoredImage, Scores};
use data::metrics::{Metrics, confusion};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The shift that gives an image the grey levels of the other class.
const OTHER_GREYS: &str = "greys of the other class";

/// The figure by which a study chooses. All are areas under the curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// On the validation images as they are: what resembles the training images most.
    Plain,
    /// On images with the grey levels of the other class.
    OtherGreys,
    /// The mean over all shifts.
    MeanShift,
    /// The least of all shifts.
    WorstShift,
    /// On the images whose looks speak against their label.
    Conflicts,
    /// On groups that did not train.
    LeftOut,
}

impl Criterion {
    /// All, as tables have them.
    pub const ALL: [Criterion; 6] = [
        Criterion::Plain,
        Criterion::OtherGreys,
        Criterion::MeanShift,
        Criterion::WorstShift,
        Criterion::Conflicts,
        Criterion::LeftOut,
    ];

    /// What it is called in tables.
    pub fn name(self) -> &'static str {
        match self {
            Criterion::Plain => "plain",
            Criterion::OtherGreys => "other greys",
            Criterion::MeanShift => "mean shift",
            Criterion::WorstShift => "worst shift",
            Criterion::Conflicts => "conflicts",
            Criterion::LeftOut => "left out",
        }
    }
}

/// Parts of the validation images, by file.
#[derive(Debug, Clone, Default)]
pub struct Subsets {
    /// Those whose looks speak against their label.
    pub conflicts: HashSet<String>,
    /// Those of groups that some variant leaves out, with all images of classes that no such image is of.
    pub left_out: HashSet<String>,
}

/// What one run says. Areas under the curve are those of the float model.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// On the images as they are.
    pub plain: Option<f64>,
    /// On images with the grey levels of the other class.
    pub other_greys: Option<f64>,
    /// The mean over all shifts but none.
    pub mean_shift: Option<f64>,
    /// The least of them.
    pub worst_shift: Option<f64>,
    /// Which that is.
    pub worst: String,
    /// On the images whose looks speak against their label.
    pub conflicts: Option<f64>,
    /// On the groups that some variant leaves out.
    pub left_out: Option<f64>,
    /// At the run's operating point, on the images as they are.
    pub sensitivity: Option<f64>,
    /// As above.
    pub specificity: Option<f64>,
    /// The same on all shifts together.
    pub shifted_sensitivity: Option<f64>,
    /// As above.
    pub shifted_specificity: Option<f64>,
}

impl Figures {
    /// Of `scores`.
    pub fn new(scores: &Scores, subsets: &Subsets) -> Figures {
        let truths: Vec<bool> = scores.images.iter().map(|image| image.is_positive).collect();
        let area = |probabilities: &[f32]| Metrics::new(probabilities, &truths, scores.threshold).auroc;
        let plain = &scores.shifts[0].probabilities;
        let shifted: Vec<(&str, Option<f64>)> =
            scores.shifts[1..].iter().map(|shift| (shift.name.as_str(), area(&shift.probabilities))).collect();
        let areas: Vec<f64> = shifted.iter().filter_map(|(_, area)| *area).collect();
        let worst = shifted.iter().min_by(|a, b| f64::total_cmp(&a.1.unwrap_or(1.0), &b.1.unwrap_or(1.0)));
        let at_point = rates(&[plain.as_slice()], &truths, scores.threshold);
        let others: Vec<&[f32]> = scores.shifts[1..].iter().map(|shift| shift.probabilities.as_slice()).collect();
        let at_shifts = rates(&others, &truths, scores.threshold);
        Figures {
            plain: area(plain),
            other_greys: shifted.iter().find(|(name, _)| *name == OTHER_GREYS).and_then(|(_, area)| *area),
            mean_shift: (!areas.is_empty()).then(|| areas.iter().sum::<f64>() / areas.len() as f64),
            worst_shift: worst.and_then(|(_, area)| *area),
            worst: worst.map_or(String::new(), |(name, _)| (*name).to_owned()),
            conflicts: area_of(scores, &subsets.conflicts),
            left_out: area_of(scores, &subsets.left_out),
            sensitivity: at_point[0],
            specificity: at_point[1],
            shifted_sensitivity: at_shifts[0],
            shifted_specificity: at_shifts[1],
        }
    }

    /// The area under the curve that `criterion` names.
    pub fn of(&self, criterion: Criterion) -> Option<f64> {
        match criterion {
            Criterion::Plain => self.plain,
            Criterion::OtherGreys => self.other_greys,
            Criterion::MeanShift => self.mean_shift,
            Criterion::WorstShift => self.worst_shift,
            Criterion::Conflicts => self.conflicts,
            Criterion::LeftOut => self.left_out,
        }
    }
}

/// Area under the curve on the images in `files`, as they are; `None` where there are none, or of one class.
fn area_of(scores: &Scores, files: &HashSet<String>) -> Option<f64> {
    let plain = &scores.shifts[0].probabilities;
    let chosen = |(image, _): &(&ScoredImage, &f32)| files.contains(&image.file);
    let (truths, probabilities): (Vec<bool>, Vec<f32>) =
        scores.images.iter().zip(plain).filter(chosen).map(|(image, p)| (image.is_positive, *p)).unzip();
    Metrics::new(&probabilities, &truths, scores.threshold).auroc
}

/// Sensitivity and specificity at `threshold` over several sets of probabilities of images with `truths`.
fn rates(sets: &[&[f32]], truths: &[bool], threshold: f32) -> [Option<f64>; 2] {
    let mut positive = [0, 0];
    let mut negative = [0, 0];
    for probabilities in sets {
        let c = confusion(probabilities, truths, threshold);
        positive = [positive[0] + c.tp, positive[1] + c.tp + c.r#fn];
        negative = [negative[0] + c.tn, negative[1] + c.tn + c.fp];
    }
    [positive, negative].map(|[right, all]| (all > 0).then(|| right as f64 / all as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::ShiftScores;

    fn scores() -> Scores {
        let image = |i: usize| ScoredImage { file: format!("{i}.png"), patient: i.to_string(), is_positive: i >= 2 };
        let shift = |name: &str, probabilities: [f32; 4]| ShiftScores {
            name: name.into(),
            probabilities: probabilities.to_vec(),
        };
        Scores {
            threshold: 0.5,
            images: (0..4).map(image).collect(),
            shifts: vec![
                shift("as they are", [0.1, 0.6, 0.7, 0.9]),
                shift(OTHER_GREYS, [0.8, 0.1, 0.4, 0.9]),
                shift("blurred", [0.1, 0.2, 0.3, 0.4]),
            ],
        }
    }

    #[test]
    fn figures_are_of_all_shifts_but_none() {
        let figures = Figures::new(&scores(), &Subsets::default());
        assert_eq!((figures.plain, figures.other_greys, figures.worst_shift), (Some(1.0), Some(0.75), Some(0.75)));
        assert_eq!((figures.mean_shift, figures.worst.as_str()), (Some(0.875), OTHER_GREYS));
        assert_eq!((figures.sensitivity, figures.specificity), (Some(1.0), Some(0.5)));
        assert_eq!((figures.shifted_sensitivity, figures.shifted_specificity), (Some(0.25), Some(0.75)));
        assert_eq!((figures.conflicts, figures.left_out), (None, None));
    }

    #[test]
    fn subsets_are_judged_as_they_are() {
        let files = |numbers: [usize; 2]| numbers.map(|i| format!("{i}.png")).into_iter().collect();
        let mut all = scores();
        all.shifts[0].probabilities = vec![0.1, 0.8, 0.7, 0.9];
        let figures = Figures::new(&all, &Subsets { conflicts: files([1, 2]), left_out: files([2, 3]) });
        assert_eq!((figures.conflicts, figures.left_out), (Some(0.0), None));
    }
}
