//! From a float model to the two files.

use super::report::{BundleFile, CalibrationImages, Change, Comparison, Expected, File, FloatLayer, Report};
use super::{LabelledImages, Plan};
use crate::correction::{self, Rounding};
use crate::foreign::{self, ActivationSource, ContractFile, ContractSource};
use crate::{calibration, canonical, qdq, standard};
use anyhow::{Context, Result, bail, ensure};
use data::bootstrap::auroc_change;
use data::calibration::{Answers, calibrate as calibrate_contract};
use data::evaluation::{answers, logits, probabilities};
use data::metrics::Metrics;
use data::operating_point::OperatingPointRule;
use data::{Classes, Dataset, Item, Reading, Split, frames};
use edge_runtime::board::prediction::predict;
use edge_runtime::engine::Compute;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::lower::lower;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::contract::{ActivationRanges, Contract, InputContract, ranges_to_metadata};
use edge_runtime::model::{Model, ModelError};
use edge_runtime::onnx::{self, pb};
use edge_runtime::operators::{Float, Op};
use edge_runtime::process::files::{check_outputs, sha256_hex, write_together};
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::rounded;
use std::path::{Path, PathBuf};

/// The float model in canonical form, with what belongs to it.
struct FloatModel {
    bytes: usize,
    sha256: String,
    /// Files that hold weights of it.
    beside: Vec<PathBuf>,
    proto: pb::ModelProto,
    contract: Contract,
    contract_source: ContractSource,
    activation_source: ActivationSource,
    prepared: Prepared,
}

/// Writes `plan.model`'s int8 ONNX and bundle beside it.
pub fn quantise(plan: &Plan, compute: &Compute, progress: &Reporter) -> Result<Report> {
    let path = &plan.model;
    let float = read(plan, progress)?;
    let mut int8 =
        qdq::quantize(&float.prepared.model, &float.prepared.ranges, &plan.keep_float, &float.prepared.rounding)
            .with_context(|| format!("{}", path.display()))?;
    let network = lower(&int8).with_context(|| format!("{}", path.display()))?;
    let mut contract = float.contract.clone();
    contract.provenance.history.push(format!(
        "quantised by Hilum {} from {} (sha256 {})",
        env!("CARGO_PKG_VERSION"),
        path.file_name().unwrap_or_default().to_string_lossy(),
        float.sha256
    ));
    for file in &float.beside {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
        contract.provenance.history.push(format!("its weights from {name} (sha256 {})", sha256_hex(&bytes)));
    }
    let mut bundle = Bundle { contract, network };
    let judged = match &plan.data {
        None => None,
        Some(images) => Some(judge(&float, &mut bundle, plan, images, compute, progress)?),
    };
    write(plan, &float, &mut int8, &bundle, judged, compute)
}

