//! What a finished run says of its validation images: `scores.json`, for who compares runs image by image.

use data::Dataset;
use data::calibration::Answers;
use data::shifts::SHIFTS;
use edge_runtime::model::contract::Contract;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The file in a run's folder.
pub const FILE: &str = "scores.json";

/// What a finished run says of its validation images, as they are and shifted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The model's operating point: what is at or above it is called positive.
    pub threshold: f32,
    /// The images.
    pub images: Vec<ScoredImage>,
    /// Their probabilities, as they are first.
    pub shifts: Vec<ShiftScores>,
}

/// An image that was scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredImage {
    /// Its path in the manifest.
    pub file: String,
    /// Who it is of.
    pub patient: String,
    /// Whether it shows what is looked for.
    pub is_positive: bool,
}

/// Probabilities of all images, shifted in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftScores {
    /// What was done to them, as [`SHIFTS`] has it.
    pub name: String,
    /// One an image: the calibrated probability of what is looked for, 0 to 1.
    pub probabilities: Vec<f32>,
}

impl Scores {
    /// Of `answers` for the `items` of `dataset`, calibrated as `contract` is.
    pub(super) fn new(contract: &Contract, answers: &Answers, dataset: &Dataset, items: &[usize]) -> Scores {
        let probabilities = answers.probabilities(contract);
        let image = |i: &usize| {
            let item = &dataset.items[*i];
            ScoredImage {
                file: item.file.clone(),
                patient: item.patient.clone(),
                is_positive: dataset.labels.is_positive(item.label),
            }
        };
        let shift = |(shift, scores): (&data::shifts::Shift, &[f32])| ShiftScores {
            name: shift.name.into(),
            probabilities: scores.to_vec(),
        };
        Scores {
            threshold: contract.operating_point.threshold,
            images: items.iter().map(image).collect(),
            shifts: SHIFTS.iter().zip(probabilities.chunks_exact(answers.images)).map(shift).collect(),
        }
    }

    /// Reads those of the run in `folder`; the error is a sentence.
    pub fn read(folder: &Path) -> Result<Scores, String> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let scores: Scores = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let is_whole = scores.shifts.iter().all(|shift| shift.probabilities.len() == scores.images.len());
        match is_whole && !scores.shifts.is_empty() {
            true => Ok(scores),
            false => Err(format!("{}: not a probability for every image", path.display())),
        }
    }
}
