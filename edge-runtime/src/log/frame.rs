//! Entries as bytes: `docs/findings-log.md`.

use super::Entry;

/// What a segment begins with: a name, and the version of the format.
pub(super) const HEADER: [u8; 8] = *b"HILUMF\x01\n";
/// Where the version stands.
const VERSION_AT: usize = 6;
/// Bytes before an entry's: length and CRC-32, four each, little endian.
const HEAD: usize = 8;
/// Entries with more bytes are none.
const MOST: usize = 4096;
/// Bytes that a cut can leave of an entry.
pub(super) const LONGEST: u64 = (HEAD + MOST) as u64;

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
    (body.len() <= MOST).then(|| framed(&body))
}

/// `body` with its head.
pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + body.len());
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(checksum(body).to_le_bytes());
    bytes.extend(body);
    bytes
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
    let has_header = bytes.starts_with(&HEADER);
    let mut at = if has_header { HEADER.len() } else { 0 };
    // A segment is made whole, with its header: one without is damaged, even where nothing follows.
    read.damaged = if has_header { 0 } else { HEADER.len() as u64 };
    let mut skipped = 0;
    while at < bytes.len() {
        let last = read.entries.last().map(|e| e.sequence);
        let Some(body) = body_at(&bytes[at..]) else {
            skipped += 1;
            at += 1;
            continue;
        };
        match entry(body) {
            Ok(entry) if last.is_none_or(|last| entry.sequence > last) => {
                read.entries.push(entry);
                read.damaged += std::mem::take(&mut skipped);
            }
            Ok(_) => skipped += (HEAD + body.len()) as u64,
            // It is whole, and not for this program.
            Err(_) => read.is_later = true,
        }
        at += HEAD + body.len();
    }
    read.torn = skipped;
    read
}

/// The entry in `body`. Those of programs that knew no sites end before a finding's last field, `site`: none stands for
/// it. Such programs read entries of this one as well, since they ignore what follows the fields that they know.
fn entry(body: &[u8]) -> postcard::Result<Entry> {
    const NONE: u8 = 0;
    postcard::from_bytes(body).or_else(|_| postcard::from_bytes(&[body, &[NONE]].concat()))
}

/// The body of the whole entry at the start of `bytes`, if there is one.
fn body_at(bytes: &[u8]) -> Option<&[u8]> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    if length == 0 || length > MOST {
        return None;
    }
    let body = rest.get(..length)?;
    (checksum(body) == expected).then_some(body)
}
