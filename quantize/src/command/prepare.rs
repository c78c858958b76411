//! A model as it is quantised best, by what its layers read on calibration images.

use super::Plan;
use super::report::{CalibrationImages, MethodError};
use crate::calibration::{self, Activations, Method};
use crate::correction::{self, Rounding, Samples};
use crate::pixel_grid::align;
use crate::qdq;
use crate::sqnr::Noise;
use anyhow::{Context, Result, bail};
use data::evaluation::logits;
use data::frames;
use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::contract::{ActivationRanges, Contract, InputContract};
use edge_runtime::model::{Model, ModelError, ModelErrorReason};
use edge_runtime::onnx::{OnnxError, pb};
use edge_runtime::process::progress::Reporter;
use std::path::PathBuf;

/// A model as it is quantised: the same function, with weights that round better.
pub struct Prepared {
    /// The float model.
    pub model: pb::ModelProto,
    /// What the codes of each activation cover.
    pub ranges: ActivationRanges,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// What it was calibrated with.
    pub images: Option<CalibrationImages>,
    /// Some of those images, as the network sees them.
    pub sample: Vec<GreyPlane>,
}

impl Prepared {
    /// `model`, which reads `input`, with the ranges that it carries.
    pub fn as_recorded(
        model: &pb::ModelProto,
        input: &InputContract,
        mut ranges: ActivationRanges,
    ) -> Result<Prepared, OnnxError> {
        let mut model = model.clone();
        ranges.extend(align(&mut model, input)?.map(|grid| (grid.tensor, grid.range)));
        Ok(Prepared { model, ranges, rounding: Rounding::plain(), images: None, sample: Vec::new() })
    }
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
pub fn prepare(
    plan: &Plan,
    proto: &pb::ModelProto,
    contract: &Contract,
    files: &[PathBuf],
    compute: &Compute,
    progress: &Reporter,
) -> Result<Prepared> {
    let input = &contract.input;
    let (frames, mut images) = calibration_frames(files, input, progress)?;
    let frames: Vec<_> = frames.iter().collect();
    let mut model = proto.clone();
    let grid = align(&mut model, input)?;
    progress.line("evening out channels between layers");
    let maxima = correction::maxima(&model, input, &frames)?;
    correction::equalise(&mut model, &maxima)?;
    let step = frames.len().div_ceil(correction::IMAGES).max(1);
    let sample: Vec<_> = frames.iter().step_by(step).copied().collect();
    let mut samples = Samples::of(&model);
    let mut activations = Activations::observe(&model, input, &frames, plan.method, |i, seen| {
        if i % step == 0 {
            samples.add(i / step, seen);
        }
        progress.step("recording activations", i + 1, frames.len(), "");
    })?;
    progress.line("factors of what layers read");
    let rounding = samples.rounding();
    if let Some(grid) = grid {
        activations.cover(grid.tensor, grid.range);
    }
    let kept = sample.iter().map(|frame| (*frame).clone()).collect();
    let mut prepared = Prepared { model, ranges: ActivationRanges::new(), rounding, images: None, sample: kept };
    let method = match plan.method {
        Some(method) => method,
        None => {
            images.methods = errors(plan, &prepared, &activations, contract, &sample, compute, progress)?;
            closest(&images.methods).context("no method of calibration was tried")?
        }
    };
    prepared.ranges = activations.ranges(method);
    images.method = Some(method);
    prepared.images = Some(images);
    Ok(prepared)
}

/// The method that loses least; of equals the simplest.
fn closest(methods: &[MethodError]) -> Option<Method> {
    methods.iter().reduce(|best, other| if other.sqnr_db > best.sqnr_db { other } else { best }).map(|m| m.method)
}

/// How close each method's int8 network comes to the float one on `frames`.
fn errors(
    plan: &Plan,
    prepared: &Prepared,
    activations: &Activations,
    contract: &Contract,
    frames: &[&GreyPlane],
    compute: &Compute,
    progress: &Reporter,
) -> Result<Vec<MethodError>> {
    let refused = |reason: ModelErrorReason| ModelError { path: plan.model.clone(), reason };
    let float = Model::of_onnx(&prepared.model, contract.clone(), String::new(), 0).map_err(refused)?;
    let reference = logits(&float, frames, |i| progress.step("float model", i, frames.len(), ""))?.concat();
    let error = |method: Method| {
        let ranges = activations.ranges(method);
        let int8 = qdq::quantize(&prepared.model, &ranges, &plan.keep_float, &prepared.rounding)?;
        let bundle = Bundle::of_qdq(contract.clone(), &int8)?;
        let model = Model::of_bundle(bundle, String::new(), 0, compute).map_err(refused)?;
        let step = format!("ranges by {}", method.name());
        let got = logits(&model, frames, |i| progress.step(&step, i, frames.len(), ""))?.concat();
        Ok(MethodError { method, sqnr_db: Noise::between(&reference, &got).decibels() })
    };
    Method::ALL.into_iter().map(error).collect()
}
