//! The float and the int8 model on labelled images.

use super::Plan;
use super::report::{Change, Comparison};
use super::run::FloatModel;
use crate::analysis::{Changed, Part};
use anyhow::{Context, Result};
use data::bootstrap::auroc_change;
use data::calibration::{Answers, calibrate as calibrate_contract};
use data::evaluation::{answers, logits, probabilities};
use data::metrics::Metrics;
use data::operating_point::OperatingPointRule;
use data::{Classes, Dataset, Item, Reading, Split, frames, subgroups};
use edge_runtime::engine::Compute;
use edge_runtime::explain::{Heat, overlay};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Picture, Radiograph};
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::contract::{Contract, InputContract, ResizeRule};
use edge_runtime::model::{Model, ModelError};
use edge_runtime::process::progress::Reporter;
use std::path::Path;

/// Labelled images at the size of the network, each decoded once.
pub struct LabelledFrames {
    frames: Vec<GreyPlane>,
    items: Vec<Item>,
    truths: Vec<bool>,
    /// What the labels are called.
    labels: Vec<String>,
    /// Images that are not there, and why, in words.
    left_out: Vec<String>,
}

impl LabelledFrames {
    /// Those of `split` and the validation images of `data`.
    pub fn load(data: &Path, split: Split, contract: &Contract, progress: &Reporter) -> Result<LabelledFrames> {
        let listed = |done, of| progress.step("reading the data set", done, of, "");
        let mut dataset = Dataset::open(&[data.to_owned()], &reading(contract), contract.provenance.seed, listed)?;
        let tunes = !dataset.of(Split::Val).is_empty();
        let frame = |_: &Item, radiograph: &Radiograph| preprocess(&radiograph.plane, &contract.input);
        let decoded = |done, of| progress.step("decoding images", done, of, "");
        let loaded = frames::load(&mut dataset, &[split, Split::Val], decoded, frame)?;
        let left_out: Vec<String> = dataset.left_out().iter().map(|line| (*line).to_string()).collect();
        dataset.require(split)?;
        if tunes {
            dataset.require(Split::Val)?;
        }
        let items: Vec<&Item> = loaded.iter().map(|(i, _)| &dataset.items[*i]).collect();
        let truths = dataset.truths(&items);
        let items = items.into_iter().cloned().collect();
        let labels = dataset.labels.names().to_vec();
        Ok(LabelledFrames {
            items,
            truths,
            labels,
            left_out,
            frames: loaded.into_iter().map(|(_, frame)| frame).collect(),
        })
    }

    /// The frames of `split`.
    pub fn frames(&self, split: Split) -> Vec<&GreyPlane> {
        self.of(split, &self.frames)
    }

    /// Whether what is looked for is in the images of `split`.
    pub fn truths(&self, split: Split) -> Vec<bool> {
        self.of(split, self.truths.iter().copied())
    }

    /// Those of `values`, one for each image, that belong to `split`.
    fn of<T: Copy>(&self, split: Split, values: impl IntoIterator<Item = T>) -> Vec<T> {
        values.into_iter().zip(&self.items).filter(|(_, item)| item.split == split).map(|(value, _)| value).collect()
    }
}

/// A data set as the model with `contract` was trained to tell it apart.
fn reading(contract: &Contract) -> Reading {
    Reading { classes: Classes::of_model(&contract.labels), ..Reading::default() }
}

/// What labelled images said.
pub struct Judged {
    /// Both models.
    pub comparison: Comparison,
    /// True if the threshold was chosen anew.
    pub retuned: bool,
    /// Probabilities of the float and of the int8 model for the images that are reported on.
    scores: [Vec<f32>; 2],
}

/// Chooses the threshold of the int8 model anew on the validation images, and compares both models on those of the
/// split that is reported on.
pub fn judge(
    float: &FloatModel,
    bundle: &mut Bundle,
    plan: &Plan,
    labelled: &LabelledFrames,
    split: Split,
    compute: &Compute,
    progress: &Reporter,
) -> Result<Judged> {
    let refused = |reason| ModelError { path: plan.model.clone(), reason };
    let before = float.model().map_err(refused)?;
    let after = Model::of_bundle(bundle.clone(), String::new(), 0, compute).map_err(refused)?;
    let judged = labelled.frames(split);
    let float_scores = probabilities(&before, &judged, |i| progress.step("float model", i, judged.len(), ""))?;
    let int8_logits = logits(&after, &judged, |i| progress.step("int8 model", i, judged.len(), ""))?;
    let val = labelled.frames(Split::Val);
    if !val.is_empty() {
        let truths = labelled.truths(Split::Val);
        let shifted = bundle.contract.calibration.shifted;
        let shown = |done, of| progress.step("operating point of the int8 model", done, of, "");
        let answers = answers(&after, &val, &truths, shifted, shown)?;
        let target = match &float.contract.operating_point {
            point if point.images > 0 => Some(f64::from(point.sensitivity)),
            // Nobody has judged the threshold of a model of another origin: what it reaches is found out here.
            point => {
                let scores = probabilities(&before, &val, |i| progress.step("float model", i, val.len(), ""))?;
                Metrics::new(&scores, &truths, point.threshold).sensitivity
            }
        };
        let target = target.context("no validation image is positive")?;
        retune(&mut bundle.contract, &answers, target);
    }
    let int8_scores = int8_logits.iter().map(|logits| bundle.contract.probability(logits)).collect();
    let thresholds = thresholds(float, bundle);
    let truths = labelled.truths(split);
    let patients = labelled.of(split, labelled.items.iter().map(|item| item.patient.as_str()));
    let scores = [float_scores, int8_scores];
    let mut comparison = compare(split, &scores, thresholds, &truths, &patients);
    comparison.left_out.clone_from(&labelled.left_out);
    Ok(Judged { comparison, retuned: !val.is_empty(), scores })
}

