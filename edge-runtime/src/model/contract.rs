//! What a model promises: its input, labels, operating point, activation ranges and provenance.
//!
//! The contract travels with the weights, as ONNX `metadata_props` under `hilum.*` (one JSON value a key) and inside
//! the bundle. Training writes it, quantisation re-tunes its operating point, the device obeys it.

use super::calibration::Calibration;
use crate::domain::Domain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a radiograph of any shape becomes a square of [`InputContract::size`] pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeRule {
    /// Both sides to `size`, the aspect ratio lost: what the Kermany thumbnails and most published systems do.
    Stretch,
    /// The longer side to `size`, the rest black.
    Letterbox,
    /// The shorter side to `size`, then the central square.
    CenterCrop,
}

/// Shape and scale of the network's input, `[1, channels, size, size]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputContract {
    /// Side of the square in pixels.
    pub size: u32,
    /// 1 (grey) or 3 (the grey plane repeated).
    pub channels: u32,
    /// How the radiograph is brought to `size`.
    pub resize: ResizeRule,
    /// Subtracted from each channel, in units of 8-bit pixels; one value a channel.
    pub mean: Vec<f32>,
    /// Divides each channel afterwards, in units of 8-bit pixels; one value a channel.
    pub std: Vec<f32>,
}

impl InputContract {
    /// The value the network sees for 8-bit `pixel` in `channel`.
    pub fn normalise(&self, pixel: u8, channel: usize) -> f32 {
        (f32::from(pixel) - self.mean[channel]) / self.std[channel]
    }

    /// Number of values in one input tensor.
    pub fn len(&self) -> usize {
        (self.size * self.size * self.channels) as usize
    }

    /// True if the input holds no value; [`Contract::check`] refuses such a contract.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How logits become the probability of the positive label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// One logit: the logistic function.
    Sigmoid,
    /// A logit per label, of which one is true: softmax.
    Softmax,
    /// A logit per label, of which none excludes another (CheXNet's fourteen findings): the logistic function of each.
    Independent,
    /// As softmax; what is looked for are all labels of the [group](label_group) of the positive one.
    GroupedSoftmax,
}

/// The group of a label, the part in front of its slash: `PNEUMONIA` of `PNEUMONIA/VIRAL`. Without a slash, the label.
pub fn label_group(label: &str) -> &str {
    label.split('/').next().unwrap_or(label)
}

impl Activation {
    /// The name in contracts.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Sigmoid => "sigmoid",
            Activation::Softmax => "softmax",
            Activation::Independent => "independent",
            Activation::GroupedSoftmax => "grouped-softmax",
        }
    }
}

/// The decision threshold, and what it was chosen for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperatingPoint {
    /// The finding is positive when the probability is at least this.
    pub threshold: f32,
    /// Sensitivity on the validation images at this threshold (NaN-free; 0 where none were used).
    pub sensitivity: f32,
    /// Specificity on the validation images at this threshold.
    pub specificity: f32,
    /// Number of validation images.
    pub images: u32,
    /// The rule that chose the threshold, in words.
    pub rule: String,
}

