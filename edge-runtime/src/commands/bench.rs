//! `edge-runtime bench`.

mod page;

use super::{Device, DeviceArgs};
use crate::board::Board;
use crate::board::prediction::{Prediction, predict};
use crate::display;
use crate::display::text::{Language, Lettering};
use crate::finding::ModelId;
use crate::image::source::SourceFile;
use crate::image::{Format, GreyPlane, preprocess};
use crate::model::Model;
use crate::process::files::{check_folder, check_outputs, may_replace, sha256_hex, write_atomically};
use crate::process::measure::{cpu_ms, machine, peak_rss_mib, percentile};
use crate::process::processor::ProcessorState;
use crate::process::progress::Reporter;
use crate::process::{Failure, Process, output};
use crate::report::html::HTML_HEAD;
use crate::report::rounded;
use crate::scan::{Scan, Setting, scan, scan_source};
use crate::stages::{Stage, StageTimes};
use crate::suitability::Policy;
use anyhow::Context;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Side of the synthetic radiograph that is measured where no image is given.
const SIDE: u32 = 1024;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// Counted runs, after a tenth as many to warm up
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Measure on this radiograph instead of a synthetic 1024×1024 PNG
    #[arg(long)]
    image: Option<PathBuf>,
    /// Write a page with plots
    #[arg(long, value_name = "OUT.html")]
    report: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten, serialize_with = "stage_keys")]
    stages: Vec<(Stage, Percentiles)>,
    total_ms: Percentiles,
    network_ms: Percentiles,
    network_cpu_ms: Percentiles,
    total_cpu_ms: Percentiles,
    cold_start_ms: f64,
    cold_start_cpu_ms: f64,
    peak_rss_mib: Option<f64>,
    threads: u32,
    runs: u32,
    /// Each run's time, in order.
    runs_ms: Series,
    kernel: &'static str,
    image: Image,
    /// What it was measured on.
    machine: String,
    /// Before and after the runs.
    processor: [ProcessorState; 2],
    board: String,
    budget_ms: StageTimes,
    within_budget: bool,
    predicted: Option<Predicted>,
    model: ModelId,
}

/// Nearest-rank percentiles, in milliseconds.
#[derive(Serialize)]
struct Percentiles {
    p50: f64,
    p95: f64,
    p99: f64,
}

/// Milliseconds of each run.
#[derive(Serialize)]
struct Series {
    total: Vec<f64>,
    network: Vec<f64>,
}

#[derive(Serialize)]
struct Image {
    width: u32,
    height: u32,
    format: Format,
    bytes: usize,
}

#[derive(Serialize)]
struct Predicted {
    network_ms: f64,
    kernel: &'static str,
    instructions_m: f64,
}

/// Each stage as a key of its own, `decode_ms`.
fn stage_keys<S: Serializer>(stages: &[(Stage, Percentiles)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(stages.len()))?;
    for (stage, percentiles) in stages {
        map.serialize_entry(&format!("{}_ms", stage.name()), percentiles)?;
    }
    map.end()
}

impl Percentiles {
    fn of(values: &[f64]) -> Percentiles {
        let at = |p: f64| percentile(values, p).map_or(0.0, rounded);
        Percentiles { p50: at(0.50), p95: at(0.95), p99: at(0.99) }
    }

    /// Of CPU times. Linux books what another thread used when its next tick comes, so of several threads only the mean
    /// is known.
    fn of_cpu(values: &[f64], threads: u32) -> Percentiles {
        match threads {
            1 => Percentiles::of(values),
            _ => Percentiles::of(&[values.iter().sum::<f64>() / values.len() as f64]),
        }
    }
}

/// Wall and CPU time since it was started.
struct Clock {
    wall: Instant,
    cpu: f64,
}

impl Clock {
    fn start() -> Clock {
        Clock { wall: Instant::now(), cpu: cpu_ms() }
    }

    fn wall_ms(&self) -> f64 {
        self.wall.elapsed().as_secs_f64() * 1e3
    }

    fn cpu_ms(&self) -> f64 {
        cpu_ms() - self.cpu
    }
}

/// The first scan of the process, and what it took from its start.
struct ColdStart {
    scan: Scan,
    wall_ms: f64,
    cpu_ms: f64,
}

