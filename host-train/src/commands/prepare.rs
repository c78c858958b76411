//! `host-train prepare`.

use crate::report::Looks;
use anyhow::Result;
use data::{Dataset, Item, PixelStatistics, Reading, Split, frames, manifest};
use edge_runtime::process::files::{check_outputs, may_replace, write_together};
use edge_runtime::process::output;
use edge_runtime::process::progress::Reporter;
use edge_runtime::report::html::HTML_HEAD;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// A data folder as published (Kermany, NIH ChestX-ray14, CheXpert, RSNA) or a list of images as CSV; several are
    /// one data set
    #[arg(required = true)]
    data: Vec<PathBuf>,
    /// Read it as this recipe does: a file, or the name of a built-in one
    #[arg(long, value_name = "RECIPE")]
    recipe: Option<String>,
    /// Where the manifest goes
    #[arg(long, default_value = "manifest.csv")]
    out: PathBuf,
    /// Seed of the split; the same data and seed give the same split [default: the recipe's, or 1]
    #[arg(long)]
    seed: Option<u64>,
    /// Also write a page with grey levels, mean images and what is known of the patients
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
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
    #[serde(skip)]
    left_out: Vec<String>,
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
    may_replace(&args.out, manifest::HEAD)?;
    args.html.iter().try_for_each(|path| may_replace(path, HTML_HEAD))?;
    let recipe = args.recipe.as_deref().map(super::train::recipe).transpose()?.map(|(recipe, _)| recipe);
    let (reading, seed) = recipe.map_or((Reading::default(), 1), |recipe| (recipe.data, recipe.seed));
    let mut set = Dataset::index(&args.data, &reading, args.seed.unwrap_or(seed), listed)?;
    let images: Vec<PathBuf> = set.items.iter().map(|i| set.path(i)).collect();
    let outputs: Vec<&Path> = [Some(args.out.as_path()), args.html.as_deref()].into_iter().flatten().collect();
    check_outputs(&outputs, &images.iter().map(PathBuf::as_path).collect::<Vec<_>>())?;
    let looks = Looks::new(&set.labels);
    let decoded = |done, of| progress.step("decoding images", done, of, "");
    frames::load(&mut set, &Split::ALL, decoded, |item, radiograph| looks.add(item, &radiograph.plane))?;
    let summary = Summary::new(&set);
    let manifest = manifest::write(&set);
    let page = looks.page(&set, &summary.text());
    let texts = [manifest.as_bytes(), page.as_bytes()];
    let files: Vec<(&Path, &[u8])> = outputs.into_iter().zip(texts).collect();
    write_together(&files).map_err(|(path, e)| anyhow::anyhow!("{}: {e}", path.display()))?;
    drop(progress);
    match args.json {
        true => output::json(&summary, true)?,
        false => {
            let page = args.html.as_ref().map_or(String::new(), |path| format!("\npage: {}", path.display()));
            output::line(format!("{}\nmanifest: {}{page}", summary.text(), args.out.display()))?;
        }
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
            left_out: set.left_out(),
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
        lines.extend(self.left_out.iter().cloned());
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
