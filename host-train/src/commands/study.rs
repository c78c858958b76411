//! `host-train study`.

use crate::device::{self, DeviceKind};
use crate::network::Operators;
use crate::report::{columns, comparison};
use crate::study::{Criterion, Figures, Outcome, Plan, PlannedRun, RunOutcome, Subsets, Table, begin, look};
use crate::trained::TrainedRun;
use crate::training::{self, Options, Progress, RunFolder, Scores, Teachers};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use data::frame_store::{FrameStore, Keep};
use data::shifts::SHIFTS;
use data::shortcuts::{Labelled, conflicts};
use data::{Dataset, Item, Labels, Reading, Split};
use edge_runtime::engine::Compute;
use edge_runtime::process::files::{may_replace, write_atomically};
use edge_runtime::process::output;
use edge_runtime::process::progress::{Reporter, sentence};
use edge_runtime::report::html::HTML_HEAD;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Training images that the rule of conflicts is fitted on, at most: the rule has few numbers to fit.
const FITTED: usize = 20_000;

/// What `study.json` begins with.
const TABLE_HEAD: &str = "{\n  \"study\":";
/// Why a run failed, in its folder.
const FAILURE: &str = "failure.txt";

#[derive(clap::Args)]
pub struct Args {
    /// The study's file: a base recipe, variants, seeds, and by which figure it chooses (docs/studies.md)
    study: PathBuf,
    /// A data folder as published, a list of images as CSV, or a manifest of `prepare`; given several times, all are
    /// one data set. Every run has the same split of it
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
    /// Folder of the study: a folder a run, and the table. The same command goes on with a study that was stopped
    #[arg(long)]
    out: PathBuf,
    /// ImageNet weights (safetensors, torchvision's names), for recipes that start from them
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Where to train
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Train no run: only the table of those that have ended
    #[arg(long)]
    table: bool,
    /// Also write a page with the table
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, compute: &Compute, progress: Reporter) -> Result<u8> {
    args.html.iter().try_for_each(|path| may_replace(path, HTML_HEAD))?;
    let plan = Plan::load(&args.study)?;
    let table_path = args.out.join("study.json");
    may_replace(&table_path, TABLE_HEAD)?;
    check_folders(&plan, &args.out)?;
    let (device, operators) = device::open(args.device)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let held = match args.table {
        true => Err(look(&plan, &args.out)?),
        false => Ok(begin(&plan, &args.out)?),
    };
    let remarks: &[String] = match &held {
        Ok(held) => &held.remarks,
        Err(remarks) => remarks,
    };
    let shared = Shared { args: &args, plan: &plan, device, operators, compute, progress: &progress };
    let bench = Bench::new(shared)?;
    let mut outcomes: Vec<Vec<RunOutcome>> =
        plan.variants.iter().map(|variant| variant.runs.iter().map(|run| bench.missing(run)).collect()).collect();
    for (variant, seed) in plan.order() {
        let run = &plan.variants[variant].runs[seed];
        outcomes[variant][seed] = bench.outcome(run, plan.variants[variant].teachers);
        if !args.table {
            let table = Table::new(&plan, outcomes.clone(), &bench.subsets, remarks);
            let text = serde_json::to_string_pretty(&table).context("the study's table")?;
            write_atomically(&table_path, text.as_bytes()).with_context(|| format!("{}", table_path.display()))?;
        }
    }
    let table = Table::new(&plan, outcomes, &bench.subsets, remarks);
    let cells = table.cells();
    if let Some(path) = &args.html {
        let page = comparison(&format!("Study: {}", table.study), &cells[0], &cells[1..], &table.note(), &[]);
        write_atomically(path, page.as_bytes()).with_context(|| format!("{}", path.display()))?;
    }
    drop(progress);
    match args.json {
        true => output::json(&table, true)?,
        false => output::line(format!("{}\n\n{}", columns(&cells), table.note()))?,
    }
    let has_failed = |run: &RunOutcome| matches!(run.outcome, Outcome::Failed(_));
    Ok(u8::from(table.variants.iter().flat_map(|variant| &variant.runs).any(has_failed)))
}

/// Refused if a folder of a run holds one of another recipe: better now than hours later.
fn check_folders(plan: &Plan, out: &Path) -> Result<()> {
    for run in plan.variants.iter().flat_map(|variant| &variant.runs) {
        let folder = out.join(&run.folder);
        let old = std::fs::read_to_string(folder.join("recipe.toml")).unwrap_or_default();
        if old.is_empty() && RunFolder::is_occupied(&folder) {
            bail!("{} holds files that no study made: remove it, or give another --out", folder.display());
        }
        if !old.is_empty() && old != run.text {
            bail!("{} holds a run of another recipe: remove it, or give another --out", folder.display());
        }
    }
    Ok(())
}

