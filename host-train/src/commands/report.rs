//! `host-train report`.

use super::evaluate::balanced;
use crate::report::{Material, Report};
use crate::trained::TrainedRun;
use anyhow::{Context, Result, bail};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use data::metrics::printed;
use data::{Dataset, Item, Labels, Split, evaluation, frames, manifest};
use edge_runtime::engine::Compute;
use edge_runtime::finding::STATEMENT;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::Model;
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Folder of a finished run
    run: PathBuf,
    /// Judge on this data instead of what the run was trained on: folders, lists or a manifest
    #[arg(long)]
    data: Vec<PathBuf>,
    /// Which images
    #[arg(long, default_value = "val", value_parser = splits())]
    split: Split,
    /// As many images of every class as there are of the rarest
    #[arg(long)]
    balanced: bool,
    /// Judge this model instead of the run's model.onnx: its int8 version, for example
    #[arg(long)]
    model: Option<PathBuf>,
    /// Where report.html, report.json and model-card.md go [default: the run's folder for what every run is judged on,
    /// and a folder in it for all else]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn splits() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(Split::NAMES).try_map(|name| name.parse::<Split>())
}

pub fn run(args: Args, compute: &Compute, progress: Reporter) -> Result<u8> {
    let out = args.out.clone().unwrap_or_else(|| default_out(&args));
    let asked = Asked {
        run: &args.run,
        data: &args.data,
        split: args.split,
        balanced: args.balanced,
        model: args.model.as_deref(),
        out: &out,
    };
    let Written { report, left_out } = write(&asked, compute, &progress)?;
    drop(progress);
    match args.json {
        true => output::json(&report, true)?,
        false => output::line(text(&report, &out.join("report.html").display().to_string()))?,
    }
    Ok(u8::from(left_out > 0))
}

/// The run's folder is for what every run is judged on, so that runs compare.
fn default_out(args: &Args) -> PathBuf {
    let mut name = format!("report-{}", args.split.name());
    if args.balanced {
        name.push_str("-balanced");
    }
    if let Some(model) = &args.model {
        name.push('-');
        name.push_str(&model.file_stem().unwrap_or_default().to_string_lossy());
    }
    if !args.data.is_empty() {
        name.push_str("-other-data");
    }
    if name == "report-val" { args.run.clone() } else { args.run.join(name) }
}

/// What is judged, and where the report goes.
pub(super) struct Asked<'a> {
    /// Folder of a finished run.
    pub run: &'a Path,
    /// On what; where this is empty, on what it was trained on.
    pub data: &'a [PathBuf],
    /// Which images.
    pub split: Split,
    /// As many of every class.
    pub balanced: bool,
    /// Instead of `model.onnx`.
    pub model: Option<&'a Path>,
    /// The folder that the report goes to.
    pub out: &'a Path,
}

/// A report that was written.
pub(super) struct Written {
    /// The report.
    pub report: Report,
    /// Files that do not serve.
    pub left_out: usize,
}

/// Judges a run and writes its report.
pub(super) fn write(asked: &Asked, compute: &Compute, progress: &Reporter) -> Result<Written> {
    let trained = TrainedRun::open(asked.run)?;
    let model = Model::load(asked.model.unwrap_or(&trained.model()), compute)?;
    let contract = &model.contract;
    let labels = Labels::new(contract.labels.clone(), contract.positive as usize);
    if contract.provenance.recipe.trim() != trained.text.trim() {
        bail!("{}: the model was not made from this run: its recipe is another", asked.run.display());
    }
    let manifest = [asked.run.join("manifest.csv")];
    let data = if asked.data.is_empty() { &manifest } else { asked.data };
    let listed = |done, of| progress.step("reading the data set", done, of, "");
    let mut dataset = Dataset::open(data, &trained.recipe.data, trained.recipe.seed, listed)?;
    let decoded = |done, of| progress.step("decoding images", done, of, "");
    let frame = |_: &Item, radiograph: &Radiograph| preprocess(&radiograph.plane, &model.contract.input);
    let mut loaded = frames::load(&mut dataset, &[asked.split], decoded, frame)?;
    if asked.balanced {
        loaded = balanced(&dataset, loaded);
    }
    dataset.require(asked.split)?;
    if labels.as_ref() != Some(&dataset.labels) {
        bail!("{}: the data are told apart by other classes than the model's", data[0].display());
    }
    let known = trained_on(asked)?;
    let seen = loaded.iter().filter(|(i, _)| known.contains(&dataset.items[*i].sha256)).count();
    if seen > 0 && asked.split != Split::Train {
        bail!("{seen} of these images trained the run: leave them out, or judge on its own split");
    }
    dataset.left_out().iter().for_each(|line| progress.line(line));
    let report = judge(&trained, &model, &dataset, &loaded, asked.split, progress)?;
    std::fs::create_dir_all(asked.out).with_context(|| format!("{}", asked.out.display()))?;
    report.write(asked.out).map_err(|(path, e)| anyhow::anyhow!("{}: {e}", path.display()))?;
    Ok(Written { report, left_out: dataset.unreadable.len() })
}

/// Digests of the images that the run was trained on.
fn trained_on(asked: &Asked) -> Result<HashSet<String>> {
    if asked.data.is_empty() {
        return Ok(HashSet::new());
    }
    let set = manifest::read(&asked.run.join("manifest.csv"))?;
    Ok(set.items.into_iter().filter(|item| item.split == Split::Train).map(|item| item.sha256).collect())
}

/// Judges `model`, which `trained` became, on `loaded` images of `dataset`.
fn judge(
    trained: &TrainedRun,
    model: &Model,
    dataset: &Dataset,
    loaded: &[(usize, GreyPlane)],
    split: Split,
    progress: &Reporter,
) -> Result<Report> {
    let items: Vec<&Item> = loaded.iter().map(|(i, _)| &dataset.items[*i]).collect();
    let planes: Vec<&GreyPlane> = loaded.iter().map(|(_, frame)| frame).collect();
    let logits = evaluation::logits(model, &planes, |i| progress.step("judging", i, planes.len(), ""))?;
    let explainer = trained.explainer(&dataset.labels, model.contract.input.clone())?;
    let material = Material {
        contract: &model.contract,
        labels: &dataset.labels,
        split: split.name(),
        items: &items,
        frames: &planes,
        logits: &logits,
        training: trained.training.clone(),
        remarks: dataset.remarks.clone(),
    };
    Ok(Report::new(material, |frame| Some(explainer.explain(frame).grad_cam)))
}

fn text(report: &Report, path: &str) -> String {
    let m = &report.metrics;
    let i = &report.intervals;
    let row = |name: &str, value: Option<f64>, range: Option<[f64; 2]>| {
        let range = range.map_or(String::new(), |[low, high]| format!("95 % {low:.3} to {high:.3}"));
        format!("{name:<12} {:>9}  {range}", printed(value, 3))
    };
    [
        format!("{}: {} {} images, threshold {:.4}", report.name, m.n, report.split, m.threshold),
        row("AUROC", m.auroc, i.auroc),
        row("accuracy", m.accuracy, i.accuracy),
        row("sensitivity", m.sensitivity, i.sensitivity),
        row("specificity", m.specificity, i.specificity),
        row("macro F1", m.macro_f1, i.macro_f1),
        format!("report: {path}, with report.json and model-card.md beside it"),
        STATEMENT.to_owned(),
    ]
    .join("\n")
}
