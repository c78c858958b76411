//! A run judged: one typed record, written as JSON, as a page, and as a model card.

mod card;
mod looks;
mod page;
mod plots;
mod published;
mod site;

pub use looks::Looks;
pub use page::{columns, comparison};
pub use published::{Published, published};
pub use site::{Confirmation, Figures, SiteStudy};

use crate::training::EpochMetrics;
use data::bootstrap::{Intervals, intervals};
use data::curves::{Bin, Expectation, Point, curve, expectation, reliability};
use data::metrics::Metrics;
use data::subgroups::{Subgroup, subgroups};
use data::{Item, Labels};
use edge_runtime::explain::{Heat, overlay};
use edge_runtime::image::{GreyPlane, Picture};
use edge_runtime::model::contract::Contract;
use edge_runtime::process::files::write_together;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Images of each kind that a page shows.
const SHOWN: usize = 6;
/// Longest side of a shown image.
const SIDE: u32 = 224;
/// Thresholds of the table.
const THRESHOLDS: usize = 19;

/// A run, judged on the images of one split.
#[derive(Serialize)]
pub struct Report {
    /// Name of the model.
    pub name: String,
    /// Its recipe, verbatim.
    pub recipe: String,
    /// Digest of the data that it was trained on.
    pub data_digest: String,
    /// Seed of all random choices.
    pub seed: u64,
    /// Which images it was judged on.
    pub split: &'static str,
    /// Input, in words.
    pub input: String,
    /// How the threshold was chosen.
    pub rule: String,
    /// Divides the logits.
    pub temperature: f32,
    /// What the model says of its own judgement: validation figures as they are and shifted, and the ends of the
    /// intervals of threshold and temperature.
    pub kept: BTreeMap<String, f64>,
    /// All metrics at the operating point.
    pub metrics: Metrics,
    /// Their 95 % intervals over patients.
    pub intervals: Intervals,
    /// Of each class.
    pub classes: Vec<ClassFigures>,
    /// Rows are the truth, columns what was called.
    pub confusion: Vec<Vec<usize>>,
    /// On parts of the images.
    pub subgroups: Vec<Subgroup>,
    /// At every threshold.
    pub curve: Vec<Point>,
    /// At the model's named operating points, and at even thresholds.
    pub expectations: Vec<Named>,
    /// How far probabilities are to be believed.
    pub reliability: Vec<Bin>,
    /// The course of the training.
    pub training: Vec<EpochMetrics>,
    /// What the source of the recipe reports.
    pub published: Option<Published>,
    /// What a person should know of the data.
    pub remarks: Vec<String>,
    /// Right and wrong decisions.
    pub examples: Vec<Example>,
}

/// An operating point, or another threshold.
#[derive(Serialize)]
pub struct Named {
    /// What it is called; empty for another threshold.
    pub name: String,
    /// What it means.
    #[serde(flatten)]
    pub expectation: Expectation,
}

/// How one class fares.
#[derive(Serialize)]
pub struct ClassFigures {
    /// The class.
    pub name: String,
    /// Images of it.
    pub images: usize,
    /// Share of those called so that are.
    pub precision: Option<f64>,
    /// Share of its images that are called so.
    pub recall: Option<f64>,
    /// Harmonic mean of both.
    pub f1: Option<f64>,
}

/// A decision.
#[derive(Serialize)]
pub struct Example {
    /// The image.
    pub file: String,
    /// Its class.
    pub label: String,
    /// What the decision was.
    pub kind: Kind,
    /// The probability of what is looked for.
    pub probability: f32,
    #[serde(skip)]
    picture: Option<Picture>,
}

