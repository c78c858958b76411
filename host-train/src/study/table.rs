//! Means and spreads over the seeds of each variant: one typed record, printed as text or JSON.

use super::figures::{Criterion, Figures, Subsets};
use super::plan::Plan;
use crate::training::{Scores, ShiftScores};
use serde::Serialize;
use std::path::PathBuf;

/// What became of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunOutcome {
    /// Its seed.
    pub seed: u64,
    /// Its folder.
    pub folder: PathBuf,
    /// Epochs that it trained.
    pub epochs: usize,
    /// Minutes that its training took.
    pub minutes: f64,
    /// What it says.
    pub outcome: Outcome,
    #[serde(skip)]
    pub(crate) scores: Option<Scores>,
}

/// How a run ended.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With a model.
    Judged(Figures),
    /// Without one, and why.
    Failed(String),
    /// It was not its turn yet.
    Missing,
}

/// Mean and sample standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// The deviation; `None` of a single value.
    pub deviation: Option<f64>,
}

impl Spread {
    /// Of `values`; `None` of none.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        (!values.is_empty()).then_some(Spread { mean, deviation })
    }

    fn text(spread: Option<Spread>, digits: usize) -> String {
        match spread {
            None => "–".into(),
            Some(Spread { mean, deviation: None }) => format!("{mean:.digits$}"),
            Some(Spread { mean, deviation: Some(deviation) }) => format!("{mean:.digits$} ±{deviation:.digits$}"),
        }
    }
}

/// A variant.
#[derive(Debug, Clone, Serialize)]
pub struct VariantRow {
    /// Its name.
    pub name: String,
    /// Its runs.
    pub runs: Vec<RunOutcome>,
    /// Each criterion over its runs.
    pub areas: Vec<(Criterion, Option<Spread>)>,
    /// Sensitivity at the operating point on images as they are, and on shifted ones.
    pub sensitivity: [Option<Spread>; 2],
    /// Specificity there.
    pub specificity: [Option<Spread>; 2],
    /// Minutes a run.
    pub minutes: Option<Spread>,
    /// How much more of the study's criterion it has than the first variant, seed by seed.
    pub gain: Option<Spread>,
    /// The mean of the probabilities of its runs, judged as one model; from two runs on.
    pub ensemble: Option<Figures>,
}

/// The study.
#[derive(Debug, Clone, Serialize)]
pub struct Table {
    /// Its name.
    pub study: String,
    /// By what it chooses.
    pub choose: Criterion,
    /// Validation images.
    pub images: usize,
    /// How many of them look like the other class.
    pub conflicts: usize,
    /// The variants.
    pub variants: Vec<VariantRow>,
    /// What a person should know, a sentence each.
    pub remarks: Vec<String>,
    /// The best by the criterion; `None` before every run has ended, or where one failed.
    pub chosen: Option<String>,
}

impl Table {
    /// Of the `runs` of each variant of `plan`.
    pub fn new(plan: &Plan, runs: Vec<Vec<RunOutcome>>, subsets: &Subsets, remarks: &[String]) -> Table {
        let first: Vec<Option<f64>> = runs.first().map_or(vec![], |runs| criteria(runs, plan.choose));
        let images = runs.iter().flatten().find_map(|run| run.scores.as_ref()).map_or(0, |scores| scores.images.len());
        let row = |(variant, runs): (&super::Variant, Vec<RunOutcome>)| {
            VariantRow::new(variant.name.clone(), runs, &first, plan.choose, subsets)
        };
        let variants: Vec<VariantRow> = plan.variants.iter().zip(runs).map(row).collect();
        Table {
            study: plan.name.clone(),
            choose: plan.choose,
            images,
            conflicts: subsets.conflicts.len(),
            remarks: remarks.to_vec(),
            chosen: chosen(&variants, plan.choose),
            variants,
        }
    }

