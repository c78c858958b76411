//! `host-train explain`.

use crate::trained::TrainedRun;
use anyhow::{Context, Result, bail};
use data::frames;
use edge_runtime::explain::{Heat, overlay};
use edge_runtime::finding::STATEMENT;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::process::files::{check_outputs, write_together};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use std::path::{Path, PathBuf};

/// Longest side of a picture.
const SIDE: u32 = 512;

#[derive(clap::Args)]
pub struct Args {
    /// Folder of a finished run
    #[arg(long)]
    run: PathBuf,
    /// Radiographs
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Folder for NAME.grad-cam.png and NAME.saliency.png
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

pub fn run(args: &Args, progress: &Reporter) -> Result<()> {
    let trained = TrainedRun::open(&args.run)?;
    let input = trained.recipe.input.contract();
    if !trained.model().is_file() {
        bail!("{}: the run is not finished: go on with `host-train train --resume`", args.run.display());
    }
    let explainer = trained.explainer(&trained.recipe.data.classes.labels(), input.clone())?;
    let outputs: Vec<[PathBuf; 2]> = args.images.iter().map(|image| names(&args.out, image)).collect();
    let inputs: Vec<&Path> = args.images.iter().map(PathBuf::as_path).collect();
    let all: Vec<&Path> = outputs.iter().flatten().map(PathBuf::as_path).collect();
    check_outputs(&all, &inputs)?;
    for (i, path) in all.iter().enumerate() {
        if all[..i].contains(path) {
            bail!("{}: two of the images have this name; explain them into two folders", path.display());
        }
    }
    std::fs::create_dir_all(&args.out).with_context(|| format!("{}", args.out.display()))?;
    for (i, (image, [grad_cam, saliency])) in args.images.iter().zip(&outputs).enumerate() {
        let plane = frames::radiograph(image).with_context(|| format!("{}", image.display()))?.plane;
        let explanation = explainer.explain(&preprocess(&plane, &input));
        let png = |heat: &Heat| overlay(&plane, Some(heat), &input, SIDE).to_png();
        let pictures = [png(&explanation.grad_cam)?, png(&explanation.saliency)?];
        write_together(&[(grad_cam, &pictures[0]), (saliency, &pictures[1])])
            .map_err(|(path, e)| anyhow::anyhow!("{}: {e}", path.display()))?;
        progress.step("explaining", i + 1, args.images.len(), "");
    }
    let lines: Vec<String> = all.iter().map(|path| path.display().to_string()).collect();
    Ok(output::line(format!("{}\n{STATEMENT}", lines.join("\n")))?)
}

fn names(folder: &Path, image: &Path) -> [PathBuf; 2] {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    ["grad-cam", "saliency"].map(|kind| folder.join(format!("{stem}.{kind}.png")))
}
