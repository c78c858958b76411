//! `boards build`.

use super::cache;
use crate::card::application::{self, Release, release_of};
use crate::card::bill_of_materials::bill;
use crate::card::boot_partition;
use crate::card::image::{self, Description, bill_path, description_path};
use crate::card::programs::{self, Programs};
use crate::packages::{Archive, Lock, PackageError};
use anyhow::{Context, anyhow};
use edge_runtime::board::Board;
use edge_runtime::keys::read_ring;
use edge_runtime::process::files::{sync_folder, write_atomically};
use edge_runtime::process::progress::Reporter;
use edge_runtime::process::{Failure, output};
use slots::keys::KeyRing;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Args {
    /// Name of a board, or a board file
    board: String,
    /// The image; its description and its bill of materials are written beside it
    #[arg(short, long, value_name = "IMAGE")]
    output: PathBuf,
    /// The keys whose updates the device takes (`boards keygen` writes them); none without
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// A compiled `edge-runtime` for the board instead of compiling it
    #[arg(long, value_name = "FILE", requires = "init")]
    application: Option<PathBuf>,
    /// A compiled `hilum-init` for the board instead of compiling it
    #[arg(long, value_name = "FILE", requires = "application")]
    init: Option<PathBuf>,
    /// What people call the release
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    release_version: String,
    /// The number by which releases are ordered; of the version's three numbers without
    #[arg(long)]
    release: Option<u64>,
    /// Take what Debian's archive has now where it does not have what is pinned any more: not reproducible
    #[arg(long)]
    accept_newer: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let board = Board::find(&args.board).map_err(Failure::usage)?;
    let Some(card) = &board.card else {
        let advice = "`boards install` lays the application over the system that the board comes with";
        return Err(Failure::work(anyhow!("no card can be built for {} ({}): {advice}", board.name, board.flash)));
    };
    let number = args.release.or_else(|| release_of(&args.release_version));
    let number = number.ok_or_else(|| Failure::usage(anyhow!("--release is needed: the version is no 1.2.3")))?;
    let keys = args.keys.as_deref().map(read_ring).transpose()?.unwrap_or_default();
    let reporter = Reporter::new(false);
    let step = |n, what: &str| reporter.step("building", n, 5, what);
    step(0, "the programs");
    let programs = match (&args.application, &args.init) {
        (Some(application), Some(init)) => Programs { application: application.clone(), init: init.clone() },
        _ => programs::compile(&board.target).map_err(Failure::work)?,
    };
    let program = programs::read(&programs.application, &board.target).map_err(Failure::work)?;
    let init = programs::read(&programs.init, &board.target).map_err(Failure::work)?;
    step(1, "the packages");
    let (files, lock) = boot_files(&board, init, &keys, args.accept_newer)?;
    step(2, "the application");
    let release = Release {
        board: board.name.clone(),
        target: board.target.clone(),
        release: number,
        version: args.release_version,
    };
    let archive = application::application(&release, program, &board)?;
    step(3, "the image");
    let model = application::embedded()?;
    let parts = image::Parts {
        release: &release,
        boot: &files,
        application: &archive,
        keys: &keys,
        model: &model,
        limits: &card.limits,
    };
    let description = write(&parts, &args.output)?;
    step(4, "the bill of materials");
    let bill = bill(&board.name, &release.version, &lock, &model, &board.target);
    let beside = [(bill_path(&args.output), bill), (description_path(&args.output), serde_json::json!(description))];
    for (path, value) in beside {
        let text = serde_json::to_string_pretty(&value).context("JSON")? + "\n";
        write_atomically(&path, text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    drop(reporter);
    match args.json {
        true => output::json(&description, true),
        false => output::line(text(&description, &args.output)),
    }
}

/// The files of the boot partition, and the packages that they are from.
fn boot_files(
    board: &Board,
    init: Vec<u8>,
    keys: &KeyRing,
    accepts_newer: bool,
) -> Result<(Vec<crate::card::archive::Entry>, Lock), Failure> {
    let folder = cache();
    std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut archive = Archive::new(folder, Lock::open(None).map_err(Failure::work)?);
    let parts = boot_partition::Parts { board, init, keys, disk_id: image::disk_id(&board.name) };
    let files = match boot_partition::files(&parts, &mut archive) {
        Err(e) if accepts_newer && matches!(e.downcast_ref(), Some(PackageError::Gone { .. })) => {
            eprintln!("boards: {e}; taking what it has now: this image is not reproducible");
            archive.renew().map_err(Failure::work)?;
            boot_partition::files(&parts, &mut archive)?
        }
        files => files?,
    };
    Ok((files, archive.lock().clone()))
}

/// Writes the image under a temporary name, and gives it its own once it is whole.
fn write(parts: &image::Parts, path: &Path) -> anyhow::Result<Description> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = || format!("{} cannot be written", path.display());
    let permissions = std::fs::Permissions::from_mode(0o644);
    let part = tempfile::Builder::new().prefix(".hilum-").permissions(permissions).tempfile_in(folder);
    let part = part.with_context(named)?;
    let description = image::write(parts, part.reopen()?).with_context(named)?;
    part.persist(path).with_context(named)?;
    sync_folder(folder)?;
    Ok(description)
}

fn text(d: &Description, path: &Path) -> String {
    let signed = match d.keys.is_empty() {
        true => "nothing: without --keys the device takes no updates".to_owned(),
        false => format!("updates, with a key of {}; the image itself is not, its digest tells it", d.keys.join(", ")),
    };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    [
        format!("image     {}, {:.0} MiB", path.display(), mib(d.bytes)),
        format!("sha256    {}", d.sha256),
        format!("release   {} ({}) for {}", d.release, d.version, d.board),
        format!("slots     application of {:.1} MiB, twice", mib(d.application_bytes)),
        format!("boot      firmware, kernel and first program of {:.1} MiB", mib(d.boot_bytes)),
        format!("model     {} {:.8}", d.model, d.model_digest),
        format!("bill      {}", bill_path(path).display()),
        format!("signed    {signed}"),
        format!("limits    {}", d.limits),
        edge_runtime::finding::STATEMENT.to_owned(),
    ]
    .join("\n")
}
