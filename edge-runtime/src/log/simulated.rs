//! A disk in memory that loses power: what was not synced is kept, lost, torn or reordered.

use super::Disk;
use std::collections::BTreeMap;
use std::io;

/// Bytes that a disk writes as one.
const SECTOR: usize = 512;

/// What becomes of bytes that were written and not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None of them is there.
    Lost,
    /// All are.
    Kept,
    /// The file is longer, and holds zeros.
    Zeros,
    /// The file is longer, and holds what was on the disk before.
    Garbage,
    /// Of two sectors the second one is there.
    SecondSectors,
    /// Of two sectors the first one is there.
    FirstSectors,
    /// Only the last change is there.
    OnlyLast,
    /// Only the first change is there.
    OnlyFirst,
}

impl Fate {
    pub const ALL: &[Fate] = &[
        Fate::Lost,
        Fate::Kept,
        Fate::Zeros,
        Fate::Garbage,
        Fate::SecondSectors,
        Fate::FirstSectors,
        Fate::OnlyLast,
        Fate::OnlyFirst,
    ];
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

/// A disk whose power is cut after a number of steps; a byte that is written is one, and so is any other call.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    pub(super) files: BTreeMap<String, File>,
    /// Steps until the cut; `None` for power that stays.
    pub steps: Option<usize>,
    /// Bytes that there is room for; `None` for any number.
    pub room: Option<usize>,
    /// True while nothing can be written.
    pub is_read_only: bool,
    /// A name that is made or removed when the power is cut may be either.
    pub(super) undecided: Option<(String, Option<Vec<u8>>)>,
}

fn apply(bytes: &mut Vec<u8>, change: &Change, content: impl Fn(usize, u8) -> u8) {
    match change {
        Change::Truncate(length) => bytes.truncate(*length),
        Change::Write(offset, new) => {
            bytes.resize(bytes.len().max(offset + new.len()), 0);
            for (i, byte) in new.iter().enumerate() {
                bytes[offset + i] = content(offset + i, *byte);
            }
        }
    }
}

impl File {
    fn view(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.pending.iter().for_each(|change| apply(&mut bytes, change, |_, byte| byte));
        bytes
    }

    fn after(&self, fate: Fate) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        let changes: Vec<&Change> = match fate {
            Fate::Lost => vec![],
            Fate::OnlyLast => self.pending.last().into_iter().collect(),
            Fate::OnlyFirst => self.pending.first().into_iter().collect(),
            _ => self.pending.iter().collect(),
        };
        for change in changes {
            apply(&mut bytes, change, |at, byte| match fate {
                Fate::Zeros => 0,
                Fate::Garbage => (at as u8).wrapping_mul(31) ^ 0xa5,
                Fate::SecondSectors if (at / SECTOR).is_multiple_of(2) => 0,
                Fate::FirstSectors if !(at / SECTOR).is_multiple_of(2) => 0,
                _ => byte,
            });
        }
        bytes
    }
}

impl SimulatedDisk {
    /// The disk after the power came back.
    pub fn after_cut(&self, fate: Fate) -> SimulatedDisk {
        let mut files: BTreeMap<String, File> = self
            .files
            .iter()
            .map(|(name, file)| (name.clone(), File { durable: file.after(fate), pending: vec![] }))
            .collect();
        if let Some((name, made)) = &self.undecided
            && matches!(fate, Fate::Kept | Fate::OnlyLast | Fate::Zeros)
        {
            match made {
                Some(bytes) => files.insert(name.clone(), File { durable: bytes.clone(), pending: vec![] }),
                None => files.remove(name),
            };
        }
        SimulatedDisk { files, ..SimulatedDisk::default() }
    }

    /// The bytes of a file, to be damaged.
    pub fn bytes_mut(&mut self, name: &str) -> &mut Vec<u8> {
        &mut self.files.get_mut(name).unwrap().durable
    }

    fn is_cut(&mut self) -> io::Result<()> {
        match &mut self.steps {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(steps) => {
                *steps -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> usize {
        self.files.values().map(|file| file.view().len()).sum()
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        self.files.get_mut(name).ok_or(io::ErrorKind::NotFound.into())
    }

    fn check(&mut self) -> io::Result<()> {
        self.is_cut()?;
        if self.is_read_only { Err(io::ErrorKind::ReadOnlyFilesystem.into()) } else { Ok(()) }
    }
}

impl Disk for SimulatedDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.files.get(name).map(File::view).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.check() {
            if !self.is_read_only {
                self.undecided = Some((name.to_owned(), Some(bytes.to_vec())));
            }
            return Err(e);
        }
        if self.room.is_some_and(|room| self.used() + bytes.len() > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.files.insert(name.to_owned(), File { durable: bytes.to_vec(), pending: vec![] });
        Ok(())
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        let free = self.room.map_or(usize::MAX, |room| room.saturating_sub(self.used()));
        let until_cut = self.steps.unwrap_or(usize::MAX);
        let written = bytes.len().min(free).min(until_cut);
        self.file(name)?.pending.push(Change::Write(offset as usize, bytes[..written].to_vec()));
        if let Some(steps) = &mut self.steps {
            *steps -= written;
        }
        match written == bytes.len() {
            true => Ok(()),
            false if written == until_cut => Err(io::Error::other("the power is cut")),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.check()?;
        let file = self.file(name)?;
        file.durable = file.view();
        file.pending.clear();
        Ok(())
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.check()?;
        self.file(name)?.pending.push(Change::Truncate(length as usize));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if let Err(e) = self.check() {
            self.undecided = Some((name.to_owned(), None));
            return Err(e);
        }
        self.files.remove(name);
        Ok(())
    }
}

/// A disk that outlives the log that uses it.
impl Disk for std::rc::Rc<std::cell::RefCell<SimulatedDisk>> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.borrow().list()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.borrow().read(name)
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.borrow_mut().create(name, bytes)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.borrow_mut().write(name, offset, bytes)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.borrow_mut().sync(name)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.borrow_mut().truncate(name, length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.borrow_mut().remove(name)
    }
}