/// A decision, beside the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Ill, and called so.
    TruePositive,
    /// Not ill, and not called so.
    TrueNegative,
    /// Not ill, and called so.
    FalsePositive,
    /// Ill, and not called so.
    FalseNegative,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::FalseNegative, Kind::FalsePositive, Kind::TruePositive, Kind::TrueNegative];

    fn of(truth: bool, called: bool) -> Kind {
        match (truth, called) {
            (true, true) => Kind::TruePositive,
            (false, false) => Kind::TrueNegative,
            (false, true) => Kind::FalsePositive,
            (true, false) => Kind::FalseNegative,
        }
    }
}

/// What a report is made from.
pub struct Material<'a> {
    /// The model's promises.
    pub contract: &'a Contract,
    /// The classes.
    pub labels: &'a Labels,
    /// Which images.
    pub split: &'static str,
    /// The images.
    pub items: &'a [&'a Item],
    /// At the network's size.
    pub frames: &'a [&'a GreyPlane],
    /// What the model says of them.
    pub logits: &'a [Vec<f32>],
    /// The course of the training; empty where it is not known.
    pub training: Vec<EpochMetrics>,
    /// What a person should know of the data.
    pub remarks: Vec<String>,
}

impl Report {
    /// Judges; `heat` says what the model looks at in an image, if anything does.
    pub fn new(material: Material, heat: impl Fn(&GreyPlane) -> Option<Heat>) -> Report {
        let Material { contract, labels, split, items, frames, logits, training, remarks } = material;
        let threshold = contract.operating_point.threshold;
        let probabilities: Vec<f32> = logits.iter().map(|logits| contract.probability(logits)).collect();
        let truths = labels.truths(items.iter().map(|item| item.label));
        let patients: Vec<&str> = items.iter().map(|item| item.patient.as_str()).collect();
        let seed = contract.provenance.seed;
        let confusion = counts(contract, labels, items, logits, &probabilities);
        let examples = examples(contract, labels, items, &probabilities, &truths);
        let shown = |(index, mut example): (usize, Example)| {
            let heat = heat(frames[index]);
            example.picture = Some(overlay(frames[index], heat.as_ref(), &contract.input, SIDE));
            example
        };
        Report {
            name: contract.provenance.name.clone(),
            recipe: contract.provenance.recipe.clone(),
            data_digest: contract.provenance.data_digest.clone(),
            seed,
            split,
            input: format!("{0}×{0} pixels, {1} channels", contract.input.size, contract.input.channels),
            rule: contract.operating_point.rule.clone(),
            temperature: contract.calibration.temperature,
            kept: contract.provenance.metrics.clone(),
            metrics: Metrics::new(&probabilities, &truths, threshold),
            intervals: intervals(&probabilities, &truths, &patients, threshold, seed),
            classes: class_figures(labels, &confusion),
            confusion,
            subgroups: subgroups(items, &probabilities, &truths, threshold),
            curve: curve(&probabilities, &truths),
            expectations: expectations(contract, &probabilities, &truths),
            reliability: reliability(&probabilities, &truths),
            training,
            published: published(&contract.provenance.name),
            remarks,
            examples: examples.into_iter().map(shown).collect(),
        }
    }

    /// How far the operating point is to be believed, in sentences; empty where the model does not say it.
    fn spread(&self) -> String {
        let value = |name: &str| self.kept.get(name).copied();
        let range = |name: &str| Some((value(&format!("{name}_low"))?, value(&format!("{name}_high"))?));
        let mut text = String::new();
        if let (Some((low, high)), Some((coldest, hottest))) = (range("threshold"), range("temperature")) {
            text += &format!(
                " With other patients the threshold would lie between {low:.3} and {high:.3}, the temperature between \
                 {coldest:.2} and {hottest:.2} (95 %)."
            );
        }
        let shifted = value("shifted_sensitivity").zip(value("shifted_specificity"));
        if let (Some((sensitivity, specificity)), Some(plain)) =
            (shifted, value("val_sensitivity").zip(value("val_specificity")))
        {
            text += &format!(
                " On the validation images as other machines would have made them sensitivity and specificity \
                 are {sensitivity:.3} and {specificity:.3}, where they are {:.3} and {:.3} as they are: expect such a \
                 change, and more, elsewhere.",
                plain.0, plain.1
            );
        }
        text
    }