/// Those of the float and of the int8 model.
fn thresholds(float: &FloatModel, bundle: &Bundle) -> [f32; 2] {
    [&float.contract, &bundle.contract].map(|contract| contract.operating_point.threshold)
}

/// Images that are shown.
const SHOWN: usize = 10;
/// Longest side of a picture on a page, in pixels.
const PICTURE_SIDE: u32 = 160;

impl Judged {
    /// Which of the images that are reported on have another finding.
    fn flips(&self, thresholds: [f32; 2]) -> Vec<bool> {
        let [before, after] = &self.scores;
        let [old, new] = thresholds;
        before.iter().zip(after).map(|(a, b)| (*a >= old) != (*b >= new)).collect()
    }

    /// The images of `split` whose probability changed most, with what both models look at.
    pub fn changed(
        &self,
        float: &FloatModel,
        bundle: &Bundle,
        plan: &Plan,
        labelled: &LabelledFrames,
        split: Split,
        compute: &Compute,
    ) -> Result<Vec<Changed>> {
        let refused = |reason| ModelError { path: plan.model.clone(), reason };
        let int8 = Model::of_bundle(bundle.clone(), String::new(), 0, compute).map_err(refused)?;
        let models = [float.model().map_err(refused)?, int8];
        let [before, after] = &self.scores;
        let frames = labelled.frames(split);
        let items = labelled.of(split, &labelled.items);
        let flips = self.flips(thresholds(float, bundle));
        let mut order: Vec<usize> = (0..frames.len()).collect();
        let change = |i: usize| (before[i] - after[i]).abs();
        order.sort_by(|a, b| flips[*b].cmp(&flips[*a]).then(change(*b).total_cmp(&change(*a))));
        let shown = |i: usize| -> Result<Changed> {
            let picture = |model: &Model| -> Result<Picture> {
                let heat = Heat::of(&model.infer(frames[i])?, model.contract.operating_point.threshold);
                // The frame is what the network saw.
                let input = InputContract { resize: ResizeRule::Stretch, ..model.contract.input.clone() };
                Ok(overlay(frames[i], heat.as_ref(), &input, PICTURE_SIDE))
            };
            Ok(Changed {
                file: items[i].file.clone(),
                label: labelled.labels.get(items[i].label).cloned().unwrap_or_default(),
                probabilities: [before[i], after[i]],
                is_flipped: flips[i],
                pictures: [picture(&models[0])?, picture(&models[1])?],
            })
        };
        order.into_iter().take(SHOWN).map(shown).collect()
    }

    /// How many findings changed in each part of the images of `split`.
    pub fn parts(&self, float: &FloatModel, bundle: &Bundle, labelled: &LabelledFrames, split: Split) -> Vec<Part> {
        let flips = self.flips(thresholds(float, bundle));
        let count = |name: String, members: &[usize]| Part {
            name,
            images: members.len(),
            flips: members.iter().filter(|i| flips[**i]).count(),
        };
        let items = labelled.of(split, &labelled.items);
        let all: Vec<usize> = (0..items.len()).collect();
        let named = subgroups::parts(&items).into_iter().map(|(name, members)| count(name, &members));
        std::iter::once(count("all".into(), &all)).chain(named).collect()
    }
}

/// A new model is a new operating point: the highest threshold that keeps `target`, the float model's sensitivity.
fn retune(contract: &mut Contract, answers: &Answers, target: f64) {
    let in_words = format!("highest threshold with the float model's sensitivity, {target:.3}, on validation images");
    let rule = OperatingPointRule::Sensitivity { at_least: target - 1e-6 };
    calibrate_contract(contract, answers, &rule, in_words).keep(contract, "int8_");
}

/// The float and the int8 model, each with its probabilities and its threshold.
fn compare(
    split: Split,
    scores: &[Vec<f32>; 2],
    thresholds: [f32; 2],
    truths: &[bool],
    patients: &[&str],
) -> Comparison {
    let [before, after] = scores;
    let [old, new] = thresholds;
    let same = before.iter().zip(after).filter(|(a, b)| (**a >= old) == (**b >= new)).count();
    let float_metrics = Metrics::new(before, truths, old);
    let int8_metrics = Metrics::new(after, truths, new);
    let change = float_metrics.auroc.zip(int8_metrics.auroc).map(|(float, int8)| Change {
        value: int8 - float,
        interval: auroc_change(before, after, truths, patients, CHANGE_SEED),
    });
    Comparison {
        split: split.name(),
        images: truths.len(),
        left_out: Vec::new(),
        auroc_change: change,
        agreement: same as f64 / truths.len() as f64,
        largest_probability_difference: before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max),
        float_metrics,
        int8_metrics,
    }
}

/// Draws the samples of patients.
const CHANGE_SEED: u64 = 1;