impl OperatingPoint {
    /// A threshold that no image has judged.
    pub fn unjudged(threshold: f32, rule: &str) -> OperatingPoint {
        OperatingPoint { threshold, sensitivity: 0.0, specificity: 0.0, images: 0, rule: rule.to_owned() }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Name of the model (the recipe's name).
    pub name: String,
    /// Version of the Hilum that trained it.
    pub version: String,
    /// The recipe, verbatim TOML.
    pub recipe: String,
    /// SHA-256 over the manifest of the training data.
    pub data_digest: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Validation metrics of the exported weights.
    pub metrics: BTreeMap<String, f64>,
    /// What was done to the model since, oldest first ("quantised by Hilum 0.1.0 from …").
    pub history: Vec<String>,
}

/// Everything a model promises besides its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contract {
    /// The input.
    pub input: InputContract,
    /// Names of the classes, negative first.
    pub labels: Vec<String>,
    /// Index in `labels` of the class that is looked for.
    pub positive: u32,
    /// How logits become a probability.
    pub activation: Activation,
    /// The decision threshold.
    pub operating_point: OperatingPoint,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// How far its probabilities can be believed. In bundles it stands behind the network.
    #[serde(skip)]
    pub calibration: Calibration,
    /// What it was trained on. In bundles it stands behind the network.
    #[serde(skip)]
    pub domain: Domain,
}

/// Smallest and largest value seen in each activation tensor, by ONNX tensor name.
pub type ActivationRanges = BTreeMap<String, [f32; 2]>;

/// Why a contract is refused.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// A `hilum.*` key is absent.
    #[error("the model carries no `{0}`: it was not exported by host-train, or its metadata was stripped")]
    Missing(&'static str),
    /// A `hilum.*` value is not what this version writes.
    #[error("the model's `{key}` cannot be read ({reason}); export it again with this version")]
    Malformed {
        /// The metadata key.
        key: &'static str,
        /// What the JSON parser said.
        reason: String,
    },
    /// The values contradict each other.
    #[error("the model's contract makes no sense: {0}")]
    Inconsistent(String),
}

/// A model has no operating point of this name.
#[derive(Debug, thiserror::Error)]
#[error("the model has no operating point called `{name}`; it has {known}")]
pub struct ProfileError {
    name: String,
    known: String,
}

const INPUT: &str = "hilum.input";
const LABELS: &str = "hilum.labels";
const OUTPUT: &str = "hilum.output";
const OPERATING_POINT: &str = "hilum.operating_point";
const PROVENANCE: &str = "hilum.provenance";
const RANGES: &str = "hilum.ranges";
const CALIBRATION: &str = "hilum.calibration";
const DOMAIN: &str = "hilum.domain";

#[derive(Serialize, Deserialize)]
struct Output {
    positive: u32,
    activation: Activation,
}

impl Contract {
    /// The contract as ONNX `metadata_props`.
    pub fn to_metadata(&self) -> Vec<(String, String)> {
        let json = |v: serde_json::Result<String>| v.expect("plain data always serialises");
        let output = Output { positive: self.positive, activation: self.activation };
        vec![
            (INPUT.into(), json(serde_json::to_string(&self.input))),
            (LABELS.into(), json(serde_json::to_string(&self.labels))),
            (OUTPUT.into(), json(serde_json::to_string(&output))),
            (OPERATING_POINT.into(), json(serde_json::to_string(&self.operating_point))),
            (PROVENANCE.into(), json(serde_json::to_string(&self.provenance))),
            (CALIBRATION.into(), json(serde_json::to_string(&self.calibration))),
            (DOMAIN.into(), json(serde_json::to_string(&self.domain))),
        ]
    }

    /// Reads the contract back from `metadata_props`, and checks it.
    pub fn from_metadata(get: impl Fn(&str) -> Option<String>) -> Result<Contract, ContractError> {
        let output: Output = parse(&get, OUTPUT)?;
        let contract = Contract {
            input: parse(&get, INPUT)?,
            labels: parse(&get, LABELS)?,
            positive: output.positive,
            activation: output.activation,
            operating_point: parse(&get, OPERATING_POINT)?,
            provenance: parse(&get, PROVENANCE)?,
            calibration: parse_optional(&get, CALIBRATION)?.unwrap_or_default(),
            domain: parse_optional(&get, DOMAIN)?.unwrap_or_default(),
        };
        contract.check()?;
        Ok(contract)
    }

    /// Refuses a contract whose parts contradict each other.
    pub fn check(&self) -> Result<(), ContractError> {
        let bad = |why: String| Err(ContractError::Inconsistent(why));
        let i = &self.input;
        if !(8..=2048).contains(&i.size) {
            return bad(format!("an input of {0}×{0} pixels (8 to 2048 are possible)", i.size));
        }
        if i.channels != 1 && i.channels != 3 {
            return bad(format!("{} input channels (1 or 3 are possible)", i.channels));
        }
        if i.mean.len() != i.channels as usize || i.std.len() != i.channels as usize {
            return bad("mean and std need one value for each channel".into());
        }
        if !i.mean.iter().all(|m| m.is_finite()) || !i.std.iter().all(|s| s.is_finite() && *s > 0.0) {
            return bad("mean must be finite, std finite and above zero".into());
        }
        if self.labels.len() < 2 || self.positive as usize >= self.labels.len() {
            return bad(format!("{} labels, of which number {} is positive", self.labels.len(), self.positive));
        }
        if self.activation == Activation::Sigmoid && self.labels.len() != 2 {
            return bad("a sigmoid output needs exactly two labels".into());
        }
        if self.activation == Activation::GroupedSoftmax && self.positives().count() == self.labels.len() {
            return bad("all labels are of the group that is looked for".into());
        }
        if self.labels.iter().enumerate().any(|(i, label)| self.labels[..i].contains(label)) {
            return bad("two labels have the same name".into());
        }
        if !(0.0..=1.0).contains(&self.operating_point.threshold) {
            return bad(format!("threshold {}", self.operating_point.threshold));
        }
        self.calibration.check().and_then(|()| self.domain.check()).or_else(bad)
    }

