//! `host-train site-study`.

use crate::report::{Confirmation, Figures, SiteStudy};
use anyhow::{Context, Result, anyhow, bail};
use chrono::Utc;
use data::bootstrap::intervals;
use data::curves::curve;
use data::dataset::own_name;
use data::metrics::Metrics;
use data::site::{
    Goal, Plan, Row, Scored, Scores, Verdict, check, choose, intercept, plan, read_scores, reliability, rows,
    thresholds, uncertain, verdict,
};
use data::{Classes, Dataset, Item, Reading, Split, evaluation, frames};
use edge_runtime::engine::Compute;
use edge_runtime::finding::STATEMENT;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::model::Model;
use edge_runtime::model::contract::with_intercept;
use edge_runtime::process::files::{may_replace, write_together};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::html::HTML_HEAD;
use edge_runtime::site::{SCHEMA, Sample, SiteProfile, check_name};
use rayon::prelude::*;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Seed of the samples of patients.
const SEED: u64 = 1;

/// Prevalences that a screening has; beyond them, somebody mistook a percentage.
const PREVALENCES: RangeInclusive<f64> = 0.001..=0.9;

/// An intercept beyond this is said: odds are 150 times what the model says, or a part of it, more than a prevalence
/// alone explains.
const FAR: f32 = 5.0;

#[derive(clap::Args)]
pub struct Args {
    /// The .hilum or .onnx model that the clinic will use; the profile serves this file alone
    #[arg(long)]
    model: PathBuf,
    /// The clinic's radiographs with the reference standard: a folder as published, a list of images as CSV (path,
    /// label, patient, …), or a manifest of `prepare`; given several times, all are one sample
    #[arg(long, value_name = "DATA", required_unless_present_any = ["scores", "plan"], conflicts_with = "scores")]
    data: Vec<PathBuf>,
    /// Instead of radiographs: what this model said of them, as CSV with the columns probability, reference and patient
    #[arg(long, value_name = "FILE.csv")]
    scores: Option<PathBuf>,
    /// A second sample of other people, to confirm the threshold on
    #[arg(long, value_name = "DATA", conflicts_with = "confirm_scores")]
    confirm: Vec<PathBuf>,
    /// The same as --scores, of the second sample
    #[arg(long, value_name = "FILE.csv")]
    confirm_scores: Option<PathBuf>,
    /// Share of the people screened at the clinic who are ill, above 0 and below 1
    #[arg(long)]
    prevalence: f64,
    /// The sensitivity that the lower end of its 95 % interval has to reach, above 0 and below 1
    #[arg(long, default_value_t = 0.9)]
    sensitivity: f64,
    /// The clinic's name, as its screens will show it
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    site: Option<String>,
    /// Folder for site.toml (`edge-runtime --site`), site-study.html and site-study.json
    #[arg(long, value_name = "DIR", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// Only say how many radiographs the study needs
    #[arg(long)]
    plan: bool,
    /// The sensitivity to plan with, instead of that of the model's validation images
    #[arg(long, value_name = "SHARE")]
    expect_sensitivity: Option<f64>,
    /// The specificity to plan with
    #[arg(long, value_name = "SHARE")]
    expect_specificity: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, compute: &Compute, progress: Reporter) -> Result<u8> {
    let goal = goal(&args)?;
    let mut model = Model::load(&args.model, compute)?;
    if args.plan {
        return print_plan(&args, &model, goal);
    }
    let (Some(out), Some(site)) = (&args.out, &args.site) else {
        bail!("--out and --site are missing");
    };
    check_name(site).map_err(|reason| anyhow!("--{reason}"))?;
    std::fs::create_dir_all(out).with_context(|| format!("{}", out.display()))?;
    let outputs = Outputs::in_folder(out)?;
    let first = sample(&args.data, args.scores.as_deref(), &model, &progress)?;
    let has_second = !args.confirm.is_empty() || args.confirm_scores.is_some();
    let second = match has_second {
        true => Some(sample(&args.confirm, args.confirm_scores.as_deref(), &model, &progress)?),
        false => None,
    };
    if let Some(second) = &second {
        apart(&first, second)?;
    }
    let expected = expected(&args, &model);
    let study = study(site, &mut model, Question { goal, expected }, first, second)?;
    outputs.write(&study)?;
    drop(progress);
    let is_contradicted = study.is_contradicted();
    let profile = outputs.profile.display();
    let next = match is_contradicted {
        true => String::new(),
        false => format!("\nNext: edge-runtime scan --model {} --site {profile} IMAGE", args.model.display()),
    };
    match args.json {
        true => output::json(&study, true)?,
        false => {
            output::line(format!("{}\npage: {}{next}\n{STATEMENT}", study.text(), outputs.page.display()))?;
        }
    }
    Ok(u8::from(is_contradicted))
}

/// Where a study goes.
struct Outputs {
    profile: PathBuf,
    page: PathBuf,
    json: PathBuf,
}

