//! One radiograph from file to finding, stage by stage, each timed. Nothing is drawn here: that is [`crate::display`].

use crate::board::Board;
use crate::engine::EngineError;
use crate::finding::{Answer, Cause, Decision, Finding, ImageInfo, ModelId, Outcome, Record, Refusal, Warning};
use crate::image::guard;
use crate::image::preprocess::preprocess;
use crate::image::source::{SourceFile, read_file};
use crate::image::{Radiograph, RadiographError};
use crate::model::{Inference, Model};
use crate::stages::{Stage, StageTimes};
use crate::suitability::{Policy, suitability};
use chrono::Utc;
use std::path::Path;

/// Why there is no finding.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The file is no radiograph.
    #[error(transparent)]
    Radiograph(#[from] RadiographError),
    /// The policy refuses what speaks against the radiograph.
    #[error("{}", .0.sentence())]
    Unsuitable(Warning),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What a scan needs besides the file.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// The model.
    pub model: &'a Model,
    /// The board, whose budget is reported.
    pub board: &'a Board,
    /// What is done with radiographs that something speaks against.
    pub policy: Policy,
    /// Is told each stage before it runs.
    pub on_stage: Option<&'a (dyn Fn(Stage) + Sync)>,
}

impl Setting<'_> {
    fn reaches(&self, stage: Stage) {
        if let Some(tell) = self.on_stage {
            tell(stage);
        }
    }
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
    /// The file.
    pub source: SourceFile,
    /// The radiograph.
    pub radiograph: Radiograph,
    /// What the network gave.
    pub inference: Inference,
}

/// Reads, decodes, preprocesses and infers `path`.
pub fn scan(path: &Path, setting: Setting) -> Result<Scan, ScanError> {
    let mut times = StageTimes::default();
    setting.reaches(Stage::Read);
    let source = times.time(Stage::Read, || read_file(path))?;
    scan_source(source, times, setting)
}

/// As [`scan`], for a file in memory; `times` holds what reading it took.
pub fn scan_source(source: SourceFile, mut times: StageTimes, setting: Setting) -> Result<Scan, ScanError> {
    let Setting { model, board, policy, .. } = setting;
    let contract = &model.contract;
    setting.reaches(Stage::Decode);
    let radiograph = times.time(Stage::Decode, || guard::decode(&source.bytes))?;
    setting.reaches(Stage::Preprocess);
    let frame = times.time(Stage::Preprocess, || preprocess(&radiograph.plane, &contract.input));
    let mut suitability = times.time(Stage::Preprocess, || suitability(&radiograph, &frame, contract));
    match (policy, suitability.warnings.first()) {
        (Policy::Refuse, Some(warning)) => return Err(ScanError::Unsuitable(*warning)),
        (Policy::Ignore, _) => suitability.warnings.clear(),
        (Policy::Refuse | Policy::Warn, _) => {}
    }
    setting.reaches(Stage::Infer);
    let inference = times.time(Stage::Infer, || model.infer(&frame))?;
    let point = &contract.operating_point;
    let probability = inference.probability;
    let positive = probability >= point.threshold;
    let finding = Finding {
        time: Utc::now().timestamp(),
        sha256: source.sha256.clone(),
        looked_for: contract.positive_label().to_owned(),
        label: if positive { contract.positive_label().to_owned() } else { contract.negative_label() },
        probability,
        positive,
        answer: answer(probability, positive, contract.calibration.uncertain),
        uncertain: contract.calibration.uncertain,
        operating_point: Decision {
            threshold: point.threshold,
            sensitivity: point.sensitivity,
            specificity: point.specificity,
            images: point.images,
        },
        model: ModelId::of(model),
        image: ImageInfo { width: radiograph.plane.width, height: radiograph.plane.height, origin: radiograph.origin },
        warnings: suitability.warnings,
        domain_distance: suitability.domain_distance,
        policy,
        latency_ms: times,
        budget_ms: board.budget_ms,
        board: board.name.clone(),
        site: model.site.clone(),
    };
    Ok(Scan { finding, evidence: Evidence { source, radiograph, inference } })
}

fn answer(probability: f32, positive: bool, uncertain: Option<[f32; 2]>) -> Answer {
    match uncertain {
        Some([low, high]) if (low..=high).contains(&probability) => Answer::Uncertain,
        _ if positive => Answer::Positive,
        _ => Answer::Negative,
    }
}

/// The record of a scan of `path`.
pub fn record(path: &Path, scan: &Result<Scan, ScanError>) -> Record {
    let file = path.display().to_string();
    match scan {
        Ok(scan) => Record::new(file, Outcome::Finding(scan.finding.clone().into())),
        Err(e) => {
            let (cause, unsuitable) = match e {
                ScanError::Unsuitable(warning) => (Cause::Unsuitable, Some(*warning)),
                ScanError::Radiograph(e) => (e.cause(), None),
                ScanError::Engine(_) => (Cause::EngineFailed, None),
            };
            Record::new(file, Outcome::Refusal(Refusal { cause, unsuitable, sentence: e.to_string() }))
        }
    }
}
