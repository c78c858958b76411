//! Archives in cpio's form `newc`, as the kernel and the first program unpack them. The same files give the same bytes.

use std::io::{self, Write};

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, without a slash at its begin.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// `S_IFREG` and `S_IFDIR` of `stat(2)`.
const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;

impl Entry {
    /// A file that is read.
    pub fn file(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Entry {
        Entry { path: path.into(), mode: 0o644, bytes: bytes.into() }
    }

    /// A file that is run.
    pub fn program(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Entry {
        Entry { mode: 0o755, ..Entry::file(path, bytes) }
    }
}

/// The archive of `entries`, with the folders that they lie in, sorted by path.
pub fn archive(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    let mut folders: Vec<&str> = Vec::new();
    for entry in &sorted {
        let ends = entry.path.match_indices('/').map(|(end, _)| &entry.path[..end]);
        folders.extend(ends);
    }
    folders.sort_unstable();
    folders.dedup();
    let mut out = Vec::new();
    let mut inode = 0;
    for folder in folders {
        inode += 1;
        cpio::newc::Builder::new(folder).ino(inode).nlink(2).mode(FOLDER | 0o755).write(&mut out, 0).finish()?;
    }
    for entry in sorted {
        inode += 1;
        let length = u32::try_from(entry.bytes.len()).map_err(io::Error::other)?;
        let builder = cpio::newc::Builder::new(&entry.path).ino(inode).nlink(1).mode(FILE | entry.mode);
        let mut writer = builder.write(&mut out, length);
        writer.write_all(&entry.bytes)?;
        writer.finish()?;
    }
    cpio::newc::trailer(&mut out)?;
    Ok(out)
}

/// The file `path` of an archive.
pub fn find(archive: &[u8], path: &str) -> io::Result<Option<Vec<u8>>> {
    let mut rest = archive;
    loop {
        let mut reader = cpio::newc::Reader::new(rest)?;
        if reader.entry().is_trailer() {
            return Ok(None);
        }
        if reader.entry().name() == path {
            let mut bytes = Vec::new();
            io::copy(&mut reader, &mut bytes)?;
            return Ok(Some(bytes));
        }
        rest = reader.finish()?;
    }
}

/// The same in gzip's form, without a time or a name in its head.
pub fn gzip(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_the_same_in_any_order_and_gives_its_files_back() {
        let files = [Entry::program("sbin/a", *b"1"), Entry::file("etc/hilum/b", *b"22"), Entry::file("c", *b"")];
        let there = archive(&files).unwrap();
        let mut reversed = files.clone();
        reversed.reverse();
        assert_eq!(archive(&reversed).unwrap(), there);
        assert_eq!(find(&there, "etc/hilum/b").unwrap().unwrap(), b"22");
        assert_eq!(find(&there, "etc").unwrap().unwrap(), b"");
        assert_eq!(find(&there, "d").unwrap(), None);
    }
}
