use anyhow::{Context, Result};
use edge_runtime::files::write_atomically;
use edge_runtime::model::Model;
use edge_runtime::progress::Reporter;
use quantize::dataset::{Dataset, Split};
use quantize::evaluation::{labels, probabilities};
use quantize::metrics::Metrics;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// A .onnx (float or int8) or .hilum model
    #[arg(long)]
    model: PathBuf,
    /// Data folder (Kermany layout) or a manifest of `prepare`
    #[arg(long)]
    data: PathBuf,
    /// Which images; without it test, or val where there is no test
    #[arg(long, value_enum)]
    split: Option<SplitName>,
    /// Decide at this threshold instead of the model's own
    #[arg(long)]
    threshold: Option<f32>,
    /// Write each image's probability here, as CSV
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum SplitName {
    Train,
    Val,
    Test,
    All,
}

pub fn run(args: Args, progress: &Reporter) -> Result<()> {
    let model = Model::load(&args.model)?;
    let seed = model.contract.provenance.seed;
    let dataset = Dataset::open(&args.data, seed, |done, of| progress.step("reading the data set", done, of, ""))?;
    for (path, why) in &dataset.unreadable {
        progress.line(&format!("left out: {}: {why}", path.display()));
    }
    let items = match args.split {
        Some(SplitName::Train) => dataset.require(Split::Train)?,
        Some(SplitName::Val) => dataset.require(Split::Val)?,
        Some(SplitName::Test) => dataset.require(Split::Test)?,
        Some(SplitName::All) => dataset.items.iter().collect(),
        None if dataset.of(Split::Test).is_empty() => dataset.require(Split::Val)?,
        None => dataset.require(Split::Test)?,
    };
    let p = probabilities(&model, &dataset, &items, |i| progress.step("evaluating", i, items.len(), ""))?;
    let threshold = args.threshold.unwrap_or(model.contract.operating_point.threshold);
    let m = Metrics::new(&p, &labels(&items), threshold);
    if let Some(path) = &args.predictions {
        let mut text = String::from("file,label,probability\n");
        for (item, p) in items.iter().zip(&p) {
            text.push_str(&format!("\"{}\",{},{p}\n", item.file.replace('"', "\"\""), item.label));
        }
        write_atomically(path, text.as_bytes()).with_context(|| format!("{}", path.display()))?;
    }
    if args.json {
        println!("{}", serde_json::to_string(&m)?);
        return Ok(());
    }
    let c = m.confusion;
    println!("{} images, threshold {:.4}", m.n, m.threshold);
    println!(
        "AUROC {:.4} (95 % {:.4} to {:.4}), average precision {:.4}",
        m.auroc, m.auroc_ci95[0], m.auroc_ci95[1], m.average_precision
    );
    println!("accuracy {:.4}, sensitivity {:.4}, specificity {:.4}", m.accuracy, m.sensitivity, m.specificity);
    println!("precision {:.4}, NPV {:.4}, F1 {:.4}, macro F1 {:.4}", m.precision, m.npv, m.f1, m.macro_f1);
    println!("Brier {:.4}, ECE {:.4}", m.brier, m.ece);
    println!();
    println!("{:>16} {:>14} {:>14}", "", "called normal", "called ill");
    println!("{:>16} {:>14} {:>14}", "normal", c.tn, c.fp);
    println!("{:>16} {:>14} {:>14}", "pneumonia", c.r#fn, c.tp);
    println!("\nFor research and screening support, not a diagnosis.");
    Ok(())
}
