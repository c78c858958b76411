//! The file system of findings: checked, repaired and mounted.

use crate::say;
use crate::system::DATA;
use anyhow::bail;
use rustix::mount::{MountFlags, mount as mount_at, mount_remount};
use std::io::Read;
use std::path::Path;
use std::process::Command;

const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// Where `edge-runtime ui` looks whether findings may have been lost.
const REPAIRED: &str = "/run/hilum/findings-repaired";

/// Mounts it. Where that fails nothing can be kept, and the folder is made read-only: the screen then says so.
pub fn mount(device: &Path) {
    if let Err(e) = check_and_mount(device) {
        say!("findings cannot be kept: {e:#}");
        if let Err(e) = stand_in() {
            say!("and nothing stands in for them: {e:#}");
        }
    }
}

/// A folder in memory that cannot be written, with a key that is good for nothing: the program starts, and says that
/// nothing is kept.
fn stand_in() -> anyhow::Result<()> {
    mount_at("tmpfs", DATA, "tmpfs", STRICT, None)?;
    std::fs::create_dir_all(Path::new(DATA).join("findings"))?;
    let mut random = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    std::fs::write(Path::new(DATA).join("clinic.key"), slots::keys::hex(&random))?;
    mount_remount(DATA, STRICT | MountFlags::RDONLY, c"")?;
    Ok(())
}

fn check_and_mount(device: &Path) -> anyhow::Result<()> {
    // -p mends what is certain, -y what is not; a code of 4 or more says that errors are left (e2fsck(8)).
    let check = |flag: &str| Command::new("/sbin/e2fsck").arg(flag).arg(device).status();
    let is_sound = |code: Option<i32>| code.is_some_and(|code| code < 4);
    if !is_sound(check("-p")?.code()) {
        if !is_sound(check("-y")?.code()) {
            bail!("the file system of findings cannot be repaired");
        }
        // What a guess repaired may have lost findings: the screen says so.
        std::fs::write(REPAIRED, "")?;
    }
    mount_at(device, DATA, "ext4", STRICT | MountFlags::NOATIME, Some(c"errors=remount-ro"))?;
    std::fs::create_dir_all(Path::new(DATA).join("findings"))?;
    Ok(())
}
