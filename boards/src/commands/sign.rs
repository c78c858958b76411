//! `boards sign`.

use crate::card::application;
use crate::card::image::application_of;
use anyhow::{Context, anyhow};
use edge_runtime::board::Board;
use edge_runtime::keys::{read_ring, read_secret};
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::{Failure, output};
use sha2::{Digest, Sha256};
use slots::bundle::{Kind, Manifest};
use slots::{Disk, Layout};
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Args {
    /// An image of `boards build`, whose application is taken, or a model's bundle (.hilum)
    file: PathBuf,
    /// The secret key (`boards keygen` writes one)
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The update; its name has to end in .hilum-update to be found on a stick
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The boards that a model is for; an image says its own
    #[arg(long, value_name = "NAME")]
    board: Vec<String>,
    /// The number by which releases are ordered; an image says its own
    #[arg(long)]
    release: Option<u64>,
    /// What people call the release; an image says its own
    #[arg(long)]
    release_version: Option<String>,
    /// Keys that count on the device once the update runs
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Let it go over newer releases, up to this one
    #[arg(long, value_name = "RELEASE")]
    over: Option<u64>,
}

/// What is signed, before it is.
struct Content {
    boards: Vec<String>,
    target: String,
    kind: Kind,
    release: u64,
    version: String,
    bytes: Vec<u8>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    if args.output.extension().is_none_or(|e| e != "hilum-update") {
        return Err(Failure::usage(anyhow!("{}: the name has to end in .hilum-update", args.output.display())));
    }
    let secret = read_secret(&args.key)?;
    let keys = args.keys.as_deref().map(read_ring).transpose()?;
    let content = content(&args)?;
    if content.version.len() > 64 {
        return Err(Failure::usage(anyhow!("--release-version has at most 64 characters")));
    }
    let manifest = Manifest {
        boards: content.boards,
        target: content.target,
        kind: content.kind,
        release: content.release,
        version: content.version,
        length: content.bytes.len() as u64,
        sha256: Sha256::digest(&content.bytes).into(),
        interface: slots::INTERFACE,
        over: args.over,
        keys,
        key: String::new(),
    };
    let said = format!(
        "{:?} update to release {} ({}) for {}, signed by {}",
        manifest.kind,
        manifest.release,
        manifest.version,
        manifest.boards.join(", "),
        secret.name
    );
    let mut file = manifest.sign(&secret).map_err(|e| Failure::work(anyhow!("{}: {e}", args.key.display())))?;
    file.extend(content.bytes);
    write_atomically(&args.output, &file).with_context(|| format!("{} cannot be written", args.output.display()))?;
    output::line(format!("wrote {}: {said}, {:.1} MiB", args.output.display(), file.len() as f64 / f64::from(1 << 20)))
}

fn content(args: &Args) -> Result<Content, Failure> {
    let named = || format!("{} cannot be read", args.file.display());
    let card = Disk::open_to_read(&args.file).with_context(named)?;
    if Layout::read(&card).is_ok() {
        let (release, bytes) = application_of(&card).with_context(named)?;
        return Ok(Content {
            boards: vec![release.board],
            target: release.target,
            kind: Kind::Application,
            release: args.release.unwrap_or(release.release),
            version: args.release_version.clone().unwrap_or(release.version),
            bytes,
        });
    }
    let bytes = application::model(&args.file)
        .with_context(|| format!("{} is neither an image of `boards build` nor a model", args.file.display()))?;
    let release = args.release.ok_or_else(|| Failure::usage(anyhow!("a model says no release: give --release")))?;
    let boards: Vec<Board> =
        args.board.iter().map(|name| Board::find(name)).collect::<Result<_, _>>().map_err(Failure::usage)?;
    let first = boards.first().ok_or_else(|| Failure::usage(anyhow!("a model says no board: give --board")))?;
    if boards.iter().any(|board| board.target != first.target) {
        return Err(Failure::usage(anyhow!("the boards have different processors: sign an update for each")));
    }
    Ok(Content {
        target: first.target.clone(),
        boards: boards.into_iter().map(|board| board.name).collect(),
        kind: Kind::Model,
        release,
        version: args.release_version.clone().unwrap_or_else(|| release.to_string()),
        bytes,
    })
}
