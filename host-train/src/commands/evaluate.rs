//! `host-train evaluate`.

use crate::recipe::Recipe;
use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use data::evaluation::{SHIFT_SEED, probabilities};
use data::metrics::{Metrics, printed};
use data::shifts::{SHIFTS, Shift};
use data::subgroups::{Subgroup, subgroups};
use data::{Classes, Dataset, Item, Reading, Selection, Split, balance, frames};
use edge_runtime::engine::Compute;
use edge_runtime::finding::STATEMENT;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::Model;
use edge_runtime::process::files::{check_outputs, may_replace, write_atomically};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A .onnx (float or int8) or .hilum model
    #[arg(long)]
    model: PathBuf,
    /// A data folder as published (Kermany, NIH ChestX-ray14, CheXpert, RSNA), a list of images as CSV (path, label,
    /// and what else is known), or a manifest of `prepare`; given several times, all are one data set
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Which images; without it test, or val where there is no test
    #[arg(long, value_parser = PossibleValuesParser::new(Selection::NAMES).try_map(|name| name.parse::<Selection>()))]
    split: Option<Selection>,
    /// As many images of every class as there are of the rarest
    #[arg(long)]
    balanced: bool,
    /// Decide at this threshold instead of the model's own
    #[arg(long)]
    threshold: Option<f32>,
    /// Judge shifted images too: other exposures, sharpness, borders, and the grey levels of the other class
    #[arg(long)]
    shifts: bool,
    /// Write each image's probability here, as CSV: what `site-study --scores` reads
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, compute: &Compute, progress: Reporter) -> Result<u8> {
    let model = Model::load(&args.model, compute)?;
    let seed = model.contract.provenance.seed;
    if args.threshold.is_some_and(|threshold| !(0.0..=1.0).contains(&threshold)) {
        bail!("--threshold must lie between 0 and 1");
    }
    args.predictions.iter().try_for_each(|path| may_replace(path, PREDICTIONS_HEAD))?;
    let reading = reading(&model);
    let mut dataset =
        Dataset::open(&args.data, &reading, seed, |done, of| progress.step("reading the data set", done, of, ""))?;
    if let Some(path) = &args.predictions {
        let images: Vec<PathBuf> = dataset.items.iter().map(|i| dataset.path(i)).collect();
        let inputs = images.iter().chain(&args.data).chain([&args.model]);
        check_outputs(&[path.as_path()], &inputs.map(PathBuf::as_path).collect::<Vec<_>>())?;
    }
    let splits = select(&dataset, args.split)?;
    let frame = |_: &Item, radiograph: &Radiograph| preprocess(&radiograph.plane, &model.contract.input);
    let decoded = |done, of| progress.step("decoding images", done, of, "");
    let mut loaded = frames::load(&mut dataset, &splits, decoded, frame)?;
    if args.balanced {
        loaded = balanced(&dataset, loaded);
    }
    // Files that are no images have left now.
    select(&dataset, args.split)?;
    dataset.left_out().iter().chain(&dataset.remarks).for_each(|line| progress.line(line));
    if dataset.digest() != model.contract.provenance.data_digest {
        progress.line(
            "this is not the data set that the model was trained on, split as it was then: if some of these images \
             trained it, its figures say too much (judge those with the manifest of its run)",
        );
    }
    let items: Vec<&Item> = loaded.iter().map(|(i, _)| &dataset.items[*i]).collect();
    let planes: Vec<&GreyPlane> = loaded.iter().map(|(_, frame)| frame).collect();
    let probabilities = probabilities(&model, &planes, |i| progress.step("evaluating", i, planes.len(), ""))?;
    let threshold = args.threshold.unwrap_or(model.contract.operating_point.threshold);
    let truths = dataset.truths(&items);
    let images = Images { model: &model, frames: &planes, truths: &truths, threshold };
    let report = Report {
        metrics: Metrics::new(&probabilities, &truths, threshold),
        subgroups: subgroups(&items, &probabilities, &truths, threshold),
        outside: outside(&images),
        shifts: if args.shifts { shifts(&images, &progress)? } else { vec![] },
    };
    let scores = Scores { items, probabilities };
    if let Some(path) = &args.predictions {
        write_atomically(path, predictions(&scores).as_bytes()).with_context(|| format!("{}", path.display()))?;
    }
    drop(progress);
    match args.json {
        true => output::json(&report, false)?,
        false => output::line(text(&report, &dataset, &scores, threshold))?,
    }
    Ok(u8::from(!dataset.unreadable.is_empty()))
}

/// A data set as `model` was trained to read it, as far as its recipe says it.
fn reading(model: &Model) -> Reading {
    let classes = Classes::of_model(&model.contract.labels);
    match Recipe::parse(&model.contract.provenance.recipe, Path::new("")) {
        Ok((recipe, _)) if recipe.data.classes == classes => recipe.data,
        _ => Reading { classes, ..Reading::default() },
    }
}

/// Of `loaded` images, as many of every class.
pub(super) fn balanced(dataset: &Dataset, loaded: Vec<(usize, GreyPlane)>) -> Vec<(usize, GreyPlane)> {
    let items: Vec<&Item> = loaded.iter().map(|(i, _)| &dataset.items[*i]).collect();
    let kept: HashSet<usize> = balance::balanced(&items, dataset.labels.len()).into_iter().collect();
    loaded.into_iter().enumerate().filter(|(k, _)| kept.contains(k)).map(|(_, image)| image).collect()
}

