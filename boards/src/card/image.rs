//! The image of a card: boot record, state, boot partition, two slots, and the file system of findings.

use super::application::Release;
use super::archive::Entry;
use super::boot_partition;
use crate::tools::MKE2FS;
use anyhow::{Context, ensure};
use edge_runtime::model::Model;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use slots::keys::{KeyRing, hex};
use slots::layout::{FIRST_PARTITION, Layout, Slot};
use slots::state::{Content, State};
use slots::update::digest;
use slots::{Block, Disk};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Bytes of the partitions: boot, two slots, findings. With the area before them they make 512 MiB, a power of two, as
/// QEMU wants cards.
const SIZES: [u64; 4] = [64 * MIB, 96 * MIB, 96 * MIB, 240 * MIB];
/// FAT32, raw, raw, Linux.
const KINDS: [u8; 4] = [0x0c, 0xda, 0xda, 0x83];
/// When the file system of findings says that it was made: 2026-01-01, so that the same input gives the same bytes.
const MADE: &str = "1767225600";

/// How the file system of findings is made, whatever the system's own defaults are (`mke2fs.conf(5)`).
const MKE2FS_CONFIG: &str = "\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
    small = {
        blocksize = 4096
    }
";

/// What stands beside an image: what it is, and how it is told from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the board.
    pub board: String,
    /// The number by which releases are ordered.
    pub release: u64,
    /// The same for people.
    pub version: String,
    /// Bytes of the image.
    pub bytes: u64,
    /// SHA-256 of the image.
    pub sha256: String,
    /// Bytes of an application.
    pub application_bytes: u64,
    /// Bytes of the files on the boot partition.
    pub boot_bytes: u64,
    /// Name of the model in the program.
    pub model: String,
    /// Its digest.
    pub model_digest: String,
    /// Names of the keys whose updates the device takes.
    pub keys: Vec<String>,
    /// What does not work with it.
    pub limits: String,
}

/// Where the description of `image` stands.
pub fn description_path(image: &Path) -> PathBuf {
    beside(image, "json")
}

/// Where the bill of materials of `image` stands.
pub fn bill_path(image: &Path) -> PathBuf {
    beside(image, "cdx.json")
}

fn beside(image: &Path, extension: &str) -> PathBuf {
    let mut name = image.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{extension}"));
    image.with_file_name(name)
}

/// What an image is made of.
pub struct Parts<'a> {
    /// The release.
    pub release: &'a Release,
    /// Files of the boot partition.
    pub boot: &'a [Entry],
    /// The archive of both slots.
    pub application: &'a [u8],
    /// The keys.
    pub keys: &'a KeyRing,
    /// The model in the program.
    pub model: &'a Model,
    /// What does not work.
    pub limits: &'a str,
}

/// The signature of cards of `board`: the same for all of one board, so that an image can be made again.
pub fn disk_id(board: &str) -> u32 {
    let digest = Sha256::digest(format!("hilum card of {board}"));
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// Writes the image to `file`.
pub fn write(parts: &Parts, file: File) -> anyhow::Result<Description> {
    let id = disk_id(&parts.release.board);
    let layout = Layout::of_sizes(id, SIZES);
    let room = layout.image_area(Slot::A);
    let length = parts.application.len() as u64;
    ensure!(length <= room.end - room.start, "the application's {length} bytes do not fit a slot");
    file.set_len(FIRST_PARTITION + SIZES.iter().sum::<u64>())?;
    let mut card = Disk::from(file);
    let boot = boot_partition::file_system(parts.boot, SIZES[0], id, b"HILUM-BOOT ")?;
    card.write_at(layout.partitions[0].start, &boot)?;
    for slot in Slot::ALL {
        card.write_at(layout.image_area(slot).start, parts.application)?;
    }
    let findings = empty_file_system(SIZES[3], id)?;
    copy_sparse(&findings, &mut card, layout.partitions[3].start)?;
    let content = Content {
        release: parts.release.release,
        version: parts.release.version.clone(),
        length,
        sha256: Sha256::digest(parts.application).into(),
        model: None,
    };
    let mut state = State::of_running(Slot::A, content.clone());
    state.slots[Slot::B.index()] = Some(content);
    // Both copies are there from the first start on.
    state.write(&mut card)?;
    state.write(&mut card)?;
    card.write_at(0, &layout.boot_record(KINDS))?;
    card.sync()?;
    let bytes = card.length()?;
    Ok(Description {
        board: parts.release.board.clone(),
        release: parts.release.release,
        version: parts.release.version.clone(),
        bytes,
        sha256: hex(&digest(&card, 0, bytes, |_| {})?),
        application_bytes: length,
        boot_bytes: parts.boot.iter().map(|file| file.bytes.len() as u64).sum(),
        model: parts.model.contract.provenance.name.clone(),
        model_digest: parts.model.digest.clone(),
        keys: parts.keys.keys.iter().map(|key| key.name.clone()).collect(),
        limits: parts.limits.to_owned(),
    })
}

/// An ext4 of `length` bytes, with checksums of its metadata.
fn empty_file_system(length: u64, id: u32) -> anyhow::Result<tempfile::NamedTempFile> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(length)?;
    let configuration = tempfile::NamedTempFile::new()?;
    std::fs::write(configuration.path(), MKE2FS_CONFIG)?;
    let uuid = format!("48494c55-4d00-4000-8000-0000{id:08x}");
    let extended = format!("hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0");
    MKE2FS.run(|command| {
        command
            .args(["-q", "-F", "-t", "ext4", "-L", "hilum-findings", "-m", "1"])
            .args(["-U", &uuid, "-E", &extended])
            .arg(file.path())
            .env("E2FSPROGS_FAKE_TIME", MADE)
            .env("SOURCE_DATE_EPOCH", MADE)
            .env("MKE2FS_CONFIG", configuration.path())
    })?;
    Ok(file)
}

/// Copies a file, and leaves zeros as they are.
fn copy_sparse(from: &tempfile::NamedTempFile, card: &mut Disk, to: u64) -> anyhow::Result<()> {
    let mut file = File::open(from.path())?;
    let mut piece = vec![0; MIB as usize];
    let mut at = to;
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        if piece[..length].iter().any(|byte| *byte != 0) {
            card.write_at(at, &piece[..length])?;
        }
        at += length as u64;
    }
}

/// The release in the slot that an image starts from, and its archive.
pub fn application_of(card: &impl Block) -> anyhow::Result<(Release, Vec<u8>)> {
    let layout = Layout::read(card)?;
    let state = State::read(card).context("the card does not say what its slots hold")?;
    let content = state.content(state.committed).context("the slot holds nothing")?;
    let bytes = card.bytes(layout.image_area(state.committed).start, usize::try_from(content.length)?)?;
    ensure!(Sha256::digest(&bytes)[..] == content.sha256, "the slot's digest is another one");
    let release =
        super::archive::find(&bytes, super::application::RELEASE)?.context("the slot does not say its release")?;
    Ok((serde_json::from_slice(&release)?, bytes))
}
