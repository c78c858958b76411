//! `boards flash`.

use crate::card::image::{Description, application_of, description_path};
use crate::flash::devices::{Device, System};
use crate::flash::{Phase, Written, write};
use anyhow::{Context, anyhow};
use chrono::{SecondsFormat, Utc};
use edge_runtime::config::Config;
use edge_runtime::process::files::{check_outputs, write_atomically};
use edge_runtime::process::progress::Reporter;
use edge_runtime::process::{Failure, output};
use edge_runtime::site::SiteProfile;
use serde::Serialize;
use slots::record::SITE_PROFILE;
use slots::{Block, Disk};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

const MIB: f64 = 1_048_576.0;

#[derive(clap::Args)]
pub struct Args {
    /// The image (`boards build` makes one)
    image: Option<PathBuf>,
    /// The card's device, such as /dev/sdb, or a file
    #[arg(long, value_name = "DEVICE", requires = "image")]
    to: Option<PathBuf>,
    /// What the clinic sets (`edge-runtime config` prints what there is): language, policy, keys
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Write to a disk that is neither a card nor a stick
    #[arg(long)]
    fixed: bool,
    /// Where the record of the writing goes; beside the image without
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Print the record
    #[arg(long)]
    json: bool,
}

/// What is kept for a clinic's papers.
#[derive(Serialize)]
struct Record {
    time: String,
    verdict: &'static str,
    device: PathBuf,
    device_model: String,
    device_bytes: u64,
    image: PathBuf,
    image_sha256: String,
    /// True where the image is the one that its description names.
    is_image_described: bool,
    card_sha256: String,
    bytes: u64,
    seconds: f64,
    settings: Option<String>,
    description: Option<Description>,
    statement: &'static str,
}

/// What is to be done, checked.
struct Plan {
    image: PathBuf,
    description: Option<Description>,
    target: Device,
    settings: Option<String>,
    record: PathBuf,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let Some(to) = &args.to else { return list(args.json) };
    let plan = args.plan(to)?;
    if !args.yes {
        confirm(&plan)?;
    }
    let begin = Instant::now();
    let written = flash(&plan)?;
    let is_described = plan.description.as_ref().is_some_and(|d| d.sha256 == written.image_sha256);
    if plan.description.is_some() && !is_described {
        // Nobody knows what that image is; the card must not go to a clinic.
        let wiped = Disk::open(&plan.target.path).and_then(|mut card| {
            card.write_at(0, &[0; 512])?;
            card.sync()
        });
        wiped.with_context(|| format!("{} cannot be made unusable", plan.target.path.display()))?;
        let image = plan.image.display();
        return Err(Failure::work(anyhow!(
            "{image} is not the image that {} describes: get it again. The card does not start",
            description_path(&plan.image).display()
        )));
    }
    let record = plan.record_of(&written, is_described, begin.elapsed().as_secs_f64());
    let text = serde_json::to_string_pretty(&record).context("JSON")? + "\n";
    write_atomically(&plan.record, text.as_bytes())
        .with_context(|| format!("the card is good, but {} cannot be written", plan.record.display()))?;
    if args.json {
        return output::json(&record, true);
    }
    let origin = match record.is_image_described {
        true => "",
        false => {
            "\nNothing stands beside the image that says which it is (IMAGE.json): get both from whoever built it."
        }
    };
    output::line(format!(
        "good: {} holds the image, read back and compared ({:.0} MiB in {:.0} s){origin}\nrecord: {}\nPut it into the \
         board, connect display and power; the first start takes about a minute.",
        plan.target.path.display(),
        written.bytes as f64 / MIB,
        record.seconds,
        plan.record.display()
    ))
}

fn list(json: bool) -> Result<(), Failure> {
    let devices: Vec<Device> = System::here().devices().into_iter().filter(|device| device.is_removable).collect();
    if json {
        return output::json(&devices, true);
    }
    if devices.is_empty() {
        return output::line("no card and no stick is there: put one in, and look again");
    }
    let line = |device: &Device| {
        let remark = device.refusal(false);
        let gigabytes = device.bytes as f64 / 1e9;
        format!(
            "{:<14} {gigabytes:>7.1} GB  {:<28} {}",
            device.path.display(),
            device.model,
            remark.unwrap_or_default()
        )
    };
    output::line(devices.iter().map(line).collect::<Vec<_>>().join("\n"))
}

