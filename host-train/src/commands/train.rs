//! `host-train train`.

use super::report::{self, Asked};
use crate::device::{self, DeviceKind};
use crate::network::Operators;
use crate::recipe::{RECIPES, Recipe};
use crate::training::{self, Options, Teachers};
use anyhow::{Context, Result, bail};
use data::metrics::printed;
use data::{Dataset, Split};
use edge_runtime::engine::Compute;
use edge_runtime::image::folder::image_files;
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A recipe file, or the name of a built-in one: `host-train recipes` lists them
    #[arg(long)]
    recipe: String,
    /// A data folder as published (Kermany, NIH ChestX-ray14, CheXpert, RSNA), a list of images as CSV (path, label,
    /// and what else is known), or a manifest of `prepare`; given several times, all are one data set
    #[arg(long, required = true)]
    data: Vec<PathBuf>,
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
    /// A model to learn from, for recipes with distillation.share; several teach with one voice. A .hilum is
    /// asked fastest
    #[arg(long, value_name = "MODEL")]
    teacher: Vec<PathBuf>,
    /// Keep decoded images in this folder, at the network's size: the next run that asks for them starts at once
    #[arg(long, value_name = "DIR")]
    frame_cache: Option<PathBuf>,
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

/// True if both are the same folder, which is there.
fn same_folder(a: &Path, b: &Path) -> bool {
    let [a, b] = [a, b].map(|path| std::fs::canonicalize(path).ok());
    a.is_some() && a == b
}

pub fn run(args: Args, compute: &Compute, progress: Reporter) -> Result<()> {
    let (recipe, recipe_text) = recipe(&args.recipe)?;
    let (device, own) = device::open(args.device)?;
    let listed = |done, of| progress.step("reading the data set", done, of, "");
    let mut dataset = Dataset::open(&args.data, &recipe.data, recipe.seed, listed)?;
    dataset.require_classes(&recipe.data, &args.data[0])?;
    if let Some(ages) = recipe.population.ages {
        dataset.keep_ages(ages);
    }
    if args.data.iter().any(|data| same_folder(data, &args.out)) {
        bail!("{}: the run would lie among its data: choose another --out", args.out.display());
    }
    dataset.left_out().iter().chain(&dataset.remarks).for_each(|line| progress.line(line));
    let teachers = Teachers::load(&args.teacher, &dataset.labels, recipe.distillation.share, compute)?;
    let options = Options {
        recipe,
        recipe_text,
        dataset,
        out: args.out.clone(),
        weights: args.weights,
        frame_cache: args.frame_cache,
        others: args.others.as_deref().map(others).transpose()?.unwrap_or_default(),
        teachers,
        resume: args.resume,
        device,
        operators: if args.burn_operators { Operators::Burn } else { own },
    };
    let m = training::train(options, &progress)?;
    let asked = Asked { run: &args.out, data: &[], split: Split::Val, balanced: false, model: None, out: &args.out };
    report::write(&asked, compute, &progress)?;
    drop(progress);
    output::line(format!(
        "validation, by patient, {} images: AUROC {}, accuracy {}\n\
         operating point: threshold {:.3}, sensitivity {}, specificity {}\n\
         report: {}\n\
         Next: quantize {}",
        m.n,
        printed(m.auroc, 4),
        printed(m.accuracy, 3),
        m.threshold,
        printed(m.sensitivity, 3),
        printed(m.specificity, 3),
        args.out.join("report.html").display(),
        args.out.join("model.onnx").display()
    ))?;
    Ok(())
}