/// Reads the model, its contract and its activation ranges.
fn read(plan: &Plan, progress: &Reporter) -> Result<FloatModel> {
    let path = &plan.model;
    let named = || format!("{}", path.display());
    let bytes = std::fs::read(path).with_context(named)?;
    let mut model = onnx::decode(&bytes, path)?;
    canonical::check_float(&model).with_context(named)?;
    let beside = onnx::read_external(&mut model, path)?;
    let weights: Vec<&Path> = beside.iter().map(PathBuf::as_path).collect();
    check_outputs(&[&plan.int8_onnx, &plan.bundle], &weights)?;
    let sizes = beside.iter().map(|file| std::fs::metadata(file).map_or(0, |file| file.len() as usize));
    let size = bytes.len() + sizes.sum::<usize>();
    let recorded = onnx::ranges(&model)?;
    let own_contract = onnx::contract(&model);
    if recorded.is_none() && plan.calibration.is_none() {
        bail!(
            "{}: the model carries no activation ranges: give a folder of representative radiographs with --calibrate \
             DIR",
            path.display()
        );
    }
    let canonical = canonical::canonical(&model, plan.size).with_context(named)?;
    let (contract, contract_source, activation_source) = match (own_contract, &plan.contract) {
        (Ok(own), None) => {
            foreign::check_outputs(&canonical, &own).with_context(named)?;
            (own, ContractSource::Model, ActivationSource::Said)
        }
        (Err(e), None) if recorded.is_some() => return Err(e).with_context(named),
        (own, file) => {
            if own.is_ok() {
                progress.line("the contract file takes the place of the model's own");
            }
            let file = file.as_deref().map(ContractFile::read).transpose()?;
            let source = if file.is_some() { ContractSource::File } else { ContractSource::Assumed };
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let (contract, activation) = foreign::contract(&canonical, &name, file).with_context(named)?;
            (contract, source, activation)
        }
    };
    let verb = if plan.writes { "will" } else { "would" };
    progress.line(&format!("{verb} write {} and {}", plan.int8_onnx.display(), plan.bundle.display()));
    let proto = canonical.model;
    let prepared = match &plan.calibration {
        None => Prepared {
            model: proto.clone(),
            ranges: recorded.unwrap_or_default(),
            rounding: Rounding::new(),
            images: None,
        },
        Some(files) => prepare(&proto, &contract.input, files, progress).with_context(named)?,
    };
    if canonical::ends_in_probabilities(&proto, &prepared.ranges) {
        bail!(
            "{}: its outputs lie between 0 and 1 for all images and are no sums of a layer, so they seem to be \
             probabilities: export the model with its logits as output",
            path.display()
        );
    }
    Ok(FloatModel {
        bytes: size,
        sha256: sha256_hex(&bytes),
        beside,
        proto,
        contract,
        contract_source,
        activation_source,
        prepared,
    })
}

/// A model as it is quantised: the same function, with weights that round better.
struct Prepared {
    model: pb::ModelProto,
    ranges: ActivationRanges,
    rounding: Rounding,
    /// What it was calibrated with.
    images: Option<CalibrationImages>,
}

/// Fewer images than this leave ranges narrow; a round number.
const FEW: usize = 32;

/// Every n-th of `files` as the network sees it, at most [`calibration::IMAGES`], and what is to be said of them. What
/// cannot be read is left out, unless that is most of them.
fn calibration_frames(
    files: &[PathBuf],
    input: &InputContract,
    progress: &Reporter,
) -> Result<(Vec<GreyPlane>, CalibrationImages)> {
    let step = files.len().div_ceil(calibration::IMAGES).max(1);
    let chosen: Vec<&PathBuf> = files.iter().step_by(step).collect();
    let mut frames = Vec::new();
    let mut images = CalibrationImages::default();
    for (i, file) in chosen.iter().enumerate() {
        match frames::frame(file, input) {
            Ok(frame) => frames.push(frame),
            Err(e) => images.left_out.push(format!("{}: {e}", file.display())),
        }
        progress.step("reading images", i + 1, chosen.len(), "");
    }
    images.used = frames.len();
    if images.left_out.len() * 2 >= chosen.len() {
        let first = images.left_out.first().map_or("", String::as_str);
        bail!(
            "{} of {} images to calibrate with cannot be read; the first: {first}",
            images.left_out.len(),
            chosen.len()
        );
    }
    if frames.len() < FEW {
        images.warnings.push(format!(
            "{} calibration images are few: ranges may be too narrow for other radiographs, {} would do",
            frames.len(),
            calibration::IMAGES
        ));
    }
    Ok((frames, images))
}

