//! From a float model to the two files.

use super::explain::{Explanation, explain, write_page};
use super::hold::Holding;
use super::judge::{Judged, LabelledFrames, judge};
use super::prepare::{Prepared, prepare};
use super::report::{BundleFile, Expected, File, FloatLayer, Held, Report};
use super::{Format, Plan};
use crate::calibration::{Activations, HISTOGRAMS, Method};
use crate::foreign::{self, ActivationSource, ContractFile, ContractSource};
use crate::{canonical, qdq, qoperator, standard};
use anyhow::{Context, Result, bail, ensure};
use edge_runtime::board::prediction::predict;
use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::keys::SecretKey;
use edge_runtime::model::bundle::{Bundle, sign};
use edge_runtime::model::contract::{ActivationRanges, Contract, ranges_to_metadata};
use edge_runtime::model::{Model, ModelErrorReason};
use edge_runtime::onnx::{self, INPUT, pb};
use edge_runtime::operators::{Float, Op};
use edge_runtime::process::files::{check_outputs, sha256_hex, write_together};
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::rounded;
use std::path::{Path, PathBuf};

/// The float model in canonical form, with what belongs to it.
pub struct FloatModel {
    bytes: usize,
    sha256: String,
    /// Files that hold weights of it.
    beside: Vec<PathBuf>,
    proto: pb::ModelProto,
    /// What its inputs and outputs mean.
    pub contract: Contract,
    contract_source: ContractSource,
    activation_source: ActivationSource,
    /// As it is quantised.
    pub prepared: Prepared,
}

impl FloatModel {
    /// The model itself, ready to run.
    pub fn model(&self) -> Result<Model, ModelErrorReason> {
        Model::of_onnx(&self.proto, self.contract.clone(), String::new(), self.bytes)
    }
}

/// Writes `plan.model`'s int8 ONNX and bundle beside it.
pub fn quantise(plan: &Plan, compute: &Compute, progress: &Reporter) -> Result<Report> {
    let path = &plan.model;
    let float = read(plan, compute, progress)?;
    let prepared = &float.prepared;
    let labelled = match &plan.data {
        None => None,
        Some(images) => Some((LabelledFrames::load(&images.data, images.split, &float.contract, progress)?, images)),
    };
    let held = match (plan.max_drop, &labelled) {
        (Some(bound), Some((labelled, images))) => {
            Some(Holding { plan, float: &float, labelled, images, compute, progress }.hold(bound)?)
        }
        _ => None,
    };
    let held_layers = held.iter().flat_map(|held| &held.layers).map(|layer| layer.layer.clone());
    let keep: Vec<String> = plan.keep_float.iter().cloned().chain(held_layers).collect();
    let mut int8 = qdq::quantize(&prepared.model, &prepared.ranges, &keep, &prepared.rounding)
        .with_context(|| format!("{}", path.display()))?;
    let mut contract = float.contract.clone();
    let origins = history(path, &float)?;
    contract.provenance.history.extend(origins);
    let mut bundle = Bundle::of_qdq(contract, &int8).with_context(|| format!("{}", path.display()))?;
    let judged = match &labelled {
        None => None,
        Some((frames, images)) => {
            let judged = judge(&float, &mut bundle, plan, frames, images.split, compute, progress);
            Some(judged.with_context(|| format!("{}", images.data.display()))?)
        }
    };
    let frames = labelled.as_ref().map(|(frames, images)| (frames, images.split));
    let explanation = match &plan.explain {
        None => None,
        Some(_) => {
            Some(explain(plan, &float, &keep, (&int8, &bundle), judged.as_ref().zip(frames), compute, progress)?)
        }
    };
    let measured = Measured { held, judged, explanation };
    write(plan, &float, &mut int8, &bundle, measured, compute)
}

/// What the int8 model is made of, in words.
fn history(path: &Path, float: &FloatModel) -> Result<Vec<String>> {
    let mut lines = vec![format!(
        "quantised by Hilum {} from {} (sha256 {})",
        env!("CARGO_PKG_VERSION"),
        path.file_name().unwrap_or_default().to_string_lossy(),
        float.sha256
    )];
    for file in &float.beside {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let bytes = std::fs::read(file).with_context(|| format!("{}", file.display()))?;
        lines.push(format!("its weights from {name} (sha256 {})", sha256_hex(&bytes)));
    }
    Ok(lines)
}

