//! USB sticks: which are there, mounted so that nothing on them can run or change.

use std::path::{Path, PathBuf};

/// File systems that sticks have, the commonest first.
const FILE_SYSTEMS: [&str; 5] = ["vfat", "exfat", "ntfs3", "ext4", "iso9660"];

/// A stick's file system: a partition, or the whole of one that has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stick {
    /// The kernel's name, such as `sda1`.
    pub name: String,
    /// Where it is mounted.
    pub mount: PathBuf,
}

/// Mounts and unmounts; another one stands in for the system's in tests.
pub trait Mounts {
    /// Mounts `device` read-only at `at`, without set-user-ID, devices and programs.
    fn mount(&mut self, device: &Path, at: &Path) -> std::io::Result<()>;
    /// Unmounts `at`, whatever still reads it.
    fn unmount(&mut self, at: &Path);
}

/// The sticks of a machine.
#[derive(Debug)]
pub struct Sticks<M> {
    /// `/sys/class/block`.
    blocks: PathBuf,
    /// `/dev`.
    devices: PathBuf,
    /// Where sticks are mounted.
    mounts: PathBuf,
    mounter: M,
    mounted: Vec<Stick>,
    /// Names that could not be mounted, so that they are not tried every time.
    refused: Vec<String>,
}

/// What changed since the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sticks that can be read now.
    pub came: Vec<Stick>,
    /// Sticks that are gone.
    pub went: Vec<Stick>,
    /// Sticks that cannot be read, each with the reason.
    pub refused: Vec<(String, String)>,
}

impl<M: Mounts> Sticks<M> {
    /// The sticks of this machine, mounted below `mounts`.
    pub fn new(mounts: PathBuf, mounter: M) -> Sticks<M> {
        Sticks {
            blocks: "/sys/class/block".into(),
            devices: "/dev".into(),
            mounts,
            mounter,
            mounted: vec![],
            refused: vec![],
        }
    }

    /// Looks which sticks came and went.
    pub fn poll(&mut self) -> Changes {
        let elsewhere = mounted_elsewhere(&self.devices);
        let is_ours = |name: &String| self.mounted.iter().any(|stick| stick.name == *name);
        let present: Vec<String> =
            self.present().into_iter().filter(|name| is_ours(name) || !elsewhere.contains(name)).collect();
        let mut changes = Changes::default();
        let (stay, went) = std::mem::take(&mut self.mounted).into_iter().partition(|s| present.contains(&s.name));
        self.mounted = stay;
        for stick in &went {
            self.mounter.unmount(&stick.mount);
            let _ = std::fs::remove_dir(&stick.mount);
        }
        changes.went = went;
        self.refused.retain(|name| present.contains(name));
        for name in present {
            if self.mounted.iter().any(|stick| stick.name == name) || self.refused.contains(&name) {
                continue;
            }
            let mount = self.mounts.join(&name);
            let made = std::fs::create_dir_all(&mount);
            match made.and_then(|()| self.mounter.mount(&self.devices.join(&name), &mount)) {
                Ok(()) => {
                    let stick = Stick { name, mount };
                    self.mounted.push(stick.clone());
                    changes.came.push(stick);
                }
                Err(e) => {
                    changes.refused.push((name.clone(), e.to_string()));
                    self.refused.push(name);
                }
            }
        }
        changes
    }

    /// Unmounts all.
    pub fn close(&mut self) {
        for stick in std::mem::take(&mut self.mounted) {
            self.mounter.unmount(&stick.mount);
            let _ = std::fs::remove_dir(&stick.mount);
        }
    }

    /// Names of partitions on removable disks and USB disks; the disk's own where it has none.
    fn present(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.blocks) else { return vec![] };
        let mut names: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let is_partition = |name: &str| self.blocks.join(name).join("partition").exists();
        let disks: Vec<&String> = names.iter().filter(|name| !is_partition(name) && self.is_stick(name)).collect();
        let mut found = Vec::new();
        for disk in disks {
            let parts: Vec<String> = names
                .iter()
                .filter(|name| is_partition(name) && self.disk_of(name).as_deref() == Some(disk))
                .cloned()
                .collect();
            if parts.is_empty() { found.push(disk.clone()) } else { found.extend(parts) }
        }
        found
    }

    /// The disk that partition `name` is on: the folder that it lies in (`/sys/class/block` holds links).
    fn disk_of(&self, name: &str) -> Option<String> {
        let path = std::fs::canonicalize(self.blocks.join(name)).ok()?;
        Some(path.parent()?.file_name()?.to_string_lossy().into_owned())
    }

    /// A disk that can be pulled and holds something.
    fn is_stick(&self, name: &str) -> bool {
        let folder = self.blocks.join(name);
        let number = |file: &str| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
        let is_usb = std::fs::canonicalize(&folder)
            .is_ok_and(|path| path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("usb")));
        let is_removable = number("removable") == Some(1) || is_usb;
        let is_real = folder.join("device").exists();
        is_removable && is_real && number("size").unwrap_or(0) > 0
    }
}