pub fn run(args: Args, process: Process) -> Result<u8, Failure> {
    if let Some(page) = &args.report {
        let inputs = [args.image.as_deref(), args.device.model.as_deref()];
        let inputs: Vec<&Path> = inputs.into_iter().flatten().collect();
        check_outputs(&[page], &inputs).map_err(Failure::usage)?;
        may_replace(page, HTML_HEAD).map_err(Failure::usage)?;
        check_folder(page).map_err(Failure::usage)?;
    }
    let device = args.device.open(process)?;
    let progress = Reporter::new(args.quiet);
    let setup = Clock::start();
    let bytes = match &args.image {
        Some(path) => std::fs::read(path).with_context(|| format!("{}", path.display()))?,
        None => synthetic()?,
    };
    // Reading is measured on a real file, decoding and the rest on its bytes.
    let file = tempfile::Builder::new().prefix("hilum-bench-").tempfile().map_err(Failure::work)?;
    std::fs::write(file.path(), &bytes).map_err(Failure::work)?;
    let source = SourceFile { sha256: sha256_hex(&bytes), bytes };
    // Making the test image is no part of a cold start: no device does it.
    let setup_ms = setup.wall_ms();
    let setup_cpu_ms = setup.cpu_ms();
    let Device { model, board } = &device;
    let setting = Setting { model, board, policy: Policy::Warn, on_stage: None };
    let mut first = scan_source(source, StageTimes::default(), setting).map_err(Failure::work)?;
    let lettering = Lettering::load(Language::default()).map_err(Failure::work)?;
    display::show(&mut first, model, board, &lettering);
    let cold_start = ColdStart {
        scan: first,
        wall_ms: process.start.elapsed().as_secs_f64() * 1e3 - setup_ms,
        cpu_ms: cpu_ms() - setup_cpu_ms,
    };
    let before = ProcessorState::now();
    let runs = Runs { counted: args.runs, progress: &progress };
    let scans = runs.measure("scans", |cpu: &mut Vec<f64>| {
        let clock = Clock::start();
        let mut scan = scan(file.path(), setting).map_err(Failure::work)?;
        display::show(&mut scan, model, board, &lettering);
        cpu.push(clock.cpu_ms());
        Ok(scan.finding.latency_ms)
    })?;
    // The network alone, one image after the other as other engines are timed: caches are warm, unlike in a scan.
    let frame = preprocess::preprocess(&cold_start.scan.evidence.radiograph.plane, &model.contract.input);
    let network = runs.measure("network", |cpu: &mut Vec<f64>| infer(model, &frame, cpu))?;
    drop(progress);
    let processor = [before, ProcessorState::now()];
    let report = Report::new(&args, &device, &cold_start, &scans, &network, processor);
    match args.json {
        true => output::json(&report, false)?,
        false => output::line(text(&report, &device.board))?,
    }
    // Last, so that a page that cannot be written takes no measurement with it.
    if let Some(path) = &args.report {
        let page = page::page(&report, &device.board);
        write_atomically(path, page.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(0)
}

/// One timed inference; gives its wall time.
fn infer(model: &Model, frame: &GreyPlane, cpu: &mut Vec<f64>) -> Result<f64, Failure> {
    let clock = Clock::start();
    model.infer(frame).map_err(Failure::work)?;
    cpu.push(clock.cpu_ms());
    Ok(clock.wall_ms())
}

/// What repeated work gave, and its CPU times.
struct Measured<T> {
    results: Vec<T>,
    cpu_ms: Vec<f64>,
}

/// How often work is repeated.
struct Runs<'a> {
    counted: u32,
    progress: &'a Reporter,
}

impl Runs<'_> {
    /// Does `work`, after a tenth as many times to warm up.
    fn measure<T>(
        &self,
        name: &str,
        mut work: impl FnMut(&mut Vec<f64>) -> Result<T, Failure>,
    ) -> Result<Measured<T>, Failure> {
        for _ in 0..self.counted.div_ceil(10) {
            work(&mut Vec::new())?;
        }
        let mut measured = Measured { results: Vec::new(), cpu_ms: Vec::new() };
        for run in 0..self.counted {
            measured.results.push(work(&mut measured.cpu_ms)?);
            // Between the runs, so that it is in no time.
            self.progress.step(name, run as usize + 1, self.counted as usize, "");
        }
        Ok(measured)
    }
}

impl Report {
    /// True if something kept the processor below its clock.
    fn is_slowed(&self) -> bool {
        self.processor.iter().any(|state| !state.slowed_by.is_empty())
    }

