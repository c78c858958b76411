//! `edge-runtime export`.

use crate::config::Config;
use crate::log::{ClinicKey, Contents, Entry, Folder, Log, export};
use crate::process::files::write_atomically;
use crate::process::{Failure, Process, output};
use anyhow::{Context, anyhow};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// The configuration instead of /etc/hilum/edge-runtime.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder of the findings instead of the configured one; the key is the `clinic.key` in it
    #[arg(long, value_name = "DIR")]
    findings: Option<PathBuf>,
    /// Only the findings on files of this name, as it was on the stick or in the folder; takes the clinic's key
    #[arg(long, value_name = "NAME")]
    file: Option<String>,
    /// One line of JSON for each finding instead of a table
    #[arg(long)]
    json: bool,
    /// Write this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: Args, _: Process) -> Result<u8, Failure> {
    let config = Config::open(args.config.as_deref()).map_err(Failure::usage)?;
    let (folder, key) = match &args.findings {
        Some(folder) => (folder.clone(), folder.join("clinic.key")),
        None => (config.findings.folder.clone(), config.findings.key.clone()),
    };
    let opened = Folder::existing(folder.clone())
        .with_context(|| format!("{}: the folder of the findings cannot be read", folder.display()))?;
    let Contents { mut entries, damaged, torn, unreadable } =
        Log::read(&opened).with_context(|| folder.display().to_string())?;
    if let Some(name) = &args.file {
        let reference = ClinicKey::open(&key).map_err(Failure::work)?.reference(name);
        entries.retain(|entry| entry.record.file == reference || entry.record.file == *name);
        if entries.is_empty() {
            let advice = "give the name as it was on the stick, with its folders";
            return Err(Failure::work(anyhow!("no finding on a file named {name}: {advice}")));
        }
    }
    let text = written(&entries, args.json);
    match &args.output {
        Some(path) => {
            write_atomically(path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
            eprintln!("wrote {} ({} findings)", path.display(), entries.len());
        }
        None => output::line(text.trim_end())?,
    }
    if torn > 0 {
        eprintln!(
            "edge-runtime: the last {torn} bytes hold no whole entry: the power was cut while it was written, or it is \
             damaged"
        );
    }
    if unreadable > 0 {
        let lost = anyhow!("{unreadable} files of the findings cannot be read: copy the card, the others are here");
        return Err(Failure::work(lost));
    }
    if damaged > 0 {
        let lost =
            anyhow!("{damaged} bytes of the findings are damaged: the entries in them are lost, all others are here");
        return Err(Failure::work(lost));
    }
    Ok(0)
}

fn written(entries: &[Entry], json: bool) -> String {
    let mut lines = if json { vec![] } else { vec![export::table_head()] };
    lines.extend(entries.iter().map(if json { export::line } else { export::table_row }));
    lines.iter().map(|line| format!("{line}\n")).collect()
}