impl Outputs {
    /// In `folder`; refused if something else is there under their names.
    fn in_folder(folder: &Path) -> Result<Outputs> {
        let [profile, page, json] = ["site.toml", "site-study.html", "site-study.json"].map(|name| folder.join(name));
        may_replace(&profile, "schema = ")?;
        may_replace(&page, HTML_HEAD)?;
        may_replace(&json, "{")?;
        Ok(Outputs { profile, page, json })
    }

    /// Writes `study`; a profile that a second sample contradicts is none, and one of before goes.
    fn write(&self, study: &SiteStudy) -> Result<()> {
        let page = study.page();
        let json = serde_json::to_string_pretty(study).context("the study")?;
        let profile = study.profile.to_toml();
        let mut files: Vec<(&Path, &[u8])> = vec![(&self.page, page.as_bytes()), (&self.json, json.as_bytes())];
        match study.is_contradicted() {
            true if self.profile.exists() => std::fs::remove_file(&self.profile)?,
            true => {}
            false => files.push((&self.profile, profile.as_bytes())),
        }
        write_together(&files).map_err(|(path, e)| anyhow!("{}: {e}", path.display()))
    }
}

/// What is asked of a model.
struct Question {
    goal: Goal,
    /// The sensitivity and specificity to plan with.
    expected: Option<[f64; 2]>,
}

/// The study of `model` at `site`: the intercept and the threshold by the `first` sample, tried on the `second`.
fn study(
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

/// What the clinic wants, checked.
fn goal(args: &Args) -> Result<Goal> {
    let shares = [
        ("--prevalence", Some(args.prevalence)),
        ("--sensitivity", Some(args.sensitivity)),
        ("--expect-sensitivity", args.expect_sensitivity),
        ("--expect-specificity", args.expect_specificity),
    ];
    for (name, value) in shares {
        if value.is_some_and(|value| !(value > 0.0 && value < 1.0)) {
            bail!("{name} must lie between 0 and 1");
        }
    }
    if !PREVALENCES.contains(&args.prevalence) {
        bail!("--prevalence is a share of people: from {} to {}", PREVALENCES.start(), PREVALENCES.end());
    }
    Ok(Goal { sensitivity: args.sensitivity, prevalence: args.prevalence })
}

/// The sensitivity and specificity to plan with; `None` where the model knows none.
fn expected(args: &Args, model: &Model) -> Option<[f64; 2]> {
    let point = &model.contract.operating_point;
    let known = |value: f32| (point.images > 0).then_some(f64::from(value));
    Some([args.expect_sensitivity.or(known(point.sensitivity))?, args.expect_specificity.or(known(point.specificity))?])
}

fn print_plan(args: &Args, model: &Model, goal: Goal) -> Result<u8> {
    let Some(expected) = expected(args, model) else {
        bail!("the model knows no validation images: give --expect-sensitivity and --expect-specificity");
    };
    let plan = plan(goal, expected)?;
    match args.json {
        true => output::json(&plan, true)?,
        false => output::line(planned(&plan, goal))?,
    }
    Ok(0)
}

fn planned(plan: &Plan, goal: Goal) -> String {
    format!(
        "to show a sensitivity of at least {}, with 95 % certainty, in four studies of five:\n\
         {:>7} people who are ill, if {:.1} % of them are called so\n\
         {:>7} others, so that the interval of the specificity, expected at {:.1} %, is no wider than 10 points\n\
         {:>7} people examined, where {:.1} % are ill\n\
         to confirm the threshold on a second sample, in four of five:\n\
         {:>7} people who are ill, from {} examined\n\
         A model does worse at a new place than on its validation images: plan for less than they say \
         (--expect-sensitivity).\n{STATEMENT}",
        goal.sensitivity,
        plan.positives,
        plan.expected_sensitivity * 100.0,
        plan.negatives,
        plan.expected_specificity * 100.0,
        plan.people,
        goal.prevalence * 100.0,
        plan.confirming_positives,
        plan.confirming_people
    )
}

/// Radiographs, scored by the model.
struct Rated {
    scores: Scores,
    /// Digests of the files, where they were read.
    files: HashSet<String>,
    outside: Option<f64>,
    remarks: Vec<String>,
}

impl Rated {
    /// Adds `intercept` to the logits.
    fn add(&mut self, intercept: f32) {
        self.scores.scored.probabilities.iter_mut().for_each(|p| *p = with_intercept(*p, intercept));
    }

    fn figures(&self, threshold: f32) -> Figures {
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
fn sample(data: &[PathBuf], scores: Option<&Path>, model: &Model, progress: &Reporter) -> Result<Rated> {
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

fn rated(data: &[PathBuf], classes: Classes, model: &Model, progress: &Reporter) -> Result<Rated> {
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
fn apart(first: &Rated, second: &Rated) -> Result<()> {
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
