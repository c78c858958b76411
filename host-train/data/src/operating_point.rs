//! The operating point: which threshold, by which rule, and how it fares.

use crate::metrics::Metrics;
use crate::site::share_for_bound;
use edge_runtime::model::contract::OperatingPoint;
use serde::{Deserialize, Serialize};

/// How the threshold is chosen on validation images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OperatingPointRule {
    /// The highest threshold whose sensitivity is at least this.
    Sensitivity {
        /// The sensitivity, 0 to 1.
        at_least: f64,
    },
    /// The lowest threshold whose specificity is at least this.
    Specificity {
        /// The specificity, 0 to 1.
        at_least: f64,
    },
    /// The highest threshold whose sensitivity is at least this with the lower end of its 95 % interval (Wilson 1927).
    SensitivityBound {
        /// The sensitivity, 0 to 1.
        at_least: f64,
    },
    /// The threshold with the largest sensitivity + specificity (Youden 1950).
    Youden,
}

/// A chosen operating point, and all metrics at it.
pub struct Chosen {
    /// The operating point.
    pub point: OperatingPoint,
    /// Metrics on the images that it was chosen on.
    pub metrics: Metrics,
}

impl OperatingPointRule {
    /// The threshold that the rule gives for `probabilities` with `truths`, which are of so many `images`: fewer where
    /// the same image is there under several shifts.
    pub fn threshold(&self, probabilities: &[f32], truths: &[bool], images: usize) -> f32 {
        match self {
            OperatingPointRule::Youden => youden_threshold(probabilities, truths),
            OperatingPointRule::SensitivityBound { at_least } => {
                let positives = truths.iter().filter(|truth| **truth).count() as f64;
                let independent = positives * images as f64 / truths.len().max(1) as f64;
                threshold_for_sensitivity(probabilities, truths, share_for_bound(*at_least, independent))
            }
            OperatingPointRule::Sensitivity { at_least } => threshold_for_sensitivity(probabilities, truths, *at_least),
            OperatingPointRule::Specificity { at_least } => threshold_for_specificity(probabilities, truths, *at_least),
        }
    }

    /// Applies the rule to validation `probabilities` and `truths` of so many `images`; `in_words` says in the contract
    /// what the rule was.
    pub fn choose(&self, probabilities: &[f32], truths: &[bool], images: usize, in_words: String) -> Chosen {
        let threshold = self.threshold(probabilities, truths, images);
        let metrics = Metrics::new(probabilities, truths, threshold);
        let point = OperatingPoint {
            threshold,
            sensitivity: metrics.sensitivity.unwrap_or(0.0) as f32,
            specificity: metrics.specificity.unwrap_or(0.0) as f32,
            images: metrics.n as u32,
            rule: in_words,
        };
        Chosen { point, metrics }
    }

    /// The rule in words.
    pub fn in_words(&self) -> String {
        match self {
            OperatingPointRule::Youden => "largest sensitivity + specificity".into(),
            OperatingPointRule::Sensitivity { at_least } => {
                format!("highest threshold with sensitivity of at least {at_least}")
            }
            OperatingPointRule::SensitivityBound { at_least } => {
                format!("highest threshold with sensitivity of at least {at_least} at the lower end of its interval")
            }
            OperatingPointRule::Specificity { at_least } => {
                format!("lowest threshold with specificity of at least {at_least}")
            }
        }
    }
}

/// The highest threshold whose sensitivity is at least `at_least`; halfway to the next lower score, so that rounding on
/// another machine does not cross it.
pub fn threshold_for_sensitivity(probabilities: &[f32], labels: &[bool], at_least: f64) -> f32 {
    let mut positive: Vec<f32> = probabilities.iter().zip(labels).filter(|(_, l)| **l).map(|(p, _)| *p).collect();
    positive.sort_by(f32::total_cmp);
    let misses = ((1.0 - at_least) * positive.len() as f64 + 1e-9).floor() as usize;
    match positive.get(misses.min(positive.len().saturating_sub(1))) {
        Some(lowest) => midpoint_below(probabilities, *lowest),
        None => 0.5,
    }
}

/// The lowest threshold whose specificity is at least `at_least`; halfway to the score below it.
pub fn threshold_for_specificity(probabilities: &[f32], labels: &[bool], at_least: f64) -> f32 {
    let mut negative: Vec<f32> = probabilities.iter().zip(labels).filter(|(_, l)| !**l).map(|(p, _)| *p).collect();
    negative.sort_by(|a, b| b.total_cmp(a));
    let alarms = ((1.0 - at_least) * negative.len() as f64 + 1e-9).floor() as usize;
    let Some(highest) = negative.get(alarms) else { return 0.5 };
    let above = probabilities.iter().copied().filter(|p| p > highest).fold(f32::INFINITY, f32::min);
    // Nothing is above: nothing is called positive.
    if above.is_finite() { (above + highest) / 2.0 } else { (highest + 1.0) / 2.0 }
}

