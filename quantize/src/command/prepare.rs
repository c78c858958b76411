//! A model as it is quantised best, by what its layers read on calibration images.

use super::Plan;
use super::report::{CalibrationImages, MethodError, SilentChannels};
use super::trial::{Parts, Trial};
use crate::calibration::{self, Activations, Method};
use crate::correction::{self, ChannelMaxima, Maxima, Rounding, Samples};
use crate::pixel_grid::align;
use anyhow::{Context, Result, bail};
use data::frames;
use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::contract::{ActivationRanges, Contract, InputContract};
use edge_runtime::onnx::{OnnxError, pb};
use edge_runtime::process::progress::Reporter;
use std::path::PathBuf;

/// A model as it is quantised: the same function, with weights that round better.
pub struct Prepared {
    /// The float model.
    pub model: pb::ModelProto,
    /// What the codes of each activation cover.
    pub ranges: ActivationRanges,
    /// How they follow from what was seen.
    pub method: Method,
    /// How weights are rounded.
    pub rounding: Rounding,
    /// What it was calibrated with.
    pub images: Option<CalibrationImages>,
    /// Some of those images, as the network sees them.
    pub sample: Vec<GreyPlane>,
}

impl Prepared {
    /// `model`, which reads `input`, with the ranges that it carries, by `method`.
    pub fn as_recorded(
        model: &pb::ModelProto,
        input: &InputContract,
        mut ranges: ActivationRanges,
        method: Method,
    ) -> Result<Prepared, OnnxError> {
        let mut model = model.clone();
        ranges.extend(align(&mut model, input)?.map(|grid| (grid.tensor, grid.range)));
        Ok(Prepared { model, ranges, method, rounding: Rounding::plain(), images: None, sample: Vec::new() })
    }
}

/// Fewer images than this leave ranges narrow; a round number.
const FEW: usize = 32;

/// Images of less contrast than this, in grey levels between their second darkest and second brightest hundredth, are
/// hardly radiographs.
const LEAST_CONTRAST: u8 = 16;
/// Networks are trained on pixels of a few units; further away the contract is of another unit.
const LARGEST_PIXEL: f32 = 50.0;

/// [`calibration::IMAGES`] of `files` as the network sees them, evenly from their sorted names and so from every folder
/// in proportion, and what is to be said of them. What cannot be read is left out, unless that is most of them.
fn calibration_frames(
    files: &[PathBuf],
    input: &InputContract,
    progress: &Reporter,
) -> Result<(Vec<GreyPlane>, CalibrationImages)> {
    let count = files.len().min(calibration::IMAGES);
    let chosen: Vec<&PathBuf> = (0..count).map(|i| &files[i * files.len() / count]).collect();
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
    images.warnings.extend(doubts(&frames, input));
    Ok((frames, images))
}

/// What speaks against `frames`, which a network reads by `input`.
fn doubts(frames: &[GreyPlane], input: &InputContract) -> Vec<String> {
    let mut doubts = Vec::new();
    let flat = frames.iter().filter(|frame| contrast(frame) < LEAST_CONTRAST).count();
    if flat > 0 {
        let count = frames.len();
        doubts.push(format!("{flat} of {count} calibration images are nearly of one grey level: leave them out"));
    }
    let ends = (0..input.channels as usize).flat_map(|c| [input.normalise(0, c), input.normalise(255, c)]);
    let (low, high) = ends.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
    if low < -LARGEST_PIXEL || high > LARGEST_PIXEL {
        doubts.push(format!(
            "pixels are {low} to {high} to the network: if it was not trained so, write mean, std and unit of its \
             input in the contract file"
        ));
    }
    doubts
}

/// Grey levels between the second darkest and the second brightest hundredth of `frame`.
fn contrast(frame: &GreyPlane) -> u8 {
    let mut pixels = frame.pixels.clone();
    pixels.sort_unstable();
    let at = |share: usize| pixels.get(pixels.len() * share / 100).copied().unwrap_or(0);
    at(98) - at(2)
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
    images.silent = silent(&maxima);
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
    let parts = Parts { plan, model: &model, rounding: &rounding, contract, compute };
    let method = match plan.method {
        Some(method) => method,
        None => {
            images.methods = Trial::new(&parts, sample, progress)?.methods(&activations, progress)?;
            closest(&images.methods).context("no method of calibration was tried")?
        }
    };
    let ranges = activations.ranges(method);
    images.method = Some(method);
    Ok(Prepared { model, ranges, method, rounding, images: Some(images), sample: kept })
}

/// Activations with channels that are 0 everywhere.
fn silent(maxima: &Maxima) -> Vec<SilentChannels> {
    let of = |(tensor, maxima): (&String, &ChannelMaxima)| SilentChannels {
        tensor: tensor.clone(),
        silent: maxima.values.iter().filter(|max| **max == 0.0).count(),
        channels: maxima.values.len(),
    };
    maxima.iter().map(of).filter(|activation| activation.silent > 0).collect()
}

/// The method that loses least; of equals the simplest.
fn closest(methods: &[MethodError]) -> Option<Method> {
    methods.iter().reduce(|best, other| if other.sqnr_db > best.sqnr_db { other } else { best }).map(|m| m.method)
}