    /// Writes `report.html`, `report.json` and `model-card.md` into `folder`, all or none.
    pub fn write(&self, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        let json = serde_json::to_string_pretty(self).expect("plain data always serialises");
        let page = page::page(self);
        let card = card::card(self);
        let paths = ["report.html", "report.json", "model-card.md"].map(|name| folder.join(name));
        let texts = [page.as_bytes(), json.as_bytes(), card.as_bytes()];
        let files: Vec<(&Path, &[u8])> = paths.iter().map(PathBuf::as_path).zip(texts).collect();
        write_together(&files)
    }
}

/// Rows are the truth. Of two classes one is called by the operating point, of more the likeliest.
fn counts(
    contract: &Contract,
    labels: &Labels,
    items: &[&Item],
    logits: &[Vec<f32>],
    probabilities: &[f32],
) -> Vec<Vec<usize>> {
    let n = labels.len();
    let mut counts = vec![vec![0; n]; n];
    for ((item, logits), probability) in items.iter().zip(logits).zip(probabilities) {
        let called = match n {
            2 => match *probability >= contract.operating_point.threshold {
                true => labels.positive(),
                false => 1 - labels.positive(),
            },
            _ => (0..n.min(logits.len())).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap_or(0),
        };
        counts[item.label][called] += 1;
    }
    counts
}

fn class_figures(labels: &Labels, confusion: &[Vec<usize>]) -> Vec<ClassFigures> {
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let figures = |(class, name): (usize, &String)| {
        let right = confusion[class][class];
        let images: usize = confusion[class].iter().sum();
        let called: usize = confusion.iter().map(|row| row[class]).sum();
        ClassFigures {
            name: name.clone(),
            images,
            precision: share(right, called),
            recall: share(right, images),
            f1: share(2 * right, images + called),
        }
    };
    labels.names().iter().enumerate().map(figures).collect()
}

fn expectations(contract: &Contract, probabilities: &[f32], truths: &[bool]) -> Vec<Named> {
    let own = ("operating point".to_owned(), contract.operating_point.threshold);
    let profiles = contract.calibration.profiles.iter().map(|p| (p.name.clone(), p.point.threshold));
    let even = (1..=THRESHOLDS).map(|k| (String::new(), k as f32 / (THRESHOLDS + 1) as f32));
    let named = |(name, threshold): (String, f32)| {
        expectation(probabilities, truths, threshold).map(|expectation| Named { name, expectation })
    };
    std::iter::once(own).chain(profiles).chain(even).filter_map(named).collect()
}

/// Of each kind of decision, wrong ones first the surest, right ones evenly from the surest to the least sure; with
/// their index.
fn examples(
    contract: &Contract,
    labels: &Labels,
    items: &[&Item],
    probabilities: &[f32],
    truths: &[bool],
) -> Vec<(usize, Example)> {
    let threshold = contract.operating_point.threshold;
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let mut members: Vec<usize> =
            (0..items.len()).filter(|i| Kind::of(truths[*i], probabilities[*i] >= threshold) == kind).collect();
        let surety = |i: &usize| (probabilities[*i] - threshold).abs();
        members.sort_by(|a, b| surety(b).total_cmp(&surety(a)));
        let step = match kind {
            Kind::FalsePositive | Kind::FalseNegative => 1,
            Kind::TruePositive | Kind::TrueNegative => members.len().div_ceil(SHOWN).max(1),
        };
        all.extend(members.into_iter().step_by(step).take(SHOWN).map(|i| {
            let example = Example {
                file: items[i].file.clone(),
                label: labels.names()[items[i].label].clone(),
                kind,
                probability: probabilities[i],
                picture: None,
            };
            (i, example)
        }));
    }
    all
}
