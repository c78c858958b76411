//! The first partition: firmware, kernel, device trees and the first program, in a FAT file system.

use super::archive::{Entry, archive, gzip};
use super::kernel_modules::Modules;
use crate::packages::{Archive, Role};
use anyhow::{Context, bail};
use edge_runtime::board::Board;
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use slots::keys::KeyRing;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};

/// Names on the partition.
pub const KERNEL: &str = "kernel8.img";
/// The file system in memory that the first program lies in.
pub const INITRAMFS: &str = "initramfs.gz";
/// What the kernel is told.
pub const COMMAND_LINE: &str = "cmdline.txt";

/// What a boot partition is made of.
pub struct Parts<'a> {
    /// The board.
    pub board: &'a Board,
    /// The first program.
    pub init: Vec<u8>,
    /// Keys whose updates the device takes.
    pub keys: &'a KeyRing,
    /// The signature of the card.
    pub disk_id: u32,
}

/// The files of the partition.
pub fn files(parts: &Parts, packages: &mut Archive) -> anyhow::Result<Vec<Entry>> {
    let card = parts.board.card.as_ref().context("the board has no card")?;
    let kernel = packages.unpacked(Role::Kernel)?;
    let image = only(&kernel.join("boot"), "vmlinuz-")?;
    let trees = only(&kernel.join("usr/lib"), "linux-image-")?;
    let mut files = vec![
        Entry::file(KERNEL, gzip(&read(&image)?)?),
        Entry::file(INITRAMFS, gzip(&initramfs(parts, packages, &kernel)?)?),
        Entry::file(COMMAND_LINE, format!("{}\n", card.command_line)),
        Entry::file("config.txt", configuration(&card.config)),
    ];
    for tree in &card.device_trees {
        let name = Path::new(tree).file_name().context("a device tree has no name")?.to_string_lossy();
        files.push(Entry::file(name, read(&trees.join(tree))?));
    }
    let firmware = packages.unpacked(Role::Firmware)?.join("usr/lib/raspi-firmware");
    for name in &card.firmware {
        files.push(Entry::file(name, read(&firmware.join(name))?));
    }
    Ok(files)
}

fn configuration(lines: &[String]) -> String {
    let own = [format!("kernel={KERNEL}"), format!("initramfs {INITRAMFS} followkernel")];
    let lines: Vec<&str> = own.iter().chain(lines).map(String::as_str).collect();
    format!("# Written by `boards build`.\n{}\n", lines.join("\n"))
}

fn initramfs(parts: &Parts, packages: &mut Archive, kernel: &Path) -> anyhow::Result<Vec<u8>> {
    let card = parts.board.card.as_ref().context("the board has no card")?;
    let modules = Modules::below(&only(&kernel.join("usr/lib/modules"), "")?)?;
    let (mut entries, order) = modules.take(&card.modules)?;
    let (more, emulated) = modules.take(&card.emulation.modules)?;
    let shared: Vec<Entry> = more.into_iter().filter(|entry| !entries.contains(entry)).collect();
    entries.extend(shared);
    let check = packages.unpacked(Role::Check)?;
    let check = ["usr/sbin/e2fsck.static", "sbin/e2fsck.static"].map(|name| check.join(name));
    let check = check.iter().find(|path| path.is_file()).context("the package has no e2fsck.static")?;
    let identity = serde_json::json!({
        "board": parts.board.name,
        "target": parts.board.target,
        "disk_id": parts.disk_id,
        "keys": parts.keys,
    });
    entries.extend([
        Entry::program("init", parts.init.clone()),
        Entry::program("sbin/e2fsck", read(check)?),
        Entry::file("lib/modules/order", order.join("\n")),
        Entry::file("lib/modules/emulated", emulated.join("\n")),
        Entry::file("etc/hilum/identity.json", identity.to_string()),
    ]);
    Ok(archive(&entries)?)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// The one entry of `folder` whose name begins with `prefix`.
fn only(folder: &Path, prefix: &str) -> anyhow::Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        _ => bail!("{} does not hold one {prefix}*", folder.display()),
    }
}

/// A FAT file system of `length` bytes that holds `files`. The same files give the same bytes.
pub fn file_system(files: &[Entry], length: u64, id: u32, label: &[u8; 11]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length)?];
    let options = FormatVolumeOptions::new().volume_id(id).volume_label(*label).fat_type(FatType::Fat32);
    let options = options.bytes_per_cluster(512);
    fatfs::format_volume(Cursor::new(&mut bytes[..]), options).context("the FAT file system")?;
    {
        let system = FileSystem::new(Cursor::new(&mut bytes[..]), FsOptions::new().update_accessed_date(false))?;
        let root = system.root_dir();
        for file in files {
            let written = root.create_file(&file.path).and_then(|mut to| to.write_all(&file.bytes));
            written.with_context(|| format!("{} does not fit the partition", file.path))?;
        }
    }
    Ok(bytes)
}

/// The file `name` of a FAT file system.
pub fn file_of(bytes: &mut [u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let system = FileSystem::new(Cursor::new(bytes), FsOptions::new().update_accessed_date(false))?;
    let mut file = system.root_dir().open_file(name).with_context(|| format!("{name} is not on the partition"))?;
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_gives_its_files_back_and_is_the_same_each_time() {
        let files = [Entry::file("config.txt", *b"a=1\n"), Entry::file("bcm2837-rpi-3-b.dtb", vec![7; 100_000])];
        let make = || file_system(&files, 40 << 20, 5, b"HILUM-BOOT ").unwrap();
        let mut bytes = make();
        assert_eq!(bytes, make());
        assert_eq!(file_of(&mut bytes, "bcm2837-rpi-3-b.dtb").unwrap(), vec![7; 100_000]);
        assert!(file_of(&mut bytes, "kernel8.img").is_err());
        assert!(file_system(&[Entry::file("big", vec![0; 50 << 20])], 40 << 20, 5, b"HILUM-BOOT ").is_err());
    }

    #[test]
    fn the_firmware_is_told_kernel_and_initramfs() {
        let text = configuration(&["arm_64bit=1".into()]);
        assert!(text.contains("kernel=kernel8.img\ninitramfs initramfs.gz followkernel\narm_64bit=1\n"));
    }
}
