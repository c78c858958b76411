//! What stands for a file's name in the log: names in clinics are patients' names.

use crate::process::files::{hex, sync_folder};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A clinic's key. A reference is made from a file's name with it (HMAC-SHA-256, RFC 2104): without the key no name can
/// be tried, with it a name that is known leads to its findings.
#[derive(Clone)]
pub struct ClinicKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{path}: the clinic's key cannot be read or made ({reason})")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file is not there, and findings are.
    #[error(
        "{0} is missing, and findings were kept with it: restore it from the clinic's papers, or move the findings away"
    )]
    Missing(PathBuf),
    /// The file holds no key.
    #[error(
        "{0} holds no key (64 hexadecimal digits): restore it from the clinic's papers; a new one finds no old names"
    )]
    NoKey(PathBuf),
}

/// Writes a key that only its owner can read; one that is there already stays.
fn create(path: &Path, key: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{}", hex(key))?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    sync_folder(folder)
}

/// Hexadecimal digits of a reference: 64 bits.
const DIGITS: usize = 16;

impl ClinicKey {
    /// The key in `path`; a new one is made from the system's random numbers where there is none.
    pub fn open_or_create(path: &Path) -> Result<ClinicKey, KeyError> {
        let io = |e: std::io::Error| KeyError::Io { path: path.to_owned(), reason: e.to_string() };
        match std::fs::read_to_string(path) {
            Ok(text) => ClinicKey::parse(&text).ok_or_else(|| KeyError::NoKey(path.to_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                let mut filled = 0;
                while filled < key.len() {
                    let flags = rustix::rand::GetRandomFlags::empty();
                    filled += rustix::rand::getrandom(&mut key[filled..], flags).map_err(|e| io(e.into()))?;
                }
                create(path, &key).map_err(io)?;
                Ok(ClinicKey(key))
            }
            Err(e) => Err(io(e)),
        }
    }

    /// The key in `path`, which must be there.
    pub fn open(path: &Path) -> Result<ClinicKey, KeyError> {
        let text =
            std::fs::read_to_string(path).map_err(|e| KeyError::Io { path: path.to_owned(), reason: e.to_string() })?;
        ClinicKey::parse(&text).ok_or_else(|| KeyError::NoKey(path.to_owned()))
    }

    fn parse(text: &str) -> Option<ClinicKey> {
        let text = text.trim_end();
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(ClinicKey(key))
    }

    /// What stands for a file called `name`.
    pub fn reference(&self, name: &str) -> String {
        // Keys shorter than a block are padded with zeros.
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        mac.update(name.as_bytes());
        hex(&mac.finalize().into_bytes()).chars().take(DIGITS).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_that_of_rfc_4231_and_needs_the_key() {
        // Test case 1's key is 20 bytes of 0x0b; HMAC pads keys with zeros, so 32 bytes with 12 zeros are the same key.
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        assert_eq!(ClinicKey(key).reference("Hi There"), "b0344c61d8db3853");
        assert_ne!(ClinicKey([1; 32]).reference("Hi There"), "b0344c61d8db3853");
    }

    #[test]
    fn a_key_is_made_once_and_a_damaged_one_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clinic.key");
        let first = ClinicKey::open_or_create(&path).unwrap();
        assert_eq!(first.0, ClinicKey::open_or_create(&path).unwrap().0);
        std::fs::write(&path, "0b").unwrap();
        assert!(matches!(ClinicKey::open_or_create(&path), Err(KeyError::NoKey(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "0b");
    }
}
