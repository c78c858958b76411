//! `edge-runtime inspect`.

use super::ModelSource;
use crate::engine::kernels;
use crate::finding::STATEMENT;
use crate::model::Model;
use crate::model::calibration::{Calibration, Profile};
use crate::model::contract::{Activation, InputContract, OperatingPoint, Provenance};
use crate::network::{Network, Node};
use crate::process::{Failure, Process, output};
use crate::site::SiteId;
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A .hilum bundle or .onnx model; without it the embedded default
    model: Option<PathBuf>,
    /// Take it only if it is signed with one of these public keys (`quantize keygen` writes them)
    #[arg(long, value_name = "FILE", requires = "model")]
    model_keys: Option<PathBuf>,
    /// A site profile that decides instead of the model: show the model as it is then
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a model is.
#[derive(Serialize)]
struct Report<'a> {
    name: &'a str,
    version: &'a str,
    format: &'static str,
    digest: &'a str,
    bytes: usize,
    /// The public key that it is signed with.
    signer: Option<&'a str>,
    /// The site profile that decides.
    site: Option<&'a SiteId>,
    input: &'a InputContract,
    labels: &'a [String],
    positive: u32,
    activation: Activation,
    operating_point: &'a OperatingPoint,
    calibration: &'a Calibration,
    ages: Option<[f32; 2]>,
    knows_training_images: bool,
    provenance: &'a Provenance,
    heatmap: bool,
    kernel: &'static str,
    kernels_available: Vec<&'static str>,
    macs: Option<u64>,
    layers: Option<Vec<Layer<'a>>>,
}

/// A layer of the integer network.
#[derive(Serialize)]
struct Layer<'a> {
    name: &'a str,
    operator: String,
    output: Option<String>,
    weights: u64,
    macs: u64,
}

pub fn run(args: Args, process: Process) -> Result<u8, Failure> {
    let compute = process.compute(1)?;
    let source =
        ModelSource { path: args.model.as_deref(), keys: args.model_keys.as_deref(), site: args.site.as_deref() };
    let model = source.load(&compute)?;
    let report = Report::new(&model);
    match args.json {
        true => output::json(&report, true)?,
        false => output::line(text(&report, model.contract.positive_label()))?,
    }
    Ok(0)
}

impl<'a> Report<'a> {
    fn new(model: &'a Model) -> Report<'a> {
        let contract = &model.contract;
        Report {
            name: &contract.provenance.name,
            version: &contract.provenance.version,
            format: model.format.name(),
            digest: &model.digest,
            bytes: model.size,
            signer: model.signer.as_deref(),
            site: model.site.as_ref(),
            input: &contract.input,
            labels: &contract.labels,
            positive: contract.positive,
            activation: contract.activation,
            operating_point: &contract.operating_point,
            calibration: &contract.calibration,
            ages: contract.domain.ages,
            knows_training_images: contract.domain.images.is_some(),
            provenance: &contract.provenance,
            heatmap: model.has_map(),
            kernel: model.kernel(),
            kernels_available: kernels::available().iter().map(|k| k.name).collect(),
            macs: model.network.as_ref().map(Network::macs),
            layers: model.network.as_ref().map(layers),
        }
    }
}

fn layers(network: &Network) -> Vec<Layer<'_>> {
    network.nodes.iter().map(|node| layer(network, node)).collect()
}

fn layer<'a>(network: &Network, node: &'a Node) -> Layer<'a> {
    let shape = |value: u32| {
        let [height, width, channels] = network.values[value as usize].shape;
        format!("{height}×{width}×{channels}")
    };
    Layer {
        name: &node.name,
        operator: node.op.describe(),
        output: node.output.map(shape),
        weights: network.node_weights(node),
        macs: network.node_macs(node),
    }
}

fn text(report: &Report, positive_label: &str) -> String {
    let point = report.operating_point;
    let input = report.input;
    let mut lines = Vec::new();
    let mut row = |key: &str, value: String| lines.push(format!("{key:<16} {value}"));
    row("model", format!("{} (Hilum {})", report.name, report.version));
    row("format", format!("{}, {:.1} KiB", report.format, report.bytes as f64 / 1024.0));
    row("digest", report.digest.to_owned());
    row("signature", report.signer.map_or("none".into(), |key| format!("of the public key {key}")));
    if let Some(site) = report.site {
        row("site", site.in_words());
    }
    row(
        "input",
        format!(
            "{0}×{0}, {1} channel(s), {2:?}, (pixel − {3:?}) / {4:?}",
            input.size, input.channels, input.resize, input.mean, input.std
        ),
    );
    row("labels", format!("{} (looked for: {positive_label})", report.labels.join(", ")));
    row("output", report.activation.name().to_owned());
    row("operating point", format!("probability {:.4}: {}", point.threshold, point.rule));
    let validation = match point.images {
        0 => "none: nobody chose it on images".to_owned(),
        n => format!("sensitivity {:.4}, specificity {:.4} on {n} images", point.sensitivity, point.specificity),
    };
    row("  validation", validation);
    for Profile { name, point } in &report.calibration.profiles {
        row(&format!("  {name}"), format!("probability {:.4}: {}", point.threshold, point.rule));
    }
    let uncertain = report.calibration.uncertain;
    row("uncertain", uncertain.map_or("never".into(), |[low, high]| format!("from {low:.4} to {high:.4}")));
    row("temperature", format!("{:.3}", report.calibration.temperature));
    row("ages", report.ages.map_or("unknown".into(), |[from, to]| format!("trained on {from} to {to} years")));
    let outside = if report.knows_training_images { "marked" } else { "not known to the model, so not marked" };
    row("unlike training", outside.into());
    for (name, value) in &report.provenance.metrics {
        row(&format!("  {name}"), format!("{value:.4}"));
    }
    row("heat map", if report.heatmap { "class activation map".into() } else { "none".into() });
    row("training data", format!("digest {}", report.provenance.data_digest));
    row("seed", report.provenance.seed.to_string());
    for step in &report.provenance.history {
        row("history", step.clone());
    }
    row("kernel", format!("{} (this processor has {})", report.kernel, report.kernels_available.join(", ")));
    if let Some(macs) = report.macs {
        row("work", format!("{:.1} million multiply-accumulates", macs as f64 / 1e6));
    }
    if let Some(layers) = &report.layers {
        let heads = format!("\n{:<28} {:<22} {:>14} {:>10} {:>12}", "layer", "operator", "output", "weights", "MAC");
        lines.push(heads);
        lines.extend(layers.iter().map(|l| {
            let output = l.output.as_deref().unwrap_or("");
            format!("{:<28} {:<22} {output:>14} {:>10} {:>12}", l.name, l.operator, l.weights, l.macs)
        }));
    }
    lines.push(format!("\n{STATEMENT}"));
    lines.join("\n")
}