    fn new(
        args: &Args,
        device: &Device,
        cold_start: &ColdStart,
        scans: &Measured<StageTimes>,
        network: &Measured<f64>,
        processor: [ProcessorState; 2],
    ) -> Report {
        let Device { model, board } = device;
        let threads = args.device.threads;
        let times = |of: &dyn Fn(&StageTimes) -> f64| scans.results.iter().map(of).collect::<Vec<f64>>();
        let total_ms = Percentiles::of(&times(&StageTimes::total));
        let image = &cold_start.scan.finding.image;
        Report {
            stages: Stage::ALL.iter().map(|s| (*s, Percentiles::of(&times(&|t| t[*s])))).collect(),
            within_budget: total_ms.p95 <= board.budget_ms.total(),
            total_ms,
            network_ms: Percentiles::of(&network.results),
            network_cpu_ms: Percentiles::of_cpu(&network.cpu_ms, threads),
            total_cpu_ms: Percentiles::of_cpu(&scans.cpu_ms, threads),
            cold_start_ms: rounded(cold_start.wall_ms),
            cold_start_cpu_ms: rounded(cold_start.cpu_ms),
            peak_rss_mib: peak_rss_mib(),
            threads,
            runs: args.runs,
            runs_ms: Series {
                total: scans.results.iter().map(|times| rounded(times.total())).collect(),
                network: network.results.iter().copied().map(rounded).collect(),
            },
            kernel: model.kernel(),
            image: Image {
                width: image.width,
                height: image.height,
                format: image.origin.format,
                bytes: cold_start.scan.evidence.source.bytes.len(),
            },
            machine: machine(),
            processor,
            board: board.name.clone(),
            budget_ms: board.budget_ms,
            predicted: model.network.as_ref().and_then(|n| predict(n, board)).map(Predicted::from),
            model: ModelId::of(model),
        }
    }
}

impl From<Prediction> for Predicted {
    fn from(p: Prediction) -> Predicted {
        Predicted { network_ms: rounded(p.ms), kernel: p.kernel, instructions_m: rounded(p.instructions_m) }
    }
}

fn synthetic() -> anyhow::Result<Vec<u8>> {
    // Smooth shading with a fine texture, so that the PNG is neither flat nor noise.
    let image = ::image::GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let u = x as f32 / SIDE as f32 - 0.5;
        let v = y as f32 / SIDE as f32 - 0.5;
        let lungs = (-(((u.abs() - 0.2) / 0.12).powi(2) + (v / 0.3).powi(2))).exp();
        let texture = (x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)) >> 13) % 7;
        ::image::Luma([(150.0 - 110.0 * lungs) as u8 + texture as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, ::image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn text(report: &Report, board: &Board) -> String {
    let mut lines = vec![format!("{:<12} {:>9} {:>9} {:>9} {:>9}", "ms", "p50", "p95", "p99", "budget")];
    let mut row = |name: &str, values: &Percentiles, budget: Option<f64>| {
        let budget = budget.map_or(String::new(), |b| format!("{b:.0}"));
        let Percentiles { p50, p95, p99 } = values;
        lines.push(format!("{name:<12} {p50:>9.2} {p95:>9.2} {p99:>9.2} {budget:>9}"));
    };
    for (stage, values) in &report.stages {
        row(stage.name(), values, Some(board.budget_ms[*stage]));
    }
    row("total", &report.total_ms, Some(board.budget_ms.total()));
    // Of several threads only the mean is known.
    let [total_cpu, network_cpu] = match report.threads {
        1 => ["total CPU", "network CPU"],
        _ => ["mean CPU", "mean net CPU"],
    };
    row(total_cpu, &report.total_cpu_ms, None);
    row("network", &report.network_ms, None);
    row(network_cpu, &report.network_cpu_ms, None);
    if let Some(Predicted { network_ms, kernel, instructions_m }) = &report.predicted {
        lines.push(format!(
            "predicted for {}: {network_ms:.1} ms for the network on one thread (kernel {kernel}, {instructions_m:.1} \
             million instructions)",
            board.title
        ));
    }
    let memory = report.peak_rss_mib.map_or("unknown".to_owned(), |mib| format!("{mib:.1} MiB"));
    lines.push(format!(
        "cold start {:.1} ms ({:.1} ms CPU), peak memory {memory}, {} thread(s), kernel {}, board {}",
        report.cold_start_ms, report.cold_start_cpu_ms, report.threads, report.kernel, board.title
    ));
    let [before, after] = &report.processor;
    lines.push(format!("measured on {}", report.machine));
    lines.push(format!("processor before: {}; after: {}", before.in_words(), after.in_words()));
    if report.is_slowed() {
        lines.push("The processor was slowed down: these times are not all that it can do.".to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        let p = Percentiles::of(&values);
        assert_eq!((p.p50, p.p95, p.p99), (50.0, 95.0, 99.0));
    }
}
