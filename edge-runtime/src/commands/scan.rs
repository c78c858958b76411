//! `edge-runtime scan`.

use super::{Device, DeviceArgs, LATE, UNSUITABLE};
use crate::display;
use crate::display::text::{Language, Lettering};
use crate::explain::{Heat, overlay};
use crate::finding::{Outcome, Record};
use crate::image::folder::image_files;
use crate::image::source::STDIN;
use crate::image::{Format, Picture};
use crate::model::ModelFormat;
use crate::process::files::{check_outputs, write_atomically};
use crate::process::ordered::in_order;
use crate::process::progress::{Reporter, sentence};
use crate::process::{Failure, Process, output};
use crate::report;
use crate::scan::{Scan, Setting, record, scan};
use crate::stages::Stage;
use crate::suitability::Policy;
use anyhow::{Context, anyhow};
use std::path::{Path, PathBuf};

/// Standard input as a file, if it is one.
const STDIN_FILE: &str = "/dev/stdin";

/// Longest side of a heat map in pixels.
const HEATMAP_SIDE: u32 = 1024;

#[derive(clap::Args)]
pub struct Args {
    /// DICOM, PNG, JPEG or TIFF radiographs, folders of them, or - for standard input
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
    /// What to do with radiographs that are unlike what the model was trained on, not of a chest, lateral, inverted or
    /// rotated
    #[arg(long, value_enum, default_value_t)]
    policy: Policy,
    /// Decide at another operating point of the model (`inspect` lists them), such as triage, balanced or rule-in
    #[arg(long, value_name = "NAME", conflicts_with = "site")]
    profile: Option<String>,
    /// Images that are scanned at once; 0 is one for each processor. Each is timed as it runs, beside the others
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=64))]
    jobs: u32,
    /// End with exit code 5 where an image took longer than the board has for it
    #[arg(long)]
    enforce_budget: bool,
    /// One line of JSON for each image
    #[arg(long)]
    json: bool,
    /// Write the radiograph with the class activation map over it (one image only)
    #[arg(long, value_name = "OUT.png")]
    heatmap: Option<PathBuf>,
    /// Write what the device's display shows (one image only)
    #[arg(long, value_name = "OUT.png")]
    screen: Option<PathBuf>,
    /// The language of the screen
    #[arg(long, value_enum, default_value_t)]
    language: Language,
    /// Write each finding on a DICOM radiograph into this folder, as a picture and a structured report of the patient's
    /// study
    #[cfg(feature = "dicom")]
    #[arg(long, value_name = "DIR")]
    dicom_out: Option<PathBuf>,
}

/// What is to be done, checked.
struct Plan {
    device: Device,
    policy: Policy,
    /// At least 1.
    jobs: usize,
    files: Vec<PathBuf>,
    /// Paths that give no file, each with the reason.
    refused: Vec<(PathBuf, String)>,
    json: bool,
    enforce_budget: bool,
    pictures: Pictures,
    lettering: Lettering,
    #[cfg(feature = "dicom")]
    dicom_out: Option<PathBuf>,
}

/// Which pictures are written besides.
struct Pictures {
    heatmap: Option<PathBuf>,
    screen: Option<PathBuf>,
}

/// The pictures of a scan.
struct Drawn {
    heatmap: Option<Picture>,
    screen: Option<Picture>,
}

impl Args {
    fn plan(self, process: Process) -> Result<Plan, Failure> {
        let mut device = self.device.open(process)?;
        if let Some(name) = &self.profile {
            device.model.contract.select(name).map_err(Failure::usage)?;
        }
        let mut files = Vec::new();
        let mut refused = Vec::new();
        for path in self.images {
            if !path.is_dir() {
                files.push(path);
                continue;
            }
            match image_files(&path) {
                Ok(found) if found.is_empty() => {
                    refused.push((path, format!("the folder holds no {} images", Format::names("or"))));
                }
                Ok(found) => files.extend(found),
                Err(e) => refused.push((path, format!("the folder cannot be read ({e})"))),
            }
        }
        let pictures = Pictures { heatmap: self.heatmap, screen: self.screen };
        if (pictures.heatmap.is_some() || pictures.screen.is_some()) && files.len() > 1 {
            let several = anyhow!("--heatmap and --screen take one image, not {}", files.len());
            return Err(Failure::usage(several));
        }
        let outputs: Vec<&Path> = [&pictures.heatmap, &pictures.screen].into_iter().flatten().map(|p| &**p).collect();
        let board = Path::new(&self.device.board);
        let stdin = files.iter().any(|file| file.as_os_str() == STDIN).then_some(Path::new(STDIN_FILE));
        let files_read = files.iter().chain(&self.device.model).chain(&self.device.site).map(PathBuf::as_path);
        let inputs: Vec<&Path> = files_read.chain([board]).chain(stdin).collect();
        check_outputs(&outputs, &inputs).map_err(Failure::usage)?;
        if pictures.heatmap.is_some() && !device.model.has_map() {
            let name = &device.model.contract.provenance.name;
            return Err(Failure::usage(anyhow!(
                "model {name} has no class activation map (only networks that end in global average pooling do): leave \
                 --heatmap out"
            )));
        }
        Ok(Plan {
            device,
            policy: self.policy,
            jobs: jobs(self.jobs),
            files,
            refused,
            json: self.json,
            enforce_budget: self.enforce_budget,
            pictures,
            lettering: Lettering::load(self.language).map_err(Failure::work)?,
            #[cfg(feature = "dicom")]
            dicom_out: self.dicom_out,
        })
    }
}

