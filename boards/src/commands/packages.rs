//! `boards packages`.

use super::cache;
use crate::packages::{Archive, Lock};
use anyhow::Context;
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::{Failure, output};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// Pin what Debian's archive has now, and write it to this file (in the source folder: boards/packages.lock)
    #[arg(long, value_name = "FILE")]
    renew: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let mut lock = Lock::open(None).map_err(Failure::work)?;
    if let Some(path) = &args.renew {
        let folder = cache();
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let mut archive = Archive::new(folder, lock);
        archive.renew().map_err(Failure::work)?;
        lock = archive.lock().clone();
        write_atomically(path, lock.text().as_bytes())
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    if args.json {
        return output::json(&lock, true);
    }
    let line = |p: &crate::packages::Package| format!("{:<34} {:<18} {:.16}", p.name, p.version, p.sha256);
    let lines: Vec<String> = lock.packages.iter().map(line).collect();
    output::line(format!("Debian {}\n{}", lock.suite, lines.join("\n")))
}
