//! From what a model says of validation images to how far it can be believed: temperature, operating points, and the
//! probabilities that a reader has to decide.

use crate::bootstrap::{interval_of, samples_of};
use crate::metrics::Metrics;
use crate::operating_point::OperatingPointRule;
use edge_runtime::model::calibration::{Calibration, Profile};
use edge_runtime::model::contract::{Contract, OperatingPoint};

/// Images below which the temperature stays 1.
const FEWEST: usize = 100;
/// Steps of the search for the temperature.
const STEPS: usize = 24;
/// The same where it is searched for a thousand times: within a fiftieth of the temperature.
const COARSE_STEPS: usize = 10;
/// The range of temperatures.
const TEMPERATURES: [f32; 2] = [0.5, 5.0];
/// Share of the images, those nearest to the operating point, that a reader has to decide.
pub const UNCERTAIN: f64 = 0.1;

/// Samples of patients: fewer than elsewhere, since each is calibrated anew.
const INTERVAL_SAMPLES: usize = 200;

/// Seed of the samples of patients.
const INTERVAL_SEED: u64 = 1;

/// Misses little.
const TRIAGE: &str = "triage";
/// Alarms for little.
const RULE_IN: &str = "rule-in";

/// Operating points that every model has besides its own. None of those that miss little lies above it, none of those
/// that alarm for little below.
const PROFILES: [(&str, OperatingPointRule); 3] = [
    (TRIAGE, OperatingPointRule::Sensitivity { at_least: 0.98 }),
    ("balanced", OperatingPointRule::Youden),
    (RULE_IN, OperatingPointRule::Specificity { at_least: 0.98 }),
];

/// What a model gave for validation images.
pub struct Answers {
    /// Logits of each image.
    pub logits: Vec<Vec<f32>>,
    /// Whether it shows what is looked for.
    pub truths: Vec<bool>,
    /// How many of these, the first, are the images as they are; the others are shifts of them.
    pub images: usize,
}

impl Answers {
    /// Probabilities as `contract` has them.
    pub fn probabilities(&self, contract: &Contract) -> Vec<f32> {
        self.logits.iter().map(|logits| contract.probability(logits)).collect()
    }
}

/// How a calibrated model fares.
pub struct Judged {
    /// On the validation images as they are.
    pub plain: Metrics,
    /// On them and their shifts, where those were asked for.
    pub shifted: Option<Metrics>,
}

impl Judged {
    /// Keeps the figures in `contract`'s provenance, their names behind `prefix`; gives those on the images as they
    /// are.
    pub fn keep(self, contract: &mut Contract, prefix: &str) -> Metrics {
        let shifted = self.shifted.iter().flat_map(|m| m.kept(&format!("{prefix}shifted_")));
        contract.provenance.metrics.extend(self.plain.kept(&format!("{prefix}val_")).into_iter().chain(shifted));
        self.plain
    }
}

/// Fits all of `contract`'s calibration and its operating point to `answers`; `rule`, which `in_words` says, chooses
/// the operating point.
pub fn calibrate(contract: &mut Contract, answers: &Answers, rule: &OperatingPointRule, in_words: String) -> Judged {
    contract.calibration = Calibration { shifted: contract.calibration.shifted, ..Calibration::default() };
    contract.calibration.temperature = temperature(contract, answers, STEPS);
    let probabilities = answers.probabilities(contract);
    let chosen = rule.choose(&probabilities, &answers.truths, answers.images, in_words);
    let own = chosen.point.threshold;
    let profile = |(name, rule): &(&str, OperatingPointRule)| {
        let point = rule.choose(&probabilities, &answers.truths, answers.images, rule.in_words()).point;
        // Where both classes part far from each other, a rule may be met on the wrong side of the model's own point.
        let is_kept = match *name {
            TRIAGE => point.threshold <= own,
            RULE_IN => point.threshold >= own,
            _ => true,
        };
        let point = if is_kept { point } else { chosen.point.clone() };
        Profile { name: (*name).into(), point: OperatingPoint { images: answers.images as u32, ..point } }
    };
    contract.calibration.profiles = PROFILES.iter().map(profile).collect();
    contract.calibration.uncertain = uncertain(&probabilities, &answers.truths, chosen.point.threshold);
    contract.operating_point = chosen.point;
    let images = answers.images;
    contract.operating_point.images = images as u32;
    let threshold = contract.operating_point.threshold;
    Judged {
        plain: Metrics::new(&probabilities[..images], &answers.truths[..images], threshold),
        shifted: (images < probabilities.len()).then_some(chosen.metrics),
    }
}

