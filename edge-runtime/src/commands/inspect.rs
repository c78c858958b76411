use super::{Failure, load};
use crate::engine::kernels;
use crate::model::Model;
use crate::network::{Network, Node, Op, Window};
use crate::onnx;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A .hilum bundle or .onnx model; without it the embedded default
    model: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<u8, Failure> {
    let model = load(args.model.as_deref())?;
    let c = &model.contract;
    let layers = model.network.as_ref().map(layers);
    let available: Vec<_> = kernels::available().iter().map(|k| k.name).collect();
    if args.json {
        let report = json!({
            "name": c.provenance.name, "version": c.provenance.version, "format": model.format.name(),
            "digest": model.digest, "bytes": model.size, "input": c.input, "labels": c.labels, "positive": c.positive,
            "activation": c.activation, "operating_point": c.operating_point, "provenance": c.provenance,
            "heatmap": model.has_map(), "kernel": model.kernel(), "kernels_available": available,
            "macs": model.network.as_ref().map(Network::macs), "layers": layers,
        });
        println!("{report:#}");
        return Ok(0);
    }
    print_model(&model, &available);
    if let Some(layers) = layers {
        println!("\n{:<28} {:<22} {:>14} {:>10} {:>12}", "layer", "operator", "output", "weights", "MAC");
        for l in layers {
            let text = |k: &str| l[k].as_str().unwrap_or("").to_owned();
            println!(
                "{:<28} {:<22} {:>14} {:>10} {:>12}",
                text("name"),
                text("operator"),
                text("output"),
                l["weights"].as_u64().unwrap_or(0),
                l["macs"].as_u64().unwrap_or(0)
            );
        }
    }
    println!("\nFor research and screening support, not a diagnosis.");
    Ok(0)
}

fn print_model(model: &Model, available: &[&str]) {
    let c = &model.contract;
    let (p, o, i) = (&c.provenance, &c.operating_point, &c.input);
    let row = |k: &str, v: String| println!("{k:<16} {v}");
    row("model", format!("{} (Hilum {})", p.name, p.version));
    row("format", format!("{}, {:.1} KiB", model.format.name(), model.size as f64 / 1024.0));
    row("digest", model.digest.clone());
    row(
        "input",
        format!("{0}×{0}, {1} channel(s), {2:?}, (pixel − {3:?}) / {4:?}", i.size, i.channels, i.resize, i.mean, i.std),
    );
    row("labels", format!("{} (looked for: {})", c.labels.join(", "), c.positive_label()));
    row("operating point", format!("probability {:.4}: {}", o.threshold, o.rule));
    row(
        "  validation",
        format!("sensitivity {:.4}, specificity {:.4} on {} images", o.sensitivity, o.specificity, o.images),
    );
    for (name, value) in &p.metrics {
        row(&format!("  {name}"), format!("{value:.4}"));
    }
    row("heat map", if model.has_map() { "class activation map".into() } else { "none".into() });
    row("training data", format!("digest {}", p.data_digest));
    row("seed", p.seed.to_string());
    for h in &p.history {
        row("history", h.clone());
    }
    row("kernel", format!("{} (this processor has {})", model.kernel(), available.join(", ")));
    if let Some(n) = &model.network {
        row("work", format!("{:.1} million multiply-accumulates", n.macs() as f64 / 1e6));
    }
}

fn layers(network: &Network) -> Vec<Value> {
    let describe = |n: &Node| {
        let pool = |kind: &str, w: &Window| format!("{kind} {}×{}", w.kernel[0], w.kernel[1]);
        let operator = match &n.op {
            Op::Conv { window, groups, weights } => {
                let [h, w] = window.kernel;
                let kind = if *groups == 1 { "conv" } else { "grouped conv" };
                let kind = if *groups as usize == weights.bias.len() && *groups > 1 { "depthwise" } else { kind };
                format!("{kind} {h}×{w} / {}", window.stride[0])
            }
            Op::Dense { .. } => "dense".into(),
            Op::Logits { .. } => "logits".into(),
            Op::MaxPool { window } => pool("max pool", window),
            Op::AveragePool { window, .. } => pool("average pool", window),
            Op::GlobalAveragePool => "global average pool".into(),
            Op::Add => "add".into(),
            Op::Multiply => "multiply".into(),
            Op::Concat => "concat".into(),
            Op::Table { .. } => "table".into(),
            Op::Float { model } => format!("float {}", onnx::operators(model).join(", ")),
        };
        let weights = network.node_weights(n);
        let output = n.output.map(|o| {
            let [h, w, c] = network.values[o as usize].shape;
            format!("{h}×{w}×{c}")
        });
        json!({"name": n.name, "operator": operator, "output": output, "weights": weights, "macs": network.node_macs(n)})
    };
    network.nodes.iter().map(describe).collect()
}
