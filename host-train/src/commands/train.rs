use crate::recipe::Recipe;
use crate::training::{self, Options};
use anyhow::{Result, bail};
use edge_runtime::progress::Reporter;
use quantize::dataset::Dataset;
use std::path::{Path, PathBuf};

/// The recipes that ship with the program, by name.
const RECIPES: [(&str, &str); 3] = [
    ("mobilenet-v2", include_str!("../../recipes/mobilenet-v2.toml")),
    ("phantom-cnn", include_str!("../../recipes/phantom-cnn.toml")),
    ("regularised-cnn", include_str!("../../recipes/regularised-cnn.toml")),
];

#[derive(clap::Args)]
pub struct Args {
    /// A recipe file, or the name of a built-in one: mobilenet-v2, phantom-cnn, regularised-cnn
    #[arg(long)]
    recipe: String,
    /// Data folder (Kermany layout) or a manifest of `prepare`
    #[arg(long)]
    data: PathBuf,
    /// Folder of the run: model.onnx, metrics, checkpoints
    #[arg(long)]
    out: PathBuf,
    /// ImageNet weights (safetensors, torchvision's names), for recipes that start from them
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
}

pub fn run(args: Args, progress: &Reporter) -> Result<()> {
    let recipe = match RECIPES.iter().find(|(name, _)| *name == args.recipe) {
        Some((_, text)) => Recipe::parse(text, Path::new(&args.recipe))?,
        None if Path::new(&args.recipe).is_file() => Recipe::load(Path::new(&args.recipe))?,
        None => {
            let names: Vec<_> = RECIPES.iter().map(|r| r.0).collect();
            bail!("{}: neither a file nor one of the built-in recipes {}", args.recipe, names.join(", "));
        }
    };
    let dataset =
        Dataset::open(&args.data, recipe.0.seed, |done, of| progress.step("reading the data set", done, of, ""))?;
    for (path, why) in &dataset.unreadable {
        progress.line(&format!("left out: {}: {why}", path.display()));
    }
    let options =
        Options { recipe, dataset: &dataset, out: args.out.clone(), weights: args.weights, resume: args.resume };
    let m = training::train(&options, progress)?;
    println!("validation, by patient, {} images: AUROC {:.4}, accuracy {:.3}", m.n, m.auroc, m.accuracy);
    println!(
        "operating point: threshold {:.3}, sensitivity {:.3}, specificity {:.3}",
        m.threshold, m.sensitivity, m.specificity
    );
    println!("Next: quantize {}", args.out.join("model.onnx").display());
    Ok(())
}