/// How the model did.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    metrics: Metrics,
    /// On parts of the images, where their files say who they are of.
    subgroups: Vec<Subgroup>,
    /// Share of the images that are unlike the training images, where the model knows those.
    outside: Option<f64>,
    /// On shifted images, where that was asked for.
    shifts: Vec<Shifted>,
}

/// How the model did on images that were shifted.
#[derive(Serialize)]
struct Shifted {
    /// What was done to them.
    name: &'static str,
    #[serde(flatten)]
    metrics: Metrics,
}

/// What is judged.
struct Images<'a> {
    model: &'a Model,
    frames: &'a [&'a GreyPlane],
    truths: &'a [bool],
    threshold: f32,
}

fn outside(images: &Images) -> Option<f64> {
    let domain = &images.model.contract.domain;
    domain.images.as_ref()?;
    let is_outside = |frame: &&&GreyPlane| domain.position(frame).is_some_and(|p| p.distance > 1.0);
    Some(images.frames.par_iter().filter(is_outside).count() as f64 / images.frames.len() as f64)
}

fn shifts(images: &Images, progress: &Reporter) -> Result<Vec<Shifted>> {
    let total = SHIFTS.len() * images.frames.len();
    let judged = |(k, shift): (usize, &Shift)| {
        let changed = shift.apply(images.frames, images.truths, SHIFT_SEED);
        let changed: Vec<&GreyPlane> = changed.iter().collect();
        let done = |i| progress.step("evaluating shifted images", k * changed.len() + i, total, "");
        let probabilities = probabilities(images.model, &changed, done)?;
        Ok(Shifted { name: shift.name, metrics: Metrics::new(&probabilities, images.truths, images.threshold) })
    };
    SHIFTS.iter().enumerate().map(judged).collect()
}

/// What the model says of each image.
struct Scores<'a> {
    items: Vec<&'a Item>,
    probabilities: Vec<f32>,
}

/// The splits that are asked for, refused unless every class is there.
fn select(dataset: &Dataset, selection: Option<Selection>) -> Result<Vec<Split>> {
    let split = match selection {
        Some(Selection::All) => return Ok(Split::ALL.to_vec()),
        Some(Selection::Split(split)) => split,
        None if dataset.of(Split::Test).is_empty() => Split::Val,
        None => Split::Test,
    };
    dataset.require(split)?;
    Ok(vec![split])
}

/// The first line of a file of predictions.
const PREDICTIONS_HEAD: &str = "file,label,probability,patient\n";

fn predictions(scores: &Scores) -> String {
    let mut text = String::from(PREDICTIONS_HEAD);
    for (item, p) in scores.items.iter().zip(&scores.probabilities) {
        let [file, patient] = [&item.file, &item.patient].map(|text| text.replace('"', "\"\""));
        text.push_str(&format!("\"{file}\",{},{p},\"{patient}\"\n", item.label));
    }
    text
}

fn text(report: &Report, dataset: &Dataset, scores: &Scores, threshold: f32) -> String {
    let m = &report.metrics;
    let show = |value| printed(value, 4);
    let interval = m.auroc_ci95.map_or(String::new(), |[low, high]| format!(" (95 % {low:.4} to {high:.4}, by image)"));
    let mut lines = vec![
        format!("{} images, threshold {:.4}", m.n, m.threshold),
        format!("AUROC {}{interval}, average precision {}", show(m.auroc), show(m.average_precision)),
        format!(
            "accuracy {}, sensitivity {}, specificity {}",
            show(m.accuracy),
            show(m.sensitivity),
            show(m.specificity)
        ),
        format!(
            "precision {}, NPV {}, F1 {}, macro F1 {}",
            show(m.precision),
            show(m.npv),
            show(m.f1),
            show(m.macro_f1)
        ),
        format!("Brier {}, ECE {}", show(m.brier), show(m.ece)),
        String::new(),
    ];
    let labels = dataset.labels.names();
    let looked_for = dataset.labels.positive_name();
    let called = [format!("called {looked_for}"), format!("not {looked_for}")];
    lines.push(format!("{:>16} {:>20} {:>20}", "", called[1], called[0]));
    for (label, name) in labels.iter().enumerate() {
        let of_label = || scores.items.iter().zip(&scores.probabilities).filter(|(i, _)| i.label == label);
        let positive = of_label().filter(|(_, p)| **p >= threshold).count();
        lines.push(format!("{name:>16} {:>20} {positive:>20}", of_label().count() - positive));
    }
    for Subgroup { name, metrics: m } in &report.subgroups {
        let [auroc, sensitivity, specificity] = [m.auroc, m.sensitivity, m.specificity].map(show);
        let figures = format!("AUROC {auroc}, sensitivity {sensitivity}, specificity {specificity}");
        lines.push(format!("{name:>16}: {} images, {figures}", m.n));
    }
    if let Some(share) = report.outside {
        lines.push(format!("\n{:.1} % of the images are unlike the training images", share * 100.0));
    }
    if !report.shifts.is_empty() {
        lines.push(format!("\n{:<26} {:>8} {:>12} {:>12}", "shift", "AUROC", "sensitivity", "specificity"));
    }
    for Shifted { name, metrics: m } in &report.shifts {
        let [auroc, sensitivity, specificity] = [m.auroc, m.sensitivity, m.specificity].map(show);
        lines.push(format!("{name:<26} {auroc:>8} {sensitivity:>12} {specificity:>12}"));
    }
    lines.push(format!("\n{STATEMENT}"));
    lines.join("\n")
}
