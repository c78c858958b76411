//! `boards install`.

use crate::card::programs;
use anyhow::{Context, anyhow, bail};
use edge_runtime::board::Board;
use edge_runtime::config;
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::{Failure, output};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// The unit that starts the device's program.
const UNIT: &str = include_str!("../../../edge-runtime/package/hilum.service");

#[derive(clap::Args)]
pub struct Args {
    /// Name of a board, or a board file
    board: String,
    /// The root of the other system, such as a mounted card of Raspberry Pi OS
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// A compiled `edge-runtime` for the board instead of compiling it
    #[arg(long, value_name = "FILE")]
    application: Option<PathBuf>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let board = Board::find(&args.board).map_err(Failure::usage)?;
    let root = &args.root;
    let is_system = root.join("etc/os-release").exists() || root.join("usr/lib/os-release").exists();
    if !is_system || !root.join("usr/bin").is_dir() {
        return Err(Failure::work(anyhow!("{} is no root of a Linux system: mount it first", root.display())));
    }
    let is_own = std::fs::canonicalize(root).is_ok_and(|root| root == Path::new("/"));
    if is_own {
        return Err(Failure::usage(anyhow!("--root is the system that runs here: give the one of the card")));
    }
    let application = match args.application {
        Some(application) => application,
        None => programs::compile(&board.target).map_err(Failure::work)?.application,
    };
    let program = programs::read(&application, &board.target).map_err(Failure::work)?;
    let settings = config::DEFAULT.replace("board = \"host\"", &format!("board = {:?}", board.name));
    let configuration = root.join("etc/hilum/edge-runtime.toml");
    let mut files = vec![
        (root.join("usr/bin/edge-runtime"), program, 0o755),
        (root.join("usr/lib/systemd/system/hilum.service"), UNIT.as_bytes().to_vec(), 0o644),
    ];
    // What a clinic has set stays.
    if !configuration.exists() {
        files.push((configuration.clone(), settings.into_bytes(), 0o644));
    }
    for (path, bytes, mode) in &files {
        let named = || format!("{} cannot be written", path.display());
        make_within(root, path.parent().unwrap_or(root))?;
        write_atomically(path, bytes).with_context(named)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode)).with_context(named)?;
    }
    enable(root)?;
    let kept = std::fs::read_to_string(&configuration).unwrap_or_default();
    if !kept.contains(&format!("board = {:?}", board.name)) {
        eprintln!("hint: {} stays as it was, and names another board", configuration.display());
    }
    let lines: Vec<String> = files.iter().map(|(path, ..)| format!("wrote {}", path.display())).collect();
    let next = "The unit hilum.service starts with the system. Unmount the card, and put it into the board.";
    output::line(format!("{}\n{next}\n{}", lines.join("\n"), edge_runtime::finding::STATEMENT))
}

/// Makes `folder`, which a link of the other system must not lead out of its `root`.
fn make_within(root: &Path, folder: &Path) -> anyhow::Result<()> {
    let named = || format!("{} cannot be made", folder.display());
    let root = std::fs::canonicalize(root).with_context(named)?;
    // The part that exists decides where the rest is made.
    let there = folder.ancestors().find(|part| part.symlink_metadata().is_ok()).unwrap_or(folder);
    let leads_to = std::fs::canonicalize(there).with_context(named)?;
    if !leads_to.starts_with(&root) {
        bail!("{} leads out of {}: nothing is written there", folder.display(), root.display());
    }
    std::fs::create_dir_all(folder).with_context(named)
}

/// The unit starts with the system: the link that `systemctl enable` would make.
fn enable(root: &Path) -> anyhow::Result<()> {
    let folder = root.join("etc/systemd/system/multi-user.target.wants");
    make_within(root, &folder)?;
    let link = folder.join("hilum.service");
    if std::fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    symlink("/usr/lib/systemd/system/hilum.service", &link)
        .with_context(|| format!("{} cannot be made", link.display()))
}
