//! `edge-runtime config`.

use crate::config::{Config, DEFAULT};
use crate::process::{Failure, Process, output};
use anyhow::Context;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Check this file and print what it comes to
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, _: Process) -> Result<u8, Failure> {
    let config = match &args.check {
        Some(path) => Config::open(Some(path)).map_err(Failure::work)?,
        None => Config::defaults(),
    };
    match (args.json, args.check) {
        (true, _) => output::json(&config, true)?,
        (false, None) => output::line(DEFAULT.trim_end())?,
        (false, Some(_)) => {
            let text = toml::to_string_pretty(&config).context("the configuration cannot be printed")?;
            output::line(text.trim_end())?;
        }
    }
    Ok(0)
}
