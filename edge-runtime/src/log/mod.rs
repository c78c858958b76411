//! The findings that a device keeps: an append-only log that a cut of power at any moment leaves readable. The format
//! is
//! `docs/findings-log.md`.
//!
//! An entry is on the disk, synced, before [`Log::append`] returns: only then may a screen say that it is kept. After a
//! cut the log is read up to the last whole entry; damage in between costs the entries that it hits and no others.

mod disk;
mod entry;
pub mod export;
mod frame;
mod reference;
#[cfg(test)]
mod simulated;

pub use disk::{Disk, Folder};
pub use entry::{Draft, Entry, Version};
pub use reference::{ClinicKey, KeyError};

use std::io;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a segment; a new one begins where an entry would pass them.
    pub segment: u64,
    /// Bytes of all segments; the oldest goes where they pass them. At least two segments stay.
    pub all: u64,
}

impl Limits {
    /// Segments of 256 KiB, `mebibytes` in all.
    pub fn of_mebibytes(mebibytes: u32) -> Limits {
        Limits { segment: 256 << 10, all: u64::from(mebibytes) << 20 }
    }
}

/// Why the log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder or a file of it cannot be read or written.
    #[error("the findings cannot be opened ({0}); check the folder and its permissions")]
    Io(#[from] io::Error),
    /// A later program wrote it.
    #[error("{0} was written by a later version of Hilum; install that version")]
    Later(String),
}

/// Why an entry is not kept.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room.
    #[error("the disk is full: the finding is not kept; export the findings and free room")]
    Full,
    /// Nothing can be written.
    #[error("the disk cannot be written ({0}): the finding is not kept")]
    Unwritable(io::Error),
    /// The entry is larger than any that is read.
    #[error("the finding is larger than an entry may be")]
    TooLarge,
}

impl From<io::Error> for AppendError {
    fn from(e: io::Error) -> AppendError {
        match e.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full,
            _ => AppendError::Unwritable(e),
        }
    }
}

/// What was found in a log.
#[derive(Debug, Default, PartialEq)]
pub struct Contents {
    /// The entries, the oldest first.
    pub entries: Vec<Entry>,
    /// Bytes that hold no entry although entries follow: not what a cut leaves.
    pub damaged: u64,
    /// Bytes at the end of an entry that was cut.
    pub torn: u64,
    /// Segments that the disk does not give.
    pub unreadable: usize,
}

impl Contents {
    /// Counts what a segment of `length` bytes lacks; gives the length up to its last entry.
    fn add(&mut self, read: &frame::Read, length: u64, is_last: bool) -> u64 {
        self.damaged += read.damaged;
        // A cut leaves no more than one entry; what is longer was kept once.
        if is_last && read.torn <= frame::LONGEST {
            self.torn += read.torn;
            return length - read.torn;
        }
        self.damaged += read.torn;
        length
    }

    /// Whether entries that were kept are lost.
    pub fn has_lost(&self) -> bool {
        self.damaged > 0 || self.unreadable > 0
    }
}

/// More entries than a segment holds.
const MOST_IN_SEGMENT: u64 = 100_000;

/// A log that is open for appending.
#[derive(Debug)]
pub struct Log<D> {
    disk: D,
    limits: Limits,
    segments: Vec<Segment>,
    next: u64,
    /// A write failed, so that what is on the disk is unknown until the last segment is read again.
    is_uncertain: bool,
}

#[derive(Debug, Clone)]
struct Segment {
    name: String,
    length: u64,
    entries: u64,
}

impl<D: Disk> Log<D> {
    /// Opens the log of `disk`, removes what a cut left of an entry, and gives what is in it.
    pub fn open(disk: D, limits: Limits) -> Result<(Log<D>, Contents), OpenError> {
        let mut contents = Contents::default();
        let mut segments = Vec::new();
        let mut next = 1;
        let names = segment_names(&disk)?;
        for (i, name) in names.iter().enumerate() {
            let Ok(bytes) = disk.read(name) else {
                // A bad sector: no number of it may be given again, and nothing is appended to it.
                contents.unreadable += 1;
                next = next.max(first_of(name) + MOST_IN_SEGMENT);
                segments.push(Segment { name: name.clone(), length: u64::MAX / 2, entries: 0 });
                continue;
            };
            let read = frame::read(&bytes);
            if read.is_later {
                return Err(OpenError::Later(name.clone()));
            }
            let length = contents.add(&read, bytes.len() as u64, i + 1 == names.len());
            next = read.entries.last().map_or(first_of(name), |entry| entry.sequence + 1).max(next);
            let entries = read.entries.len() as u64;
            contents.entries.extend(read.entries);
            segments.push(Segment { name: name.clone(), length, entries });
        }
        let mut log = Log { disk, limits, segments, next, is_uncertain: true };
        // Takes back what a cut left, and syncs what a process that was killed wrote. A disk that cannot be written can
        // still be read: the first entry will say so.
        let _ = log.settle();
        Ok((log, contents))
    }

