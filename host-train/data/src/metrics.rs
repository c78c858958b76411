//! Evaluation metrics for a binary finding, from probabilities and labels.

use serde::Serialize;

/// Counts at a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Negative called negative.
    pub tn: usize,
    /// Negative called positive.
    pub fp: usize,
    /// Positive called negative.
    pub r#fn: usize,
    /// Positive called positive.
    pub tp: usize,
}

/// All metrics of one evaluation. Shares are 0 to 1; one whose denominator is empty is undefined.
#[derive(Debug, Clone, Serialize)]
pub struct Metrics {
    /// Images.
    pub n: usize,
    /// Decision threshold on the probability.
    pub threshold: f64,
    /// (tp + tn) / n.
    pub accuracy: Option<f64>,
    /// Area under the receiver operating characteristic (ties count half).
    pub auroc: Option<f64>,
    /// Its 95 % confidence interval (DeLong et al. 1988), cut to 0…1.
    pub auroc_ci95: Option<[f64; 2]>,
    /// Area under precision over recall, as a step sum.
    pub average_precision: Option<f64>,
    /// tp / (tp + fn).
    pub sensitivity: Option<f64>,
    /// tn / (tn + fp).
    pub specificity: Option<f64>,
    /// tp / (tp + fp), the positive predictive value at this prevalence.
    pub precision: Option<f64>,
    /// tn / (tn + fn), the negative predictive value at this prevalence.
    pub npv: Option<f64>,
    /// Harmonic mean of precision and sensitivity.
    pub f1: Option<f64>,
    /// Mean of the F1 of both classes.
    pub macro_f1: Option<f64>,
    /// Mean squared error of the probability (Brier 1950).
    pub brier: Option<f64>,
    /// Expected calibration error over 15 equal bins (Guo et al. 2017).
    pub ece: Option<f64>,
    /// Counts.
    pub confusion: Confusion,
}

impl Metrics {
    /// What a model's provenance keeps, each name behind `prefix`.
    pub fn kept(&self, prefix: &str) -> Vec<(String, f64)> {
        let kept = [
            ("auroc", self.auroc),
            ("accuracy", self.accuracy),
            ("sensitivity", self.sensitivity),
            ("specificity", self.specificity),
        ];
        kept.into_iter().filter_map(|(name, value)| value.map(|v| (format!("{prefix}{name}"), v))).collect()
    }

    /// Metrics of `probabilities` against `labels` (true: positive).
    pub fn new(probabilities: &[f32], labels: &[bool], threshold: f32) -> Metrics {
        let c = confusion(probabilities, labels, threshold);
        let rates = Rates::of(c);
        let area = auroc(probabilities, labels);
        let n = labels.len() as f64;
        let error = |(p, l): (&f32, &bool)| (f64::from(*p) - f64::from(u8::from(*l))).powi(2);
        Metrics {
            n: labels.len(),
            threshold: f64::from(threshold),
            accuracy: rates.accuracy,
            auroc: area.map(|a| a.area),
            auroc_ci95: area.map(|a| a.ci95),
            average_precision: average_precision(probabilities, labels),
            sensitivity: rates.sensitivity,
            specificity: rates.specificity,
            precision: rates.precision,
            npv: rates.npv,
            f1: rates.f1,
            macro_f1: rates.macro_f1,
            brier: share(probabilities.iter().zip(labels).map(error).sum(), n),
            ece: (n > 0.0).then(|| calibration_error(probabilities, labels)),
            confusion: c,
        }
    }
}

/// What follows from counts alone; as in [`Metrics`].
pub(crate) struct Rates {
    pub accuracy: Option<f64>,
    pub sensitivity: Option<f64>,
    pub specificity: Option<f64>,
    pub precision: Option<f64>,
    pub npv: Option<f64>,
    pub f1: Option<f64>,
    pub macro_f1: Option<f64>,
}

