//! Programs of the system that work is left to.

use std::process::Command;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("{program} cannot be run ({reason}): install Debian's package {package}")]
    Missing {
        /// The program.
        program: String,
        /// The package that it is in.
        package: &'static str,
        /// Why.
        reason: std::io::Error,
    },
    /// It failed.
    #[error("{program} failed ({code}): {said}")]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        code: String,
        /// The last line that it said.
        said: String,
    },
}

/// A program and the Debian package that it is in.
pub struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Debian's archive.
pub const APT_GET: Tool = Tool { program: "apt-get", package: "apt" };
/// Debian's packages.
pub const DPKG_DEB: Tool = Tool { program: "dpkg-deb", package: "dpkg" };
/// The file system of findings.
pub const MKE2FS: Tool = Tool { program: "mke2fs", package: "e2fsprogs" };
/// Reads that file system without mounting it.
pub const DEBUGFS: Tool = Tool { program: "debugfs", package: "e2fsprogs" };
/// Compiles the device's programs.
pub const CARGO: Tool = Tool { program: "cargo", package: "rustup" };

/// Descriptions of Debian's packages.
pub const APT_CACHE: Tool = Tool { program: "apt-cache", package: "apt" };

impl Tool {
    /// Runs it with what `prepare` adds, and gives what it wrote on standard output.
    pub fn run(&self, prepare: impl FnOnce(&mut Command) -> &mut Command) -> Result<Vec<u8>, ToolError> {
        // Debian keeps some of them where only the administrator looks.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(self.program);
        prepare(command.env("PATH", format!("{path}:/usr/sbin:/sbin")));
        let output = command.output().map_err(|reason| ToolError::Missing {
            program: self.program.to_owned(),
            package: self.package,
            reason,
        })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().lines().last().unwrap_or("it said nothing").to_owned();
        Err(ToolError::Failed { program: self.program.to_owned(), code: output.status.to_string(), said })
    }
}
