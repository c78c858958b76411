use anyhow::{Context, Result};
use edge_runtime::files::write_atomically;
use edge_runtime::progress::Reporter;
use quantize::dataset::{Dataset, LABELS, Split};
use serde_json::{Value, json};
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

pub fn run(args: Args, progress: &Reporter) -> Result<()> {
    let set = Dataset::scan(&args.data, args.seed, |done, of| progress.step("reading images", done, of, ""))?;
    write_atomically(&args.out, set.manifest().as_bytes()).with_context(|| format!("{}", args.out.display()))?;
    let summary = summary(&set);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
        return Ok(());
    }
    println!("{:<7} {:<10} {:>7} {:>9} {:>11} {:>13}", "split", "class", "images", "patients", "mean grey", "grey std");
    for row in summary["classes"].as_array().into_iter().flatten() {
        println!(
            "{:<7} {:<10} {:>7} {:>9} {:>11.1} {:>13.1}",
            row["split"].as_str().unwrap_or(""),
            row["class"].as_str().unwrap_or(""),
            row["images"].as_u64().unwrap_or(0),
            row["patients"].as_u64().unwrap_or(0),
            row["mean_grey"].as_f64().unwrap_or(0.0),
            row["grey_std"].as_f64().unwrap_or(0.0)
        );
    }
    println!("sizes: {}", summary["sizes"].as_str().unwrap_or(""));
    println!("{} groups of identical files, {} files in them", summary["duplicate_groups"], summary["duplicate_files"]);
    for (path, why) in &set.unreadable {
        println!("left out: {}: {why}", path.display());
    }
    for remark in &set.remarks {
        println!("{remark}");
    }
    println!("manifest: {}", args.out.display());
    Ok(())
}

fn summary(set: &Dataset) -> Value {
    let mut classes = Vec::new();
    for split in [Split::Train, Split::Val, Split::Test] {
        for (label, name) in LABELS.iter().enumerate() {
            let items: Vec<_> = set.of(split).into_iter().filter(|i| usize::from(i.label) == label).collect();
            if items.is_empty() {
                continue;
            }
            let patients: BTreeSet<&str> = items.iter().map(|i| i.patient.as_str()).collect();
            let mean = |f: fn(&quantize::dataset::Item) -> f32| {
                items.iter().map(|i| f64::from(f(i))).sum::<f64>() / items.len() as f64
            };
            classes
                .push(json!({"split": split.name(), "class": name, "images": items.len(), "patients": patients.len(),
                "mean_grey": mean(|i| i.mean), "grey_std": mean(|i| i.std)}));
        }
    }
    let mut sizes: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for i in &set.items {
        *sizes.entry((i.width, i.height)).or_default() += 1;
    }
    let sizes = match sizes.len() {
        1..=4 => sizes.iter().map(|((w, h), n)| format!("{w}×{h}: {n}")).collect::<Vec<_>>().join(", "),
        n => {
            let span = |f: fn(&quantize::dataset::Item) -> u32| {
                let all = set.items.iter().map(f);
                format!("{} to {}", all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
            };
            format!("{n} different, {} wide, {} high", span(|i| i.width), span(|i| i.height))
        }
    };
    let duplicates = set.duplicates();
    json!({
        "images": set.items.len(),
        "classes": classes,
        "sizes": sizes,
        "duplicate_groups": duplicates.len(),
        "duplicate_files": duplicates.iter().map(Vec::len).sum::<usize>(),
        "unreadable": set.unreadable.iter().map(|(p, e)| json!({"file": p, "reason": e})).collect::<Vec<_>>(),
        "remarks": set.remarks,
        "digest": set.digest(),
    })
}
