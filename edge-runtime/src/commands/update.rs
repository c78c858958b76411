//! `edge-runtime update`.

use crate::kiosk::update::{DEVICE, Updates};
use crate::process::progress::Reporter;
use crate::process::{Failure, Process, output};
use serde::Serialize;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The update, as `boards sign` wrote it
    file: PathBuf,
    /// What the first program of the device left about it
    #[arg(long, value_name = "FILE", default_value = DEVICE)]
    device: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was installed.
#[derive(Serialize)]
struct Installed {
    /// The release that runs until then.
    before: u64,
    release: u64,
    version: String,
    kind: slots::bundle::Kind,
}

pub fn run(args: Args, _: Process) -> Result<u8, Failure> {
    let updates = Updates::open(&args.device).map_err(Failure::work)?;
    let reporter = Reporter::new(false);
    let manifest = updates
        .install_now(&args.file, |percent| reporter.step("installing", percent.into(), 100, ""))
        .map_err(Failure::work)?;
    drop(reporter);
    let installed = Installed {
        before: updates.release,
        release: manifest.release,
        version: manifest.version,
        kind: manifest.kind,
    };
    match args.json {
        true => output::json(&installed, true)?,
        false => output::line(format!(
            "release {} ({}) is installed. Restart the device: it is tried, and if it does not pass, release {} runs \
             again.",
            installed.release, installed.version, installed.before
        ))?,
    }
    Ok(0)
}
