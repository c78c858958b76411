//! `host-train site-study`.

use crate::report::SiteStudy;
use crate::site::{Question, require_apart, sample, study};
use anyhow::{Context, Result, anyhow, bail};
use data::site::{Goal, Plan, plan};
use edge_runtime::engine::Compute;
use edge_runtime::finding::STATEMENT;
use edge_runtime::model::Model;
use edge_runtime::process::files::{may_replace, write_together};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::html::HTML_HEAD;
use edge_runtime::site::check_name;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

/// Prevalences that a screening has; beyond them, somebody mistook a percentage.
const PREVALENCES: RangeInclusive<f64> = 0.001..=0.9;

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
        require_apart(&first, second)?;
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
