//! The file systems of a device, and what its card says it is.

use crate::application::Release;
use crate::card::Names;
use anyhow::Context;
use rustix::mount::{MountFlags, UnmountFlags, mount as mount_at, mount_remount, unmount as unmount_at};
use rustix::system::RebootCommand;
use serde::Deserialize;
use slots::keys::KeyRing;
use slots::update::Device;
use std::path::Path;

/// What a card says the device is, written when the card was made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name of its board.
    pub board: String,
    /// Rust target triple of its programs.
    pub target: String,
    /// The signature of its card.
    pub disk_id: u32,
    /// Keys whose updates it takes.
    pub keys: KeyRing,
}

/// Where the identity stands.
const IDENTITY: &str = "/etc/hilum/identity.json";
/// Where `edge-runtime update` reads what it needs.
const DEVICE: &str = "/run/hilum/device.json";
/// Where findings are mounted.
pub const DATA: &str = "/data";
/// Where a release is unpacked.
pub const APPLICATION: &str = "/app";

/// Mounts what a program expects.
pub fn mount() -> anyhow::Result<()> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let wanted = [
        ("proc", "/proc", strict, ""),
        ("sysfs", "/sys", strict, ""),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, "mode=0755"),
        ("tmpfs", "/run", strict, "mode=0755,size=64m"),
        ("tmpfs", "/tmp", strict, "mode=1777,size=64m"),
        ("tmpfs", APPLICATION, MountFlags::NOSUID | MountFlags::NODEV, "mode=0755,size=128m"),
    ];
    for (kind, at, flags, options) in wanted {
        std::fs::create_dir_all(at).with_context(|| format!("{at} cannot be made"))?;
        let options = std::ffi::CString::new(options)?;
        mount_at(kind, at, kind, flags, Some(options.as_c_str())).with_context(|| format!("{at} cannot be mounted"))?;
    }
    // Ctrl-Alt-Del and Alt-SysRq of a keyboard do nothing.
    rustix::system::reboot(RebootCommand::CadOff).context("Ctrl-Alt-Del cannot be switched off")?;
    std::fs::write("/proc/sys/kernel/sysrq", "0").context("Alt-SysRq cannot be switched off")?;
    std::fs::create_dir_all(DATA)?;
    std::fs::create_dir_all("/run/hilum").context("/run/hilum cannot be made")
}

/// Writes what is still in memory, and unmounts.
pub fn unmount() {
    rustix::fs::sync();
    if unmount_at(DATA, UnmountFlags::empty()).is_err() {
        // A program that still holds a file: what is written stays, and no more is.
        let _ = mount_remount(DATA, MountFlags::RDONLY, c"");
    }
    rustix::fs::sync();
}

/// What the card says the device is.
pub fn identity() -> anyhow::Result<Identity> {
    let text = std::fs::read(IDENTITY).with_context(|| format!("{IDENTITY} cannot be read"))?;
    serde_json::from_slice(&text).with_context(|| format!("{IDENTITY} is not understood"))
}

/// True on QEMU, where the kernel is told so.
pub fn is_emulated() -> bool {
    is_told("hilum.emulated")
}

/// False on a machine whose watchdog does not wait.
pub fn has_watchdog() -> bool {
    !is_told("hilum.no-watchdog")
}

fn is_told(word: &str) -> bool {
    std::fs::read_to_string("/proc/cmdline").is_ok_and(|line| line.split_whitespace().any(|told| told == word))
}

/// Leaves what `edge-runtime update` needs.
pub fn write_device(disk: &Names, identity: &Identity, release: &Release) -> anyhow::Result<()> {
    let Identity { board, target, keys, .. } = identity;
    let device =
        Device { board: board.clone(), target: target.clone(), interface: slots::INTERFACE, keys: keys.clone() };
    let text = serde_json::to_vec(&serde_json::json!({
        "card": disk.whole,
        "device": device,
        "release": release.number,
        "version": release.version,
    }))?;
    std::fs::write(Path::new(DEVICE), text).with_context(|| format!("{DEVICE} cannot be written"))
}
