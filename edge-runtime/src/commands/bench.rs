use super::{Device, Failure};
use crate::board::Budget;
use crate::files::sha256_hex;
use crate::measure::{cpu_ms, peak_rss_mib, percentile};
use crate::prediction::predict;
use crate::radiograph::SourceFile;
use crate::scan::{ModelId, scan, scan_source};
use anyhow::{Context, anyhow};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Side of the synthetic radiograph that is measured where no image is given.
const SIDE: u32 = 1024;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    device: Device,
    /// Counted runs, after a tenth as many to warm up
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Measure on this radiograph instead of a synthetic 1024×1024 PNG
    #[arg(long)]
    image: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, start: Instant) -> Result<u8, Failure> {
    let (model, board) = args.device.open()?;
    let (wall, cpu) = (Instant::now(), cpu_ms());
    let bytes = match &args.image {
        Some(path) => std::fs::read(path).with_context(|| format!("{}", path.display())).map_err(Failure::Work)?,
        None => synthetic().map_err(Failure::Work)?,
    };
    let digest = sha256_hex(&bytes);
    // Reading is measured on a real file, decoding and the rest on its bytes.
    let file = tempfile::Builder::new().prefix("hilum-bench-").tempfile().map_err(|e| Failure::Work(e.into()))?;
    std::fs::write(file.path(), &bytes).map_err(|e| Failure::Work(e.into()))?;
    let source = || SourceFile { bytes: bytes.clone(), sha256: digest.clone() };
    let (setup_wall, setup_cpu) = (wall.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu);
    let first = scan_source(source(), 0.0, &model, &board).map_err(|e| Failure::Work(anyhow!("{e}")))?;
    // From the start of the process to the first finding, less the making of the test image, which no device does.
    let cold_start_ms = start.elapsed().as_secs_f64() * 1e3 - setup_wall;
    let cold_start_cpu_ms = cpu_ms() - setup_cpu;

    let mut latencies: Vec<Budget> = Vec::new();
    let (mut infer_wall, mut infer_cpu, mut total_cpu) = (Vec::new(), Vec::new(), Vec::new());
    let warm_up = args.runs.div_ceil(10);
    for run in 0..warm_up + args.runs {
        let cpu = cpu_ms();
        let finding = scan(file.path(), &model, &board).map_err(|e| Failure::Work(anyhow!("{e}")))?;
        let total = cpu_ms() - cpu;
        if run >= warm_up {
            latencies.push(finding.latency);
            total_cpu.push(total);
        }
    }
    // The network alone, one image after the other as other engines are timed: caches are warm, unlike in a scan.
    let frame = crate::preprocess::preprocess(&first.radiograph, &model.contract.input);
    for run in 0..warm_up + args.runs {
        let (wall, cpu) = (Instant::now(), cpu_ms());
        model.infer(&frame).map_err(|e| Failure::Work(e.into()))?;
        if run >= warm_up {
            infer_cpu.push(cpu_ms() - cpu);
            infer_wall.push(wall.elapsed().as_secs_f64() * 1e3);
        }
    }
    let mut report = Map::new();
    let stages = latencies[0].stages().map(|s| s.0);
    for (i, stage) in stages.iter().enumerate() {
        let values = latencies.iter().map(|l| l.stages()[i].1).collect();
        report.insert(format!("{stage}_ms"), percentiles(values));
    }
    report.insert("total_ms".into(), percentiles(latencies.iter().map(Budget::total).collect()));
    report.insert("network_ms".into(), percentiles(infer_wall));
    for (name, mut cpu) in [("network_cpu_ms", infer_cpu), ("total_cpu_ms", total_cpu)] {
        if args.device.threads > 1 {
            // Linux books what another thread used when its next tick comes, so of several threads only the mean is known.
            let mean = cpu.iter().sum::<f64>() / cpu.len() as f64;
            cpu.fill(mean);
        }
        report.insert(name.into(), percentiles(cpu));
    }
    let rest = json!({
        "cold_start_ms": round(cold_start_ms),
        "cold_start_cpu_ms": round(cold_start_cpu_ms),
        "peak_rss_mib": peak_rss_mib(),
        "threads": args.device.threads,
        "runs": args.runs,
        "kernel": model.kernel(),
        "image": {"width": first.width, "height": first.height, "format": first.format, "bytes": bytes.len()},
        "board": board.name,
        "budget_ms": board.budget_ms,
        "within_budget": report["total_ms"]["p95"].as_f64().is_some_and(|t| t <= board.budget_ms.total()),
        "predicted": model.network.as_ref().and_then(|n| predict(n, &board)).map(|p| {
            json!({"network_ms": round(p.ms), "kernel": p.kernel, "instructions_m": round(p.instructions_m)})
        }),
        "model": ModelId::of(&model),
    });
    if let Value::Object(rest) = rest {
        report.extend(rest);
    }
    let report = Value::Object(report);
    match args.json {
        true => println!("{report}"),
        false => print_report(&report, &board.title, board.budget_ms),
    }
    Ok(0)
}