impl Args {
    fn plan(&self, to: &Path) -> Result<Plan, Failure> {
        let image = self.image.clone().ok_or_else(|| Failure::usage(anyhow!("no image is given")))?;
        let bytes = Disk::open_to_read(&image).and_then(|disk| disk.length());
        let bytes = bytes.with_context(|| format!("{} cannot be read", image.display()))?;
        application_of(&Disk::open_to_read(&image).context("the image")?)
            .with_context(|| format!("{} is no image of `boards build`", image.display()))?;
        let target = target(to, bytes, self.fixed)?;
        let description = description(&image)?;
        let settings = self.settings.as_deref().map(|path| settings(path, description.as_ref())).transpose()?;
        let stamp = Utc::now().format("%Y%m%dT%H%M%S%3fZ");
        let beside = || image.with_file_name(format!("flashed-{stamp}.json"));
        let record = self.record.clone().unwrap_or_else(beside);
        check_outputs(&[to, &record], &[&image, &description_path(&image)]).map_err(Failure::usage)?;
        Ok(Plan { image, description, target, settings, record })
    }
}

/// What stands beside the image about it; `None` where nothing does.
fn description(image: &Path) -> Result<Option<Description>, Failure> {
    let path = description_path(image);
    match std::fs::read(&path) {
        Ok(text) => {
            let read = serde_json::from_slice(&text);
            let damaged = || format!("{} is damaged: get image and description again", path.display());
            Ok(Some(read.with_context(damaged)?))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::work(anyhow::Error::new(e).context(format!("{} cannot be read", path.display())))),
    }
}

/// The settings in `path`, refused where the device would refuse them. A site profile that they name goes onto the card
/// with them, and has to be of the image's model.
fn settings(path: &Path, description: Option<&Description>) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let config = Config::parse(&text, path).map_err(Failure::usage)?;
    let Some(site) = &config.site else { return Ok(text) };
    let profile = SiteProfile::read(site).map_err(Failure::usage)?;
    if let Some(description) = description.filter(|description| description.model_digest != profile.model_digest) {
        return Err(Failure::usage(anyhow!(
            "site profile {} was made for model {} ({:.12}), and the image has {} ({:.12}): make a study with that one",
            site.display(),
            profile.model,
            profile.model_digest,
            description.model,
            description.model_digest
        )));
    }
    // As it is, to the byte: findings name the digest of the file.
    let profile = std::fs::read_to_string(site).with_context(|| format!("{} cannot be read", site.display()))?;
    let mut table: toml::Table = text.parse().context("settings")?;
    table.remove("site");
    table.insert(SITE_PROFILE.into(), profile.into());
    Ok(table.to_string())
}

/// The disk at `path`; a file stands for one.
fn target(path: &Path, bytes: u64, takes_fixed: bool) -> Result<Device, Failure> {
    let named = || format!("{} cannot be opened", path.display());
    match std::fs::metadata(path) {
        Ok(there) if there.file_type().is_block_device() => {
            let real = std::fs::canonicalize(path).with_context(named)?;
            let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let partition = || anyhow!("{} is a partition, or no disk: name the whole card", path.display());
            let device = System::here().device(&name).ok_or_else(|| Failure::work(partition()))?;
            match device.refusal(takes_fixed) {
                Some(refusal) => Err(Failure::work(anyhow!(refusal))),
                None => Ok(device),
            }
        }
        Ok(there) if !there.is_file() => Err(Failure::work(anyhow!("{} is neither a disk nor a file", path.display()))),
        Ok(there) => Ok(file(path, there.len())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !path.starts_with("/dev") => Ok(file(path, bytes)),
        Err(e) => Err(Failure::work(anyhow::Error::new(e).context(named()))),
    }
}

fn file(path: &Path, bytes: u64) -> Device {
    let model = "a file".to_owned();
    Device { path: path.to_owned(), model, bytes, is_removable: true, is_read_only: false, used: vec![] }
}

fn confirm(plan: &Plan) -> Result<(), Failure> {
    let Device { path, model, bytes, .. } = &plan.target;
    let question =
        format!("{} ({model}, {:.1} GB): all that is on it will be lost.", path.display(), *bytes as f64 / 1e9);
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(anyhow!("{question} Say --yes to write it without being asked")));
    }
    eprint!("{question} Write \"yes\" to go on: ");
    std::io::stderr().flush().context("stderr")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("stdin")?;
    match answer.trim() {
        "yes" => Ok(()),
        _ => Err(Failure::work(anyhow!("nothing was written"))),
    }
}

