//! An update in one file: a signed manifest, and the image or the model that it describes.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `HILUM-UP` |
//! | 2 | format, little-endian: 1 |
//! | 4 | length of the manifest, little-endian |
//! | … | the manifest, in postcard |
//! | 64 | its Ed25519 signature |
//! | … | what is installed, to the end of the file |

use crate::keys::{KeyError, KeyRing, Purpose, SecretKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read};

/// What a file begins with.
pub const MAGIC: [u8; 8] = *b"HILUM-UP";
const FORMAT: u16 = 1;
/// Longest manifest that is read.
const MOST_MANIFEST: usize = 16 << 10;
/// Bytes that are read at a time.
pub const CHUNK: usize = 1 << 20;

/// What an update replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The application and its model.
    Application,
    /// The model alone.
    Model,
}

/// What an update is, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Boards that it is made for.
    pub boards: Vec<String>,
    /// Rust target triple of its program.
    pub target: String,
    /// What it replaces.
    pub kind: Kind,
    /// The number by which releases are ordered.
    pub release: u64,
    /// The same for people.
    pub version: String,
    /// Bytes of what is installed.
    pub length: u64,
    /// SHA-256 of what is installed.
    pub sha256: [u8; 32],
    /// What it expects of the card's first program ([`crate::INTERFACE`]).
    pub interface: u32,
    /// It may go over newer releases, up to this one.
    pub over: Option<u64>,
    /// Keys that count once it is committed.
    pub keys: Option<KeyRing>,
    /// The public key that it is signed with.
    pub key: String,
}

/// Why a file is no update, or none for this device.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// It cannot be read.
    #[error("it cannot be read ({0}): was the stick taken out?")]
    Unreadable(#[from] io::Error),
    /// It is another kind of file.
    #[error("it is no update of Hilum")]
    Foreign,
    /// Its format is newer.
    #[error("its format {0} is newer than this program: install a release between first")]
    Newer(u16),
    /// It ends too early.
    #[error("it is cut short: copy it again")]
    Truncated,
    /// It is damaged.
    #[error("it is damaged ({0}): copy it again")]
    Damaged(&'static str),
    /// Its signature is not taken.
    #[error(transparent)]
    Key(#[from] KeyError),
}

fn whole<const N: usize>(from: &mut impl Read) -> Result<[u8; N], BundleError> {
    let mut bytes = [0; N];
    fill(from, &mut bytes)?;
    Ok(bytes)
}

fn fill(from: &mut impl Read, into: &mut [u8]) -> Result<(), BundleError> {
    from.read_exact(into).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => BundleError::Truncated,
        _ => BundleError::Unreadable(e),
    })
}

impl Manifest {
    /// Reads the head of an update; nothing of it is believed before `keys` have checked its signature. What is
    /// installed follows in `from`.
    pub fn read(from: &mut impl Read, keys: &KeyRing) -> Result<Manifest, BundleError> {
        if whole::<8>(from)? != MAGIC {
            return Err(BundleError::Foreign);
        }
        let format = u16::from_le_bytes(whole(from)?);
        if format != FORMAT {
            return Err(BundleError::Newer(format));
        }
        let length = u32::from_le_bytes(whole(from)?) as usize;
        if length > MOST_MANIFEST {
            return Err(BundleError::Damaged("its manifest is too long"));
        }
        let mut bytes = vec![0; length];
        fill(from, &mut bytes)?;
        let signature = whole::<64>(from)?;
        let manifest: Manifest =
            postcard::from_bytes(&bytes).map_err(|_| BundleError::Damaged("its manifest is not understood"))?;
        keys.check(Purpose::Update, &manifest.key, &bytes, &signature)?;
        Ok(manifest)
    }

    /// The head of an update, signed with `key`, of which [`Manifest::key`] is set here.
    pub fn sign(mut self, key: &SecretKey) -> Result<Vec<u8>, BundleError> {
        self.key = key.public()?.public;
        let bytes = postcard::to_stdvec(&self).map_err(|e| io::Error::other(e.to_string()))?;
        if bytes.len() > MOST_MANIFEST {
            return Err(BundleError::Damaged("its manifest is too long"));
        }
        let mut head = MAGIC.to_vec();
        head.extend(FORMAT.to_le_bytes());
        head.extend((bytes.len() as u32).to_le_bytes());
        head.extend(&bytes);
        head.extend(key.sign(Purpose::Update, &bytes)?);
        Ok(head)
    }

    /// Reads what is installed to the end of the file and hands it on in pieces of at most [`CHUNK`] bytes; refused
    /// where it is not what the manifest says.
    pub fn content(
        &self,
        from: &mut impl Read,
        mut piece: impl FnMut(u64, &[u8]) -> Result<(), BundleError>,
    ) -> Result<(), BundleError> {
        let mut digest = Sha256::new();
        let mut done = 0;
        let mut buffer = vec![0; CHUNK.min(self.length as usize).max(1)];
        while done < self.length {
            let length = (self.length - done).min(buffer.len() as u64) as usize;
            fill(from, &mut buffer[..length])?;
            digest.update(&buffer[..length]);
            piece(done, &buffer[..length])?;
            done += length as u64;
        }
        if from.read(&mut [0])? != 0 {
            return Err(BundleError::Damaged("it is longer than it says"));
        }
        match digest.finalize()[..] == self.sha256 {
            true => Ok(()),
            false => Err(BundleError::Damaged("its digest is another one")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(content: &[u8]) -> (Vec<u8>, KeyRing) {
        let key = SecretKey::of_random("a", [7; 32]);
        let manifest = Manifest {
            boards: vec!["b".into()],
            target: "t".into(),
            kind: Kind::Application,
            release: 1,
            version: "1".into(),
            length: content.len() as u64,
            sha256: Sha256::digest(content).into(),
            interface: crate::INTERFACE,
            over: None,
            keys: None,
            key: String::new(),
        };
        let ring = KeyRing { version: 1, keys: vec![key.public().unwrap()], revoked: vec![] };
        ([manifest.sign(&key).unwrap(), content.to_vec()].concat(), ring)
    }

    fn read(file: &[u8], keys: &KeyRing) -> Result<Vec<u8>, BundleError> {
        let mut from = file;
        let manifest = Manifest::read(&mut from, keys)?;
        let mut content = vec![];
        manifest.content(&mut from, |_, bytes| {
            content.extend(bytes);
            Ok(())
        })?;
        Ok(content)
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let (file, keys) = update(&[1, 2, 3, 4, 5]);
        assert_eq!(read(&file, &keys).unwrap(), [1, 2, 3, 4, 5]);
        for at in 0..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                assert!(read(&flipped, &keys).is_err(), "byte {at}, bit {bit}");
            }
            assert!(read(&file[..at], &keys).is_err(), "{at} bytes");
        }
        assert!(read(&[file.as_slice(), &[0]].concat(), &keys).is_err());
        assert!(read(&file, &KeyRing::default()).is_err());
    }
}
