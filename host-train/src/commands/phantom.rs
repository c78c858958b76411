//! `host-train phantom`.

use crate::phantom::chest;
use anyhow::{Context, Result, ensure};
use data::Classes;
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use image::codecs::jpeg::JpegEncoder;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Folder to write; must be empty or absent
    dir: PathBuf,
    /// Images in train/ (a quarter as many in test/)
    #[arg(long, default_value_t = 240, value_parser = clap::value_parser!(u64).range(16..=100_000))]
    images: u64,
    /// Every pixel follows from it
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(args: Args, progress: Reporter) -> Result<()> {
    let dir = &args.dir;
    let named = || format!("{}", dir.display());
    if dir.exists() {
        let empty = std::fs::read_dir(dir).with_context(named)?.next().is_none();
        ensure!(empty, "{} is not empty: give a new folder", dir.display());
    }
    let sets = [("train", args.images), ("test", args.images / 4)];
    let total: u64 = sets.iter().map(|s| s.1).sum();
    let labels = Classes::Pneumonia.labels();
    let mut number = 0;
    let mut first_patient = 0;
    for (split, count) in sets {
        for name in labels.names() {
            std::fs::create_dir_all(dir.join(split).join(name)).with_context(named)?;
        }
        for i in 0..count {
            let pneumonia = i % 2 == 1;
            let image = chest(args.seed.wrapping_mul(1_000_003).wrapping_add(number), pneumonia);
            number += 1;
            // Kermany's names, two images of each patient; no patient is in both splits.
            let patient = first_patient + i / 4;
            let shot = (i / 2) % 2 + 1;
            let file = match pneumonia {
                true => format!("person{patient}_bacteria_{number}.jpeg"),
                false => format!("IM-{patient:04}-{shot:04}-{number:04}.jpeg"),
            };
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 92).encode_image(&image).context("encoding a phantom")?;
            let path = dir.join(split).join(&labels.names()[usize::from(pneumonia)]).join(file);
            write_atomically(&path, &bytes).with_context(|| format!("{}", path.display()))?;
            progress.step("phantoms", number as usize, total as usize, "");
        }
        first_patient += count.div_ceil(4);
    }
    drop(progress);
    let dir = dir.display();
    output::line(format!("{total} synthetic chests in {dir} (train/, test/)"))?;
    output::line(format!(
        "Next: host-train prepare {dir} && host-train train --recipe phantom-cnn --data manifest.csv --out run"
    ))?;
    Ok(())
}