    /// Head and cells of the table.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let shown: Vec<Criterion> = Criterion::ALL
            .into_iter()
            .filter(|criterion| self.variants.iter().any(|v| v.area(*criterion).is_some()))
            .collect();
        let mut head = vec!["variant".to_owned(), "runs".to_owned()];
        head.extend(shown.iter().map(|criterion| criterion.name().to_owned()));
        head.extend(["gain", "sens.", "spec.", "shifted sens.", "shifted spec.", "minutes"].map(String::from));
        let mut rows = vec![head];
        for variant in &self.variants {
            rows.push(variant.cells(&shown));
            rows.extend(variant.ensemble.as_ref().map(|figures| ensemble_cells(figures, &shown)));
        }
        rows
    }

    /// What is said under the table.
    pub fn note(&self) -> String {
        let mut lines = vec![format!(
            "Areas under the curve on {} validation images, mean ± standard deviation over the seeds; gain is that of \
             \"{}\" over the first variant, seed by seed; sensitivity and specificity at each run's own operating \
             point. {} images look like the other class (conflicts).",
            self.images,
            self.choose.name(),
            self.conflicts
        )];
        lines.extend(self.remarks.iter().cloned());
        match self.chosen.as_deref().and_then(|name| self.variants.iter().find(|v| v.name == name)) {
            None => lines.push("Nothing is chosen: not every run has ended with a model that has this figure.".into()),
            Some(best) => lines.push(self.choice(best)),
        }
        for run in self.variants.iter().flat_map(|variant| &variant.runs) {
            if let Outcome::Failed(reason) = &run.outcome {
                lines.push(format!("{}: {reason}", run.folder.display()));
            }
        }
        lines.join("\n")
    }

    /// Which variant is chosen, and how sure that is.
    fn choice(&self, best: &VariantRow) -> String {
        let area = |variant: &VariantRow| variant.area(self.choose);
        let figure = Spread::text(area(best), 4);
        let text = format!("Chosen by \"{}\", which the study names: {} ({figure}).", self.choose.name(), best.name);
        let within = |variant: &&VariantRow| {
            let [Some(own), Some(other)] = [area(best), area(variant)] else { return false };
            let wider = own.deviation.unwrap_or(f64::INFINITY).max(other.deviation.unwrap_or(f64::INFINITY));
            variant.name != best.name && own.mean - other.mean < wider
        };
        let near: Vec<&str> = self.variants.iter().filter(within).map(|variant| variant.name.as_str()).collect();
        match near.is_empty() {
            true => text,
            false => {
                format!("{text} Not apart from it by more than the seeds are from each other: {}.", near.join(", "))
            }
        }
    }
}

impl VariantRow {
    fn new(
        name: String,
        runs: Vec<RunOutcome>,
        first: &[Option<f64>],
        choose: Criterion,
        subsets: &Subsets,
    ) -> VariantRow {
        let figures: Vec<&Figures> = runs.iter().filter_map(RunOutcome::figures).collect();
        let spread = |value: fn(&Figures) -> Option<f64>| {
            Spread::of(&figures.iter().filter_map(|figures| value(figures)).collect::<Vec<_>>())
        };
        let area = |criterion: Criterion| {
            let values: Vec<f64> = figures.iter().filter_map(|figures| figures.of(criterion)).collect();
            (criterion, Spread::of(&values))
        };
        let own = criteria(&runs, choose);
        let gains: Vec<f64> = own.iter().zip(first).filter_map(|(own, first)| Some((*own)? - (*first)?)).collect();
        let minutes: Vec<f64> = runs.iter().filter(|run| run.figures().is_some()).map(|run| run.minutes).collect();
        VariantRow {
            areas: Criterion::ALL.map(area).to_vec(),
            sensitivity: [spread(|f| f.sensitivity), spread(|f| f.shifted_sensitivity)],
            specificity: [spread(|f| f.specificity), spread(|f| f.shifted_specificity)],
            minutes: Spread::of(&minutes),
            gain: Spread::of(&gains),
            ensemble: ensemble(&runs).map(|scores| Figures::new(&scores, subsets)),
            name,
            runs,
        }
    }

