//! From a float model to the two files.

use super::Plan;
use super::report::{BundleFile, Comparison, File, FloatLayer, Report};
use crate::foreign::{self, ContractFile, ContractSource};
use crate::{calibration, canonical, qdq};
use anyhow::{Context, Result, bail};
use data::evaluation::scores;
use data::metrics::Metrics;
use data::operating_point::OperatingPointRule;
use data::{Dataset, Split, frames};
use edge_runtime::engine::Compute;
use edge_runtime::image::RadiographError;
use edge_runtime::lower::lower;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::contract::{ActivationRanges, Contract, InputContract, ranges_to_metadata};
use edge_runtime::model::{Model, ModelError};
use edge_runtime::onnx::{self, pb};
use edge_runtime::operators::{Float, Op};
use edge_runtime::process::files::{check_outputs, sha256_hex};
use edge_runtime::process::progress::Reporter;
use std::path::{Path, PathBuf};

/// The float model in canonical form, with what belongs to it.
struct FloatModel {
    bytes: usize,
    sha256: String,
    proto: pb::ModelProto,
    contract: Contract,
    contract_source: ContractSource,
    ranges: ActivationRanges,
}

/// Writes `plan.model`'s int8 ONNX and bundle beside it.
pub fn quantise(plan: &Plan, compute: &Compute, progress: &Reporter) -> Result<Report> {
    let path = &plan.model;
    let float = read(plan, progress)?;
    let mut int8 =
        qdq::quantize(&float.proto, &float.ranges, &plan.keep_float).with_context(|| format!("{}", path.display()))?;
    let network = lower(&int8).with_context(|| format!("{}", path.display()))?;
    let mut contract = float.contract.clone();
    contract.provenance.history.push(format!(
        "quantised by Hilum {} from {} (sha256 {})",
        env!("CARGO_PKG_VERSION"),
        path.file_name().unwrap_or_default().to_string_lossy(),
        float.sha256
    ));
    let mut bundle = Bundle { contract, network };
    let judged = match &plan.data {
        None => None,
        Some((data, split)) => Some(judge(&float, &mut bundle, path, data, *split, compute, progress)?),
    };
    write(path, &float, &mut int8, &bundle, judged)
}

/// Reads the model, its contract and its activation ranges.
fn read(plan: &Plan, progress: &Reporter) -> Result<FloatModel> {
    let path = &plan.model;
    let named = || format!("{}", path.display());
    let bytes = std::fs::read(path).with_context(named)?;
    let model = onnx::decode(&bytes, path)?;
    let recorded = onnx::ranges(&model)?;
    let own_contract = onnx::contract(&model);
    if recorded.is_none() && plan.calibration.is_none() {
        bail!(
            "{}: the model carries no activation ranges: give a folder of representative radiographs with --calibrate \
             DIR",
            path.display()
        );
    }
    let proto = canonical::canonical(&model).with_context(named)?;
    let (contract, contract_source) = match (own_contract, &plan.contract) {
        (Ok(own), None) => (own, ContractSource::Model),
        (Err(e), None) if recorded.is_some() => return Err(e).with_context(named),
        (_, file) => {
            let file = file.as_deref().map(ContractFile::read).transpose()?;
            let source = if file.is_some() { ContractSource::File } else { ContractSource::Assumed };
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            (foreign::contract(&proto, &name, file).with_context(named)?, source)
        }
    };
    let ranges = match &plan.calibration {
        None => recorded.unwrap_or_default(),
        Some(files) => calibrate(&proto, &contract.input, files, progress)?,
    };
    Ok(FloatModel { bytes: bytes.len(), sha256: sha256_hex(&bytes), proto, contract, contract_source, ranges })
}

fn calibrate(
    proto: &pb::ModelProto,
    input: &InputContract,
    files: &[PathBuf],
    progress: &Reporter,
) -> Result<ActivationRanges> {
    let step = files.len().div_ceil(calibration::IMAGES).max(1);
    let named = |file: &PathBuf, e: RadiographError| anyhow::anyhow!("{}: {e}", file.display());
    let read = |file: &PathBuf| frames::frame(file, input).map_err(|e| named(file, e));
    let frames: Vec<_> = files.iter().step_by(step).map(read).collect::<Result<_>>()?;
    let frames: Vec<_> = frames.iter().collect();
    let record = |i: usize| progress.step("recording activation ranges", i, frames.len(), "");
    Ok(calibration::record(proto, input, &frames, record)?)
}

/// What labelled images said.
struct Judged {
    comparison: Comparison,
    retuned: bool,
}