/// Prepares `proto` by what its layers read in the images `files`.
fn prepare(proto: &pb::ModelProto, input: &InputContract, files: &[PathBuf], progress: &Reporter) -> Result<Prepared> {
    let (frames, images) = calibration_frames(files, input, progress)?;
    let frames: Vec<_> = frames.iter().collect();
    let mut model = proto.clone();
    progress.line("evening out channels between layers");
    let maxima = correction::maxima(&model, input, &frames)?;
    correction::equalise(&mut model, &maxima)?;
    let record = |i: usize| progress.step("recording activation ranges", i, frames.len(), "");
    let ranges = calibration::record(&model, input, &frames, record)?;
    let step = frames.len().div_ceil(correction::IMAGES).max(1);
    let sample: Vec<_> = frames.iter().step_by(step).copied().collect();
    let sampled = |i: usize| progress.step("sampling what layers read", i, sample.len(), "");
    let rounding = correction::rounding(&model, input, &sample, sampled)?;
    Ok(Prepared { model, ranges, rounding, images: Some(images) })
}

/// Labelled images at the size of the network, each decoded once.
struct LabelledFrames {
    frames: Vec<GreyPlane>,
    splits: Vec<Split>,
    truths: Vec<bool>,
    patients: Vec<String>,
    /// Images that are not there, and why, in words.
    left_out: Vec<String>,
}

impl LabelledFrames {
    /// Those of `split` and the validation images of `data`.
    fn load(data: &Path, split: Split, contract: &Contract, progress: &Reporter) -> Result<LabelledFrames> {
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
        let splits = items.iter().map(|i| i.split).collect();
        let patients = items.iter().map(|i| i.patient.clone()).collect();
        Ok(LabelledFrames {
            truths,
            splits,
            patients,
            left_out,
            frames: loaded.into_iter().map(|(_, frame)| frame).collect(),
        })
    }

    /// Those of `values`, one for each image, that belong to `split`.
    fn of<T: Copy>(&self, split: Split, values: impl IntoIterator<Item = T>) -> Vec<T> {
        values.into_iter().zip(&self.splits).filter(|(_, side)| **side == split).map(|(value, _)| value).collect()
    }
}

/// A data set as the model with `contract` was trained to tell it apart.
fn reading(contract: &Contract) -> Reading {
    Reading { classes: Classes::of_model(&contract.labels), ..Reading::default() }
}

/// What labelled images said.
struct Judged {
    comparison: Comparison,
    retuned: bool,
}

