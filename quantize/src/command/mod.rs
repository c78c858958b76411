//! The command line of `quantize`: raw arguments → a checked plan → the work → a report.

mod explain;
mod hold;
mod judge;
mod prepare;
mod report;
mod run;
mod trial;

use crate::calibration::Method;
use anyhow::{Context, Result, bail, ensure};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use data::Split;
use edge_runtime::board::Board;
use edge_runtime::finding::STATEMENT;
use edge_runtime::image::Format as ImageFormat;
use edge_runtime::image::folder::image_files;
use edge_runtime::keys::{Keygen, SecretKey, read_secret};
use edge_runtime::process::command_line::parse;
use edge_runtime::process::files::{check_folder, check_outputs, may_replace};
use edge_runtime::process::progress::Reporter;
use edge_runtime::process::{self, Failure, output};
use edge_runtime::report::html::HTML_HEAD;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Methods of calibration, and the choice among them.
const METHODS: [&str; 5] = {
    let [min_max, percentile, entropy, mse] = Method::NAMES;
    ["auto", min_max, percentile, entropy, mse]
};

/// A method of calibration; the best one, if none.
#[derive(Clone, Copy)]
struct Choice(Option<Method>);

const EXIT_CODES: &str = "\
Exit codes:
  0  both files are written, or would be (--dry-run)
  1  the message says why, and what to do; nothing is written, unless it was the report that could not be
  2  the command line was not understood

HILUM_KERNEL=NAME forces one of the integer kernels (see `edge-runtime inspect`).";

/// fp32 ONNX to int8: MODEL.int8.onnx for any runtime, MODEL.hilum for the device.
#[derive(Parser)]
#[command(
    name = "quantize",
    version,
    about,
    after_help = format!("{EXIT_CODES}\n\n{STATEMENT}"),
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    args: Option<Args>,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key to sign models with
    Keygen(Keygen),
}

#[derive(clap::Args)]
struct Args {
    /// A float model of host-train, or any float ONNX together with --calibrate; layers without an integer form stay
    /// float
    model: PathBuf,
    /// Record activation ranges over the images in this folder, instead of those in the model
    #[arg(long, value_name = "DIR")]
    calibrate: Option<PathBuf>,
    /// How much of what was seen the codes of an activation cover: auto tries all methods and keeps the one whose int8
    /// network is closest to the float one
    #[arg(
        long,
        value_name = "METHOD",
        default_value = "auto",
        value_parser = PossibleValuesParser::new(METHODS).map(|name| Choice(name.parse().ok()))
    )]
    method: Choice,
    /// What a model of another origin expects and what its outputs mean (TOML: labels, positive, threshold, mean, std,
    /// unit, resize, activation)
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Side of the input in pixels, where the model leaves it open
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(8..=2048))]
    size: Option<u32>,
    /// Keep this layer in float (repeatable): for one that loses too much in int8
    #[arg(long, value_name = "LAYER")]
    float: Vec<String>,
    /// Keep layers in float, those that lose most first, until the AUROC on the images of --data is at most this
    /// much lower
    #[arg(long, value_name = "AUROC", requires = "data", value_parser = largest_drop)]
    max_drop: Option<f64>,
    /// Labelled images (Kermany layout, or a manifest): re-tune the threshold on val, report agreement and metrics
    #[arg(long)]
    data: Option<PathBuf>,
    /// Which images of --data to report on
    #[arg(
        long,
        default_value = Split::Val.name(),
        value_parser = PossibleValuesParser::new(Split::NAMES).try_map(|name| name.parse::<Split>())
    )]
    split: Split,
    /// Write STEM.int8.onnx and STEM.hilum instead of files beside the model
    #[arg(long, short, value_name = "STEM")]
    output: Option<PathBuf>,
    /// Operators of MODEL.int8.onnx: qdq is what most runtimes run fastest; qoperator has QLinearConv, for those that
    /// do not put the former together
    #[arg(long, value_enum, default_value_t = Format::Qdq)]
    format: Format,
    /// Write over files that are there
    #[arg(long)]
    force: bool,
    /// Sign the bundle with this secret key, for devices that take signed models alone (`quantize keygen` makes one)
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// Write a page that says what int8 does to each layer, measured on the images of --data or --calibrate
    #[arg(long, value_name = "FILE.html")]
    explain: Option<PathBuf>,
    /// Do everything but write the two files
    #[arg(long)]
    dry_run: bool,
    /// Predict the network's time on this board (a name of `boards list`, or a board file)
    #[arg(long, value_name = "BOARD")]
    board: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Operators of the int8 ONNX.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Float operators between `DequantizeLinear` and `QuantizeLinear`.
    Qdq,
    /// `QLinearConv` for convolutions.
    Qoperator,
}

