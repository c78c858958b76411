//! The file system of findings: checked, repaired and mounted.

use crate::say;
use crate::system::DATA;
use anyhow::bail;
use rustix::mount::{MountFlags, mount as mount_at};
use std::path::Path;
use std::process::Command;

/// Mounts it. Where that fails nothing can be kept, and the folder is made read-only: the screen then says so.
pub fn mount(device: &Path) {
    if let Err(e) = check_and_mount(device) {
        say!("findings cannot be kept: {e:#}");
        let _ = mount_at("tmpfs", DATA, "tmpfs", MountFlags::RDONLY, None);
    }
}

fn check_and_mount(device: &Path) -> anyhow::Result<()> {
    // -p mends what is certain, -y what is not; a code of 4 or more says that errors are left (e2fsck(8)).
    let check = |flag: &str| Command::new("/sbin/e2fsck").arg(flag).arg(device).status();
    let is_sound = |code: Option<i32>| code.is_some_and(|code| code < 4);
    if !is_sound(check("-p")?.code()) && !is_sound(check("-y")?.code()) {
        bail!("the file system of findings cannot be repaired");
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    mount_at(device, DATA, "ext4", flags, Some(c"errors=remount-ro"))?;
    std::fs::create_dir_all(Path::new(DATA).join("findings"))?;
    Ok(())
}
