//! `host-train compare`.

use crate::recipe::Recipe;
use crate::report::{Published, columns, published};
use crate::trained::TrainedRun;
use anyhow::{Context, Result, bail};
use edge_runtime::process::files::{may_replace, write_atomically};
use edge_runtime::process::output;
use edge_runtime::report::html::HTML_HEAD;
use edge_runtime::report::plots::{Axes, Line, lines, span};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Folders of runs that have a report.json (`host-train train` and `report` write it)
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Also write a page with the table and the plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `report.json` says, as far as it is compared.
#[derive(Deserialize)]
struct Judged {
    name: String,
    split: String,
    metrics: Figures,
}

/// Figures of a run.
#[derive(Serialize, Deserialize, Clone)]
struct Figures {
    n: usize,
    auroc: Option<f64>,
    accuracy: Option<f64>,
    sensitivity: Option<f64>,
    specificity: Option<f64>,
    precision: Option<f64>,
    f1: Option<f64>,
    macro_f1: Option<f64>,
}

/// A run beside what its source reports.
#[derive(Serialize)]
struct Row {
    run: PathBuf,
    name: String,
    split: String,
    figures: Figures,
    epochs: usize,
    minutes: f64,
    published: Option<Published>,
    #[serde(skip)]
    course: Vec<(f64, f64)>,
}

impl Row {
    fn read(run: &Path) -> Result<Row> {
        let trained = TrainedRun::open(run)?;
        let path = run.join("report.json");
        if !path.is_file() {
            bail!("{}: no report.json: make one with `host-train report {}`", run.display(), run.display());
        }
        let text = std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let judged: Judged = serde_json::from_str(&text)
            .with_context(|| format!("{}: not a report of this version: make it again", path.display()))?;
        let Recipe { name, .. } = &trained.recipe;
        Ok(Row {
            run: run.to_owned(),
            published: published(name),
            epochs: trained.training.len(),
            minutes: trained.training.iter().map(|e| e.seconds).sum::<f64>() / 60.0,
            course: trained.training.iter().map(|e| (e.epoch as f64, e.val_loss)).collect(),
            name: judged.name,
            split: judged.split,
            figures: judged.metrics,
        })
    }

    /// Name, and each figure beside the published one.
    fn cells(&self) -> Vec<String> {
        let f = &self.figures;
        let theirs = self.published.unwrap_or_default();
        let pair = |own: Option<f64>, theirs: Option<f64>| {
            let own = own.map_or("–".into(), |v| format!("{v:.3}"));
            theirs.map_or(own.clone(), |v| format!("{own} ({v:.3})"))
        };
        vec![
            self.name.clone(),
            format!("{} {}", f.n, self.split),
            self.epochs.to_string(),
            format!("{:.0}", self.minutes),
            pair(f.auroc, None),
            pair(f.accuracy, theirs.accuracy),
            pair(f.sensitivity, theirs.sensitivity),
            pair(f.specificity, theirs.specificity),
            pair(f.precision, theirs.precision),
            pair(f.f1, theirs.f1),
            pair(f.macro_f1, theirs.macro_f1),
        ]
    }
}

const HEAD: [&str; 11] = [
    "recipe",
    "images",
    "epochs",
    "minutes",
    "AUROC",
    "accuracy",
    "sensitivity",
    "specificity",
    "precision",
    "F1",
    "macro F1",
];

const NOTE: &str =
    "In brackets: what the source reports, on images of its own. Figures on different images do not compare.";

pub fn run(args: &Args) -> Result<()> {
    args.html.iter().try_for_each(|path| may_replace(path, HTML_HEAD))?;
    let rows: Vec<Row> = args.runs.iter().map(|run| Row::read(run)).collect::<Result<_>>()?;
    if let Some(path) = &args.html {
        write_atomically(path, page(&rows).as_bytes()).with_context(|| format!("{}", path.display()))?;
    }
    match args.json {
        true => output::json(&rows, true)?,
        false => output::line(text(&rows))?,
    }
    Ok(())
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> =
        std::iter::once(HEAD.map(String::from).to_vec()).chain(rows.iter().map(Row::cells)).collect();
    format!("{}\n\n{NOTE}", columns(&cells))
}

fn page(rows: &[Row]) -> String {
    let all = rows.iter().flat_map(|row| &row.course);
    let axes = Axes {
        title: "Validation loss",
        x: "epoch",
        y: "loss",
        across: span(all.clone().map(|(epoch, _)| *epoch)),
        up: span(all.map(|(_, loss)| *loss)),
    };
    let courses: Vec<Line> =
        rows.iter().map(|row| Line { name: row.name.clone(), points: row.course.clone() }).collect();
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    crate::report::comparison(
        "Runs beside the published systems",
        &HEAD.map(String::from),
        &cells,
        NOTE,
        &[lines(&axes, &courses, &[])],
    )
}
