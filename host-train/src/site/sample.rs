//! Radiographs of a clinic, scored by a model here or elsewhere.

use super::SEED;
use crate::report::Figures;
use crate::training::Progress;
use anyhow::{Result, bail};
use data::bootstrap::intervals;
use data::dataset::own_name;
use data::metrics::Metrics;
use data::site::{Scored, Scores, read_scores};
use data::{Classes, Dataset, Item, Reading, Split, evaluation, frames};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::Model;
use edge_runtime::model::contract::with_intercept;
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Radiographs, scored by the model.
pub struct Rated {
    /// What the model says, and what was found.
    pub scores: Scores,
    /// Digests of the files, where they were read.
    files: HashSet<String>,
    outside: Option<f64>,
    /// What a person should know, a sentence each.
    pub remarks: Vec<String>,
}

impl Rated {
    /// Adds `intercept` to the logits.
    pub(super) fn add(&mut self, intercept: f32) {
        self.scores.scored.probabilities.iter_mut().for_each(|p| *p = with_intercept(*p, intercept));
    }

    /// The sample in figures.
    pub(super) fn figures(&self, threshold: f32) -> Figures {
        let Scored { probabilities, truths, patients } = &self.scores.scored;
        let patients: Vec<&str> = patients.iter().map(String::as_str).collect();
        Figures {
            images: truths.len(),
            patients: self.scores.scored.people(),
            positives: self.scores.scored.positives(),
            auroc: Metrics::new(probabilities, truths, threshold).auroc,
            auroc_ci95: intervals(probabilities, truths, &patients, threshold, SEED).auroc,
            outside: self.outside,
        }
    }
}

/// Reads a sample: the table `scores`, or the radiographs in `data`, which `model` judges.
pub fn sample(data: &[PathBuf], scores: Option<&Path>, model: &Model, progress: &impl Progress) -> Result<Rated> {
    // The study asks whether somebody is ill, whatever else the model tells apart.
    let classes = Classes::Pneumonia;
    let rated = match scores {
        Some(path) => Rated {
            scores: read_scores(path, classes)?,
            files: HashSet::new(),
            outside: None,
            remarks: vec![format!(
                "{} was taken as it is: that its probabilities are this model's, without an intercept, was not \
                 checked.",
                path.display()
            )],
        },
        None => rated(data, classes, model, progress)?,
    };
    let positives = rated.scores.scored.positives();
    if positives == 0 || positives == rated.scores.scored.truths.len() {
        let path = scores.or(data.first().map(PathBuf::as_path)).unwrap_or(Path::new(""));
        bail!("{}: a sample needs radiographs of the ill and of others", path.display());
    }
    Ok(rated)
}

fn rated(data: &[PathBuf], classes: Classes, model: &Model, progress: &impl Progress) -> Result<Rated> {
    let reading = Reading { classes, ..Reading::default() };
    let listed = |done, of| progress.step("reading the radiographs", done, of, "");
    let mut dataset = Dataset::open(data, &reading, model.contract.provenance.seed, listed)?;
    let frame = |_: &Item, radiograph: &Radiograph| preprocess(&radiograph.plane, &model.contract.input);
    let decoded = |done, of| progress.step("decoding radiographs", done, of, "");
    let loaded = frames::load(&mut dataset, &Split::ALL, decoded, frame)?;
    if dataset.digest() == model.contract.provenance.data_digest {
        bail!(
            "{}: the model was trained on exactly these radiographs, and tells nothing about a clinic by them: give \
             the clinic's own",
            data[0].display()
        );
    }
    dataset.left_out().iter().for_each(|line| progress.line(line));
    let items: Vec<&Item> = loaded.iter().map(|(i, _)| &dataset.items[*i]).collect();
    let planes: Vec<&GreyPlane> = loaded.iter().map(|(_, frame)| frame).collect();
    let judged = |done| progress.step("scoring radiographs", done, planes.len(), "");
    let probabilities = evaluation::probabilities(model, &planes, judged)?;
    let domain = &model.contract.domain;
    let is_outside = |frame: &&&GreyPlane| domain.position(frame).is_some_and(|p| p.distance > 1.0);
    let outside = domain
        .images
        .as_ref()
        .map(|_| planes.par_iter().filter(is_outside).count() as f64 / planes.len().max(1) as f64);
    let mut remarks = Vec::new();
    if let Some(share) = outside.filter(|share| *share > 0.0) {
        remarks.push(format!(
            "{:.1} % of the radiographs are unlike the model's training images, and the device marks them; they count \
             here all the same.",
            share * 100.0
        ));
    }
    if !dataset.unreadable.is_empty() {
        remarks.push(format!("{} files were left out.", dataset.unreadable.len()));
    }
    Ok(Rated {
        scores: Scores {
            scored: Scored {
                probabilities,
                truths: dataset.truths(&items),
                patients: items.iter().map(|item| item.patient.clone()).collect(),
            },
            has_patients: true,
        },
        files: items.iter().map(|item| item.sha256.clone()).collect(),
        outside,
        remarks,
    })
}

/// Refused unless the samples are known to be of other people and files.
pub fn require_apart(first: &Rated, second: &Rated) -> Result<()> {
    if !first.scores.has_patients || !second.scores.has_patients {
        bail!("the column `patient` is missing: nobody can tell that the second sample is of other people");
    }
    let name = |patient: &String| own_name(patient).trim().to_lowercase();
    let known: HashSet<String> = first.scores.scored.patients.iter().map(name).collect();
    let people: HashSet<String> =
        second.scores.scored.patients.iter().map(name).filter(|patient| known.contains(patient)).collect();
    if !people.is_empty() {
        bail!("{} people are in both samples: the second has to be of others", people.len());
    }
    match first.files.intersection(&second.files).count() {
        0 => Ok(()),
        count => bail!("{count} files are in both samples: the second has to be of others"),
    }
}