/// How far what [`calibrate`] chooses by `rule` would have moved with other patients: 95 % intervals by resampling
/// them; `patients` says of whom each of the images is. Names and values as a model's provenance keeps them, behind
/// `prefix`; nothing of images too few for a temperature.
pub fn intervals(
    contract: &Contract,
    answers: &Answers,
    rule: &OperatingPointRule,
    patients: &[&str],
    prefix: &str,
) -> Vec<(String, f64)> {
    if answers.images < FEWEST {
        return vec![];
    }
    let shifts = answers.truths.len() / answers.images;
    let drawn = samples_of(INTERVAL_SAMPLES, patients, INTERVAL_SEED, |drawn| {
        let all = || (0..shifts).flat_map(|shift| drawn.iter().map(move |i| shift * answers.images + i));
        let sample = Answers {
            logits: all().map(|i| answers.logits[i].clone()).collect(),
            truths: all().map(|i| answers.truths[i]).collect(),
            images: drawn.len(),
        };
        let mut contract = contract.clone();
        contract.calibration.temperature = temperature(&contract, &sample, COARSE_STEPS);
        let threshold = rule.threshold(&sample.probabilities(&contract), &sample.truths, sample.images);
        [f64::from(contract.calibration.temperature), f64::from(threshold)]
    });
    let of = |which: usize, name: &'static str| {
        let range = interval_of(INTERVAL_SAMPLES, drawn.iter().map(|values| values[which]).collect());
        let ends = range.map(|ends| ["low", "high"].into_iter().zip(ends));
        ends.into_iter().flatten().map(move |(end, value)| (format!("{prefix}{name}_{end}"), value))
    };
    of(0, "temperature").chain(of(1, "threshold")).collect()
}

/// The temperature with the least cross-entropy (Guo et al. 2017), both classes weighed alike, found by golden-section
/// search over its logarithm in so many `steps`.
fn temperature(contract: &Contract, answers: &Answers, steps: usize) -> f32 {
    let positives = answers.truths.iter().filter(|t| **t).count();
    let negatives = answers.truths.len() - positives;
    if answers.truths.len() < FEWEST || positives == 0 || negatives == 0 {
        return 1.0;
    }
    let loss = |log_temperature: f32| -> f64 {
        let temperature = log_temperature.exp();
        let one = |(logits, truth): (&Vec<f32>, &bool)| {
            let p = f64::from(contract.probability_at(logits, temperature)).clamp(1e-7, 1.0 - 1e-7);
            if *truth { -p.ln() / positives as f64 } else { -(1.0 - p).ln() / negatives as f64 }
        };
        answers.logits.iter().zip(&answers.truths).map(one).sum()
    };
    let [mut low, mut high] = TEMPERATURES.map(f32::ln);
    let golden = (5f32.sqrt() - 1.0) / 2.0;
    for _ in 0..steps {
        let left = high - golden * (high - low);
        let right = low + golden * (high - low);
        if loss(left) <= loss(right) {
            high = right;
        } else {
            low = left;
        }
    }
    ((low + high) / 2.0).exp()
}

