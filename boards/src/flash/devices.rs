//! Which cards are there, and which of them may be written.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// A disk of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Such as `/dev/sdb`.
    pub path: PathBuf,
    /// What the maker calls it.
    pub model: String,
    /// Its bytes.
    pub bytes: u64,
    /// Whether it is a card or a stick.
    pub is_removable: bool,
    /// Whether nothing can be written to it.
    pub is_read_only: bool,
    /// Where something on it is used.
    pub used: Vec<String>,
}

/// The places that tell about disks; others stand in for the system's in tests.
pub struct System {
    /// `/sys/block`.
    pub blocks: PathBuf,
    /// The text of `/proc/self/mounts`.
    pub mounts: String,
    /// The text of `/proc/swaps`.
    pub swaps: String,
}

impl System {
    /// This machine.
    pub fn here() -> System {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        System { blocks: "/sys/block".into(), mounts: read("/proc/self/mounts"), swaps: read("/proc/swaps") }
    }

    /// Its disks that hold anything, by name.
    pub fn devices(&self) -> Vec<Device> {
        let Ok(entries) = std::fs::read_dir(&self.blocks) else { return vec![] };
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().filter_map(|name| self.device(name)).filter(|device| device.bytes > 0).collect()
    }

    /// The disk `name`.
    pub fn device(&self, name: &str) -> Option<Device> {
        let folder = self.blocks.join(name);
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).map(|t| t.trim().to_owned()).ok();
        let is = |file: &str| text(file).as_deref() == Some("1");
        let is_usb = std::fs::canonicalize(&folder).is_ok_and(|path| path.to_string_lossy().contains("/usb"));
        let is_card = name.starts_with("mmcblk") && text("device/type").as_deref() == Some("SD");
        // The size counts sectors of 512 bytes, whatever the disk's own are.
        let bytes = text("size")?.parse::<u64>().ok()? * 512;
        let words = [text("device/vendor"), text("device/model"), text("device/name")];
        Some(Device {
            path: Path::new("/dev").join(name),
            model: words.into_iter().flatten().collect::<Vec<_>>().join(" "),
            bytes,
            is_removable: is("removable") || is_usb || is_card,
            is_read_only: is("ro"),
            used: self.used(name),
        })
    }

    /// Where the disk `name`, or a partition of it, is mounted or swapped to, and what is built on it.
    fn used(&self, name: &str) -> Vec<String> {
        let device = format!("/dev/{name}");
        let is_of = |source: &str| {
            let rest = source.strip_prefix(&device);
            rest.is_some_and(|rest| rest.trim_start_matches('p').chars().all(|c| c.is_ascii_digit()))
        };
        let mounts = self.mounts.lines().filter_map(|line| {
            let mut words = line.split(' ');
            is_of(words.next()?).then(|| words.next().unwrap_or_default().to_owned())
        });
        let swaps = self.swaps.lines().filter(|line| line.split_whitespace().next().is_some_and(is_of));
        let swaps = swaps.map(|_| "swap".to_owned());
        let mut used: Vec<String> = mounts.chain(swaps).collect();
        let folder = self.blocks.join(name);
        let parts = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for holders in parts.map(|part| part.join("holders")).chain([folder.join("holders")]) {
            let held = std::fs::read_dir(holders).into_iter().flatten().flatten();
            used.extend(held.map(|entry| entry.file_name().to_string_lossy().into_owned()));
        }
        used
    }
}

impl Device {
    /// Why it is not written; `takes_fixed` where somebody said that it may be no card.
    pub fn refusal(&self, takes_fixed: bool) -> Option<String> {
        let path = self.path.display();
        if !self.used.is_empty() {
            return Some(format!("{path} is in use ({}): unmount it first, if it is the card", self.used.join(", ")));
        }
        if self.is_read_only {
            return Some(format!("{path} is write-protected: move the card's switch, or take another one"));
        }
        if !self.is_removable && !takes_fixed {
            return Some(format!("{path} is no card and no stick: --fixed writes to it all the same"));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(removable: &str, read_only: &str, mounts: &str) -> (tempfile::TempDir, System) {
        let blocks = tempfile::tempdir().unwrap();
        let folder = blocks.path().join("sdb");
        std::fs::create_dir_all(folder.join("device")).unwrap();
        for (file, text) in [("size", "1048576"), ("removable", removable), ("ro", read_only), ("device/model", "Card")]
        {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let system = System { blocks: blocks.path().to_owned(), mounts: mounts.into(), swaps: String::new() };
        (blocks, system)
    }

    fn refusal(removable: &str, read_only: &str, mounts: &str) -> Option<String> {
        let (_blocks, system) = system(removable, read_only, mounts);
        let devices = system.devices();
        assert_eq!((devices.len(), devices[0].bytes), (1, 512 << 20));
        devices[0].refusal(false)
    }

    #[test]
    fn cards_are_told_from_disks_that_must_not_be_written() {
        assert_eq!(refusal("1", "0", "/dev/sda1 / ext4\n/dev/sdba / ext4\n"), None);
        assert!(refusal("1", "0", "/dev/sdb1 /media/a vfat rw\n").unwrap().contains("/media/a"));
        assert!(refusal("1", "0", "/dev/sdb /media/a vfat rw\n").unwrap().contains("in use"));
        assert!(refusal("1", "1", "").unwrap().contains("write-protected"));
        assert!(refusal("0", "0", "").unwrap().contains("--fixed"));
        let (_blocks, system) = system("0", "0", "");
        assert_eq!(system.devices()[0].refusal(true), None);
    }
}