    /// A criterion over its runs.
    pub fn area(&self, criterion: Criterion) -> Option<Spread> {
        self.areas.iter().find(|(known, _)| *known == criterion).and_then(|(_, spread)| *spread)
    }

    fn cells(&self, shown: &[Criterion]) -> Vec<String> {
        let judged = self.runs.iter().filter(|run| run.figures().is_some()).count();
        let runs = match judged == self.runs.len() {
            true => judged.to_string(),
            false => format!("{judged} of {}", self.runs.len()),
        };
        let mut cells = vec![self.name.clone(), runs];
        cells.extend(shown.iter().map(|criterion| Spread::text(self.area(*criterion), 4)));
        cells.push(self.gain.map_or("–".into(), |gain| {
            let deviation = gain.deviation.map_or(String::new(), |deviation| format!(" ±{deviation:.4}"));
            format!("{:+.4}{deviation}", gain.mean)
        }));
        let rates = [self.sensitivity[0], self.specificity[0], self.sensitivity[1], self.specificity[1]];
        cells.extend(rates.map(|rate| Spread::text(rate, 3)));
        cells.push(Spread::text(self.minutes, 1));
        cells
    }
}

impl RunOutcome {
    /// What it says, if it ended with a model.
    pub fn figures(&self) -> Option<&Figures> {
        match &self.outcome {
            Outcome::Judged(figures) => Some(figures),
            Outcome::Failed(_) | Outcome::Missing => None,
        }
    }
}

fn criteria(runs: &[RunOutcome], criterion: Criterion) -> Vec<Option<f64>> {
    runs.iter().map(|run| run.figures().and_then(|figures| figures.of(criterion))).collect()
}

fn ensemble_cells(figures: &Figures, shown: &[Criterion]) -> Vec<String> {
    let cell = |value: Option<f64>, digits: usize| value.map_or("–".into(), |value| format!("{value:.digits$}"));
    let mut cells = vec!["  their mean".to_owned(), String::new()];
    cells.extend(shown.iter().map(|criterion| cell(figures.of(*criterion), 4)));
    cells.push(String::new());
    let rates = [figures.sensitivity, figures.specificity, figures.shifted_sensitivity, figures.shifted_specificity];
    cells.extend(rates.map(|rate| cell(rate, 3)));
    cells.push(String::new());
    cells
}

/// The mean of what the runs say; `None` of fewer than two. All runs judge the same images in the same order.
fn ensemble(runs: &[RunOutcome]) -> Option<Scores> {
    let members: Vec<&Scores> = runs.iter().filter_map(|run| run.scores.as_ref()).collect();
    let first = *members.first().filter(|_| members.len() > 1)?;
    let count = members.len() as f32;
    let mean = |shift: usize| {
        let each = |image: usize| members.iter().map(|m| m.shifts[shift].probabilities[image]).sum::<f32>() / count;
        ShiftScores {
            name: first.shifts[shift].name.clone(),
            probabilities: (0..first.images.len()).map(each).collect(),
        }
    };
    Some(Scores {
        threshold: members.iter().map(|m| m.threshold).sum::<f32>() / count,
        images: first.images.clone(),
        shifts: (0..first.shifts.len()).map(mean).collect(),
    })
}

