//! A file in memory with its digest: what a finding is bound to.

use super::RadiographError;
use crate::process::files::sha256_hex;
use std::io::Read;
use std::path::Path;

/// Files larger than this are refused unread (bytes).
pub const MAX_FILE_BYTES: u64 = 128 << 20;

/// A file in memory with its digest.
pub struct SourceFile {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, hexadecimal.
    pub sha256: String,
}

/// The name of standard input.
pub const STDIN: &str = "-";

/// Reads `path`, or standard input where it is [`STDIN`], whole, at most [`MAX_FILE_BYTES`].
pub fn read_file(path: &Path) -> Result<SourceFile, RadiographError> {
    let io = RadiographError::Io;
    if path.as_os_str() == STDIN {
        return read(std::io::stdin().lock());
    }
    let file = std::fs::File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::Error::other("it is a folder")));
    }
    read(file)
}

fn read(from: impl Read) -> Result<SourceFile, RadiographError> {
    let io = RadiographError::Io;
    let mut bytes = Vec::new();
    from.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.is_empty() {
        return Err(RadiographError::Empty);
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(RadiographError::TooManyBytes);
    }
    let sha256 = sha256_hex(&bytes);
    Ok(SourceFile { bytes, sha256 })
}