    /// Decides at the operating point that [`Calibration::profiles`] calls `name` from now on.
    pub fn select(&mut self, name: &str) -> Result<(), ProfileError> {
        match self.calibration.profile(name) {
            Some(point) => {
                self.operating_point = point.clone();
                Ok(())
            }
            None => {
                let known: Vec<&str> = self.calibration.profiles.iter().map(|p| p.name.as_str()).collect();
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(ProfileError { name: name.to_owned(), known })
            }
        }
    }

    /// Number of logits the network must give.
    pub fn logits(&self) -> usize {
        match self.activation {
            Activation::Sigmoid => 1,
            Activation::Softmax | Activation::Independent | Activation::GroupedSoftmax => self.labels.len(),
        }
    }

    /// Probability of the positive label. `logits` holds [`Contract::logits`] values.
    pub fn probability(&self, logits: &[f32]) -> f32 {
        with_intercept(self.probability_at(logits, self.calibration.temperature), self.calibration.intercept)
    }

    /// As [`Contract::probability`], at another temperature and without the intercept of a site.
    pub fn probability_at(&self, logits: &[f32], temperature: f32) -> f32 {
        let scaled = |i: usize| logits[i] / temperature;
        match self.activation {
            Activation::Sigmoid => {
                let p = logistic(scaled(0));
                if self.positive == 1 { p } else { 1.0 - p }
            }
            Activation::Independent => logistic(scaled(self.positive as usize)),
            Activation::Softmax | Activation::GroupedSoftmax => {
                let all = 0..logits.len();
                let top = all.clone().map(scaled).fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = all.map(|i| (scaled(i) - top).exp()).sum();
                self.positives().map(|i| (scaled(i) - top).exp()).sum::<f32>() / sum
            }
        }
    }

    /// Indices of the labels that are looked for: one, or those of a group.
    pub fn positives(&self) -> impl Iterator<Item = usize> + '_ {
        let positive = self.positive as usize;
        let is_grouped = self.activation == Activation::GroupedSoftmax;
        let group = is_grouped.then(|| label_group(&self.labels[positive]));
        (0..self.labels.len())
            .filter(move |i| *i == positive || group.is_some_and(|group| label_group(&self.labels[*i]) == group))
    }

    /// The name of what is looked for.
    pub fn positive_label(&self) -> &str {
        let label = &self.labels[self.positive as usize];
        if self.activation == Activation::GroupedSoftmax { label_group(label) } else { label }
    }

    /// The name of the finding when it is not the positive one: the other label where there are two that exclude each
    /// other, for none of several is chosen.
    pub fn negative_label(&self) -> String {
        match self.labels.as_slice() {
            [first, second] if self.activation != Activation::Independent => {
                if self.positive == 0 { second } else { first }.clone()
            }
            [first, ..]
                if self.activation == Activation::GroupedSoftmax
                    && self.positives().count() + 1 == self.labels.len() =>
            {
                self.labels.iter().find(|l| label_group(l) != self.positive_label()).unwrap_or(first).clone()
            }
            _ => format!("not {}", self.positive_label()),
        }
    }
}

/// `probability` with `intercept` added to its logit; 0 leaves it.
pub fn with_intercept(probability: f32, intercept: f32) -> f32 {
    if intercept == 0.0 {
        return probability;
    }
    let p = probability.clamp(1e-7, 1.0 - 1e-7);
    logistic((p / (1.0 - p)).ln() + intercept)
}

