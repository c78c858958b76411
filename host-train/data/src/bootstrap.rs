//! Intervals by resampling patients (Efron 1979; by cluster: Field and Welsh 2007): images of one patient resemble each
//! other, so patients are drawn, not images.

use crate::metrics::{Rates, confusion, rank_auroc};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeMap;

/// Samples that are drawn.
pub const SAMPLES: usize = 1000;

/// 95 % intervals, from the 2.5th to the 97.5th percentile of the samples. One is undefined where a tenth of the
/// samples could not say it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Intervals {
    /// Of the area under the curve.
    pub auroc: Option<[f64; 2]>,
    /// Of the share of right decisions.
    pub accuracy: Option<[f64; 2]>,
    /// Of the share of ill patients' images that are called so.
    pub sensitivity: Option<[f64; 2]>,
    /// Of the share of the others' that are not.
    pub specificity: Option<[f64; 2]>,
    /// Of the positive predictive value.
    pub precision: Option<[f64; 2]>,
    /// Of the negative predictive value.
    pub npv: Option<[f64; 2]>,
    /// Of the mean F1 of both classes.
    pub macro_f1: Option<[f64; 2]>,
}

/// What a sample of patients says.
#[derive(Clone, Copy, Default)]
struct Sample {
    auroc: Option<f64>,
    accuracy: Option<f64>,
    sensitivity: Option<f64>,
    specificity: Option<f64>,
    precision: Option<f64>,
    npv: Option<f64>,
    macro_f1: Option<f64>,
}

impl Sample {
    fn of(probabilities: &[f32], truths: &[bool], threshold: f32) -> Sample {
        let c = confusion(probabilities, truths, threshold);
        let m = Rates::of(c);
        Sample {
            auroc: rank_auroc(probabilities, truths),
            accuracy: m.accuracy,
            sensitivity: m.sensitivity,
            specificity: m.specificity,
            precision: m.precision,
            npv: m.npv,
            macro_f1: m.macro_f1,
        }
    }
}

/// Intervals of the metrics at `threshold`; each image has a probability, a truth and a patient. `seed` draws the
/// samples.
pub fn intervals(probabilities: &[f32], truths: &[bool], patients: &[&str], threshold: f32, seed: u64) -> Intervals {
    let samples = samples(patients, seed, |drawn| {
        let p: Vec<f32> = drawn.iter().map(|i| probabilities[*i]).collect();
        let t: Vec<bool> = drawn.iter().map(|i| truths[*i]).collect();
        Sample::of(&p, &t, threshold)
    });
    let interval = |value: fn(&Sample) -> Option<f64>| interval(samples.iter().filter_map(value).collect());
    Intervals {
        auroc: interval(|s| s.auroc),
        accuracy: interval(|s| s.accuracy),
        sensitivity: interval(|s| s.sensitivity),
        specificity: interval(|s| s.specificity),
        precision: interval(|s| s.precision),
        npv: interval(|s| s.npv),
        macro_f1: interval(|s| s.macro_f1),
    }
}

/// The interval of how much higher the area under the curve of the probabilities `after` is than that of `before`, on
/// the same images: both are judged on each sample, so what is hard about a sample falls out.
pub fn auroc_change(before: &[f32], after: &[f32], truths: &[bool], patients: &[&str], seed: u64) -> Option<[f64; 2]> {
    let changes = samples(patients, seed, |drawn| {
        let t: Vec<bool> = drawn.iter().map(|i| truths[*i]).collect();
        let auroc = |probabilities: &[f32]| {
            let p: Vec<f32> = drawn.iter().map(|i| probabilities[*i]).collect();
            rank_auroc(&p, &t)
        };
        Some(auroc(after)? - auroc(before)?)
    });
    interval(changes.into_iter().flatten().collect())
}

/// What `judge` says of the images of each sample of patients; nothing of no patients.
pub(crate) fn samples<T: Send>(patients: &[&str], seed: u64, judge: impl Fn(&[usize]) -> T + Sync) -> Vec<T> {
    samples_of(SAMPLES, patients, seed, judge)
}