/// The threshold with the largest sensitivity + specificity (Youden 1950), the lowest of equals; the middle of the gap
/// it lies in.
pub fn youden_threshold(probabilities: &[f32], labels: &[bool]) -> f32 {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b]));
    let positives = labels.iter().filter(|label| **label).count();
    let negatives = labels.len() - positives;
    let mut best = (f64::NEG_INFINITY, 0.5);
    let mut missed = 0;
    let mut spared = 0;
    for (k, i) in order.iter().enumerate() {
        let p = probabilities[*i];
        let is_first_of_its_value = k == 0 || probabilities[order[k - 1]] < p;
        let sensitivity = (positives - missed) as f64 / positives.max(1) as f64;
        let specificity = spared as f64 / negatives.max(1) as f64;
        if is_first_of_its_value && sensitivity + specificity > best.0 {
            best = (sensitivity + specificity, p);
        }
        if labels[*i] { missed += 1 } else { spared += 1 }
    }
    midpoint_below(probabilities, best.1)
}

fn midpoint_below(probabilities: &[f32], p: f32) -> f32 {
    let below = probabilities.iter().copied().filter(|q| *q < p).fold(f32::NEG_INFINITY, f32::max);
    if below.is_finite() { (p + below) / 2.0 } else { p }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::confusion;
    use crate::site::wilson_share;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const P: [f32; 4] = [0.1, 0.4, 0.35, 0.8];
    const L: [bool; 4] = [false, false, true, true];

    #[test]
    fn thresholds_keep_their_promise() {
        let t = threshold_for_sensitivity(&P, &L, 1.0);
        assert!(t > 0.1 && t < 0.35);
        let t = threshold_for_sensitivity(&P, &L, 0.5);
        assert!(t > 0.4 && t < 0.8);
        assert!(youden_threshold(&P, &L) < 0.8);
        let t = threshold_for_specificity(&P, &L, 1.0);
        assert!(t > 0.4 && t < 0.8);
        let t = threshold_for_specificity(&P, &L, 0.5);
        assert!(t > 0.1 && t < 0.35);
    }

    #[test]
    fn the_youden_threshold_is_that_of_trying_all() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for count in [1, 2, 5, 40, 300] {
            let labels: Vec<bool> = (0..count).map(|_| rng.random_bool(0.4)).collect();
            // Few values, so that many are alike.
            let value = |l: &bool, rng: &mut ChaCha8Rng| (rng.random_range(0..20) + 4 * i32::from(*l)) as f32 / 24.0;
            let p: Vec<f32> = labels.iter().map(|l| value(l, &mut rng)).collect();
            let sum = |threshold: f32| {
                let c = confusion(&p, &labels, threshold);
                c.tp as f64 / (c.tp + c.r#fn).max(1) as f64 + c.tn as f64 / (c.tn + c.fp).max(1) as f64
            };
            let best = p.iter().map(|t| sum(*t)).fold(0.0, f64::max);
            assert_eq!(sum(youden_threshold(&p, &labels)), best, "{count}");
        }
    }

    #[test]
    fn the_lower_end_of_the_interval_reaches_the_bound_and_shifts_are_no_more_images() {
        let labels: Vec<bool> = (0..400).map(|i| i % 2 == 0).collect();
        let p: Vec<f32> = (0..400).map(|i| i as f32 / 400.0).collect();
        let rule = OperatingPointRule::SensitivityBound { at_least: 0.9 };
        let sensitivity = |images: usize| {
            let chosen = rule.choose(&p, &labels, images, rule.in_words());
            chosen.metrics.sensitivity.unwrap()
        };
        let all = sensitivity(400);
        assert!(wilson_share(all, 200.0)[0] >= 0.9 && wilson_share(all - 0.01, 200.0)[0] < 0.9, "{all}");
        assert!(sensitivity(100) > all);
        assert_eq!(sensitivity(4), 1.0, "too few to be sure: none is missed");
    }

    #[test]
    fn a_chosen_point_carries_its_metrics() {
        let rule = OperatingPointRule::Sensitivity { at_least: 1.0 };
        let chosen = rule.choose(&P, &L, 4, rule.in_words());
        assert_eq!((chosen.point.sensitivity, chosen.point.specificity, chosen.point.images), (1.0, 0.5, 4));
        assert_eq!(chosen.metrics.kept("int8_val_")[2], ("int8_val_sensitivity".to_owned(), 1.0));
    }
}
