//! The runs of a study: trained if they were not, and what they say.

use super::figures::{Criterion, Figures, Subsets};
use super::plan::{Plan, PlannedRun};
use super::table::{Outcome, RunOutcome};
use crate::network::Operators;
use crate::trained::TrainedRun;
use crate::training::{self, Options, Progress, Scores, Teachers};
use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use data::frame_store::{FrameStore, Keep};
use data::shifts::SHIFTS;
use data::shortcuts::{Labelled, conflicts};
use data::{Dataset, Item, Labels, Reading, Split};
use edge_runtime::engine::Compute;
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::progress::sentence;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Training images that the rule of conflicts is fitted on, at most: the rule has few numbers to fit.
const FITTED: usize = 20_000;

/// Why a run failed, in its folder.
const FAILURE: &str = "failure.txt";

/// What a study is made with.
pub struct Given<'a> {
    /// The study.
    pub plan: &'a Plan,
    /// Its data.
    pub data: &'a [PathBuf],
    /// Its folder, which is there.
    pub out: &'a Path,
    /// What networks start from.
    pub weights: Option<&'a Path>,
    /// Whether runs are trained, or only read.
    pub trains: bool,
    /// Where.
    pub device: Device,
    /// On whose operators.
    pub operators: Operators,
    /// How teachers run.
    pub compute: &'a Compute,
}

/// The runs of a study, on one split of one data set.
pub struct Runs<'a, P> {
    given: Given<'a>,
    /// The data as the first variant reads them, whose split is that of all.
    dataset: Dataset,
    reading: Reading,
    /// Parts of the validation images.
    pub subsets: Subsets,
    progress: &'a P,
}

impl<'a, P: Progress> Runs<'a, P> {
    /// Reads and splits the data.
    pub fn new(given: Given<'a>, progress: &'a P) -> Result<Runs<'a, P>> {
        let Given { plan, data, .. } = given;
        let first = &plan.variants[0].runs[0].recipe;
        let reading = Reading { leave_out: Default::default(), ..first.data.clone() };
        let listed = |done, of| progress.step("reading the data set", done, of, "");
        let mut dataset = Dataset::open(data, &reading, plan.split_seed, listed)?;
        dataset.require_classes(&reading, &data[0])?;
        if let Some(ages) = first.population.ages {
            dataset.keep_ages(ages);
        }
        let decoded = |done, of| progress.step("reading images", done, of, "");
        let frames = given.out.join("frames");
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
        Ok(Runs { given, dataset, reading, subsets, progress })
    }

    /// Before its turn, or as it failed.
    pub fn missing(&self, run: &PlannedRun) -> RunOutcome {
        let folder = self.given.out.join(&run.folder);
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
        let listed = |done, of| self.progress.step("reading the data set", done, of, "");
        let mut dataset = Dataset::open(self.given.data, &reading, self.given.plan.split_seed, listed)?;
        dataset.require_classes(&reading, &self.given.data[0])?;
        dataset.adopt_split(&self.dataset);
        Ok(dataset)
    }

    /// Trains `run`, which the variant `teachers` teaches, to its end if that is wanted and was not done before, and
    /// reads what it says. A run that fails does not keep the others from going on.
    pub fn outcome(&self, run: &PlannedRun, teachers: Option<usize>) -> RunOutcome {
        let missing = self.missing(run);
        let has_ended = ["model.onnx", training::SCORES_FILE].iter().all(|name| missing.folder.join(name).is_file());
        if !has_ended && !self.given.trains {
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
                self.progress.line(&format!("{}: {reason}", run.folder.display()));
                if self.given.trains {
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
        let folder = self.given.out.join(&run.folder);
        let options = self.options(run, teachers)?;
        match has_ended {
            true => training::require_same(&folder, &options.identity()?)?,
            false => {
                let named = Named { name: run.folder.display().to_string(), progress: self.progress };
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
        let variant = teachers.map(|index| &self.given.plan.variants[index]);
        let folders = variant.iter().flat_map(|variant| &variant.runs).map(|run| self.given.out.join(&run.folder));
        let folders: Vec<PathBuf> = folders.collect();
        if let Some(folder) = folders.iter().find(|folder| !folder.join(training::SCORES_FILE).is_file()) {
            bail!("its teacher {} has not ended with a model", folder.display());
        }
        let models: Vec<PathBuf> = folders.iter().map(|folder| folder.join("model.onnx")).collect();
        let share = run.recipe.distillation.share;
        Ok(Teachers::load(&models, labels, share, self.given.compute)?)
    }

    /// What training `run` takes.
    fn options(&self, run: &PlannedRun, teachers: Option<usize>) -> Result<Options> {
        let dataset = self.dataset_of(run)?;
        let out = self.given.out;
        Ok(Options {
            recipe: run.recipe.clone(),
            recipe_text: run.text.clone(),
            teachers: self.teachers(run, teachers, &dataset.labels)?,
            dataset,
            out: out.join(&run.folder),
            weights: self.given.weights.map(Path::to_owned),
            frame_cache: Some(out.join("frames")),
            others: vec![],
            resume: true,
            device: self.given.device.clone(),
            operators: self.given.operators,
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
struct Named<'a, P> {
    name: String,
    progress: &'a P,
}

impl<P: Progress> Progress for Named<'_, P> {
    fn step(&self, stage: &str, done: usize, of: usize, note: &str) {
        self.progress.step(&format!("{}: {stage}", self.name), done, of, note);
    }

    fn line(&self, text: &str) {
        self.progress.line(&format!("{}: {text}", self.name));
    }
}