fn chosen(variants: &[VariantRow], choose: Criterion) -> Option<String> {
    let all = variants.iter().flat_map(|variant| &variant.runs);
    if !all.clone().all(|run| run.figures().and_then(|figures| figures.of(choose)).is_some()) {
        return None;
    }
    let mean = |variant: &&VariantRow| variant.area(choose).map_or(f64::NEG_INFINITY, |spread| spread.mean);
    let best = variants.iter().rev().max_by(|a, b| mean(a).total_cmp(&mean(b)))?;
    Some(best.name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::ScoredImage;
    use std::path::Path;

    const STUDY: &str = r#"
name = "two"
base = "phantom-cnn"
seeds = [1, 2]
choose = "worst-shift"
[[variant]]
name = "a"
[[variant]]
name = "b"
"#;

    /// Scores whose worst shift has this area, in quarters.
    fn scores(quarters: usize) -> Scores {
        let order: [f32; 4] = match quarters {
            4 => [0.1, 0.2, 0.8, 0.9],
            3 => [0.1, 0.7, 0.6, 0.9],
            _ => [0.7, 0.8, 0.6, 0.9],
        };
        let image = |i: usize| ScoredImage { file: i.to_string(), patient: i.to_string(), is_positive: i >= 2 };
        let shift = |name: &str, p: [f32; 4]| ShiftScores { name: name.into(), probabilities: p.to_vec() };
        Scores {
            threshold: 0.5,
            images: (0..4).map(image).collect(),
            shifts: vec![shift("as they are", [0.1, 0.2, 0.8, 0.9]), shift("blurred", order)],
        }
    }

    fn outcome(seed: u64, quarters: Option<usize>) -> RunOutcome {
        let scores = quarters.map(scores);
        let outcome = match &scores {
            Some(scores) => Outcome::Judged(Figures::new(scores, &Subsets::default())),
            None => Outcome::Failed("the loss became NaN".into()),
        };
        RunOutcome { seed, folder: PathBuf::from(format!("a/seed-{seed}")), epochs: 1, minutes: 2.0, outcome, scores }
    }

    fn table(a: [Option<usize>; 2], b: [Option<usize>; 2]) -> Table {
        let plan = Plan::parse(STUDY, Path::new("s.toml")).unwrap();
        let runs = |quarters: [Option<usize>; 2]| vec![outcome(1, quarters[0]), outcome(2, quarters[1])];
        Table::new(&plan, vec![runs(a), runs(b)], &Subsets::default(), &[])
    }

    #[test]
    fn the_best_by_the_criterion_is_chosen_and_what_is_near_is_named() {
        let apart = table([Some(2), Some(2)], [Some(4), Some(4)]);
        assert_eq!(apart.chosen.as_deref(), Some("b"));
        assert_eq!(apart.variants[1].gain, Some(Spread { mean: 0.5, deviation: Some(0.0) }));
        assert!(!apart.note().contains("Not apart"), "{}", apart.note());
        let near = table([Some(3), Some(4)], [Some(4), Some(4)]);
        assert_eq!(near.chosen.as_deref(), Some("b"));
        assert!(near.note().contains("Not apart from it by more than the seeds are from each other: a."));
        let equal = table([Some(4), Some(4)], [Some(4), Some(4)]);
        assert_eq!(equal.chosen.as_deref(), Some("a"), "the first of equals");
    }

    #[test]
    fn nothing_is_chosen_where_a_run_failed() {
        let table = table([Some(4), None], [Some(4), Some(4)]);
        assert_eq!(table.chosen, None);
        assert!(table.note().contains("a/seed-2: the loss became NaN"));
        assert_eq!(table.cells()[1][1], "1 of 2");
        assert_eq!(table.variants[0].gain, Some(Spread { mean: 0.0, deviation: None }));
    }

    #[test]
    fn a_mean_of_models_is_judged_as_one() {
        let table = table([Some(3), Some(4)], [Some(4), Some(4)]);
        let ensemble = table.variants[0].ensemble.as_ref().unwrap();
        // The mean of [0.1, 0.7, 0.6, 0.9] and [0.1, 0.2, 0.8, 0.9] is in order again.
        assert_eq!(ensemble.worst_shift, Some(1.0));
        assert_eq!(table.cells().iter().filter(|row| row[0] == "  their mean").count(), 2);
    }
}
