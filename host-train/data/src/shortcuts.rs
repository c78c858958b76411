//! How much of the label a picture gives away as a whole: what a linear rule makes of grey levels, sharpness, borders
//! and brightness in large cells. Where it makes much of them, a network may have learnt the machine.

use crate::discriminant::Discriminant;
use crate::metrics::Metrics;
use edge_runtime::domain::{Descriptor, LENGTH, PARTS};
use edge_runtime::image::GreyPlane;
use rayon::prelude::*;
use serde::Serialize;
use std::ops::Range;

/// Images with their classes.
pub struct Labelled<'a> {
    /// The images.
    pub frames: &'a [GreyPlane],
    /// Whether each shows what is looked for.
    pub truths: &'a [bool],
}

/// What one kind of number tells of the label.
#[derive(Debug, Clone, Serialize)]
pub struct Shortcut {
    /// Which numbers.
    pub name: &'static str,
    /// How many.
    pub numbers: usize,
    /// Area under the curve on the validation images.
    pub auroc: Option<f64>,
    /// Validation images that the rule, at the threshold with the largest sensitivity + specificity, puts into the
    /// other class: a model that takes this shortcut is wrong on them.
    pub conflicts: usize,
}

/// Fits a rule for each kind of number, and for all together, on `train`, and judges it on `validation`; `None` where
/// one of them lacks a class.
pub fn shortcuts(train: &Labelled, validation: &Labelled) -> Option<Vec<Shortcut>> {
    let train = Described::of(train);
    let validation = Described::of(validation);
    let kind = |(name, part): (&'static str, Range<usize>)| {
        let numbers = part.len();
        let Judged { metrics, conflicts } = judge(&train, &validation, part)?;
        let conflicts = conflicts.iter().filter(|is_conflict| **is_conflict).count();
        Some(Shortcut { name, numbers, auroc: metrics.auroc, conflicts })
    };
    PARTS.into_iter().chain([("all", 0..LENGTH)]).map(kind).collect()
}

/// Which of the `validation` images the rule of all numbers puts into the other class; `None` where a class is missing.
pub fn conflicts(train: &Labelled, validation: &Labelled) -> Option<Vec<bool>> {
    judge(&Described::of(train), &Described::of(validation), 0..LENGTH).map(|judged| judged.conflicts)
}

/// Images as numbers, with their classes.
struct Described<'a> {
    rows: Vec<Vec<f32>>,
    truths: &'a [bool],
}

impl<'a> Described<'a> {
    fn of(labelled: &Labelled<'a>) -> Described<'a> {
        let rows = labelled.frames.par_iter().map(|frame| Descriptor::of(frame).values()).collect();
        Described { rows, truths: labelled.truths }
    }

    fn of_class(&self, class: bool) -> Vec<&[f32]> {
        let pairs = self.rows.iter().zip(self.truths);
        pairs.filter(|(_, truth)| **truth == class).map(|(row, _)| row.as_slice()).collect()
    }
}

/// How a rule fares, and which images it puts into the other class.
struct Judged {
    metrics: Metrics,
    conflicts: Vec<bool>,
}

fn judge(train: &Described, validation: &Described, part: Range<usize>) -> Option<Judged> {
    let rule = Discriminant::fit(&train.of_class(false), &train.of_class(true), part.collect())?;
    let scores: Vec<f32> = validation.rows.iter().map(|row| rule.score(row) as f32).collect();
    let threshold = crate::operating_point::youden_threshold(&scores, validation.truths);
    let metrics = Metrics::new(&scores, validation.truths, threshold);
    let is_conflict = |(score, truth): (&f32, &bool)| (*score >= threshold) != *truth;
    let conflicts = scores.iter().zip(validation.truths).map(is_conflict).collect();
    Some(Judged { metrics, conflicts })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, brighter by `by`.
    fn picture(seed: u32, by: u32) -> GreyPlane {
        let grey = |i: u32| (100 + by + (i.wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 20) % 60) as u8;
        GreyPlane::square(32, (0..1024).map(grey).collect())
    }

    fn set(by: u32, from: u32) -> (Vec<GreyPlane>, Vec<bool>) {
        let truths: Vec<bool> = (0..200).map(|i: u32| i.is_multiple_of(2)).collect();
        let frame = |(i, truth): (u32, &bool)| picture(from + i, if *truth { by + i % 5 } else { i % 5 });
        ((0..).zip(&truths).map(frame).collect(), truths)
    }

    fn auroc(by: u32, name: &str) -> f64 {
        let (train, train_truths) = set(by, 0);
        let (validation, truths) = set(by, 1000);
        let train = Labelled { frames: &train, truths: &train_truths };
        let found = shortcuts(&train, &Labelled { frames: &validation, truths: &truths }).unwrap();
        found.iter().find(|s| s.name == name).and_then(|s| s.auroc).unwrap()
    }

    #[test]
    fn brightness_that_tells_the_label_is_found_among_the_grey_levels() {
        assert!(auroc(20, "grey levels") > 0.99);
        let none = auroc(0, "grey levels");
        assert!((0.3..0.7).contains(&none), "{none}");
    }

    #[test]
    fn a_class_that_is_missing_gives_no_rule() {
        let (frames, _) = set(0, 0);
        let one = Labelled { frames: &frames, truths: &[true; 200] };
        assert!(shortcuts(&one, &one).is_none());
        assert!(conflicts(&one, &one).is_none());
    }

    #[test]
    fn conflicts_are_the_images_that_look_like_the_other_class() {
        let (train, train_truths) = set(20, 0);
        let (validation, mut truths) = set(20, 1000);
        for odd in [3, 40] {
            truths[odd] = !truths[odd];
        }
        let train = Labelled { frames: &train, truths: &train_truths };
        let found = conflicts(&train, &Labelled { frames: &validation, truths: &truths }).unwrap();
        let found: Vec<usize> = (0..found.len()).filter(|i| found[*i]).collect();
        assert_eq!(found, [3, 40]);
    }
}
