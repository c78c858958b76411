//! The command line of `edge-runtime`: one file for each subcommand.

mod bench;
mod config;
mod doctor;
mod export;
mod inspect;
mod scan;
mod ui;
mod update;

use crate::board::{Board, HOST};
use crate::config::Config;
use crate::engine::Compute;
use crate::finding::STATEMENT;
use crate::keys::read_ring;
use crate::model::{EMBEDDED, Model, ModelError, ModelErrorReason};
use crate::process::command_line::parse;
use crate::process::{self, Failure, Process};
use crate::site;
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  every image was read, everything was written
  1  some images could not be read, or an output not written; the others were; or a check of `doctor` failed
  2  the command line was not understood
  3  the model was refused
  4  `scan --policy refuse` refused some images; the others were read
  5  `scan --enforce-budget`: an image took longer than the board has for it
  6  `ui`: no display is connected

HILUM_KERNEL=NAME forces one of the integer kernels (see `inspect`).";

/// Exit code where a policy refused images.
const UNSUITABLE: u8 = 4;
/// Exit code where a budget was to be kept and was not.
const LATE: u8 = 5;

/// Reads chest radiographs for signs of pneumonia, on this machine alone.
#[derive(Parser)]
#[command(name = "edge-runtime", version, about, after_help = format!("{EXIT_CODES}\n\n{STATEMENT}"))]
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
    /// Run the device: watch for radiographs, scan, show and keep them
    Ui(ui::Args),
    /// Write the findings that a device keeps as a table or JSON
    Export(export::Args),
    /// Check display, buttons, disk, clock, temperature and model, each with what to do
    Doctor(doctor::Args),
    /// Install a signed update on a card of `boards build`
    Update(update::Args),
    /// Print the configuration with its defaults, or check one
    Config(config::Args),
}

impl From<ModelError> for Failure {
    fn from(e: ModelError) -> Failure {
        Failure::model(e)
    }
}

/// Options that `scan` and `bench` share.
#[derive(clap::Args)]
struct DeviceArgs {
    /// A .hilum bundle or .onnx model instead of the embedded default
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Take the model only if it is signed with one of these public keys (`quantize keygen` writes them)
    #[arg(long, value_name = "FILE", requires = "model")]
    model_keys: Option<PathBuf>,
    /// The site profile of this clinic (`host-train site-study` writes one), which decides instead of the model
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Budget and display of this board (a name of `boards list`, or a board file)
    #[arg(long, default_value = HOST)]
    board: String,
    /// CPU threads for the network
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
}

/// The device that [`DeviceArgs`] ask for, ready to scan.
struct Device {
    model: Model,
    board: Board,
}

impl DeviceArgs {
    fn open(&self, process: Process) -> Result<Device, Failure> {
        let board = Board::find(&self.board).map_err(Failure::usage)?;
        let compute = process.compute(self.threads as usize)?;
        let source =
            ModelSource { path: self.model.as_deref(), keys: self.model_keys.as_deref(), site: self.site.as_deref() };
        let model = source.load(&compute)?;
        Ok(Device { model, board })
    }
}

/// Where a model comes from.
struct ModelSource<'a> {
    /// A file; without it the embedded default, which is part of the program.
    path: Option<&'a Path>,
    /// The file of the keys that it is to be signed with one of.
    keys: Option<&'a Path>,
    /// The site profile that decides.
    site: Option<&'a Path>,
}

impl<'a> ModelSource<'a> {
    fn of(config: &'a Config) -> ModelSource<'a> {
        ModelSource { path: config.model.as_deref(), keys: config.model_keys.as_deref(), site: config.site.as_deref() }
    }

    fn load(&self, compute: &Compute) -> Result<Model, ModelError> {
        let mut model = self.load_model(compute)?;
        if let Some(site) = self.site {
            let path = self.path.unwrap_or(Path::new(EMBEDDED)).to_owned();
            site::apply(site, &mut model).map_err(|e| ModelError { path, reason: e.into() })?;
        }
        Ok(model)
    }

    fn load_model(&self, compute: &Compute) -> Result<Model, ModelError> {
        match (self.path, self.keys) {
            (Some(path), Some(keys)) => {
                // A device whose keys are gone has to say so on its screen, as it does of a model.
                let refused =
                    |e: Failure| ModelError { path: path.into(), reason: ModelErrorReason::Keys(e.to_string()) };
                Model::load_signed(path, &read_ring(keys).map_err(refused)?, compute)
            }
            (Some(path), None) => Model::load(path, compute),
            (None, _) => Model::embedded(compute),
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("edge-runtime", |process| match parse::<Cli>()?.command {
        Command::Scan(args) => scan::run(args, process),
        Command::Bench(args) => bench::run(args, process),
        Command::Inspect(args) => inspect::run(args, process),
        Command::Ui(args) => ui::run(args, process),
        Command::Export(args) => export::run(args, process),
        Command::Doctor(args) => doctor::run(args, process),
        Command::Update(args) => update::run(args, process),
        Command::Config(args) => config::run(args, process),
    })
}