/// Chooses the threshold of the int8 model anew on the validation images, and compares both models on those of `split`.
fn judge(
    float: &FloatModel,
    bundle: &mut Bundle,
    plan: &Plan,
    images: &LabelledImages,
    compute: &Compute,
    progress: &Reporter,
) -> Result<Judged> {
    let split = images.split;
    let labelled = LabelledFrames::load(&images.data, split, &float.contract, progress)?;
    let refused = |reason| ModelError { path: plan.model.clone(), reason };
    let before = Model::of_onnx(&float.proto, float.contract.clone(), String::new(), float.bytes).map_err(refused)?;
    let after = Model::of_bundle(bundle.clone(), String::new(), 0, compute).map_err(refused)?;
    let judged = labelled.of(split, &labelled.frames);
    let float_scores = probabilities(&before, &judged, |i| progress.step("float model", i, judged.len(), ""))?;
    let int8_logits = logits(&after, &judged, |i| progress.step("int8 model", i, judged.len(), ""))?;
    let val = labelled.of(Split::Val, &labelled.frames);
    if !val.is_empty() {
        let truths = labelled.of(Split::Val, labelled.truths.iter().copied());
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
        let target = target.with_context(|| format!("{}: no validation image is positive", images.data.display()))?;
        retune(&mut bundle.contract, &answers, target);
    }
    let int8_scores = int8_logits.iter().map(|logits| bundle.contract.probability(logits)).collect();
    let thresholds = [&float.contract, &bundle.contract].map(|c| c.operating_point.threshold);
    let truths = labelled.of(split, labelled.truths.iter().copied());
    let patients = labelled.of(split, labelled.patients.iter().map(String::as_str));
    let mut comparison = compare(split, [float_scores, int8_scores], thresholds, &truths, &patients);
    comparison.left_out = labelled.left_out;
    Ok(Judged { comparison, retuned: !val.is_empty() })
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
    scores: [Vec<f32>; 2],
    thresholds: [f32; 2],
    truths: &[bool],
    patients: &[&str],
) -> Comparison {
    let [before, after] = &scores;
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

/// Loads both files from the bytes that are to be written: each must be a model, and both the same one to the last bit.
fn check_equal(plan: &Plan, int8: &[u8], bundle: &[u8], compute: &Compute) -> Result<()> {
    let bundle = Model::from_bytes(bundle, &plan.bundle, compute)?;
    let int8 = Model::from_bytes(int8, &plan.int8_onnx, compute)?;
    let frame = GreyPlane::pattern(bundle.contract.input.size);
    let logits = [bundle.infer(&frame)?.logits, int8.infer(&frame)?.logits];
    ensure!(
        logits[0] == logits[1],
        "{}: its two int8 forms do not compute the same, which is a fault of this program; nothing is written",
        plan.model.display()
    );
    Ok(())
}

/// Reads `path` again: a disk may lose what it took.
fn check_written(path: &Path, bytes: &[u8]) -> Result<()> {
    let kept = std::fs::read(path).with_context(|| format!("{} cannot be read again", path.display()))?;
    ensure!(kept == bytes, "{} is not what was written: do not use it, and check the disk", path.display());
    Ok(())
}

/// Writes both files, or only makes them, as the plan says.
fn write(
    plan: &Plan,
    float: &FloatModel,
    int8: &mut pb::ModelProto,
    bundle: &Bundle,
    judged: Option<Judged>,
    compute: &Compute,
) -> Result<Report> {
    for (key, value) in bundle.contract.to_metadata().into_iter().chain([ranges_to_metadata(&float.prepared.ranges)]) {
        onnx::set_metadata(int8, key, value);
    }
    standard::check(int8).with_context(|| {
        format!("{}: its int8 form would be no ONNX that other programs load; nothing is written", plan.model.display())
    })?;
    let (bundle_bytes, digest) = bundle.encode();
    let int8_bytes = onnx::encode(int8);
    check_equal(plan, &int8_bytes, &bundle_bytes, compute)?;
    let files = [(plan.int8_onnx.as_path(), int8_bytes.as_slice()), (&plan.bundle, &bundle_bytes)];
    if plan.writes {
        write_together(&files).map_err(|(path, e)| anyhow::anyhow!("{}: {e}", path.display()))?;
        files.iter().try_for_each(|(path, bytes)| check_written(path, bytes))?;
    }
    let [int8_onnx, bundle_file] = files.map(|(path, bytes)| File { file: path.to_owned(), bytes: bytes.len() as u64 });
    let expected = plan.board.as_ref().and_then(|board| Some((board, predict(&bundle.network, board)?)));
    let island = |node: &edge_runtime::network::Node| match &node.op {
        Op::Float(Float { model }) => Some(FloatLayer { layer: node.name.clone(), operators: onnx::operators(model) }),
        _ => None,
    };
    let point = &bundle.contract.operating_point;
    Ok(Report {
        threshold_retuned: judged.as_ref().is_some_and(|j| j.retuned),
        comparison: judged.map(|j| j.comparison),
        float: File { file: plan.model.clone(), bytes: float.bytes as u64 },
        int8_onnx,
        bundle: BundleFile { file: bundle_file, digest },
        written: plan.writes,
        board: plan.board.as_ref().map(|board| board.title.clone()),
        calibration: float.prepared.images.clone(),
        expected: expected.map(|(board, p)| Expected {
            board: board.title.clone(),
            network_ms: rounded(p.ms),
            kernel: p.kernel,
        }),
        operating_point_rule: point.rule.clone(),
        threshold: point.threshold,
        float_layers: bundle.network.nodes.iter().filter_map(island).collect(),
        contract: float.contract_source,
        activation: float.contract.activation,
        activation_source: float.activation_source,
    })
}
