//! The command line of `edge-runtime`: one file for each subcommand.

mod bench;
mod inspect;
mod scan;

use crate::board::{Board, HOST};
use crate::engine::kernels;
use crate::model::{Model, ModelError};
use crate::progress::sentence;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const EXIT_CODES: &str = "\
Exit codes:
  0  every image was read, everything was written
  1  some images could not be read, or an output not written; the others were
  2  the command line was not understood
  3  the model was refused

HILUM_KERNEL=NAME forces one of the integer kernels (see `inspect`).

Decision support for research and screening, never a diagnosis.";

/// Reads chest radiographs for signs of pneumonia, on this machine alone.
#[derive(Parser)]
#[command(name = "edge-runtime", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read radiographs and say what is found
    Scan(scan::Args),
    /// Measure latency, CPU time and memory against a board's budget
    Bench(bench::Args),
    /// Show what a model is: contract, operating point, provenance, layers
    Inspect(inspect::Args),
}

/// Why a command ended early, and with which exit code.
enum Failure {
    /// Exit code 1.
    Work(anyhow::Error),
    /// Exit code 2.
    Usage(anyhow::Error),
    /// Exit code 3.
    Model(anyhow::Error),
}

impl From<ModelError> for Failure {
    fn from(e: ModelError) -> Failure {
        Failure::Model(e.into())
    }
}

/// Options that `scan` and `bench` share.
#[derive(clap::Args)]
struct Device {
    /// A .hilum bundle or .onnx model instead of the embedded default
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Budget and display of this board (a name of `boards list`, or a board file)
    #[arg(long, default_value = HOST)]
    board: String,
    /// CPU threads for the network
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

impl Device {
    fn open(&self) -> Result<(Model, Board), Failure> {
        let board = Board::find(&self.board).map_err(|e| Failure::Usage(e.into()))?;
        if let Some(name) = kernels::unknown_request() {
            let known: Vec<_> = kernels::available().iter().map(|k| k.name).collect();
            return Err(Failure::Usage(anyhow::anyhow!(
                "HILUM_KERNEL={name}: this processor has the kernels {}",
                known.join(", ")
            )));
        }
        // Without them, the calling thread does it all.
        let _ = kernels::team::lead(self.threads as usize);
        Ok((load(self.model.as_deref())?, board))
    }
}

fn load(path: Option<&Path>) -> Result<Model, ModelError> {
    match path {
        Some(path) => Model::load(path),
        None => Model::embedded(),
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let start = Instant::now();
    let result = match Cli::parse().command {
        Command::Scan(args) => scan::run(args),
        Command::Bench(args) => bench::run(args, start),
        Command::Inspect(args) => inspect::run(args),
    };
    let (code, error) = match result {
        Ok(code) => return ExitCode::from(code),
        Err(Failure::Work(e)) => (1, e),
        Err(Failure::Usage(e)) => (2, e),
        Err(Failure::Model(e)) => (3, e),
    };
    eprintln!("edge-runtime: {}", sentence(&error));
    ExitCode::from(code)
}
