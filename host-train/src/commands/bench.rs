//! `host-train bench`.

use crate::device::{self, DeviceKind};
use crate::network::{Network, Operators, values};
use crate::optimizer::of_weight_decay;
use crate::recipe::{HeadSpec, NetworkSpec, Recipe};
use anyhow::{Result, anyhow, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, activation};
use edge_runtime::process::measure::{peak_rss_mib, percentile};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// Networks besides those of the built-in recipes.
const NETWORKS: [&str; 4] = ["mobilenetv2", "efficientnet-lite0", "densenet121", "resnet50"];

/// Labels of a recipe's network: those of the default model.
const LABELS: usize = 2;

/// Steps before those that count.
const WARM_UP: usize = 2;

#[derive(clap::Args)]
pub struct Args {
    /// mobilenetv2, efficientnet-lite0, densenet121 or resnet50 with 3 channels and 1000 labels, as published; or the
    /// network of a recipe, by its name or file
    #[arg(long)]
    network: String,
    /// Side of the images in pixels
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u32).range(32..=1024))]
    size: u32,
    /// Images a step
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=1024))]
    batch: u32,
    /// Counted steps, after two to warm up
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    steps: u32,
    /// Where to run
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Run on burn's operators instead of Hilum's
    #[arg(long)]
    burn_operators: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was measured; medians over the steps.
#[derive(Serialize)]
struct Report {
    network: String,
    parameters: usize,
    size: u32,
    batch: u32,
    device: &'static str,
    operators: &'static str,
    threads: usize,
    steps: u32,
    train_images_per_s: f64,
    infer_images_per_s: f64,
    forward_ms: f64,
    backward_ms: f64,
    update_ms: f64,
    step_ms: f64,
    infer_ms: f64,
    peak_rss_mib: Option<f64>,
}

/// The network that is asked for.
struct Subject {
    spec: NetworkSpec,
    head: HeadSpec,
    channels: u32,
    logits: usize,
}

/// Milliseconds of the parts of each step.
#[derive(Default)]
struct Steps {
    forward: Vec<f64>,
    backward: Vec<f64>,
    update: Vec<f64>,
    whole: Vec<f64>,
}

pub fn run(args: Args, progress: Reporter) -> Result<()> {
    let subject = subject(&args)?;
    let (inference, own) = device::open(args.device)?;
    let operators = if args.burn_operators { Operators::Burn } else { own };
    let device = inference.clone().autodiff();
    device.seed(1);
    let Subject { spec, head, channels, logits } = subject;
    let network = Network::of(&spec, &head, [args.size, channels], logits, operators, &device);
    let parameters = network.parameters();
    let dims = [args.batch as usize, channels as usize, args.size as usize, args.size as usize];
    let (network, steps) = train(network, operators, dims, &device, &args, &progress)?;
    let infer = infer(&network.valid(), dims, &inference, &args, &progress)?;
    drop(progress);
    let report = Report::new(&args, parameters, operators, &steps, &infer);
    match args.json {
        true => output::json(&report, false)?,
        false => output::line(report.text())?,
    }
    Ok(())
}

fn subject(args: &Args) -> Result<Subject> {
    let torchvision = |spec| Ok(Subject { spec, head: HeadSpec::default(), channels: 3, logits: 1000 });
    match args.network.as_str() {
        "mobilenetv2" => torchvision(NetworkSpec::MobilenetV2 { blocks: 17, last: 1280 }),
        "efficientnet-lite0" => torchvision(NetworkSpec::EfficientnetLite0 {}),
        "resnet50" => torchvision(NetworkSpec::Resnet50 {}),
        "densenet121" => torchvision(NetworkSpec::Densenet121 {}),
        other => {
            let mut recipe: Recipe = match super::train::recipe(other) {
                Ok((recipe, _)) => recipe,
                Err(_) if !Path::new(other).exists() => {
                    bail!("{other}: neither a recipe nor one of the networks {}", NETWORKS.join(", "))
                }
                Err(e) => return Err(e),
            };
            recipe.input.size = args.size;
            recipe.check().map_err(|reason| anyhow!("{other} at --size {}: {reason}", args.size))?;
            let logits = recipe.head.output.logits(LABELS);
            Ok(Subject { spec: recipe.network, head: recipe.head, channels: recipe.input.channels, logits })
        }
    }
}

