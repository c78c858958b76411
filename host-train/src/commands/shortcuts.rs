//! `host-train shortcuts`.

use anyhow::{Context, Result, bail};
use data::metrics::printed;
use data::readers::list;
use data::shortcuts::{Labelled, Shortcut, conflicts, shortcuts};
use data::{Dataset, Item, Reading, Split, frames};
use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::process::files::{may_replace, write_atomically};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use serde::Serialize;
use std::path::PathBuf;

/// Side at which pictures are compared.
const SIDE: u32 = 160;

#[derive(clap::Args)]
pub struct Args {
    /// A data folder as published (Kermany, NIH ChestX-ray14, CheXpert, RSNA), a list of images as CSV, or a manifest
    /// of `prepare`; several folders or lists are one data set
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// Seed of the split, for a folder
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the validation images that the rule of all numbers puts into the other class as a list, to judge models
    /// on: `evaluate --data FILE --split all`
    #[arg(long, value_name = "FILE.csv")]
    conflicts: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What tells the label without lungs.
#[derive(Serialize)]
struct Report {
    train_images: usize,
    validation_images: usize,
    shortcuts: Vec<Shortcut>,
}

/// One side of the split.
#[derive(Default)]
struct Side {
    frames: Vec<GreyPlane>,
    labels: Vec<usize>,
    /// Which items of the data set they are.
    items: Vec<usize>,
}

pub fn run(args: Args, progress: Reporter) -> Result<u8> {
    args.conflicts.iter().try_for_each(|path| may_replace(path, list::HEAD))?;
    let listed = |done, of| progress.step("reading the data set", done, of, "");
    let mut dataset = Dataset::open(&args.data, &Reading::default(), args.seed, listed)?;
    dataset.require(Split::Train)?;
    dataset.require(Split::Val)?;
    let decoded = |done, of| progress.step("decoding images", done, of, "");
    let frame = |_: &Item, radiograph: &Radiograph| radiograph.plane.resized(SIDE, SIDE);
    let loaded = frames::load(&mut dataset, &[Split::Train, Split::Val], decoded, frame)?;
    dataset.left_out().iter().for_each(|line| progress.line(line));
    let mut train = Side::default();
    let mut validation = Side::default();
    for (i, frame) in loaded {
        let item = &dataset.items[i];
        let side = if item.split == Split::Train { &mut train } else { &mut validation };
        side.frames.push(frame);
        side.labels.push(item.label);
        side.items.push(i);
    }
    let [train_truths, truths] = [&train, &validation].map(|side| dataset.labels.truths(side.labels.iter().copied()));
    let train_side = Labelled { frames: &train.frames, truths: &train_truths };
    let validation_side = Labelled { frames: &validation.frames, truths: &truths };
    let Some(found) = shortcuts(&train_side, &validation_side) else {
        bail!("{}: a class is missing on one side of the split", args.data[0].display());
    };
    if let Some(path) = &args.conflicts {
        let conflicts = conflicts(&train_side, &validation_side).unwrap_or_default();
        let chosen = validation.items.iter().zip(conflicts).filter(|(_, is_conflict)| *is_conflict);
        let items: Vec<&Item> = chosen.map(|(i, _)| &dataset.items[*i]).collect();
        write_atomically(path, list::write(&dataset, &items).as_bytes())
            .with_context(|| format!("{}", path.display()))?;
    }
    let report =
        Report { train_images: train.frames.len(), validation_images: validation.frames.len(), shortcuts: found };
    drop(progress);
    match args.json {
        true => output::json(&report, true)?,
        false => output::line(text(&report))?,
    }
    Ok(u8::from(!dataset.unreadable.is_empty()))
}

fn text(report: &Report) -> String {
    let heading = format!(
        "how well a linear rule tells the label of {} validation images by how they look as a whole, fitted on {} \
         others:\n\n\
         {:<22} {:>8} {:>8} {:>10}",
        report.validation_images, report.train_images, "of", "numbers", "AUROC", "conflicts"
    );
    let row = |s: &Shortcut| format!("{:<22} {:>8} {:>8} {:>10}", s.name, s.numbers, printed(s.auroc, 3), s.conflicts);
    let rows: Vec<String> = report.shortcuts.iter().map(row).collect();
    format!(
        "{heading}\n{}\n\n0.5 is chance. No rule sees more of lungs than brightness and sharpness in large \
         cells. Conflicts are images that the rule puts into the other class: a model that takes the shortcut is wrong \
         on them.",
        rows.join("\n")
    )
}
