//! The command line of `host-train`: one file for each subcommand.

mod bench;
mod evaluate;
mod phantom;
mod prepare;
mod shortcuts;
mod train;

use crate::training::Progress;
use clap::{Parser, Subcommand};
use edge_runtime::finding::STATEMENT;
use edge_runtime::process;
use edge_runtime::process::progress::Reporter;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the work failed, or prepare, shortcuts and evaluate left files out: the message says which, and what to do
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
    /// Time the training and inference of a network on random images
    Bench(bench::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("host-train", |process| {
        let cli = Cli::parse();
        // Checked whatever the command is: a name that means nothing must not look as if it did.
        let compute = process.compute(1)?;
        let reporter = Reporter::new(cli.quiet);
        match cli.command {
            Command::Phantom(args) => phantom::run(args, reporter)?,
            Command::Prepare(args) => return Ok(prepare::run(args, reporter)?),
            Command::Shortcuts(args) => return Ok(shortcuts::run(args, reporter)?),
            Command::Train(args) => train::run(args, reporter)?,
            Command::Evaluate(args) => return Ok(evaluate::run(args, &compute, reporter)?),
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
