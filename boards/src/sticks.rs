//! USB sticks for emulated devices: files in a FAT file system.

use crate::card::archive::Entry;
use crate::card::boot_partition::file_system;
use anyhow::Context;
use std::path::{Path, PathBuf};

/// The smallest stick: FAT32 has at least 65,525 clusters.
const LEAST: u64 = 40 << 20;

/// A stick that holds `files` under their names.
pub fn stick(files: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let entries: Vec<Entry> = files.iter().map(|path| entry(path)).collect::<Result<_, _>>()?;
    let bytes: u64 = entries.iter().map(|entry| entry.bytes.len() as u64).sum();
    // A power of two, as QEMU likes disks.
    file_system(&entries, (bytes * 5 / 4).max(LEAST).next_power_of_two(), 0x5354_4943, b"XRAYS      ")
}

fn entry(path: &Path) -> anyhow::Result<Entry> {
    let name = path.file_name().context("a file on the stick has no name")?.to_string_lossy();
    let bytes = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(Entry::file(name, bytes))
}
