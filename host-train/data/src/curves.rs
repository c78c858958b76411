//! A model at every threshold: ROC, precision over recall, what a clinic can expect at its prevalence, and how far the
//! probabilities can be believed.

use crate::metrics::{Rates, confusion};
use serde::Serialize;

/// A point of both curves.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Point {
    /// The threshold on the probability.
    pub threshold: f32,
    /// Share of the ill that are called so.
    pub sensitivity: f64,
    /// Share of the others that are not.
    pub specificity: f64,
    /// Share of those called ill that are; 1 where none is called so.
    pub precision: f64,
}

/// The curve over all thresholds at which a decision changes, from calling nobody ill to calling all so. Empty where a
/// class is.
pub fn curve(probabilities: &[f32], truths: &[bool]) -> Vec<Point> {
    let mut order: Vec<usize> = (0..truths.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let ill = truths.iter().filter(|t| **t).count();
    let others = truths.len() - ill;
    if ill == 0 || others == 0 {
        return vec![];
    }
    let point = |threshold: f32, tp: usize, fp: usize| Point {
        threshold,
        sensitivity: tp as f64 / ill as f64,
        specificity: 1.0 - fp as f64 / others as f64,
        precision: if tp + fp == 0 { 1.0 } else { tp as f64 / (tp + fp) as f64 },
    };
    let mut points = vec![point(1.0, 0, 0)];
    let mut tp = 0;
    let mut fp = 0;
    for (k, i) in order.iter().enumerate() {
        if truths[*i] {
            tp += 1
        } else {
            fp += 1
        }
        let is_last_of_its_value = order.get(k + 1).is_none_or(|next| probabilities[*next] < probabilities[*i]);
        if is_last_of_its_value {
            points.push(point(probabilities[*i], tp, fp));
        }
    }
    points
}

/// What a threshold means where so many are ill.
#[derive(Debug, Clone, Serialize)]
pub struct Expectation {
    /// The threshold on the probability.
    pub threshold: f32,
    /// Share of the ill that are called so.
    pub sensitivity: f64,
    /// Share of the others that are not.
    pub specificity: f64,
    /// At each of [`PREVALENCES`].
    pub at: Vec<Predictive>,
}

/// Predictive values at a prevalence (Bayes).
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Predictive {
    /// Share of the people who are ill.
    pub prevalence: f64,
    /// Share of those called ill who are; undefined where nobody is called so.
    pub ppv: Option<f64>,
    /// Share of those not called ill who are not.
    pub npv: Option<f64>,
    /// Of a thousand people: called ill.
    pub referred: f64,
    /// Of a thousand people: ill, and not called so.
    pub missed: f64,
}

/// Shares of the people who are ill, from a village to a chest ward.
pub const PREVALENCES: [f64; 5] = [0.02, 0.05, 0.1, 0.2, 0.5];

/// What `threshold` means at each of [`PREVALENCES`]; nothing where a class is empty.
pub fn expectation(probabilities: &[f32], truths: &[bool], threshold: f32) -> Option<Expectation> {
    let m = Rates::of(confusion(probabilities, truths, threshold));
    let sensitivity = m.sensitivity?;
    let specificity = m.specificity?;
    let at = PREVALENCES.map(|prevalence| {
        let share = |a: f64, b: f64| (a + b > 0.0).then(|| a / (a + b));
        let tp = prevalence * sensitivity;
        let missed = prevalence - tp;
        let tn = (1.0 - prevalence) * specificity;
        let fp = 1.0 - prevalence - tn;
        Predictive {
            prevalence,
            ppv: share(tp, fp),
            npv: share(tn, missed),
            referred: 1e3 * (tp + fp),
            missed: 1e3 * missed,
        }
    });
    Some(Expectation { threshold, sensitivity, specificity, at: at.to_vec() })
}

/// Images whose probabilities are alike.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Bin {
    /// How many.
    pub images: usize,
    /// Their mean probability.
    pub probability: f64,
    /// The share of them that is ill.
    pub observed: f64,
}

/// Ten bins of equally many images (as far as they go), by probability: a reliability diagram.
pub fn reliability(probabilities: &[f32], truths: &[bool]) -> Vec<Bin> {
    const BINS: usize = 10;
    let mut order: Vec<usize> = (0..truths.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let bin = |members: &[usize]| {
        let count = members.len() as f64;
        Bin {
            images: members.len(),
            probability: members.iter().map(|i| f64::from(probabilities[*i])).sum::<f64>() / count,
            observed: members.iter().filter(|i| truths[**i]).count() as f64 / count,
        }
    };
    order.chunks(order.len().div_ceil(BINS).max(1)).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    const P: [f32; 5] = [0.1, 0.4, 0.35, 0.8, 0.4];
    const T: [bool; 5] = [false, false, true, true, true];

    #[test]
    fn the_curve_goes_from_nobody_to_all() {
        let curve = curve(&P, &T);
        let corners = [curve[0], curve[curve.len() - 1]].map(|p| (p.sensitivity, p.specificity));
        assert_eq!(corners, [(0.0, 1.0), (1.0, 0.0)]);
        // Equal probabilities are one step.
        assert_eq!(curve.len(), 5);
        assert_eq!((curve[2].threshold, curve[2].sensitivity, curve[2].specificity), (0.4, 2.0 / 3.0, 0.5));
    }

    #[test]
    fn the_area_under_the_curve_is_the_auroc() {
        let curve = curve(&P, &T);
        let area: f64 = curve
            .windows(2)
            .map(|w| (w[0].specificity - w[1].specificity) * (w[0].sensitivity + w[1].sensitivity) / 2.0)
            .sum();
        assert!((area - Metrics::new(&P, &T, 0.5).auroc.unwrap()).abs() < 1e-12);
    }

    #[test]
    fn predictive_values_follow_bayes() {
        let e = expectation(
            &[0.9, 0.9, 0.9, 0.1, 0.9, 0.1, 0.1, 0.1],
            &[true, true, true, true, false, false, false, false],
            0.5,
        );
        let e = e.unwrap();
        assert_eq!((e.sensitivity, e.specificity), (0.75, 0.75));
        let tenth = e.at.iter().find(|p| p.prevalence == 0.1).unwrap();
        assert!((tenth.ppv.unwrap() - 0.075 / (0.075 + 0.225)).abs() < 1e-12);
        assert!((tenth.referred - 300.0).abs() < 1e-9 && (tenth.missed - 25.0).abs() < 1e-9);
        assert!(expectation(&P, &[true; 5], 0.5).is_none());
    }

    #[test]
    fn bins_hold_all_images_in_order() {
        let p: Vec<f32> = (0..103).map(|i| i as f32 / 103.0).collect();
        let t: Vec<bool> = (0..103).map(|i| i % 103 >= 50).collect();
        let bins = reliability(&p, &t);
        assert_eq!(bins.iter().map(|b| b.images).sum::<usize>(), 103);
        assert!(bins.windows(2).all(|w| w[0].probability < w[1].probability && w[0].observed <= w[1].observed));
        assert!(reliability(&[], &[]).is_empty());
    }
}
