//! `host-train train`.

use crate::device::{self, DeviceKind};
use crate::network::Operators;
use crate::recipe::Recipe;
use crate::training::{self, Options};
use anyhow::{Context, Result, bail};
use data::Dataset;
use data::metrics::printed;
use edge_runtime::image::folder::image_files;
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use std::path::{Path, PathBuf};

/// The recipes that ship with the program, by name.
const RECIPES: [(&str, &str); 5] = [
    ("mobilenet-v2", include_str!("../../recipes/mobilenet-v2.toml")),
    ("mobilenet-v2-160", include_str!("../../recipes/mobilenet-v2-160.toml")),
    ("mobilenet-v2-probe", include_str!("../../recipes/mobilenet-v2-probe.toml")),
    ("phantom-cnn", include_str!("../../recipes/phantom-cnn.toml")),
    ("regularised-cnn", include_str!("../../recipes/regularised-cnn.toml")),
];

#[derive(clap::Args)]
pub struct Args {
    /// A recipe file, or the name of a built-in one: mobilenet-v2, mobilenet-v2-160, mobilenet-v2-probe, phantom-cnn,
    /// regularised-cnn
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
    /// Radiographs of people that the model is not for, such as adults where it learns children: what tells them apart
    /// is kept in the model, which marks such images
    #[arg(long, value_name = "DIR")]
    others: Option<PathBuf>,
    /// Go on from the last checkpoint in --out
    #[arg(long)]
    resume: bool,
    /// Where to train
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// Train on burn's operators instead of Hilum's: slower, to compare
    #[arg(long)]
    burn_operators: bool,
}

/// The built-in recipe of this name, or the recipe file, and its text.
pub(super) fn recipe(name: &str) -> Result<(Recipe, String)> {
    Ok(match RECIPES.iter().find(|(n, _)| *n == name) {
        Some((_, text)) => Recipe::parse(text, Path::new(name))?,
        None if Path::new(name).is_file() => Recipe::load(Path::new(name))?,
        None => {
            let names: Vec<_> = RECIPES.iter().map(|r| r.0).collect();
            bail!("{name}: neither a file nor one of the built-in recipes {}", names.join(", "));
        }
    })
}

fn others(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = image_files(folder).with_context(|| format!("{}", folder.display()))?;
    if files.is_empty() {
        bail!("{}: the folder holds no images", folder.display());
    }
    Ok(files)
}

pub fn run(args: Args, progress: Reporter) -> Result<()> {
    let (recipe, recipe_text) = recipe(&args.recipe)?;
    let (device, own) = device::open(args.device)?;
    let listed = |done, of| progress.step("reading the data set", done, of, "");
    let dataset = Dataset::open(&args.data, recipe.seed, listed)?;
    for file in &dataset.unreadable {
        progress.line(&format!("left out: {}: {}", file.path.display(), file.reason));
    }
    let options = Options {
        recipe,
        recipe_text,
        dataset,
        out: args.out.clone(),
        weights: args.weights,
        others: args.others.as_deref().map(others).transpose()?.unwrap_or_default(),
        resume: args.resume,
        device,
        operators: if args.burn_operators { Operators::Burn } else { own },
    };
    let m = training::train(options, &progress)?;
    drop(progress);
    output::line(format!(
        "validation, by patient, {} images: AUROC {}, accuracy {}\n\
         operating point: threshold {:.3}, sensitivity {}, specificity {}\n\
         Next: quantize {}",
        m.n,
        printed(m.auroc, 4),
        printed(m.accuracy, 3),
        m.threshold,
        printed(m.sensitivity, 3),
        printed(m.specificity, 3),
        args.out.join("model.onnx").display()
    ))?;
    Ok(())
}