/// Names of devices that the system has mounted: what it runs from is no stick.
fn mounted_elsewhere(devices: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let sources = mounts.lines().filter_map(|line| line.split(' ').next());
    sources.filter_map(|source| Some(Path::new(source).strip_prefix(devices).ok()?.display().to_string())).collect()
}

/// The system's own mounts.
#[derive(Debug)]
pub struct SystemMounts;

#[cfg(target_os = "linux")]
impl Mounts for SystemMounts {
    fn mount(&mut self, device: &Path, at: &Path) -> std::io::Result<()> {
        use rustix::mount::{MountFlags, mount};
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOSYMFOLLOW;
        let mut last = std::io::Error::other("no file system");
        for kind in FILE_SYSTEMS {
            // Names of all scripts; a journal that is not played back, since that would write.
            let options = match kind {
                "vfat" => Some(c"utf8=1"),
                "ext4" => Some(c"noload"),
                _ => None,
            };
            match mount(device, at, kind, flags, options) {
                Ok(()) => return Ok(()),
                Err(e) => last = e.into(),
            }
        }
        Err(last)
    }

    fn unmount(&mut self, at: &Path) {
        // Lazily: the stick is gone, and what still reads it fails by itself.
        let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
    }
}

#[cfg(not(target_os = "linux"))]
impl Mounts for SystemMounts {
    fn mount(&mut self, _: &Path, _: &Path) -> std::io::Result<()> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn unmount(&mut self, _: &Path) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[derive(Debug, Default)]
    struct Pretend {
        calls: Vec<String>,
    }

    impl Mounts for Pretend {
        fn mount(&mut self, device: &Path, _: &Path) -> std::io::Result<()> {
            self.calls.push(format!("mount {}", device.display()));
            if device.ends_with("sdb") { Err(std::io::Error::other("no file system")) } else { Ok(()) }
        }

        fn unmount(&mut self, at: &Path) {
            self.calls.push(format!("unmount {}", at.file_name().unwrap().display()));
        }
    }

    /// A disk as the kernel shows it: a folder among the devices, and a link to it in the class.
    fn disk(root: &Path, bus: &str, name: &str, removable: bool, parts: &[&str]) {
        let folder = root.join("devices").join(bus).join(name);
        std::fs::create_dir_all(folder.join("device")).unwrap();
        std::fs::write(folder.join("removable"), if removable { "1\n" } else { "0\n" }).unwrap();
        std::fs::write(folder.join("size"), "2048\n").unwrap();
        symlink(&folder, root.join("class").join(name)).unwrap();
        for part in parts {
            let inner = folder.join(part);
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::write(inner.join("partition"), "1\n").unwrap();
            symlink(&inner, root.join("class").join(part)).unwrap();
        }
    }

    #[test]
    fn two_sticks_come_and_go_and_the_system_disk_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("class")).unwrap();
        disk(root, "mmc", "mmcblk0", false, &["mmcblk0p1", "mmcblk0p2"]);
        disk(root, "usb1/1-1", "sda", false, &["sda1"]);
        let mut sticks = Sticks {
            blocks: root.join("class"),
            devices: "/dev".into(),
            mounts: root.join("mounts"),
            mounter: Pretend::default(),
            mounted: vec![],
            refused: vec![],
        };
        assert_eq!(sticks.poll().came.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["sda1"]);
        assert_eq!(sticks.poll(), Changes::default());
        disk(root, "usb1/1-2", "sdb", true, &[]);
        disk(root, "usb1/1-3", "sdc", true, &["sdc1", "sdc2"]);
        let changes = sticks.poll();
        assert_eq!(changes.came.len(), 2);
        assert_eq!(changes.refused, [("sdb".to_owned(), "no file system".to_owned())]);
        assert_eq!(sticks.poll(), Changes::default(), "a stick that cannot be read is said once");
        std::fs::remove_file(root.join("class/sda1")).unwrap();
        std::fs::remove_file(root.join("class/sda")).unwrap();
        assert_eq!(sticks.poll().went.len(), 1);
        let expected = ["mount /dev/sda1", "mount /dev/sdb", "mount /dev/sdc1", "mount /dev/sdc2", "unmount sda1"];
        assert_eq!(sticks.mounter.calls, expected);
    }
}