/// What a study was given.
struct Shared<'a> {
    args: &'a Args,
    plan: &'a Plan,
    device: Device,
    operators: Operators,
    compute: &'a Compute,
    progress: &'a Reporter,
}

/// What all runs of a study share.
struct Bench<'a> {
    shared: Shared<'a>,
    /// The data as the first variant reads them, whose split is that of all.
    dataset: Dataset,
    reading: Reading,
    subsets: Subsets,
}

impl<'a> Bench<'a> {
    fn new(shared: Shared<'a>) -> Result<Bench<'a>> {
        let Shared { args, plan, progress, .. } = shared;
        let first = &plan.variants[0].runs[0].recipe;
        let reading = Reading { leave_out: Default::default(), ..first.data.clone() };
        let listed = |done, of| progress.step("reading the data set", done, of, "");
        let mut dataset = Dataset::open(&args.data, &reading, plan.split_seed, listed)?;
        dataset.require_classes(&reading, &args.data[0])?;
        if let Some(ages) = first.population.ages {
            dataset.keep_ages(ages);
        }
        let decoded = |done, of| progress.step("reading images", done, of, "");
        let frames = args.out.join("frames");
        let keep = Keep::Cache(&frames);
        let splits = [Split::Train, Split::Val];
        let loaded = FrameStore::load(&mut dataset, &splits, &first.input.contract(), keep, decoded)?;
        dataset.require(Split::Train)?;
        dataset.require(Split::Val)?;
        dataset.left_out().iter().chain(&dataset.remarks).for_each(|line| progress.line(line));
        let conflicts = conflicting(&dataset, &loaded.items, &loaded.frames)?;
        if plan.choose == Criterion::Conflicts && conflicts.is_empty() {
            bail!("choose = \"conflicts\", and no validation image looks like the other class");
        }
        for variant in &plan.variants {
            let reading = &variant.runs[0].recipe.data;
            training::require_groups(&dataset, reading).with_context(|| format!("variant {}", variant.name))?;
        }
        let subsets = Subsets { conflicts, left_out: left_out(&dataset, plan) };
        Ok(Bench { shared, dataset, reading, subsets })
    }

    /// Before its turn, or as it failed.
    fn missing(&self, run: &PlannedRun) -> RunOutcome {
        let folder = self.shared.args.out.join(&run.folder);
        let outcome = match std::fs::read_to_string(folder.join(FAILURE)) {
            Ok(reason) => Outcome::Failed(reason.trim().to_owned()),
            Err(_) => Outcome::Missing,
        };
        RunOutcome { seed: run.seed, folder, epochs: 0, minutes: 0.0, outcome, scores: None }
    }

    /// The data as `run` reads them.
    fn dataset_of(&self, run: &PlannedRun) -> Result<Dataset> {
        let reading = Reading { leave_out: Default::default(), ..run.recipe.data.clone() };
        if reading == self.reading {
            return Ok(self.dataset.clone());
        }
        let listed = |done, of| self.shared.progress.step("reading the data set", done, of, "");
        let mut dataset = Dataset::open(&self.shared.args.data, &reading, self.shared.plan.split_seed, listed)?;
        dataset.require_classes(&reading, &self.shared.args.data[0])?;
        dataset.adopt_split(&self.dataset);
        Ok(dataset)
    }

    /// Trains `run`, which the variant `teachers` teaches, to its end if that is wanted and was not done before, and
    /// reads what it says. A run that fails does not keep the others from going on.
    fn outcome(&self, run: &PlannedRun, teachers: Option<usize>) -> RunOutcome {
        let missing = self.missing(run);
        let has_ended = ["model.onnx", training::SCORES_FILE].iter().all(|name| missing.folder.join(name).is_file());
        if !has_ended && self.shared.args.table {
            return missing;
        }
        let failure = missing.folder.join(FAILURE);
        let judged = self.judged(run, teachers, has_ended);
        match judged {
            Ok(judged) => {
                let _ = std::fs::remove_file(failure);
                judged
            }
            Err(e) => {
                let reason = sentence(&e);
                self.shared.progress.line(&format!("{}: {reason}", run.folder.display()));
                if !self.shared.args.table {
                    // So that the table says it when nobody trains; without it the run is missing there.
                    let _ = std::fs::create_dir_all(&missing.folder);
                    let _ = write_atomically(&failure, reason.as_bytes());
                }
                RunOutcome { outcome: Outcome::Failed(reason), ..missing }
            }
        }
    }

    /// What `run` says once it has ended.
    fn judged(&self, run: &PlannedRun, teachers: Option<usize>, has_ended: bool) -> Result<RunOutcome> {
        let folder = self.shared.args.out.join(&run.folder);
        let options = self.options(run, teachers)?;
        match has_ended {
            true => training::require_same(&folder, &options.identity()?)?,
            false => {
                let named = Named { name: run.folder.display().to_string(), progress: self.shared.progress };
                training::train(options, &named)?;
                training::remove_checkpoint(&folder).with_context(|| format!("{}", folder.display()))?;
            }
        }
        let scores = Scores::read(&folder).map_err(anyhow::Error::msg)?;
        let files = self.dataset.of(Split::Val).into_iter().map(|item| item.file.as_str());
        let is_of_these = scores.images.iter().map(|image| image.file.as_str()).eq(files);
        if !is_of_these || scores.shifts.len() != SHIFTS.len() {
            bail!("{}: its scores are not of these validation images and shifts: remove the run", folder.display());
        }
        let trained = TrainedRun::open(&folder)?;
        Ok(RunOutcome {
            seed: run.seed,
            epochs: trained.training.len(),
            minutes: trained.training.iter().map(|epoch| epoch.seconds).sum::<f64>() / 60.0,
            outcome: Outcome::Judged(Figures::new(&scores, &self.subsets)),
            scores: Some(scores),
            folder,
        })
    }

    /// The models of the variant `teachers`.
    fn teachers(&self, run: &PlannedRun, teachers: Option<usize>, labels: &Labels) -> Result<Teachers> {
        let variant = teachers.map(|index| &self.shared.plan.variants[index]);
        let folders =
            variant.iter().flat_map(|variant| &variant.runs).map(|run| self.shared.args.out.join(&run.folder));
        let folders: Vec<PathBuf> = folders.collect();
        if let Some(folder) = folders.iter().find(|folder| !folder.join(training::SCORES_FILE).is_file()) {
            bail!("its teacher {} has not ended with a model", folder.display());
        }
        let models: Vec<PathBuf> = folders.iter().map(|folder| folder.join("model.onnx")).collect();
        let share = run.recipe.distillation.share;
        Ok(Teachers::load(&models, labels, share, self.shared.compute)?)
    }

    /// What training `run` takes.
    fn options(&self, run: &PlannedRun, teachers: Option<usize>) -> Result<Options> {
        let dataset = self.dataset_of(run)?;
        let args = self.shared.args;
        Ok(Options {
            recipe: run.recipe.clone(),
            recipe_text: run.text.clone(),
            teachers: self.teachers(run, teachers, &dataset.labels)?,
            dataset,
            out: args.out.join(&run.folder),
            weights: args.weights.clone(),
            frame_cache: Some(args.out.join("frames")),
            others: vec![],
            resume: true,
            device: self.shared.device.clone(),
            operators: self.shared.operators,
        })
    }
}

/// Validation images whose looks speak against their label.
fn conflicting(dataset: &Dataset, items: &[usize], frames: &FrameStore) -> Result<HashSet<String>> {
    let item = |i: &usize| &dataset.items[items[*i]];
    let of = |split: Split| (0..items.len()).filter(|i| item(i).split == split).collect::<Vec<usize>>();
    let train = of(Split::Train);
    let train: Vec<usize> = train.iter().copied().step_by(train.len().div_ceil(FITTED).max(1)).collect();
    let val = of(Split::Val);
    let truths = |chosen: &[usize]| dataset.labels.truths(chosen.iter().map(|i| item(i).label));
    let train_frames = frames.take(train.iter().copied())?;
    let val_frames = frames.take(val.iter().copied())?;
    let found = conflicts(
        &Labelled { frames: &train_frames, truths: &truths(&train) },
        &Labelled { frames: &val_frames, truths: &truths(&val) },
    );
    let found = found.unwrap_or_default();
    Ok(val.iter().zip(found).filter(|(_, is_conflict)| *is_conflict).map(|(i, _)| item(i).file.clone()).collect())
}

/// Validation images of groups that some variant of `plan` leaves out, with all images of classes that they lack.
fn left_out(dataset: &Dataset, plan: &Plan) -> HashSet<String> {
    let readings: Vec<&Reading> = plan.variants.iter().map(|variant| &variant.runs[0].recipe.data).collect();
    let val = dataset.of(Split::Val);
    let is_left_out = |item: &&&Item| readings.iter().any(|reading| reading.leaves_out(&item.groups));
    let mut chosen: Vec<&Item> = val.iter().filter(is_left_out).copied().collect();
    let classes: HashSet<bool> = dataset.truths(&chosen).into_iter().collect();
    if !chosen.is_empty() {
        let is_missing = |item: &&&Item| !classes.contains(&dataset.labels.is_positive(item.label));
        chosen.extend(val.iter().filter(is_missing).copied());
    }
    chosen.into_iter().map(|item| item.file.clone()).collect()
}

/// Says which run a step is of.
struct Named<'a> {
    name: String,
    progress: &'a Reporter,
}

impl Progress for Named<'_> {
    fn step(&self, stage: &str, done: usize, of: usize, note: &str) {
        self.progress.step(&format!("{}: {stage}", self.name), done, of, note);
    }

    fn line(&self, text: &str) {
        self.progress.line(&format!("{}: {text}", self.name));
    }
}