    /// What is in the log of `disk`, which is left as it is.
    pub fn read(disk: &D) -> Result<Contents, OpenError> {
        let mut contents = Contents::default();
        let names = segment_names(disk)?;
        for (i, name) in names.iter().enumerate() {
            let Ok(bytes) = disk.read(name) else {
                contents.unreadable += 1;
                continue;
            };
            let read = frame::read(&bytes);
            if read.is_later {
                return Err(OpenError::Later(name.clone()));
            }
            contents.add(&read, bytes.len() as u64, i + 1 == names.len());
            contents.entries.extend(read.entries);
        }
        Ok(contents)
    }

    /// Keeps an entry; when this returns it survives a cut of power.
    pub fn append(&mut self, draft: Draft) -> Result<Entry, AppendError> {
        if self.is_uncertain {
            self.settle()?;
        }
        let entry = draft.numbered(self.next);
        let bytes = frame::write(&entry).ok_or(AppendError::TooLarge)?;
        self.is_uncertain = true;
        self.make_room(bytes.len() as u64)?;
        let Some(segment) = self.segments.last_mut() else {
            return Err(AppendError::Unwritable(io::Error::other("there is no segment")));
        };
        self.disk.write(&segment.name, segment.length, &bytes)?;
        self.disk.sync(&segment.name)?;
        segment.length += bytes.len() as u64;
        segment.entries += 1;
        self.next += 1;
        self.is_uncertain = false;
        self.drop_oldest();
        Ok(entry)
    }

    /// How many entries are kept.
    pub fn count(&self) -> u64 {
        self.segments.iter().map(|segment| segment.entries).sum()
    }

    /// A segment that takes `bytes` more.
    fn make_room(&mut self, bytes: u64) -> io::Result<()> {
        let fits = self.segments.last().is_some_and(|segment| segment.length + bytes <= self.limits.segment);
        if fits {
            return Ok(());
        }
        let name = name_of(self.next);
        // A segment of this name holds no entry: it would have moved the sequence on.
        self.segments.retain(|segment| segment.name != name);
        self.disk.create(&name, &frame::HEADER)?;
        self.segments.push(Segment { name, length: frame::HEADER.len() as u64, entries: 0 });
        Ok(())
    }

    /// Removes the oldest segments beyond the limit; one that cannot be removed is tried again with the next entry.
    fn drop_oldest(&mut self) {
        while self.segments.len() > 2
            && self.segments.iter().map(|s| s.length.min(self.limits.segment)).sum::<u64>() > self.limits.all
        {
            if self.disk.remove(&self.segments[0].name).is_err() {
                return;
            }
            self.segments.remove(0);
        }
    }

    /// Takes back what a failed write or a cut left of an entry.
    fn settle(&mut self) -> io::Result<()> {
        let names = segment_names(&self.disk)?;
        self.segments.retain(|segment| names.contains(&segment.name));
        let Some(segment) = self.segments.last_mut() else {
            self.is_uncertain = false;
            return Ok(());
        };
        // Nothing is appended to a segment that cannot be read.
        if segment.length <= self.limits.segment {
            self.disk.truncate(&segment.name, segment.length)?;
            self.disk.sync(&segment.name)?;
        }
        self.is_uncertain = false;
        Ok(())
    }
}

/// The segments' names, the oldest first.
fn segment_names(disk: &impl Disk) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = disk.list()?.into_iter().filter(|name| sequence_of(name).is_some()).collect();
    names.sort();
    Ok(names)
}

/// The segment that begins with entry `sequence`.
fn name_of(sequence: u64) -> String {
    format!("findings-{sequence:012}.log")
}

fn sequence_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("findings-")?.strip_suffix(".log")?;
    (digits.len() == 12).then(|| digits.parse().ok())?
}

fn first_of(name: &str) -> u64 {
    sequence_of(name).unwrap_or(1)
}

#[cfg(test)]
mod tests;