fn flash(plan: &Plan) -> Result<Written, Failure> {
    let path = &plan.target.path;
    let image = Disk::open_to_read(&plan.image).with_context(|| format!("{} cannot be read", plan.image.display()))?;
    let mut card = open(plan).with_context(|| format!("{} cannot be written", path.display()))?;
    let reporter = Reporter::new(false);
    let begin = Instant::now();
    let written = write(&image, plan.settings.as_deref(), &mut card, |phase, done, all| {
        let stage = match phase {
            Phase::Writing => "writing",
            Phase::ReadingBack => "reading back",
        };
        let speed = done as f64 / MIB / begin.elapsed().as_secs_f64().max(0.001);
        let note = if phase == Phase::Writing { format!("MiB, {speed:.0} MiB/s") } else { "MiB".to_owned() };
        reporter.step(stage, (done >> 20) as usize, (all >> 20) as usize, &note);
    });
    written.map_err(|e| Failure::work(anyhow!("{}: {e}", path.display())))
}

/// The card, for nobody else: what the desktop mounts in between refuses it. A file is made where there is none.
fn open(plan: &Plan) -> std::io::Result<Disk> {
    let Device { path, bytes, .. } = &plan.target;
    if path.starts_with("/dev") {
        return Disk::open_alone(path);
    }
    if !path.exists() {
        std::fs::File::create_new(path)?.set_len(*bytes)?;
    }
    Disk::open(path)
}

impl Plan {
    fn record_of(&self, written: &Written, is_described: bool, seconds: f64) -> Record {
        Record {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            verdict: "good: read back and compared",
            device: self.target.path.clone(),
            device_model: self.target.model.clone(),
            device_bytes: self.target.bytes,
            image: self.image.clone(),
            image_sha256: written.image_sha256.clone(),
            is_image_described: is_described,
            card_sha256: written.sha256.clone(),
            bytes: written.bytes,
            seconds,
            settings: self.settings.clone(),
            description: self.description.clone(),
            statement: edge_runtime::finding::STATEMENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::site::{SCHEMA, Sample};

    fn profile() -> SiteProfile {
        let sample = Sample {
            images: 400,
            patients: 380,
            positives: 120,
            sensitivity: 0.975,
            sensitivity_ci95: [0.95, 0.99],
            specificity: 0.88,
            specificity_ci95: [0.84, 0.92],
        };
        SiteProfile {
            schema: SCHEMA,
            site: "Kisumu East".into(),
            made: "2026-11-28T12:00:00Z".into(),
            model: "m".into(),
            model_digest: "ab".repeat(32),
            intercept: -1.5,
            threshold: 0.22,
            uncertain: Some([0.1, 0.4]),
            rule: "highest threshold".into(),
            prevalence: 0.08,
            chosen_on: sample,
            confirmed_on: None,
        }
    }

    fn description(model_digest: &str) -> Description {
        Description {
            board: "b".into(),
            release: 1,
            version: "1".into(),
            bytes: 1,
            sha256: String::new(),
            application_bytes: 1,
            boot_bytes: 1,
            model: "m".into(),
            model_digest: model_digest.into(),
            keys: vec![],
            limits: String::new(),
        }
    }

    #[test]
    fn a_site_profile_goes_onto_the_card_if_it_is_of_the_images_model() {
        let dir = tempfile::tempdir().unwrap();
        let site = dir.path().join("site.toml");
        let clinic = dir.path().join("clinic.toml");
        std::fs::write(&site, profile().to_toml()).unwrap();
        std::fs::write(&clinic, format!("language = \"sw\"\nsite = {site:?}\n")).unwrap();
        let text = settings(&clinic, Some(&description(&"ab".repeat(32)))).unwrap();
        let table: toml::Table = text.parse().unwrap();
        assert_eq!((table["language"].as_str(), table.get("site")), (Some("sw"), None));
        assert_eq!(table[SITE_PROFILE].as_str(), Some(profile().to_toml().as_str()));
        let other = settings(&clinic, Some(&description(&"cd".repeat(32)))).unwrap_err().to_string();
        assert!(other.contains("make a study with that one"), "{other}");
    }
}
