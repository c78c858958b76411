//! One radiograph from file to finding, stage by stage, each timed.

use crate::board::{Board, Budget};
use crate::engine::EngineError;
use crate::heatmap::{Heat, Picture, overlay};
use crate::model::{Inference, Model};
use crate::preprocess::preprocess;
use crate::radiograph::{Radiograph, RadiographError, SourceFile, read_file};
use crate::screen::{Canvas, Screen};
use embedded_graphics::prelude::{OriginDimensions, Size};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// What the device says about a radiograph.
pub struct Finding {
    /// What the network gave.
    pub inference: Inference,
    /// Probability at or above the operating point.
    pub positive: bool,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Columns of the radiograph.
    pub width: u32,
    /// Rows of the radiograph.
    pub height: u32,
    /// `"PNG"` or `"JPEG"`.
    pub format: &'static str,
    /// Milliseconds that each stage took.
    pub latency: Budget,
    /// The display's picture.
    pub screen: Picture,
    /// The radiograph, for a heat map of its own size.
    pub radiograph: Radiograph,
}

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

/// Reads, decodes, preprocesses, infers, explains and renders `path`.
pub fn scan(path: &Path, model: &Model, board: &Board) -> Result<Finding, ScanError> {
    let clock = Instant::now();
    let source = read_file(path)?;
    let read = ms(clock);
    scan_source(source, read, model, board)
}

/// As [`scan`], for a file in memory; `read_ms` is what reading it took.
pub fn scan_source(source: SourceFile, read_ms: f64, model: &Model, board: &Board) -> Result<Finding, ScanError> {
    let mut latency = Budget { read: read_ms, ..Default::default() };
    let clock = Instant::now();
    let radiograph = Radiograph::decode(&source.bytes)?;
    latency.decode = ms(clock);

    let clock = Instant::now();
    let frame = preprocess(&radiograph, &model.contract.input);
    latency.preprocess = ms(clock);

    let clock = Instant::now();
    let inference = model.infer(&frame)?;
    latency.infer = ms(clock);

    let clock = Instant::now();
    let threshold = model.contract.operating_point.threshold;
    let positive = inference.probability >= threshold;
    let size = Size::new(board.display.width, board.display.height);
    let heat = Heat::of(&inference, threshold);
    let picture = overlay(&radiograph, heat.as_ref(), &model.contract.input, Screen::picture_side(size));
    latency.explain = ms(clock);

    let clock = Instant::now();
    let name = format!("{} {}", model.contract.provenance.name, &model.digest[..8.min(model.digest.len())]);
    let mut canvas = Canvas::new(size.width, size.height);
    let screen = Screen {
        picture: &picture,
        positive,
        label: model.contract.positive_label(),
        probability: inference.probability,
        threshold,
        model: &name,
        latency_ms: latency.total(),
        budget_ms: board.budget_ms.total(),
    };
    debug_assert_eq!(canvas.size(), size);
    let Ok(()) = screen.draw(&mut canvas);
    let screen = canvas.to_picture();
    latency.render = ms(clock);

    let (width, height, format) = (radiograph.width, radiograph.height, radiograph.format);
    Ok(Finding { inference, positive, sha256: source.sha256, width, height, format, latency, screen, radiograph })
}

fn ms(clock: Instant) -> f64 {
    clock.elapsed().as_secs_f64() * 1e3
}

/// The model in a JSON report.
#[derive(Debug, Clone, Serialize)]
pub struct ModelId<'a> {
    /// Name of the recipe.
    pub name: &'a str,
    /// Version of the Hilum that trained it.
    pub version: &'a str,
    /// SHA-256 that binds weights and threshold.
    pub digest: &'a str,
    /// `hilum`, `onnx-int8` or `onnx-fp32`.
    pub format: &'static str,
}

impl<'a> ModelId<'a> {
    /// Identity of `model`.
    pub fn of(model: &'a Model) -> ModelId<'a> {
        let p = &model.contract.provenance;
        ModelId { name: &p.name, version: &p.version, digest: &model.digest, format: model.format.name() }
    }
}

/// The finding in words, for a person.
pub fn in_words(positive: bool, label: &str) -> String {
    match positive {
        true => format!("{label} suspected"),
        false => format!("no sign of {label}"),
    }
}