fn jobs(asked: u32) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n as usize,
    }
}

/// What came of an image, and of what was to be written for it.
struct Done {
    record: Record,
    written: anyhow::Result<Vec<PathBuf>>,
}

pub fn run(args: Args, process: Process) -> Result<u8, Failure> {
    let plan = args.plan(process)?;
    let progress = Reporter::new(plan.files.len() < 2);
    let mut failed = plan.refused.len();
    let mut unsuitable = false;
    let mut late = false;
    for (path, why) in &plan.refused {
        let record = Record::refused(path.display().to_string(), why.clone());
        plan.report(&record, &progress)?;
    }
    if !plan.json && plan.device.model.format == ModelFormat::OnnxF32 {
        eprintln!(
            "hint: this model runs in float; `quantize` makes it a quarter of the size and more than twice as fast"
        );
    }
    let mut count = 0;
    in_order(
        plan.files.len(),
        plan.jobs,
        |i| plan.scan(&plan.files[i]),
        |done| {
            plan.report(&done.record, &progress)?;
            match done.written {
                Ok(files) => files.iter().for_each(|file| eprintln!("wrote {}", file.display())),
                Err(e) => {
                    failed += 1;
                    eprintln!("edge-runtime: {}", sentence(&e));
                }
            }
            match &done.record.outcome {
                Outcome::Finding(finding) => late |= !finding.within_budget(),
                Outcome::Refusal(refusal) if refusal.unsuitable.is_some() => unsuitable = true,
                Outcome::Refusal(_) => failed += 1,
            }
            count += 1;
            progress.step("scanning", count, plan.files.len(), "");
            Ok::<(), Failure>(())
        },
    )?;
    Ok(match (failed, unsuitable) {
        (0, false) if late && plan.enforce_budget => LATE,
        (0, false) => 0,
        (0, true) => UNSUITABLE,
        _ => 1,
    })
}

impl Plan {
    /// Scans a file and writes what was asked for besides.
    fn scan(&self, path: &Path) -> Done {
        let Device { model, board } = &self.device;
        let mut scan = scan(path, Setting { model, board, policy: self.policy, on_stage: None });
        let drawn = scan.as_mut().ok().map(|scan| self.draw(scan));
        let record = record(path, &scan);
        let written = match (&scan, drawn) {
            (Ok(scan), Some(drawn)) => self.write(&drawn).and_then(|()| self.write_dicom(scan)),
            _ => Ok(vec![]),
        };
        Done { record, written }
    }

    /// Says what came of an image: on stdout, and what went wrong on stderr too.
    fn report(&self, record: &Record, progress: &Reporter) -> Result<(), Failure> {
        if self.json {
            output::line(report::json::line(record))?;
        }
        match &record.outcome {
            Outcome::Finding(finding) if !self.json => {
                output::line(report::text::finding(&record.file, finding, &self.device.board.title))?;
            }
            Outcome::Finding(_) => {}
            Outcome::Refusal(refusal) => {
                // Said even where progress is not: a folder of one bad file must not look like success.
                let text = format!("edge-runtime: {}: {}", record.file, refusal.sentence);
                if self.files.len() < 2 { eprintln!("{text}") } else { progress.line(&text) }
            }
        }
        Ok(())
    }

    /// Draws the pictures that were asked for; what that takes counts for `scan`.
    fn draw(&self, scan: &mut Scan) -> Drawn {
        let Device { model, board } = &self.device;
        let screen = self.pictures.screen.as_ref().map(|_| display::show(scan, model, board, &self.lettering));
        let heatmap = self.pictures.heatmap.as_ref().map(|_| {
            let threshold = scan.finding.operating_point.threshold;
            let evidence = &scan.evidence;
            scan.finding.latency_ms.time(Stage::Explain, || {
                let heat = Heat::of(&evidence.inference, threshold);
                overlay(&evidence.radiograph.plane, heat.as_ref(), &model.contract.input, HEATMAP_SIDE)
            })
        });
        Drawn { heatmap, screen }
    }

    /// Writes the reports of a DICOM radiograph where they are asked for; gives their files.
    #[cfg(feature = "dicom")]
    fn write_dicom(&self, scan: &Scan) -> anyhow::Result<Vec<PathBuf>> {
        let Some(folder) = &self.dicom_out else { return Ok(vec![]) };
        let evidence = &scan.evidence;
        let heat = Heat::of(&evidence.inference, scan.finding.operating_point.threshold);
        let input = &self.device.model.contract.input;
        let picture = overlay(&evidence.radiograph.plane, heat.as_ref(), input, HEATMAP_SIDE);
        let picture = display::annotated(&picture, &scan.finding);
        Ok(report::dicom::write(&evidence.source.bytes, &scan.finding, &picture, folder)?.to_vec())
    }

    #[cfg(not(feature = "dicom"))]
    fn write_dicom(&self, _: &Scan) -> anyhow::Result<Vec<PathBuf>> {
        Ok(vec![])
    }

    fn write(&self, drawn: &Drawn) -> anyhow::Result<()> {
        let pictures = [(&self.pictures.screen, &drawn.screen), (&self.pictures.heatmap, &drawn.heatmap)];
        for (path, picture) in pictures {
            if let (Some(path), Some(picture)) = (path, picture) {
                write_png(path, picture)?;
            }
        }
        Ok(())
    }
}

fn write_png(path: &Path, picture: &Picture) -> anyhow::Result<()> {
    let bytes = picture.to_png()?;
    write_atomically(path, &bytes).with_context(|| format!("{} cannot be written", path.display()))
}
