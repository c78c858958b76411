//! `host-train study`.

use crate::device::{self, DeviceKind};
use crate::report::{columns, comparison};
use crate::study::{Access, Given, Outcome, Plan, RunOutcome, Runs, Table, begin};
use anyhow::{Context, Result};
use edge_runtime::engine::Compute;
use edge_runtime::process::files::{may_replace, write_atomically};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::html::HTML_HEAD;
use std::path::PathBuf;

/// What `study.json` begins with.
const TABLE_HEAD: &str = "{\n  \"study\":";

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
    plan.check_folders(&args.out)?;
    let (device, operators) = device::open(args.device)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    let held = begin(&plan, &args.out, if args.table { Access::Look } else { Access::Work })?;
    let given = Given {
        plan: &plan,
        data: &args.data,
        out: &args.out,
        weights: args.weights.as_deref(),
        trains: !args.table,
        device,
        operators,
        compute,
    };
    let runs = Runs::new(given, &progress)?;
    let mut outcomes: Vec<Vec<RunOutcome>> =
        plan.variants.iter().map(|variant| variant.runs.iter().map(|run| runs.missing(run)).collect()).collect();
    for (variant, seed) in plan.order() {
        let run = &plan.variants[variant].runs[seed];
        outcomes[variant][seed] = runs.outcome(run, plan.variants[variant].teachers);
        if !args.table {
            let table = Table::new(&plan, outcomes.clone(), &runs.subsets, &held.remarks);
            let text = serde_json::to_string_pretty(&table).context("the study's table")?;
            write_atomically(&table_path, text.as_bytes()).with_context(|| format!("{}", table_path.display()))?;
        }
    }
    let table = Table::new(&plan, outcomes, &runs.subsets, &held.remarks);
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
