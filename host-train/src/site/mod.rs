//! A site study: where a model decides at a clinic, by the clinic's own radiographs (`docs/site-study.md`). The figures
//! are of [`data::site`].

mod sample;

pub use sample::{Rated, require_apart, sample};

use crate::report::{Confirmation, SiteStudy};
use anyhow::{Context, Result, anyhow};
use chrono::Utc;
use data::curves::curve;
use data::site::{
    Goal, Row, Verdict, check, choose, intercept, plan, reliability, rows, thresholds, uncertain, verdict,
};
use edge_runtime::model::Model;
use edge_runtime::model::contract::with_intercept;
use edge_runtime::site::{SCHEMA, Sample, SiteProfile};

/// Seed of the samples of patients.
const SEED: u64 = 1;

/// An intercept beyond this is said: odds are 150 times what the model says, or a part of it, more than a prevalence
/// alone explains.
const FAR: f32 = 5.0;

/// What is asked of a model.
pub struct Question {
    /// What the clinic wants.
    pub goal: Goal,
    /// The sensitivity and specificity to plan with.
    pub expected: Option<[f64; 2]>,
}

/// The study of `model` at `site`: the intercept and the threshold by the `first` sample, tried on the `second`.
pub fn study(
    site: &str,
    model: &mut Model,
    question: Question,
    mut first: Rated,
    mut second: Option<Rated>,
) -> Result<SiteStudy> {
    let goal = question.goal;
    check(&first.scores.scored, goal)?;
    if let Some(second) = &second {
        check(&second.scores.scored, goal).context("the second sample")?;
    }
    let before = reliability(&first.scores.scored, goal);
    let added = intercept(&first.scores.scored, goal)?;
    model.contract.calibration.intercept = added;
    [Some(&mut first), second.as_mut()].into_iter().flatten().for_each(|sample| sample.add(added));
    let all = rows(&first.scores.scored, &thresholds(&first.scores.scored), goal, SEED);
    let chosen = choose(&all, goal)?;
    let at = |sample: &Rated, threshold: f32| rows(&sample.scores.scored, &[threshold], goal, SEED)[0];
    let own_threshold = with_intercept(model.contract.operating_point.threshold, added);
    let confirmation = second.as_ref().map(|second| {
        let row = at(second, chosen.threshold);
        Confirmation { sample: second.figures(chosen.threshold), verdict: verdict(&row, &chosen, goal), row }
    });
    let mut remarks = std::mem::take(&mut first.remarks);
    if added.abs() > FAR {
        remarks.push(format!(
            "The intercept is large ({added:+.1}): the probabilities are far from what is found here. Look whether \
             labels and prevalence are right."
        ));
    }
    let profile = profile(site, model, goal, &first, &chosen, confirmation.as_ref());
    if profile.uncertain.is_none() {
        remarks.push(
            "No radiograph near the threshold was called wrongly, so no answer is \"uncertain\" with this profile."
                .into(),
        );
    }
    profile.check().map_err(|reason| anyhow!("no device would take the profile: {reason}"))?;
    Ok(SiteStudy {
        profile,
        goal,
        plan: question.expected.and_then(|expected| plan(goal, expected).ok()),
        sample: first.figures(chosen.threshold),
        own: at(&first, own_threshold),
        chosen,
        confirmation,
        rows: all,
        curve: curve(&first.scores.scored.probabilities, &first.scores.scored.truths),
        before,
        after: reliability(&first.scores.scored, goal),
        remarks,
    })
}

fn profile(
    site: &str,
    model: &Model,
    goal: Goal,
    first: &Rated,
    chosen: &Row,
    confirmation: Option<&Confirmation>,
) -> SiteProfile {
    let sample = |images: usize, patients: usize, positives: usize, row: &Row| {
        let share = |value: f64| value as f32;
        Sample {
            images: images as u32,
            patients: patients as u32,
            positives: positives as u32,
            sensitivity: share(row.sensitivity.value),
            sensitivity_ci95: row.sensitivity.ci95.map(share),
            specificity: share(row.specificity.value),
            specificity_ci95: row.specificity.ci95.map(share),
        }
    };
    let scored = &first.scores.scored;
    let confirmed = confirmation.filter(|c| c.verdict == Verdict::Confirmed);
    SiteProfile {
        schema: SCHEMA,
        site: site.to_owned(),
        made: Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        model: model.contract.provenance.name.clone(),
        model_digest: model.digest.clone(),
        intercept: model.contract.calibration.intercept,
        threshold: chosen.threshold,
        uncertain: uncertain(scored, chosen.threshold, goal),
        rule: format!(
            "highest threshold whose sensitivity is at least {} with the lower end of its 95 % interval",
            goal.sensitivity
        ),
        prevalence: goal.prevalence as f32,
        chosen_on: sample(scored.truths.len(), scored.people(), scored.positives(), chosen),
        confirmed_on: confirmed.map(|c| sample(c.sample.images, c.sample.patients, c.sample.positives, &c.row)),
    }
}
