//! The device's programs, compiled for its processor.

use crate::tools::{CARGO, ToolError};
use std::path::{Path, PathBuf};

/// Cargo's profile of what runs on devices.
const PROFILE: &str = "device";

/// Where the device's programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `edge-runtime`.
    pub application: PathBuf,
    /// The first program.
    pub init: PathBuf,
}

/// Why there are no programs.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// Cargo failed.
    #[error(
        "the device's programs cannot be compiled ({0}); they need Rust's target {1} and Debian's package \
             gcc-aarch64-linux-gnu"
    )]
    Cargo(ToolError, String),
    /// Not in the workspace.
    #[error(
        "the device's programs are compiled in Hilum's own source folder: run it there, or give --application and \
             --init"
    )]
    NoWorkspace,
    /// A program for another processor.
    #[error("{path} is no static program for {target}")]
    Foreign {
        /// The program.
        path: PathBuf,
        /// What is asked for.
        target: String,
    },
    /// It cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The program.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
}

/// Compiles them for `target`, in the workspace that the current folder lies in.
pub fn compile(target: &str) -> Result<Programs, ProgramError> {
    let located = CARGO.run(|command| command.args(["locate-project", "--workspace", "--message-format", "plain"]));
    let manifest = located.map_err(|_| ProgramError::NoWorkspace)?;
    let manifest = PathBuf::from(String::from_utf8_lossy(&manifest).trim().to_owned());
    let root = manifest.parent().filter(|root| root.join("edge-runtime/init").is_dir());
    let root = root.ok_or(ProgramError::NoWorkspace)?;
    CARGO
        .run(|command| {
            command
                .args([
                    "build",
                    "--locked",
                    "--profile",
                    PROFILE,
                    "--target",
                    target,
                    "-p",
                    "edge-runtime",
                    "-p",
                    "init",
                ])
                .env("CC_aarch64_unknown_linux_musl", "aarch64-linux-gnu-gcc")
                .current_dir(root)
        })
        .map_err(|e| ProgramError::Cargo(e, target.to_owned()))?;
    let folder = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let folder = folder.join(target).join(PROFILE);
    Ok(Programs { application: folder.join("edge-runtime"), init: folder.join("hilum-init") })
}

/// A program's bytes, refused where it is for another processor, or needs a library that a card does not have.
pub fn read(path: &Path, target: &str) -> Result<Vec<u8>, ProgramError> {
    let bytes = std::fs::read(path).map_err(|reason| ProgramError::File { path: path.to_owned(), reason })?;
    match is_static_for(&bytes, target) {
        true => Ok(bytes),
        false => Err(ProgramError::Foreign { path: path.to_owned(), target: target.to_owned() }),
    }
}

/// ELF of 64 bits for the target's machine (`e_machine`: 183 is AArch64, 62 x86-64), without an interpreter.
fn is_static_for(bytes: &[u8], target: &str) -> bool {
    let machine: u16 = if target.starts_with("aarch64") { 183 } else { 62 };
    let is_elf = bytes.starts_with(b"\x7fELF\x02\x01") && bytes.get(18..20) == Some(&machine.to_le_bytes());
    let number = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let count = bytes.get(56..58).map(|b| u16::from_le_bytes([b[0], b[1]])).unwrap_or(0);
    let Some(table) = number(32) else { return false };
    let has_interpreter = (0..u64::from(count)).any(|i| {
        // A program header has 56 bytes; its kind comes first, and 3 is `PT_INTERP`.
        let at = usize::try_from(table.saturating_add(i * 56)).unwrap_or(usize::MAX);
        bytes.get(at..at.saturating_add(4)) == Some(&3u32.to_le_bytes())
    });
    is_elf && !has_interpreter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_this_machine_are_not_taken_for_a_board() {
        let own = std::env::current_exe().unwrap();
        if cfg!(target_arch = "x86_64") {
            assert!(matches!(read(&own, "aarch64-unknown-linux-musl"), Err(ProgramError::Foreign { .. })));
        }
        for bytes in [&b""[..], b"\x7fELF", &[0; 64]] {
            assert!(!is_static_for(bytes, "aarch64-unknown-linux-musl"));
        }
    }
}