/// Reads the model, its contract and its activation ranges.
fn read(plan: &Plan, compute: &Compute, progress: &Reporter) -> Result<FloatModel> {
    let path = &plan.model;
    let named = || format!("{}", path.display());
    ensure!(
        !path.is_dir(),
        "{} is a folder: give the model in it, such as {}",
        named(),
        path.join("model.onnx").display()
    );
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
    canonical::check_same(&canonical, &contract.input, &patterns(contract.input.size)).with_context(named)?;
    let verb = if plan.writes { "will" } else { "would" };
    progress.line(&format!("{verb} write {} and {}", plan.int8_onnx.display(), plan.bundle.display()));
    let proto = canonical.model;
    let prepared = match &plan.calibration {
        None => as_recorded(plan, &model, &proto, &contract, recorded).with_context(named)?,
        Some(files) => prepare(plan, &proto, &contract, files, compute, progress).with_context(named)?,
    };
    if canonical::ends_in_probabilities(&proto, &prepared.ranges) {
        bail!(
            "{}: its outputs seem to be probabilities (a softmax or logistic function with arithmetic behind it, or \
             between 0 and 1 for all images): export the model with its logits as output",
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

/// `proto`, the canonical form of `model`, with what it recorded in training.
fn as_recorded(
    plan: &Plan,
    model: &pb::ModelProto,
    proto: &pb::ModelProto,
    contract: &Contract,
    recorded: Option<ActivationRanges>,
) -> Result<Prepared> {
    let ranges = recorded_ranges(plan, model, recorded.unwrap_or_default())?;
    Ok(Prepared::as_recorded(proto, &contract.input, ranges, plan.method.unwrap_or(Method::MinMax))?)
}

/// Pictures that both forms of a model are run on: one of every grey level, and some of noise, coarse and fine.
fn patterns(side: u32) -> Vec<GreyPlane> {
    let noise = |grain: u32| {
        // Fractional parts of multiples of the golden ratio.
        let pixel = |i: u32| ((i % side / grain + i / side / grain * side).wrapping_mul(2_654_435_769) >> 24) as u8;
        GreyPlane::square(side, (0..side * side).map(pixel).collect())
    };
    vec![GreyPlane::pattern(side), noise(1), noise(1 + side / 16), noise(1 + side / 4)]
}

/// What the codes of each activation are to cover by the plan's method, of what `model` recorded in training.
fn recorded_ranges(plan: &Plan, model: &pb::ModelProto, ends: ActivationRanges) -> Result<ActivationRanges> {
    let Some(method) = plan.method.filter(|method| *method != Method::MinMax) else { return Ok(ends) };
    let Some(text) = onnx::metadata(model, HISTOGRAMS) else {
        bail!(
            "--method {} needs to know how often values were seen, and the model carries the smallest and largest ones \
             alone: give images with --calibrate DIR",
            method.name()
        );
    };
    Ok(Activations::from_metadata(&text, INPUT)?.ranges(method))
}

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

/// What was found out on images.
struct Measured {
    held: Option<Held>,
    judged: Option<Judged>,
    explanation: Option<Explanation>,
}

/// Writes both files, or only makes them, as the plan says.
fn write(
    plan: &Plan,
    float: &FloatModel,
    int8: &mut pb::ModelProto,
    bundle: &Bundle,
    measured: Measured,
    compute: &Compute,
) -> Result<Report> {
    // The bundle's pixels may be shifted; the ONNX model shifts them itself.
    let contract = Contract { input: float.contract.input.clone(), ..bundle.contract.clone() };
    for (key, value) in contract.to_metadata().into_iter().chain([ranges_to_metadata(&float.prepared.ranges)]) {
        onnx::set_metadata(int8, key, value);
    }
    if plan.format == Format::Qoperator {
        qoperator::put_together(int8);
    }
    standard::check(int8).with_context(|| {
        format!("{}: its int8 form would be no ONNX that other programs load; nothing is written", plan.model.display())
    })?;
    let (mut bundle_bytes, digest) = bundle.encode();
    if let Some(key) = &plan.key {
        sign(&mut bundle_bytes, key)?;
    }
    let int8_bytes = onnx::encode(int8);
    check_equal(plan, &int8_bytes, &bundle_bytes, compute)?;
    let files = [(plan.int8_onnx.as_path(), int8_bytes.as_slice()), (&plan.bundle, &bundle_bytes)];
    if plan.writes {
        write_together(&files).map_err(|(path, e)| anyhow::anyhow!("{}: {e}", path.display()))?;
        files.iter().try_for_each(|(path, bytes)| check_written(path, bytes))?;
    }
    let [int8_onnx, bundle_file] = files.map(|(path, bytes)| File { file: path.to_owned(), bytes: bytes.len() as u64 });
    let expected = plan.board.as_ref().and_then(|board| Some((board, predict(&bundle.network, board)?)));
    // What `--float` takes.
    let given = |node: &edge_runtime::network::Node| node.name.trim_end_matches("/codes").to_owned();
    let island = |node: &edge_runtime::network::Node| match &node.op {
        Op::Float(Float { model }) => Some(FloatLayer { layer: given(node), operators: onnx::operators(model) }),
        _ => None,
    };
    let point = &bundle.contract.operating_point;
    let Measured { held, judged, explanation } = measured;
    let report = Report {
        held,
        analysis: explanation.as_ref().map(|e| e.analysis.clone()),
        threshold_retuned: judged.as_ref().is_some_and(|j| j.retuned),
        comparison: judged.map(|j| j.comparison),
        float: File { file: plan.model.clone(), bytes: float.bytes as u64 },
        int8_onnx,
        bundle: BundleFile { file: bundle_file, digest, signer: plan.key.as_ref().map(SecretKey::public).transpose()? },
        written: plan.writes,
        board: plan.board.as_ref().map(|board| board.title.clone()),
        ranges_by: float.prepared.method,
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
    };
    if let (Some(path), Some(explanation)) = (&plan.explain, explanation) {
        write_page(path, &report, explanation)?;
    }
    Ok(report)
}
