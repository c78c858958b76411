//! What a model's thresholds mean at one clinic, and where it should decide there: after the calibration studies that
//! WHO asks for before computer-aided detection is used at a new place (*Determining the local calibration of
//! computer-assisted detection thresholds*, 2021), and TRIPOD+AI (Collins et al. 2024).
//!
//! `interval.rs` intervals of shares, `rows.rs` every threshold, `plan.rs` how many radiographs are needed, `scores.rs`
//! reading what was scored elsewhere.

mod interval;
mod plan;
mod rows;
mod scores;

pub use interval::{share_for_bound, wilson, wilson_share};
pub use plan::{Plan, PlanError, plan};
pub use rows::{
    ChooseError, Estimate, Row, Verdict, check, choose, intercept, reliability, rows, thresholds, uncertain, verdict,
};
pub use scores::{Scores, read_scores};

use std::collections::HashSet;

/// What a clinic wants.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Goal {
    /// The sensitivity that the lower end of its 95 % interval has to reach, above 0 and below 1.
    pub sensitivity: f64,
    /// Share of the people screened who are ill, above 0 and below 1.
    pub prevalence: f64,
}

/// Scored radiographs of a clinic.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scored {
    /// Probability of what is looked for, 0 to 1.
    pub probabilities: Vec<f32>,
    /// Whether the reference standard finds it.
    pub truths: Vec<bool>,
    /// Who each is of. Radiographs of one person resemble each other: people are counted, not radiographs.
    pub patients: Vec<String>,
}

impl Scored {
    /// Radiographs of the ill.
    pub fn positives(&self) -> usize {
        self.truths.iter().filter(|truth| **truth).count()
    }

    /// People.
    pub fn people(&self) -> usize {
        self.patients.iter().collect::<HashSet<_>>().len()
    }

    /// People of whom some radiograph shows what is looked for, or shows it not.
    pub fn people_with(&self, truth: bool) -> usize {
        let pairs = self.patients.iter().zip(&self.truths);
        pairs.filter(|(_, t)| **t == truth).map(|(patient, _)| patient).collect::<HashSet<_>>().len()
    }
}
