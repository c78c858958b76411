//! The command line of `quantize`.

use crate::dataset::{Dataset, Split};
use crate::foreign::{self, ContractFile};
use crate::metrics::{Metrics, threshold_for_sensitivity};
use crate::{calibration, canonical, evaluation, qdq};
use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use edge_runtime::bundle::Bundle;
use edge_runtime::contract::ranges_to_metadata;
use edge_runtime::files::sha256_hex;
use edge_runtime::lower::lower;
use edge_runtime::model::{Format, Model};
use edge_runtime::network::Op;
use edge_runtime::onnx;
use edge_runtime::progress::{Reporter, sentence};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  both files are written
  1  nothing is written: the message says why, and what to do
  2  the command line was not understood

Decision support for research and screening, never a diagnosis.";

/// fp32 ONNX to int8: MODEL.int8.onnx for any runtime, MODEL.hilum for the device.
#[derive(Parser)]
#[command(name = "quantize", version, about, after_help = EXIT_CODES)]
struct Cli {
    /// A float model of host-train, or any float ONNX together with --calibrate; layers without an integer form stay float
    model: PathBuf,
    /// Record activation ranges over the images in this folder, instead of those in the model
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// What a model of another origin expects and what its outputs mean (TOML: labels, positive, threshold, mean, std, resize)
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Keep this layer in float (repeatable): for one that loses too much in int8
    #[arg(long, value_name = "LAYER")]
    float: Vec<String>,
    /// Labelled images (Kermany layout, or a manifest): re-tune the threshold on val, report agreement and metrics
    #[arg(long)]
    data: Option<PathBuf>,
    /// Which images of --data to report on
    #[arg(long, value_enum, default_value_t = Report::Val)]
    split: Report,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Report {
    Train,
    Val,
    Test,
}

impl From<Report> for Split {
    fn from(r: Report) -> Split {
        match r {
            Report::Train => Split::Train,
            Report::Val => Split::Val,
            Report::Test => Split::Test,
        }
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let progress = Reporter::new(cli.quiet);
    match quantise(&cli, &progress) {
        Ok(report) => {
            drop(progress);
            match cli.json {
                true => println!("{report:#}"),
                false => print_report(&report),
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            drop(progress);
            eprintln!("quantize: {}", sentence(&e));
            ExitCode::FAILURE
        }
    }
}

fn quantise(cli: &Cli, progress: &Reporter) -> Result<Value> {
    let path = &cli.model;
    let bytes = std::fs::read(path).with_context(|| format!("{}", path.display()))?;
    let mut model = onnx::decode(&bytes, path)?;
    let recorded = onnx::ranges(&model)?;
    let contract = onnx::contract(&model);
    if recorded.is_none() && cli.calibrate.is_none() {
        bail!(
            "{}: the model carries no activation ranges: give a folder of representative radiographs with --calibrate DIR",
            path.display()
        );
    }
    model = canonical::canonical(&model).with_context(|| format!("{}", path.display()))?;
    let mut contract = match (contract, &cli.contract) {
        (Ok(own), None) => own,
        (Err(e), None) if recorded.is_some() => return Err(e).with_context(|| format!("{}", path.display())),
        (_, file) => {
            let file = file.as_deref().map(ContractFile::read).transpose()?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            foreign::contract(&model, &name, file).with_context(|| format!("{}", path.display()))?
        }
    };
    let ranges = match &cli.calibrate {
        None => recorded.unwrap_or_default(),
        Some(folder) => {
            let files = edge_runtime::inputs::image_files(folder).with_context(|| format!("{}", folder.display()))?;
            ensure!(!files.is_empty(), "{}: no PNG or JPEG images to calibrate with", folder.display());
            let step = files.len().div_ceil(calibration::IMAGES).max(1);
            let frames: Result<Vec<_>, _> =
                files.iter().step_by(step).map(|f| evaluation::frame(f, &contract.input)).collect();
            let frames = frames?;
            calibration::record(&model, &contract.input, &frames, |i| {
                progress.step("recording activation ranges", i, frames.len(), "")
            })?
        }
    };
    contract.provenance.history.push(format!(
        "quantised by Hilum {} from {} (sha256 {})",
        env!("CARGO_PKG_VERSION"),
        path.file_name().unwrap_or_default().to_string_lossy(),
        sha256_hex(&bytes)
    ));
    let mut int8 = qdq::quantize(&model, &ranges, &cli.float)?;
    let network = lower(&int8)?;
    let mut bundle = Bundle { contract, network };

    let mut report = json!({});
    if let Some(data) = &cli.data {
        let dataset = Dataset::open(data, bundle.contract.provenance.seed, |done, of| {
            progress.step("reading the data set", done, of, "")
        })?;
        let float = {
            for (key, value) in bundle.contract.to_metadata() {
                onnx::set_metadata(&mut model, key, value);
            }
            Model::from_bytes(&onnx::encode(&model), path)?
        };
        let quantised = Model::from_bytes(&bundle.encode().0, path)?;
        if !dataset.of(Split::Val).is_empty() {
            retune(&mut bundle, &quantised, &dataset, progress)?;
        }
        report = compare(&float, &quantised, &bundle, &dataset, cli.split.into(), progress)?;
    }

    for (key, value) in bundle.contract.to_metadata().into_iter().chain([ranges_to_metadata(&ranges)]) {
        onnx::set_metadata(&mut int8, key, value);
    }
    let int8_path = path.with_extension("int8.onnx");
    let bundle_path = path.with_extension("hilum");
    onnx::save(&int8, &int8_path)?;
    let digest = bundle.save(&bundle_path).with_context(|| format!("{}", bundle_path.display()))?;
    let size = |p: &Path| std::fs::metadata(p).map(|m| m.len()).unwrap_or(0);
    let point = &bundle.contract.operating_point;
    report["float"] = json!({"file": path, "bytes": bytes.len()});
    report["int8_onnx"] = json!({"file": int8_path, "bytes": size(&int8_path)});
    report["bundle"] = json!({"file": bundle_path, "bytes": size(&bundle_path), "digest": digest});
    report["operating_point_rule"] = json!(point.rule);
    report["threshold"] = json!(point.threshold);
    let islands = bundle.network.nodes.iter().filter_map(|n| match &n.op {
        Op::Float { model } => Some(json!({"layer": n.name, "operators": onnx::operators(model)})),
        _ => None,
    });
    report["float_layers"] = islands.collect();
    report["threshold_retuned"] = json!(cli.data.is_some());
    Ok(report)
}

/// A new model is a new operating point: the highest threshold that keeps the sensitivity the float model was chosen for.
fn retune(bundle: &mut Bundle, quantised: &Model, dataset: &Dataset, progress: &Reporter) -> Result<()> {
    let items = dataset.require(Split::Val)?;
    let p = evaluation::probabilities(quantised, dataset, &items, |i| {
        progress.step("re-tuning the threshold", i, items.len(), "")
    })?;
    let labels = evaluation::labels(&items);
    let point = &mut bundle.contract.operating_point;
    let target = f64::from(point.sensitivity);
    let threshold = threshold_for_sensitivity(&p, &labels, target - 1e-6);
    let m = Metrics::new(&p, &labels, threshold);
    point.threshold = threshold;
    point.sensitivity = m.sensitivity as f32;
    point.specificity = m.specificity as f32;
    point.images = m.n as u32;
    point.rule = format!("highest threshold with the float model's sensitivity, {target:.3}, on validation images");
    for (key, value) in [
        ("val_auroc", m.auroc),
        ("val_accuracy", m.accuracy),
        ("val_sensitivity", m.sensitivity),
        ("val_specificity", m.specificity),
    ] {
        bundle.contract.provenance.metrics.insert(format!("int8_{key}"), value);
    }
    Ok(())
}

fn compare(
    float: &Model,
    quantised: &Model,
    bundle: &Bundle,
    dataset: &Dataset,
    split: Split,
    progress: &Reporter,
) -> Result<Value> {
    debug_assert_eq!(quantised.format, Format::Bundle);
    let items = dataset.require(split)?;
    let labels = evaluation::labels(&items);
    let run = |stage: &str, model: &Model| {
        evaluation::probabilities(model, dataset, &items, |i| progress.step(stage, i, items.len(), ""))
    };
    let (before, after) = (run("float model", float)?, run("int8 model", quantised)?);
    let old = float.contract.operating_point.threshold;
    let new = bundle.contract.operating_point.threshold;
    let same = before.iter().zip(&after).filter(|(a, b)| (**a >= old) == (**b >= new)).count();
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
    Ok(json!({
        "split": split.name(),
        "agreement": same as f64 / items.len() as f64,
        "largest_probability_difference": worst,
        "float_metrics": Metrics::new(&before, &labels, old),
        "int8_metrics": Metrics::new(&after, &labels, new),
    }))
}

fn print_report(report: &Value) {
    let kib = |v: &Value| v["bytes"].as_f64().unwrap_or(0.0) / 1024.0;
    let file = |v: &Value| v["file"].as_str().unwrap_or("").to_owned();
    for (what, key) in [("float ONNX", "float"), ("int8 ONNX", "int8_onnx"), ("device bundle", "bundle")] {
        println!("{what:<14} {:>9.1} KiB  {}", kib(&report[key]), file(&report[key]));
    }
    println!("digest {}", report["bundle"]["digest"].as_str().unwrap_or(""));
    let note = match report["threshold_retuned"].as_bool() {
        Some(true) => "re-tuned on validation images",
        _ => match report["operating_point_rule"].as_str() {
            Some(rule) if rule.starts_with("assumed") => rule,
            _ => "as in the float model; give --data to re-tune it",
        },
    };
    println!("threshold {:.4} ({note})", report["threshold"].as_f64().unwrap_or(0.0));
    for layer in report["float_layers"].as_array().into_iter().flatten() {
        let operators: Vec<_> = layer["operators"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        println!("in float: {} ({})", layer["layer"].as_str().unwrap_or(""), operators.join(", "));
    }
    if let Some(agreement) = report["agreement"].as_f64() {
        println!(
            "same finding for {:.2} % of the {} images; largest difference in probability {:.3}",
            agreement * 100.0,
            report["split"].as_str().unwrap_or(""),
            report["largest_probability_difference"].as_f64().unwrap_or(0.0)
        );
        println!("{:<14} {:>8} {:>8}", "", "float", "int8");
        for key in ["auroc", "accuracy", "sensitivity", "specificity", "macro_f1", "brier", "ece"] {
            let value = |m: &str| report[m][key].as_f64().unwrap_or(0.0);
            println!("{key:<14} {:>8.4} {:>8.4}", value("float_metrics"), value("int8_metrics"));
        }
    }
}
