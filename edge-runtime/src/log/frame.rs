//! Entries as bytes: `docs/findings-log.md`.

use super::Entry;

/// What a segment begins with: a name, and the version of the format.
pub(super) const HEADER: [u8; 8] = *b"HILUMF\x01\n";
/// Where the version stands.
const VERSION_AT: usize = 6;
/// Bytes before an entry's: length and CRC-32, four each, little endian.
const HEAD: usize = 8;
/// Entries with more bytes are none.
const MOST: usize = 64 << 10;

/// What was read from a segment.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) entries: Vec<Entry>,
    /// Bytes without entry, followed by one.
    pub(super) damaged: u64,
    /// Bytes without entry at the end.
    pub(super) torn: u64,
    /// The segment is of a later version.
    pub(super) is_later: bool,
}

/// `entry` with its head; `None` where it is too large.
pub(super) fn write(entry: &Entry) -> Option<Vec<u8>> {
    let body = postcard::to_stdvec(entry).ok()?;
    if body.len() > MOST {
        return None;
    }
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(checksum(&body).to_le_bytes());
    bytes.extend(body);
    Some(bytes)
}

/// CRC-32 (ISO-HDLC) of length and body, so that neither can change alone.
fn checksum(body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&(body.len() as u32).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// The entries of a segment; what is damaged is passed over up to the next whole entry.
pub(super) fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    let name = &HEADER[..VERSION_AT];
    if bytes.starts_with(name) && bytes.get(VERSION_AT).is_some_and(|version| *version > HEADER[VERSION_AT]) {
        read.is_later = true;
        return read;
    }
    let mut at = if bytes.starts_with(&HEADER) { HEADER.len() } else { 0 };
    let mut skipped = 0;
    while at < bytes.len() {
        match entry_at(&bytes[at..], read.entries.last().map(|e| e.sequence)) {
            Some((entry, length)) => {
                read.entries.push(entry);
                read.damaged += std::mem::take(&mut skipped);
                at += length;
            }
            None => {
                skipped += 1;
                at += 1;
            }
        }
    }
    read.torn = skipped;
    read
}

/// The entry at the start of `bytes` and its length, if there is a whole one that comes after entry `last`.
fn entry_at(bytes: &[u8], last: Option<u64>) -> Option<(Entry, usize)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length == 0 || length > MOST {
        return None;
    }
    let body = rest.get(..length)?;
    if checksum(body) != expected {
        return None;
    }
    let entry: Entry = postcard::from_bytes(body).ok()?;
    last.is_none_or(|last| entry.sequence > last).then_some((entry, HEAD + length))
}
