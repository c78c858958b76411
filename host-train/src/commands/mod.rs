//! The command line of `host-train`: one file for each subcommand.

mod bench;
mod compare;
mod evaluate;
mod explain;
mod phantom;
mod prepare;
mod recipes;
mod report;
mod shortcuts;
mod site_study;
mod study;
mod train;

use crate::training::Progress;
use clap::{Parser, Subcommand};
use edge_runtime::finding::STATEMENT;
use edge_runtime::process;
use edge_runtime::process::command_line::parse;
use edge_runtime::process::progress::Reporter;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work failed, a run of a study failed, a second sample contradicts a site study, or prepare, shortcuts, evaluate
     and report left files out: the message says which, and what to do
  2  the command line was not understood

HILUM_KERNEL=NAME forces one of the integer kernels (see `edge-runtime inspect`).";

/// Data sets to `model.onnx`.
#[derive(Parser)]
#[command(
    name = "host-train",
    version,
    about = "Trains and evaluates Hilum's pneumonia screening models",
    after_help = format!("{EXIT_CODES}\n\n{STATEMENT}")
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Show no progress
    #[arg(long, short, global = true)]
    quiet: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write a synthetic chest set, to try the whole chain without data
    Phantom(phantom::Args),
    /// Look at a data set, split it by patient and write the manifest
    Prepare(prepare::Args),
    /// Say how much of the labels can be told from how images look as a whole: grey levels, sharpness, borders
    Shortcuts(shortcuts::Args),
    /// Train a recipe and export model.onnx
    Train(train::Args),
    /// Measure a model on a data set, on the device's own engine
    Evaluate(evaluate::Args),
    /// List the built-in recipes, or print one
    Recipes(recipes::Args),
    /// Train variants of a recipe with several seeds, and say what helps
    Study(study::Args),
    /// Choose where a model decides at a clinic, on the clinic's own radiographs
    SiteStudy(site_study::Args),
    /// Judge a finished run: a page, JSON and a model card
    Report(report::Args),
    /// Table runs beside the published figures
    Compare(compare::Args),
    /// Write what a trained network looks at in radiographs: Grad-CAM and saliency
    Explain(explain::Args),
    /// Time the training and inference of a network on random images
    Bench(bench::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("host-train", |process| {
        let cli: Cli = parse()?;
        // Checked whatever the command is: a name that means nothing must not look as if it did.
        let compute = process.compute(1)?;
        let reporter = Reporter::new(cli.quiet);
        match cli.command {
            Command::Phantom(args) => phantom::run(args, reporter)?,
            Command::Prepare(args) => return Ok(prepare::run(args, reporter)?),
            Command::Shortcuts(args) => return Ok(shortcuts::run(args, reporter)?),
            Command::Train(args) => train::run(args, &compute, reporter)?,
            Command::Study(args) => return Ok(study::run(args, &compute, reporter)?),
            Command::SiteStudy(args) => return Ok(site_study::run(args, &compute, reporter)?),
            Command::Evaluate(args) => return Ok(evaluate::run(args, &compute, reporter)?),
            Command::Recipes(args) => recipes::run(&args)?,
            Command::Report(args) => return Ok(report::run(args, &compute, reporter)?),
            Command::Compare(args) => compare::run(&args)?,
            Command::Explain(args) => explain::run(&args, &reporter)?,
            Command::Bench(args) => bench::run(args, reporter)?,
        }
        Ok(0)
    })
}

impl Progress for Reporter {
    fn step(&self, stage: &str, done: usize, of: usize, note: &str) {
        Reporter::step(self, stage, done, of, note);
    }
    fn line(&self, text: &str) {
        Reporter::line(self, text);
    }
}