fn logistic(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Recorded activation ranges as a `metadata_props` pair.
pub fn ranges_to_metadata(ranges: &ActivationRanges) -> (String, String) {
    (RANGES.into(), serde_json::to_string(ranges).expect("plain data always serialises"))
}

/// Recorded activation ranges, or `None` where the model carries none.
pub fn ranges_from_metadata(get: impl Fn(&str) -> Option<String>) -> Result<Option<ActivationRanges>, ContractError> {
    let ranges: Option<ActivationRanges> = parse_optional(&get, RANGES)?;
    let is_sound = |[low, high]: &[f32; 2]| low <= high;
    match ranges.iter().flatten().find(|(_, range)| !is_sound(range)) {
        Some((tensor, [low, high])) => {
            let reason = format!("`{tensor}` goes from {low} to {high}");
            Err(ContractError::Malformed { key: RANGES, reason })
        }
        None => Ok(ranges),
    }
}

fn parse_optional<T: serde::de::DeserializeOwned>(
    get: &impl Fn(&str) -> Option<String>,
    key: &'static str,
) -> Result<Option<T>, ContractError> {
    match parse(get, key) {
        Ok(value) => Ok(Some(value)),
        Err(ContractError::Missing(_)) => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse<T: serde::de::DeserializeOwned>(
    get: &impl Fn(&str) -> Option<String>,
    key: &'static str,
) -> Result<T, ContractError> {
    let text = get(key).ok_or(ContractError::Missing(key))?;
    serde_json::from_str(&text).map_err(|e| ContractError::Malformed { key, reason: e.to_string() })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::calibration::Profile;

    pub(crate) fn example() -> Contract {
        Contract {
            input: InputContract {
                size: 16,
                channels: 1,
                resize: ResizeRule::Stretch,
                mean: vec![128.0],
                std: vec![128.0],
            },
            labels: vec!["NORMAL".into(), "PNEUMONIA".into()],
            positive: 1,
            activation: Activation::Softmax,
            operating_point: OperatingPoint {
                threshold: 0.5,
                sensitivity: 0.9,
                specificity: 0.8,
                images: 10,
                rule: "fixed".into(),
            },
            provenance: Provenance { name: "example".into(), ..Default::default() },
            calibration: Calibration::default(),
            domain: Domain::default(),
        }
    }

    #[test]
    fn metadata_round_trips() {
        let c = example();
        let m: BTreeMap<_, _> = c.to_metadata().into_iter().collect();
        assert_eq!(Contract::from_metadata(|k| m.get(k).cloned()).unwrap(), c);
    }

    #[test]
    fn a_temperature_moves_probabilities_towards_one_half() {
        let mut c = example();
        let sharp = c.probability(&[0.0, 2.0]);
        c.calibration.temperature = 2.0;
        let p = c.probability(&[0.0, 2.0]);
        assert!(p < sharp && (p - 1.0 / (1.0 + (-1f32).exp())).abs() < 1e-6);
    }

    #[test]
    fn another_operating_point_is_chosen_by_name() {
        let mut c = example();
        let point = OperatingPoint { threshold: 0.1, ..c.operating_point.clone() };
        c.calibration.profiles.push(Profile { name: "triage".into(), point });
        let refused = c.select("rule-in").unwrap_err().to_string();
        assert!(refused.contains("`rule-in`; it has triage"), "{refused}");
        c.select("triage").unwrap();
        assert_eq!(c.operating_point.threshold, 0.1);
    }

    #[test]
    fn what_was_trained_on_travels_along() {
        let mut c = example();
        c.domain.ages = Some([1.0, 5.0]);
        c.calibration.uncertain = Some([0.25, 0.5]);
        let m: BTreeMap<_, _> = c.to_metadata().into_iter().collect();
        assert_eq!(Contract::from_metadata(|k| m.get(k).cloned()).unwrap(), c);
        c.domain.ages = Some([5.0, 1.0]);
        assert!(c.check().is_err());
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = Contract::from_metadata(|_| None).unwrap_err();
        assert!(error.to_string().contains("hilum.output"), "{error}");
    }

    #[test]
    fn softmax_of_two_equals_sigmoid_of_the_difference() {
        let mut c = example();
        let p = c.probability(&[0.3, 1.7]);
        c.activation = Activation::Sigmoid;
        assert!((p - c.probability(&[1.4])).abs() < 1e-6);
    }

    #[test]
    fn all_labels_of_a_group_are_looked_for() {
        let mut c = example();
        c.activation = Activation::GroupedSoftmax;
        c.labels = ["NORMAL", "PNEUMONIA/BACTERIAL", "PNEUMONIA/VIRAL"].map(Into::into).to_vec();
        c.check().unwrap();
        assert_eq!((c.positive_label(), c.negative_label().as_str()), ("PNEUMONIA", "NORMAL"));
        let p = c.probability(&[1.0, 2.0, 0.5]);
        assert!((p - (1.0 - 1f32.exp() / (1f32.exp() + 2f32.exp() + 0.5f32.exp()))).abs() < 1e-6);
        c.labels[0] = "PNEUMONIA/OLD".into();
        assert!(c.check().is_err());
    }

    #[test]
    fn independent_findings_do_not_exclude_each_other() {
        let mut c = example();
        c.activation = Activation::Independent;
        c.labels = ["Effusion", "Pneumonia", "Nodule"].map(Into::into).to_vec();
        c.check().unwrap();
        assert_eq!(c.logits(), 3);
        let alone = c.probability(&[-9.0, 2.0, -9.0]);
        assert_eq!(alone, c.probability(&[9.0, 2.0, 9.0]));
        assert!((alone - 1.0 / (1.0 + (-2f32).exp())).abs() < 1e-6);
        c.labels.pop();
        assert_eq!(c.negative_label(), "not Pneumonia");
    }

    #[test]
    fn contradictions_are_refused() {
        let mut c = example();
        c.input.std = vec![0.0];
        assert!(c.check().is_err());
        let mut c = example();
        c.positive = 2;
        assert!(c.check().is_err());
        let mut c = example();
        c.operating_point.threshold = f32::NAN;
        assert!(c.check().is_err());
    }
}
