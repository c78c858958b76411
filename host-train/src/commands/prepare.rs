//! `host-train prepare`.

use anyhow::{Context, Result};
use data::{Dataset, Item, PixelStatistics, Split, manifest};
use edge_runtime::process::files::{check_outputs, write_atomically};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Folder with NORMAL/ and PNEUMONIA/, directly or in train/, val/, test/
    data: PathBuf,
    /// Where the manifest goes
    #[arg(long, default_value = "manifest.csv")]
    out: PathBuf,
    /// Seed of the split; the same data and seed give the same split
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a data set is like.
#[derive(Serialize)]
struct Summary {
    images: usize,
    classes: Vec<Class>,
    sizes: String,
    duplicate_groups: usize,
    duplicate_files: usize,
    unreadable: Vec<LeftOut>,
    remarks: Vec<String>,
    digest: String,
}

/// The images of one class in one split.
#[derive(Serialize)]
struct Class {
    split: &'static str,
    class: String,
    images: usize,
    patients: usize,
    mean_grey: f64,
    grey_std: f64,
}

#[derive(Serialize)]
struct LeftOut {
    file: PathBuf,
    reason: String,
}

pub fn run(args: Args, progress: Reporter) -> Result<u8> {
    let listed = |done, of| progress.step("reading the data set", done, of, "");
    let mut set = Dataset::index(&args.data, args.seed, listed)?;
    let images: Vec<PathBuf> = set.items.iter().map(|i| set.path(i)).collect();
    check_outputs(&[args.out.as_path()], &images.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    set.measure(|done, of| progress.step("decoding images", done, of, ""))?;
    write_atomically(&args.out, manifest::write(&set).as_bytes()).with_context(|| format!("{}", args.out.display()))?;
    let summary = Summary::new(&set);
    drop(progress);
    match args.json {
        true => output::json(&summary, true)?,
        false => output::line(format!("{}\nmanifest: {}", summary.text(), args.out.display()))?,
    }
    Ok(u8::from(!set.unreadable.is_empty()))
}

impl Summary {
    fn new(set: &Dataset) -> Summary {
        let duplicates = set.duplicates();
        let unreadable = set.unreadable.iter();
        Summary {
            images: set.items.len(),
            classes: classes(set),
            sizes: sizes(set),
            duplicate_groups: duplicates.len(),
            duplicate_files: duplicates.iter().map(Vec::len).sum(),
            unreadable: unreadable.map(|u| LeftOut { file: u.path.clone(), reason: u.reason.clone() }).collect(),
            remarks: set.remarks.clone(),
            digest: set.digest(),
        }
    }

    fn text(&self) -> String {
        let heads = ["split", "class", "images", "patients", "mean grey", "grey std"];
        let [split, class, images, patients, mean, std] = heads;
        let mut lines = vec![format!("{split:<7} {class:<10} {images:>7} {patients:>9} {mean:>11} {std:>13}")];
        lines.extend(self.classes.iter().map(|c| {
            format!(
                "{:<7} {:<10} {:>7} {:>9} {:>11.1} {:>13.1}",
                c.split, c.class, c.images, c.patients, c.mean_grey, c.grey_std
            )
        }));
        lines.push(format!("sizes: {}", self.sizes));
        lines.push(format!(
            "{} groups of identical files, {} files in them",
            self.duplicate_groups, self.duplicate_files
        ));
        if !self.unreadable.is_empty() {
            lines.push(format!("{} files left out:", self.unreadable.len()));
        }
        lines.extend(self.unreadable.iter().map(|u| format!("left out: {}: {}", u.file.display(), u.reason)));
        lines.extend(self.remarks.iter().cloned());
        lines.join("\n")
    }
}

fn classes(set: &Dataset) -> Vec<Class> {
    let mut classes = Vec::new();
    for split in Split::ALL {
        for (label, name) in set.labels.names().iter().enumerate() {
            let items: Vec<&Item> = set.of(split).into_iter().filter(|i| i.label == label).collect();
            if items.is_empty() {
                continue;
            }
            let patients: BTreeSet<&str> = items.iter().map(|i| i.patient.as_str()).collect();
            let mean = |f: fn(&PixelStatistics) -> f32| {
                items.iter().filter_map(|i| i.pixels.as_ref()).map(|p| f64::from(f(p))).sum::<f64>()
                    / items.len() as f64
            };
            classes.push(Class {
                split: split.name(),
                class: name.clone(),
                images: items.len(),
                patients: patients.len(),
                mean_grey: mean(|p| p.mean),
                grey_std: mean(|p| p.std),
            });
        }
    }
    classes
}

/// Sizes with their counts, or their range where there are many.
fn sizes(set: &Dataset) -> String {
    let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for pixels in set.items.iter().filter_map(|i| i.pixels) {
        *sizes.entry((pixels.width, pixels.height)).or_default() += 1;
    }
    match sizes.len() {
        0..=4 => sizes.iter().map(|((w, h), n)| format!("{w}×{h}: {n}")).collect::<Vec<_>>().join(", "),
        n => {
            let span = |side: fn(&(u32, u32)) -> u32| {
                let least = sizes.keys().map(side).min().unwrap_or(0);
                format!("{least} to {}", sizes.keys().map(side).max().unwrap_or(0))
            };
            format!("{n} different, {} wide, {} high", span(|s| s.0), span(|s| s.1))
        }
    }
}