/// What is to be done, checked as far as it can be before the model is read.
struct Plan {
    model: PathBuf,
    contract: Option<PathBuf>,
    /// Side of the input, where the model leaves it open.
    size: Option<u32>,
    /// Images to record activation ranges on.
    calibration: Option<Vec<PathBuf>>,
    /// How ranges follow from them; the best one, if none is named.
    method: Option<Method>,
    keep_float: Vec<String>,
    /// Most that the area under the curve may fall.
    max_drop: Option<f64>,
    /// Labelled images to judge by.
    data: Option<LabelledImages>,
    /// Its operators.
    format: Format,
    /// The int8 model that is written.
    int8_onnx: PathBuf,
    /// The bundle that is written.
    bundle: PathBuf,
    /// Signs the bundle.
    key: Option<SecretKey>,
    /// The page that is written.
    explain: Option<PathBuf>,
    /// Whether the two files are.
    writes: bool,
    /// The board whose time is predicted.
    board: Option<Board>,
}

/// Labelled images.
struct LabelledImages {
    /// A folder or a manifest.
    data: PathBuf,
    /// Which of them are reported on.
    split: Split,
}

impl Args {
    fn plan(&self) -> Result<Plan> {
        let [int8_onnx, bundle] = self.outputs()?;
        let inputs = [Some(&self.model), self.contract.as_ref(), self.data.as_ref(), self.sign.as_ref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
        let outputs: Vec<&Path> = [Some(&int8_onnx), Some(&bundle), self.explain.as_ref()]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect();
        check_outputs(&outputs, &inputs)?;
        outputs.iter().try_for_each(|path| check_folder(path))?;
        if let Some(page) = &self.explain {
            // It may be named like an image, or like a model's weights.
            may_replace(page, HTML_HEAD)?;
            ensure!(!page.is_dir(), "--explain {} is a folder: give a name in it for the page", page.display());
        }
        ensure!(
            self.explain.is_none() || self.calibrate.is_some() || self.data.is_some(),
            "--explain measures on images: give some with --calibrate DIR or --data"
        );
        let there = outputs.iter().find(|path| path.is_file());
        if let Some(there) = there.filter(|_| !self.force) {
            bail!("{} is there already: --force writes over it, --output STEM writes elsewhere", there.display());
        }
        let board = self.board.as_deref().map(Board::find).transpose().map_err(Failure::usage)?;
        let key = self.sign.as_deref().map(read_secret).transpose()?;
        let calibration = self.calibrate.as_deref().map(calibration_images).transpose()?;
        Ok(Plan {
            model: self.model.clone(),
            contract: self.contract.clone(),
            size: self.size,
            calibration,
            method: self.method.0,
            keep_float: self.float.clone(),
            max_drop: self.max_drop,
            data: self.data.clone().map(|data| LabelledImages { data, split: self.split }),
            format: self.format,
            int8_onnx,
            bundle,
            key,
            explain: self.explain.clone(),
            writes: !self.dry_run,
            board,
        })
    }

    /// The QDQ model and the bundle.
    fn outputs(&self) -> Result<[PathBuf; 2]> {
        let extensions = ["int8.onnx", "hilum"];
        let Some(stem) = &self.output else {
            return Ok(extensions.map(|extension| self.model.with_extension(extension)));
        };
        let names_a_folder = stem.is_dir() || stem.to_string_lossy().ends_with('/') || stem.file_name().is_none();
        ensure!(
            !names_a_folder,
            "--output {} is a folder: give a name in it for the files, such as {}",
            stem.display(),
            stem.join("model").display()
        );
        // A stem may have a dot of its own.
        Ok(extensions.map(|extension| {
            let mut path = stem.clone().into_os_string();
            path.push(format!(".{extension}"));
            PathBuf::from(path)
        }))
    }
}

/// A loss of area under the curve.
fn largest_drop(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is no number"))?;
    if (0.0..0.5).contains(&value) { Ok(value) } else { Err(format!("{text} is not from 0 to 0.5")) }
}

fn calibration_images(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = match image_files(folder) {
        Ok(files) => files,
        Err(e) => bail!("{}: {e}", folder.display()),
    };
    let names = ImageFormat::names("or");
    ensure!(!files.is_empty(), "{}: no {names} images to calibrate with", folder.display());
    Ok(files)
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("quantize", |process| {
        let Cli { command, args } = parse()?;
        if let Some(Command::Keygen(keygen)) = command {
            keygen.run()?;
            return Ok(0);
        }
        let args = args.context("no model was given")?;
        let compute = process.compute(1)?;
        let plan = args.plan()?;
        let progress = Reporter::new(args.quiet);
        let report = run::quantise(&plan, &compute, &progress)?;
        drop(progress);
        match args.json {
            true => output::json(&report, true)?,
            false => output::line(report.text())?,
        }
        Ok(0)
    })
}
