use super::{Device, Failure};
use crate::board::Board;
use crate::files::write_atomically;
use crate::heatmap::{Heat, Picture, overlay};
use crate::inputs::image_files;
use crate::model::{Format, Model};
use crate::progress::{Reporter, sentence};
use crate::scan::{Finding, ModelId, in_words, scan};
use crate::screen::DISCLAIMER;
use anyhow::{Context, anyhow};
use serde::Serialize;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

/// Longest side of a heat map in pixels.
const HEATMAP_SIDE: u32 = 1024;

#[derive(clap::Args)]
pub struct Args {
    /// PNG or JPEG radiographs, or folders of them
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    device: Device,
    /// One line of JSON for each image
    #[arg(long)]
    json: bool,
    /// Write the radiograph with the class activation map over it (one image only)
    #[arg(long, value_name = "OUT.png")]
    heatmap: Option<PathBuf>,
    /// Write what the device's display shows (one image only)
    #[arg(long, value_name = "OUT.png")]
    screen: Option<PathBuf>,
}

#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    sha256: &'a str,
    label: &'a str,
    probability: f32,
    threshold: f32,
    positive: bool,
    model: ModelId<'a>,
    image: ImageInfo,
    latency_ms: Latency,
    budget_ms: f64,
    within_budget: bool,
    board: &'a str,
    disclaimer: &'static str,
}

#[derive(Serialize)]
struct ImageInfo {
    width: u32,
    height: u32,
    format: &'static str,
}

#[derive(Serialize)]
struct Latency {
    read: f64,
    decode: f64,
    preprocess: f64,
    infer: f64,
    explain: f64,
    render: f64,
    total: f64,
}

pub fn run(args: Args) -> Result<u8, Failure> {
    let (mut files, mut failed) = (Vec::new(), 0usize);
    let mut refuse = |path: &Path, why: String| {
        failed += 1;
        if args.json {
            let line = serde_json::json!({"file": path.display().to_string(), "error": why});
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        eprintln!("edge-runtime: {}: {why}", path.display());
    };
    let (model, board) = args.device.open()?;
    for path in &args.images {
        if path.is_dir() {
            match image_files(path) {
                Ok(found) if found.is_empty() => refuse(path, "the folder holds no PNG or JPEG images".into()),
                Ok(found) => files.extend(found),
                Err(e) => refuse(path, format!("the folder cannot be read ({e})")),
            }
        } else {
            files.push(path.clone());
        }
    }
    if (args.heatmap.is_some() || args.screen.is_some()) && files.len() > 1 {
        return Err(Failure::Usage(anyhow!("--heatmap and --screen take one image, not {}", files.len())));
    }
    if args.heatmap.is_some() && !model.has_map() {
        return Err(Failure::Usage(anyhow!(
            "model {} has no class activation map (only networks that end in global average pooling do): leave --heatmap out",
            model.contract.provenance.name
        )));
    }
    if !args.json && model.format == Format::OnnxF32 {
        eprintln!(
            "hint: this model runs in float; `quantize` makes it a quarter of the size and more than twice as fast"
        );
    }
    let progress = Reporter::new(files.len() < 2);
    for (i, path) in files.iter().enumerate() {
        match scan(path, &model, &board) {
            Ok(finding) => {
                report(path, &finding, &model, &board, args.json).map_err(Failure::Work)?;
                if let Err(e) = write_pictures(&args, &finding, &model) {
                    failed += 1;
                    eprintln!("edge-runtime: {}", sentence(&e));
                }
            }
            Err(e) => {
                failed += 1;
                if args.json {
                    let line = serde_json::json!({"file": path.display().to_string(), "error": e.to_string()});
                    say(&line.to_string()).map_err(Failure::Work)?;
                }
                // Said even where progress is not: a folder of one bad file must not look like success.
                let text = format!("edge-runtime: {}: {e}", path.display());
                if files.len() < 2 { eprintln!("{text}") } else { progress.line(&text) }
            }
        }
        progress.step("scanning", i + 1, files.len(), "");
    }
    Ok(u8::from(failed > 0))
}

/// A line on stdout. A reader that went away (`| head`) is no error of ours.
fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("writing to stdout"),
    }
}

fn report(path: &Path, f: &Finding, model: &Model, board: &Board, json: bool) -> anyhow::Result<()> {
    let (file, point) = (path.display().to_string(), &model.contract.operating_point);
    let (total, budget) = (f.latency.total(), board.budget_ms.total());
    let round = |v: f64| (v * 1000.0).round() / 1000.0;
    if json {
        let l = &f.latency;
        let line = Line {
            file: &file,
            sha256: &f.sha256,
            label: if f.positive { model.contract.positive_label() } else { model.contract.negative_label() },
            probability: f.inference.probability,
            threshold: point.threshold,
            positive: f.positive,
            model: ModelId::of(model),
            image: ImageInfo { width: f.width, height: f.height, format: f.format },
            latency_ms: Latency {
                read: round(l.read),
                decode: round(l.decode),
                preprocess: round(l.preprocess),
                infer: round(l.infer),
                explain: round(l.explain),
                render: round(l.render),
                total: round(total),
            },
            budget_ms: budget,
            within_budget: total <= budget,
            board: &board.name,
            disclaimer: DISCLAIMER,
        };
        return say(&serde_json::to_string(&line)?);
    }
    let stages: Vec<String> = f.latency.stages().iter().map(|(n, ms)| format!("{n} {ms:.1}")).collect();
    let basis = match point.images {
        0 => "operating point not tuned".to_owned(),
        n => format!(
            "chosen for sensitivity {:.1} %, specificity {:.1} % on {n} validation images",
            point.sensitivity * 100.0,
            point.specificity * 100.0
        ),
    };
    let relation = if f.positive { "at or above" } else { "below" };
    let fits = if total <= budget { "within" } else { "OVER" };
    say(&format!(
        "{file}\n  Finding      {}\n  Probability  {:.3}, {relation} the operating point {:.3} ({basis})\n  \
         Latency      {} = {total:.1} ms, {fits} the {budget:.0} ms budget of {}\n  \
         For research and screening support, not a diagnosis: a clinician decides.",
        in_words(f.positive, model.contract.positive_label()),
        f.inference.probability,
        point.threshold,
        stages.join(" + "),
        board.title,
    ))
}

fn write_pictures(args: &Args, f: &Finding, model: &Model) -> anyhow::Result<()> {
    if let Some(path) = &args.screen {
        write_png(path, &f.screen)?;
    }
    if let Some(path) = &args.heatmap {
        let heat = Heat::of(&f.inference, model.contract.operating_point.threshold);
        write_png(path, &overlay(&f.radiograph, heat.as_ref(), &model.contract.input, HEATMAP_SIDE))?;
    }
    Ok(())
}

fn write_png(path: &Path, picture: &Picture) -> anyhow::Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    let format = image::ImageFormat::Png;
    image::write_buffer_with_format(
        &mut bytes,
        &picture.rgb,
        picture.width,
        picture.height,
        image::ColorType::Rgb8,
        format,
    )?;
    write_atomically(path, &bytes.into_inner()).with_context(|| format!("{} cannot be written", path.display()))
}
