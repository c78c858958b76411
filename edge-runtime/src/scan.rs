//! One radiograph from file to finding, stage by stage, each timed. Nothing is drawn here: that is [`crate::display`].

use crate::board::Board;
use crate::engine::EngineError;
use crate::finding::{Decision, Finding, ImageInfo, ModelId, Outcome, Record, Warning};
use crate::image::guard;
use crate::image::polarity::is_negative;
use crate::image::preprocess::preprocess;
use crate::image::source::{SourceFile, read_file};
use crate::image::{Radiograph, RadiographError, View};
use crate::model::{Inference, Model};
use crate::stages::{Stage, StageTimes};
use std::path::Path;

/// Why there is no finding.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file is no radiograph.
    #[error(transparent)]
    Radiograph(#[from] RadiographError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A finding, and what its pictures are made from.
pub struct Scan {
    /// What is said.
    pub finding: Finding,
    /// What was seen.
    pub evidence: Evidence,
}

/// What a finding rests on.
pub struct Evidence {
    /// The radiograph.
    pub radiograph: Radiograph,
    /// What the network gave.
    pub inference: Inference,
}

/// Reads, decodes, preprocesses and infers `path` within `board`'s budget.
pub fn scan(path: &Path, model: &Model, board: &Board) -> Result<Scan, ScanError> {
    let mut times = StageTimes::default();
    let source = times.time(Stage::Read, || read_file(path))?;
    scan_source(&source, times, model, board)
}

/// As [`scan`], for a file in memory; `times` holds what reading it took.
pub fn scan_source(
    source: &SourceFile,
    mut times: StageTimes,
    model: &Model,
    board: &Board,
) -> Result<Scan, ScanError> {
    let radiograph = times.time(Stage::Decode, || guard::decode(&source.bytes))?;
    let frame = times.time(Stage::Preprocess, || preprocess(&radiograph.plane, &model.contract.input));
    let warnings = times.time(Stage::Preprocess, || warnings(&radiograph));
    let inference = times.time(Stage::Infer, || model.infer(&frame))?;
    let contract = &model.contract;
    let point = &contract.operating_point;
    let positive = inference.probability >= point.threshold;
    let finding = Finding {
        sha256: source.sha256.clone(),
        looked_for: contract.positive_label().to_owned(),
        label: if positive { contract.positive_label().to_owned() } else { contract.negative_label() },
        probability: inference.probability,
        positive,
        operating_point: Decision {
            threshold: point.threshold,
            sensitivity: point.sensitivity,
            specificity: point.specificity,
            images: point.images,
        },
        model: ModelId::of(model),
        image: ImageInfo { width: radiograph.plane.width, height: radiograph.plane.height, origin: radiograph.origin },
        warnings,
        latency_ms: times,
        budget_ms: board.budget_ms,
        board: board.name.clone(),
    };
    Ok(Scan { finding, evidence: Evidence { radiograph, inference } })
}

/// What makes a finding on `radiograph` doubtful.
fn warnings(radiograph: &Radiograph) -> Vec<Warning> {
    let acquisition = &radiograph.acquisition;
    let is_other = acquisition.is_radiograph == Some(false) || acquisition.is_chest == Some(false);
    let doubts = [
        (Warning::NotAChest, is_other),
        (Warning::Lateral, acquisition.view == Some(View::Lateral)),
        (Warning::Inverted, is_negative(&radiograph.plane)),
    ];
    doubts.into_iter().filter(|(_, applies)| *applies).map(|(warning, _)| warning).collect()
}

/// The record of a scan of `path`.
pub fn record(path: &Path, scan: &Result<Scan, ScanError>) -> Record {
    let file = path.display().to_string();
    match scan {
        Ok(scan) => Record::new(file, Outcome::Finding(scan.finding.clone().into())),
        Err(e) => Record::refused(file, e.to_string()),
    }
}