/// As [`samples`], so many.
pub(crate) fn samples_of<T: Send>(
    count: usize,
    patients: &[&str],
    seed: u64,
    judge: impl Fn(&[usize]) -> T + Sync,
) -> Vec<T> {
    let mut of_patient: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, patient) in patients.iter().enumerate() {
        of_patient.entry(patient).or_default().push(i);
    }
    let people: Vec<Vec<usize>> = of_patient.into_values().collect();
    if people.is_empty() {
        return Vec::new();
    }
    let sample = |number: usize| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let drawn: Vec<usize> =
            (0..people.len()).flat_map(|_| people[rng.random_range(0..people.len())].iter().copied()).collect();
        judge(&drawn)
    };
    (0..count).into_par_iter().map(sample).collect()
}

/// The middle 95 % of `values`, if enough samples gave one.
fn interval(values: Vec<f64>) -> Option<[f64; 2]> {
    interval_of(SAMPLES, values)
}

/// As [`interval`], of so many samples.
pub(crate) fn interval_of(count: usize, mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((share * values.len() as f64) as usize).min(values.len() - 1)];
    (values.len() * 10 >= count * 9 && !values.is_empty()).then(|| [at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities that tell `right` of a hundred images of each class.
    fn images(right: usize, patients: usize) -> (Vec<f32>, Vec<bool>, Vec<String>) {
        let truths: Vec<bool> = (0..200).map(|i| i % 2 == 1).collect();
        let probabilities = (0..200).map(|i| if (i / 2 < right) == (i % 2 == 1) { 0.9 } else { 0.1 }).collect();
        (probabilities, truths, (0..200).map(|i| (i % patients).to_string()).collect())
    }

    #[test]
    fn intervals_are_as_wide_as_the_binomial_where_every_image_has_its_patient() {
        let (p, t, patients) = images(80, 200);
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        let [low, high] = intervals(&p, &t, &patients, 0.5, 1).accuracy.unwrap();
        let error = 1.96 * (0.8f64 * 0.2 / 200.0).sqrt();
        assert!((low - (0.8 - error)).abs() < 0.015 && (high - (0.8 + error)).abs() < 0.015, "{low} {high}");
    }

    #[test]
    fn images_of_one_patient_say_less() {
        let width = |patients: usize| {
            // All images of a patient are right or wrong together.
            let truths: Vec<bool> = (0..200).map(|i| i % 2 == 1).collect();
            let p: Vec<f32> =
                (0..200).map(|i| if ((i % patients) * 10 < patients * 8) == truths[i] { 0.9 } else { 0.1 }).collect();
            let names: Vec<String> = (0..200).map(|i| (i % patients).to_string()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let [low, high] = intervals(&p, &truths, &names, 0.5, 1).accuracy.unwrap();
            high - low
        };
        assert!(width(20) > 2.0 * width(200));
    }

    #[test]
    fn what_samples_cannot_say_is_undefined() {
        let all = intervals(&[0.9, 0.8], &[true, true], &["a", "b"], 0.5, 1);
        assert_eq!((all.auroc, all.specificity), (None, None));
        assert!(all.sensitivity.is_some());
        assert!(intervals(&[], &[], &[], 0.5, 1).accuracy.is_none());
    }

    #[test]
    fn a_model_that_changes_nothing_has_no_interval_around_nothing() {
        let (before, truths, patients) = images(80, 200);
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        assert_eq!(auroc_change(&before, &before, &truths, &patients, 1), Some([0.0, 0.0]));
        // Far narrower than what the images say of either: both fail on the same ones.
        let after: Vec<f32> = before.iter().enumerate().map(|(i, p)| if i == 0 { 1.0 - p } else { *p }).collect();
        let [low, high] = auroc_change(&before, &after, &truths, &patients, 1).unwrap();
        let own = intervals(&before, &truths, &patients, 0.5, 1).auroc.unwrap();
        assert!(low <= high && high <= 0.0 && high - low < (own[1] - own[0]) / 2.0, "{low} to {high}, {own:?}");
        assert_eq!(auroc_change(&[], &[], &[], &[], 1), None);
    }
}