fn round(v: f64) -> f64 {
    (v * 1000.0).round() / 1000.0
}

/// Nearest-rank percentiles.
fn percentiles(values: Vec<f64>) -> Value {
    let at = |p: f64| percentile(&values, p).map(round);
    json!({"p50": at(0.50), "p95": at(0.95), "p99": at(0.99)})
}

fn synthetic() -> anyhow::Result<Vec<u8>> {
    // Smooth shading with a fine texture, so that the PNG is neither flat nor noise.
    let image = image::GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let (u, v) = (x as f32 / SIDE as f32 - 0.5, y as f32 / SIDE as f32 - 0.5);
        let lungs = (-(((u.abs() - 0.2) / 0.12).powi(2) + (v / 0.3).powi(2))).exp();
        let texture = (x.wrapping_mul(2_654_435_761).wrapping_add(y.wrapping_mul(40_503)) >> 13) % 7;
        image::Luma([(150.0 - 110.0 * lungs) as u8 + texture as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

fn print_report(r: &Value, board: &str, budget: Budget) {
    println!("{:<12} {:>9} {:>9} {:>9} {:>9}", "ms", "p50", "p95", "p99", "budget");
    let row = |name: &str, key: String, budget: Option<f64>| {
        let value = |p: &str| r[&key][p].as_f64().unwrap_or(0.0);
        let budget = budget.map_or(String::new(), |b| format!("{b:.0}"));
        println!("{name:<12} {:>9.2} {:>9.2} {:>9.2} {budget:>9}", value("p50"), value("p95"), value("p99"));
    };
    for (stage, ms) in budget.stages() {
        row(stage, format!("{stage}_ms"), Some(ms));
    }
    row("total", "total_ms".into(), Some(budget.total()));
    row("total CPU", "total_cpu_ms".into(), None);
    row("network", "network_ms".into(), None);
    row("network CPU", "network_cpu_ms".into(), None);
    if let Some(ms) = r["predicted"]["network_ms"].as_f64() {
        println!(
            "predicted for {board}: {ms:.1} ms for the network on one thread (kernel {}, {:.1} million instructions)",
            r["predicted"]["kernel"].as_str().unwrap_or(""),
            r["predicted"]["instructions_m"].as_f64().unwrap_or(0.0)
        );
    }
    let number = |key: &str| r[key].as_f64().unwrap_or(0.0);
    println!(
        "cold start {:.1} ms ({:.1} ms CPU), peak memory {:.1} MiB, {} thread(s), kernel {}, board {board}",
        number("cold_start_ms"),
        number("cold_start_cpu_ms"),
        number("peak_rss_mib"),
        r["threads"],
        r["kernel"].as_str().unwrap_or("")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let p = percentiles((1..=100).map(f64::from).collect());
        assert_eq!((p["p50"].as_f64(), p["p95"].as_f64(), p["p99"].as_f64()), (Some(50.0), Some(95.0), Some(99.0)));
    }
}