/// Runs both models over the validation images and those of `split`, each decoded once; chooses the threshold anew on
/// the former, and compares on the latter.
fn judge(
    float: &FloatModel,
    bundle: &mut Bundle,
    path: &Path,
    data: &Path,
    split: Split,
    compute: &Compute,
    progress: &Reporter,
) -> Result<Judged> {
    let seed = bundle.contract.provenance.seed;
    let dataset = Dataset::open(data, seed, |done, of| progress.step("reading the data set", done, of, ""))?;
    dataset.require(split)?;
    let items: Vec<_> = dataset.items.iter().filter(|i| i.split == split || i.split == Split::Val).collect();
    let refused = |reason| ModelError { path: path.to_owned(), reason };
    let before = Model::of_onnx(&float.proto, float.contract.clone(), String::new(), float.bytes).map_err(refused)?;
    let after = Model::of_bundle(bundle.clone(), String::new(), 0, compute).map_err(refused)?;
    let done = |i: usize| progress.step("float and int8 model", i, items.len(), "");
    let scores = scores(&[&before, &after], &dataset, &items, done)?;
    for file in &scores.unreadable {
        progress.line(&format!("left out: {}: {}", file.path.display(), file.reason));
    }
    let [float_scores, int8_scores] = [0, 1].map(|i: usize| &scores.probabilities[i]);
    let truths = dataset.truths(&scores.items);
    let side = |wanted: Split, values: &[f32]| -> Vec<f32> {
        values.iter().zip(&scores.items).filter(|(_, i)| i.split == wanted).map(|(v, _)| *v).collect()
    };
    let truths_of = |wanted: Split| -> Vec<bool> {
        truths.iter().zip(&scores.items).filter(|(_, i)| i.split == wanted).map(|(t, _)| *t).collect()
    };
    let val = truths_of(Split::Val);
    let retuned = !val.is_empty();
    if retuned {
        dataset.require(Split::Val)?;
        retune(bundle, &side(Split::Val, int8_scores), &val);
    }
    let old = float.contract.operating_point.threshold;
    let new = bundle.contract.operating_point.threshold;
    let comparison =
        compare(split, [&side(split, float_scores), &side(split, int8_scores)], [old, new], &truths_of(split));
    Ok(Judged { comparison, retuned })
}

/// A new model is a new operating point: the highest threshold that keeps the sensitivity the float model was chosen
/// for.
fn retune(bundle: &mut Bundle, probabilities: &[f32], truths: &[bool]) {
    let contract = &mut bundle.contract;
    let target = f64::from(contract.operating_point.sensitivity);
    let in_words = format!("highest threshold with the float model's sensitivity, {target:.3}, on validation images");
    let rule = OperatingPointRule::Sensitivity { at_least: target - 1e-6 };
    let chosen = rule.choose(probabilities, truths, in_words);
    contract.provenance.metrics.extend(chosen.kept_metrics("int8_"));
    contract.operating_point = chosen.point;
}

fn compare(split: Split, [before, after]: [&[f32]; 2], [old, new]: [f32; 2], truths: &[bool]) -> Comparison {
    let same = before.iter().zip(after).filter(|(a, b)| (**a >= old) == (**b >= new)).count();
    Comparison {
        split: split.name(),
        agreement: same as f64 / truths.len() as f64,
        largest_probability_difference: before.iter().zip(after).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max),
        float_metrics: Metrics::new(before, truths, old),
        int8_metrics: Metrics::new(after, truths, new),
    }
}

/// Writes both files.
fn write(
    path: &Path,
    float: &FloatModel,
    int8: &mut pb::ModelProto,
    bundle: &Bundle,
    judged: Option<Judged>,
) -> Result<Report> {
    for (key, value) in bundle.contract.to_metadata().into_iter().chain([ranges_to_metadata(&float.ranges)]) {
        onnx::set_metadata(int8, key, value);
    }
    let int8_path = path.with_extension("int8.onnx");
    let bundle_path = path.with_extension("hilum");
    check_outputs(&[&int8_path, &bundle_path], &[path])?;
    onnx::save(int8, &int8_path)?;
    let digest = bundle.save(&bundle_path).with_context(|| format!("{}", bundle_path.display()))?;
    let file = |path: PathBuf| {
        let bytes = std::fs::metadata(&path).map(|m| m.len()).unwrap_or(0);
        File { file: path, bytes }
    };
    let island = |node: &edge_runtime::network::Node| match &node.op {
        Op::Float(Float { model }) => Some(FloatLayer { layer: node.name.clone(), operators: onnx::operators(model) }),
        _ => None,
    };
    let point = &bundle.contract.operating_point;
    Ok(Report {
        threshold_retuned: judged.as_ref().is_some_and(|j| j.retuned),
        comparison: judged.map(|j| j.comparison),
        float: File { file: path.to_owned(), bytes: float.bytes as u64 },
        int8_onnx: file(int8_path),
        bundle: BundleFile { file: file(bundle_path), digest },
        operating_point_rule: point.rule.clone(),
        threshold: point.threshold,
        float_layers: bundle.network.nodes.iter().filter_map(island).collect(),
        contract: float.contract_source,
    })
}
