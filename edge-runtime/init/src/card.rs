//! The card that the device started from, found by its signature.

use anyhow::bail;
use slots::layout::Layout;
use slots::{Block, Disk};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a card may take to appear.
const PATIENCE: Duration = Duration::from_secs(20);

/// Devices of a card.
pub struct Names {
    /// All of it.
    pub whole: PathBuf,
    /// The partition of findings.
    pub data: PathBuf,
}

/// The card with the signature `disk_id`.
pub fn find(disk_id: u32) -> anyhow::Result<(Disk, Names)> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        for name in disks(Path::new("/sys/block")) {
            if let Some(found) = is_card(&Path::new("/dev").join(&name), disk_id) {
                return Ok((found, names(&name)));
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the card does not appear: take it out, put it in again, and switch the device on")
}

/// Disks of the machine by name. What hangs on USB is a stick, whatever it says of itself.
fn disks(blocks: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(blocks).into_iter().flatten().flatten();
    let is_usb = |path: &Path| std::fs::canonicalize(path).is_ok_and(|path| path.to_string_lossy().contains("/usb"));
    let fixed = entries.filter(|entry| !is_usb(&entry.path()));
    let mut names: Vec<String> = fixed.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn is_card(device: &Path, disk_id: u32) -> Option<Disk> {
    let readable = Disk::open_to_read(device).ok()?;
    // Empty drives and memory disks have no length.
    if readable.length().ok()? == 0 || Layout::read(&readable).ok()?.disk_id != disk_id {
        return None;
    }
    // A card behind a write protection still starts.
    Disk::open(device).or_else(|_| Disk::open_to_read(device)).ok()
}

/// Linux puts a `p` before the partition's number where the disk's name ends in a figure.
fn names(name: &str) -> Names {
    let between = if name.ends_with(|c: char| c.is_ascii_digit()) { "p" } else { "" };
    Names { whole: Path::new("/dev").join(name), data: format!("/dev/{name}{between}4").into() }
}

#[cfg(test)]
mod tests {
    use super::{disks, names};

    #[test]
    fn partitions_are_named_as_linux_names_them() {
        assert_eq!(names("mmcblk0").data.to_str(), Some("/dev/mmcblk0p4"));
        assert_eq!(names("vda").data.to_str(), Some("/dev/vda4"));
    }

    #[test]
    fn a_stick_is_never_the_card() {
        let system = tempfile::tempdir().unwrap();
        let devices = system.path().join("devices");
        for (name, place) in [("sda", "usb1/1-1/sda"), ("mmcblk0", "mmc0/mmcblk0")] {
            std::fs::create_dir_all(devices.join(place)).unwrap();
            std::fs::create_dir_all(system.path().join("block")).unwrap();
            std::os::unix::fs::symlink(devices.join(place), system.path().join("block").join(name)).unwrap();
        }
        assert_eq!(disks(&system.path().join("block")), ["mmcblk0"]);
    }
}
