use crate::device::{self, Place};
use crate::network::{Network, Operators, values};
use crate::optimizer::adamw;
use crate::recipe::{NetworkSpec, Recipe};
use anyhow::{Result, anyhow, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, activation};
use edge_runtime::measure::{peak_rss_mib, percentile};
use edge_runtime::progress::Reporter;
use quantize::dataset::LABELS;
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Networks besides those of the built-in recipes.
const NETWORKS: [&str; 3] = ["mobilenetv2", "densenet121", "resnet50"];

#[derive(clap::Args)]
pub struct Args {
    /// mobilenetv2, densenet121 or resnet50 with 3 channels and 1000 labels, as torchvision has them; or the network of a
    /// recipe, by its name or file
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
    #[arg(long, value_enum, default_value_t = Place::Cpu)]
    device: Place,
    /// Run on burn's operators instead of Hilum's
    #[arg(long)]
    burn_operators: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, progress: &Reporter) -> Result<()> {
    let (spec, channels, labels) = match args.network.as_str() {
        "mobilenetv2" => (NetworkSpec::MobilenetV2 { blocks: 17, last: 1280, frozen: 0, dropout: 0.2 }, 3, 1000),
        "resnet50" => (NetworkSpec::Resnet50 { frozen: 0, dropout: 0.0 }, 3, 1000),
        "densenet121" => (NetworkSpec::Densenet121 { frozen: 0, dropout: 0.0 }, 3, 1000),
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
            (recipe.network, recipe.input.channels, LABELS.len())
        }
    };
    let (inference, own) = device::open(args.device)?;
    let operators = if args.burn_operators { Operators::Burn } else { own };
    let device = inference.clone().autodiff();
    device.seed(1);
    let mut network = Network::of(&spec, args.size, channels, labels, operators, &device);
    let parameters = network.parameters();
    let dims = [args.batch as usize, channels as usize, args.size as usize, args.size as usize];
    let batch = |device: &Device| Tensor::<4>::random(dims, Distribution::Normal(0.0, 1.0), device);
    let mut optimizer = adamw(0.01, operators);

    let (mut forward, mut backward, mut update, mut step) = (vec![], vec![], vec![], vec![]);
    let total = args.steps as usize + 2;
    for i in 0..total {
        let x = batch(&device);
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
        if i >= 2 {
            forward.push((after_forward - start).as_secs_f64() * 1e3);
            backward.push((after_backward - after_forward).as_secs_f64() * 1e3);
            update.push((end - after_backward).as_secs_f64() * 1e3);
            step.push((end - start).as_secs_f64() * 1e3);
        }
        progress.step("training steps", i + 1, total, &format!("{:.0} ms", (end - start).as_secs_f64() * 1e3));
    }
    let network = network.valid();
    let mut infer = vec![];
    for i in 0..total {
        let x = batch(&inference);
        inference.sync()?;
        let start = Instant::now();
        values(network.forward(x));
        if i >= 2 {
            infer.push(start.elapsed().as_secs_f64() * 1e3);
        }
        progress.step("inference", i + 1, total, "");
    }

    let median = |v: &[f64]| (percentile(v, 0.5).unwrap_or(0.0) * 10.0).round() / 10.0;
    let rate = |ms: f64| (f64::from(args.batch) * 1e4 / ms).round() / 10.0;
    let report = json!({
        "network": args.network,
        "parameters": parameters,
        "size": args.size,
        "batch": args.batch,
        "device": if args.device == Place::Gpu { "gpu" } else { "cpu" },
        "operators": if operators == Operators::Own { "own" } else { "burn" },
        "threads": rayon::current_num_threads(),
        "steps": args.steps,
        "train_images_per_s": rate(median(&step)),
        "infer_images_per_s": rate(median(&infer)),
        "forward_ms": median(&forward),
        "backward_ms": median(&backward),
        "update_ms": median(&update),
        "step_ms": median(&step),
        "infer_ms": median(&infer),
        "peak_rss_mib": peak_rss_mib(),
    });
    if args.json {
        println!("{report}");
        return Ok(());
    }
    println!(
        "{}, {parameters} parameters, {} images of {}×{}, {} threads, {} operators; medians of {} steps",
        args.network,
        args.batch,
        args.size,
        args.size,
        report["threads"],
        report["operators"].as_str().unwrap_or(""),
        args.steps
    );
    println!("training   {:>8} images/s", report["train_images_per_s"]);
    println!("  forward  {:>8} ms", report["forward_ms"]);
    println!("  backward {:>8} ms", report["backward_ms"]);
    println!("  update   {:>8} ms", report["update_ms"]);
    println!("inference  {:>8} images/s", report["infer_images_per_s"]);
    if let Some(peak) = report["peak_rss_mib"].as_f64() {
        println!("peak memory {peak:>7} MiB");
    }
    Ok(())
}