impl Rates {
    pub fn of(c: Confusion) -> Rates {
        let [tn, fp, missed, tp] = [c.tn, c.fp, c.r#fn, c.tp].map(|count| count as f64);
        let f1 = share(2.0 * tp, 2.0 * tp + fp + missed);
        let f1_negative = share(2.0 * tn, 2.0 * tn + fp + missed);
        let both = tp + missed > 0.0 && tn + fp > 0.0;
        Rates {
            accuracy: share(tp + tn, tn + fp + missed + tp),
            sensitivity: share(tp, tp + missed),
            specificity: share(tn, tn + fp),
            precision: share(tp, tp + fp),
            npv: share(tn, tn + missed),
            f1,
            macro_f1: f1.zip(f1_negative).filter(|_| both).map(|(a, b)| (a + b) / 2.0),
        }
    }
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// A metric with so many digits, or `undefined`.
pub fn printed(value: Option<f64>, digits: usize) -> String {
    value.map_or("undefined".to_owned(), |v| format!("{v:.digits$}"))
}

/// Area under the receiver operating characteristic.
#[derive(Clone, Copy)]
struct Area {
    area: f64,
    ci95: [f64; 2],
}

/// Counts at `threshold`: what is at or above it is called positive.
pub fn confusion(probabilities: &[f32], labels: &[bool], threshold: f32) -> Confusion {
    let mut c = Confusion { tn: 0, fp: 0, r#fn: 0, tp: 0 };
    for (p, positive) in probabilities.iter().zip(labels) {
        match (*positive, *p >= threshold) {
            (true, true) => c.tp += 1,
            (true, false) => c.r#fn += 1,
            (false, true) => c.fp += 1,
            (false, false) => c.tn += 1,
        }
    }
    c
}

/// AUROC and its DeLong interval by placement values: for each positive the share of negatives below it, and the other
/// way round. Undefined where a class is empty.
fn auroc(probabilities: &[f32], labels: &[bool]) -> Option<Area> {
    let pick = |want: bool| -> Vec<f32> {
        let mut v: Vec<f32> = probabilities.iter().zip(labels).filter(|(_, l)| **l == want).map(|(p, _)| *p).collect();
        v.sort_by(f32::total_cmp);
        v
    };
    let positive = pick(true);
    let negative = pick(false);
    if positive.is_empty() || negative.is_empty() {
        return None;
    }
    let below = |sorted: &[f32], p: f32| {
        let less = sorted.partition_point(|q| *q < p) as f64;
        let not_above = sorted.partition_point(|q| *q <= p) as f64;
        (less + not_above) / 2.0 / sorted.len() as f64
    };
    let of_positive: Vec<f64> = positive.iter().map(|p| below(&negative, *p)).collect();
    let of_negative: Vec<f64> = negative.iter().map(|p| 1.0 - below(&positive, *p)).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let area = mean(&of_positive);
    let variance = |v: &[f64]| {
        let n = v.len() as f64;
        if n < 2.0 { 0.0 } else { v.iter().map(|x| (x - area).powi(2)).sum::<f64>() / (n - 1.0) / n }
    };
    let half = 1.959964 * (variance(&of_positive) + variance(&of_negative)).sqrt();
    Some(Area { area, ci95: [(area - half).max(0.0), (area + half).min(1.0)] })
}

/// The area alone.
pub(crate) fn rank_auroc(probabilities: &[f32], labels: &[bool]) -> Option<f64> {
    auroc(probabilities, labels).map(|area| area.area)
}

fn average_precision(probabilities: &[f32], labels: &[bool]) -> Option<f64> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    let total = labels.iter().filter(|l| **l).count() as f64;
    let mut tp = 0.0;
    let mut area = 0.0;
    let mut i = 0;
    while i < order.len() {
        let p = probabilities[order[i]];
        let mut gained = 0.0;
        while i < order.len() && probabilities[order[i]] == p {
            gained += f64::from(u8::from(labels[order[i]]));
            i += 1;
        }
        tp += gained;
        area += gained * tp / i as f64;
    }
    (total > 0.0).then(|| area / total)
}

fn calibration_error(probabilities: &[f32], labels: &[bool]) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0.0f64, 0.0f64, 0.0f64); BINS];
    for (p, l) in probabilities.iter().zip(labels) {
        let bin = &mut bins[((f64::from(*p) * BINS as f64) as usize).min(BINS - 1)];
        bin.0 += 1.0;
        bin.1 += f64::from(*p);
        bin.2 += f64::from(u8::from(*l));
    }
    bins.iter().map(|(_, p, l)| (p - l).abs()).sum::<f64>() / (labels.len().max(1)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [f32; 4] = [0.1, 0.4, 0.35, 0.8];
    const L: [bool; 4] = [false, false, true, true];

    #[test]
    fn metrics_agree_with_scikit_learn() {
        // roc_auc_score and average_precision_score on the example of scikit-learn's documentation.
        let m = Metrics::new(&P, &L, 0.5);
        assert!((m.auroc.unwrap() - 0.75).abs() < 1e-9);
        assert!((m.average_precision.unwrap() - 0.8333333).abs() < 1e-6);
        assert_eq!(m.confusion, Confusion { tn: 2, fp: 0, r#fn: 1, tp: 1 });
        assert!((m.accuracy, m.precision) == (Some(0.75), Some(1.0)));
        assert!(m.auroc_ci95.is_some_and(|[low, high]| low < 0.75 && high > 0.75));
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(Metrics::new(&[0.5; 4], &L, 0.5).auroc, Some(0.5));
    }

    #[test]
    fn what_needs_both_classes_is_undefined_for_one() {
        let m = Metrics::new(&[0.9, 0.2], &[true, true], 0.5);
        assert_eq!((m.auroc, m.specificity, m.macro_f1, m.sensitivity), (None, None, None, Some(0.5)));
    }
}