/// Probabilities around `threshold`, as far in logits to either side, that hold [`UNCERTAIN`] of the images; `None`
/// where no error is among them.
pub fn uncertain(probabilities: &[f32], truths: &[bool], threshold: f32) -> Option<[f32; 2]> {
    let logit = |p: f32| (p.clamp(1e-6, 1.0 - 1e-6) / (1.0 - p.clamp(1e-6, 1.0 - 1e-6))).ln();
    let middle = logit(threshold);
    let mut distances: Vec<(f32, bool)> = probabilities
        .iter()
        .zip(truths)
        .map(|(p, truth)| ((logit(*p) - middle).abs(), (*p >= threshold) != *truth))
        .collect();
    distances.sort_by(|a, b| a.0.total_cmp(&b.0));
    let inside = (UNCERTAIN * distances.len() as f64) as usize;
    if !distances[..inside].iter().any(|(_, is_error)| *is_error) {
        return None;
    }
    let reach = distances[inside - 1].0;
    let probability = |logit: f32| 1.0 / (1.0 + (-logit).exp());
    Some([probability(middle - reach), probability(middle + reach)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::domain::Domain;
    use edge_runtime::model::contract::{Activation, InputContract, Provenance, ResizeRule};

    fn contract() -> Contract {
        let input =
            InputContract { size: 8, channels: 1, resize: ResizeRule::Stretch, mean: vec![0.0], std: vec![1.0] };
        Contract {
            input,
            labels: vec!["no".into(), "yes".into()],
            positive: 1,
            activation: Activation::Sigmoid,
            operating_point: OperatingPoint::unjudged(0.5, ""),
            provenance: Provenance::default(),
            calibration: Calibration::default(),
            domain: Domain::default(),
        }
    }

    /// Images whose true probability is that of their logit divided by `sharpness`.
    fn answers(sharpness: f32) -> Answers {
        let logit = |i: usize| (i % 41) as f32 / 5.0 - 4.0;
        let truth = |i: usize| {
            let p = 1.0 / (1.0 + (-logit(i)).exp());
            (i / 41) as f32 / 100.0 + 0.005 < p
        };
        Answers {
            logits: (0..4100).map(|i| vec![logit(i) * sharpness]).collect(),
            truths: (0..4100).map(truth).collect(),
            images: 4100,
        }
    }

    #[test]
    fn overconfident_logits_get_their_temperature() {
        for sharpness in [1.0, 2.0, 3.0] {
            let mut contract = contract();
            calibrate(&mut contract, &answers(sharpness), &OperatingPointRule::Youden, String::new());
            let temperature = contract.calibration.temperature;
            assert!((temperature / sharpness - 1.0).abs() < 0.05, "{temperature} for {sharpness}");
        }
    }

    #[test]
    fn intervals_hold_what_was_chosen() {
        let all = answers(2.0);
        let some = Answers {
            logits: all.logits.iter().step_by(7).cloned().collect(),
            truths: all.truths.iter().step_by(7).copied().collect(),
            images: all.truths.len().div_ceil(7),
        };
        let names: Vec<String> = (0..some.images).map(|i| i.to_string()).collect();
        let patients: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut contract = contract();
        let rule = OperatingPointRule::Sensitivity { at_least: 0.9 };
        calibrate(&mut contract, &some, &rule, String::new());
        let kept = intervals(&contract, &some, &rule, &patients, "val_");
        let value = |name: &str| kept.iter().find(|(key, _)| key == name).unwrap().1;
        let threshold = f64::from(contract.operating_point.threshold);
        assert!(value("val_threshold_low") <= threshold && threshold <= value("val_threshold_high"), "{kept:?}");
        let temperature = f64::from(contract.calibration.temperature);
        assert!(value("val_temperature_low") < temperature && temperature < value("val_temperature_high"), "{kept:?}");
        let few = Answers { logits: some.logits[..50].to_vec(), truths: some.truths[..50].to_vec(), images: 50 };
        assert!(intervals(&contract, &few, &rule, &patients[..50], "").is_empty());
    }

    #[test]
    fn the_uncertain_lie_around_the_operating_point_and_are_a_tenth() {
        let mut contract = contract();
        let answers = answers(1.0);
        calibrate(&mut contract, &answers, &OperatingPointRule::Youden, String::new());
        let [low, high] = contract.calibration.uncertain.unwrap();
        let threshold = contract.operating_point.threshold;
        assert!(low < threshold && threshold < high);
        let inside = answers.probabilities(&contract).iter().filter(|p| (low..=high).contains(*p)).count();
        assert!((300..=500).contains(&inside), "{inside}");
    }

    #[test]
    fn nothing_is_uncertain_without_errors() {
        let logits = (0..200).map(|i| vec![i as f32 - 99.5]).collect();
        let answers = Answers { logits, truths: (0..200).map(|i| i >= 100).collect(), images: 200 };
        let mut contract = contract();
        calibrate(&mut contract, &answers, &OperatingPointRule::Youden, String::new());
        assert_eq!(contract.calibration.uncertain, None);
        contract.check().unwrap();
    }

    #[test]
    fn profiles_lie_on_their_side_of_the_operating_point() {
        let logits = (0..200).map(|i| vec![if i < 100 { -3.0 } else { 3.0 } + i as f32 / 1000.0]).collect();
        let answers = Answers { logits, truths: (0..200).map(|i| i >= 100).collect(), images: 200 };
        for at_least in [0.5, 1.0] {
            let mut contract = contract();
            let rule = OperatingPointRule::Sensitivity { at_least };
            calibrate(&mut contract, &answers, &rule, String::new());
            let own = contract.operating_point.threshold;
            let threshold = |name| contract.calibration.profile(name).unwrap().threshold;
            assert!(threshold("triage") <= own && own <= threshold("rule-in"), "{at_least}");
        }
    }

    #[test]
    fn profiles_keep_their_promises() {
        let mut contract = contract();
        calibrate(&mut contract, &answers(1.0), &OperatingPointRule::Youden, String::new());
        let point = |name| contract.calibration.profile(name).unwrap();
        assert!(point("triage").sensitivity >= 0.98 && point("rule-in").specificity >= 0.98);
        assert!(point("triage").threshold < point("balanced").threshold);
        assert!(point("balanced").threshold < point("rule-in").threshold);
    }
}