fn images(dims: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::random(dims, Distribution::Normal(0.0, 1.0), device)
}

fn train(
    mut network: Network,
    operators: Operators,
    dims: [usize; 4],
    device: &Device,
    args: &Args,
    progress: &Reporter,
) -> Result<(Network, Steps)> {
    let mut optimizer = of_weight_decay(0.01, operators);
    let mut steps = Steps::default();
    let total = args.steps as usize + WARM_UP;
    for i in 0..total {
        let x = images(dims, device);
        device.sync()?;
        let start = Instant::now();
        let logits = network.forward(x);
        // The loss of a batch in which every image has the first label.
        let loss = activation::log_softmax(logits, 1).narrow(1, 0, 1).mean().neg();
        let value = values(loss.clone())[0];
        let after_forward = Instant::now();
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        device.sync()?;
        let after_backward = Instant::now();
        network = optimizer.step(1e-4, network, grads);
        device.sync()?;
        let end = Instant::now();
        if !value.is_finite() {
            bail!("the loss became {value}: this measures nothing");
        }
        let ms = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
        if i >= WARM_UP {
            steps.forward.push(ms(start, after_forward));
            steps.backward.push(ms(after_forward, after_backward));
            steps.update.push(ms(after_backward, end));
            steps.whole.push(ms(start, end));
        }
        progress.step("training steps", i + 1, total, &format!("{:.0} ms", ms(start, end)));
    }
    Ok((network, steps))
}

/// Milliseconds of each batch.
fn infer(network: &Network, dims: [usize; 4], device: &Device, args: &Args, progress: &Reporter) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    let total = args.steps as usize + WARM_UP;
    for i in 0..total {
        let x = images(dims, device);
        device.sync()?;
        let start = Instant::now();
        values(network.forward(x));
        if i >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        progress.step("inference", i + 1, total, "");
    }
    Ok(times)
}

impl Report {
    fn new(args: &Args, parameters: usize, operators: Operators, steps: &Steps, infer: &[f64]) -> Report {
        let median = |v: &[f64]| (percentile(v, 0.5).unwrap_or(0.0) * 10.0).round() / 10.0;
        let rate = |ms: f64| (f64::from(args.batch) * 1e4 / ms).round() / 10.0;
        Report {
            network: args.network.clone(),
            parameters,
            size: args.size,
            batch: args.batch,
            device: if args.device == DeviceKind::Gpu { "gpu" } else { "cpu" },
            operators: if operators == Operators::Own { "own" } else { "burn" },
            threads: rayon::current_num_threads(),
            steps: args.steps,
            train_images_per_s: rate(median(&steps.whole)),
            infer_images_per_s: rate(median(infer)),
            forward_ms: median(&steps.forward),
            backward_ms: median(&steps.backward),
            update_ms: median(&steps.update),
            step_ms: median(&steps.whole),
            infer_ms: median(infer),
            peak_rss_mib: peak_rss_mib(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![
            format!(
                "{}, {} parameters, {} images of {}×{}, {} threads, {} operators; medians of {} steps",
                self.network,
                self.parameters,
                self.batch,
                self.size,
                self.size,
                self.threads,
                self.operators,
                self.steps
            ),
            format!("training   {:>8} images/s", self.train_images_per_s),
            format!("  forward  {:>8} ms", self.forward_ms),
            format!("  backward {:>8} ms", self.backward_ms),
            format!("  update   {:>8} ms", self.update_ms),
            format!("inference  {:>8} images/s", self.infer_images_per_s),
        ];
        lines.extend(self.peak_rss_mib.map(|peak| format!("peak memory {peak:>7} MiB")));
        lines.join("\n")
    }
}
