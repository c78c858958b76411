//! A card as bytes that are read, written and synced.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A block device, or what stands for one.
pub trait Block {
    /// Its bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads all of `into` from `offset` on.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes` from `offset` on; nothing of it is sure to stay before [`Block::sync`].
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Returns once everything that was written stays.
    fn sync(&mut self) -> io::Result<()>;
    /// Waits until no other process changes records, and keeps others waiting until [`Block::unlock`].
    fn lock(&self) -> io::Result<()> {
        Ok(())
    }

    /// Lets others change records.
    fn unlock(&self) {}

    /// Forgets what is kept in memory, so that the next read asks the card.
    fn forget(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// `length` bytes from `offset` on.
    fn bytes(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }
}

/// A block device of the system, or an image in a file.
#[derive(Debug)]
pub struct Disk(File);

impl Disk {
    /// The device at `path`, to be read and written.
    pub fn open(path: &Path) -> io::Result<Disk> {
        File::options().read(true).write(true).open(path).map(Disk)
    }

    /// The block device at `path`, to be read and written by nobody else: refused while any of it is mounted (`O_EXCL`
    /// of `open(2)`).
    pub fn open_alone(path: &Path) -> io::Result<Disk> {
        let exclusive = rustix::fs::OFlags::EXCL.bits().cast_signed();
        File::options().read(true).write(true).custom_flags(exclusive).open(path).map(Disk)
    }

    /// The device at `path`, to be read alone.
    pub fn open_to_read(path: &Path) -> io::Result<Disk> {
        File::open(path).map(Disk)
    }
}

impl From<File> for Disk {
    fn from(file: File) -> Disk {
        Disk(file)
    }
}

impl Block for Disk {
    fn length(&self) -> io::Result<u64> {
        // A block device has no length in its metadata; its end has a place.
        rustix::fs::seek(&self.0, rustix::fs::SeekFrom::End(0)).map_err(io::Error::from)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn lock(&self) -> io::Result<()> {
        rustix::fs::flock(&self.0, rustix::fs::FlockOperation::LockExclusive).map_err(io::Error::from)
    }

    fn unlock(&self) {
        let _ = rustix::fs::flock(&self.0, rustix::fs::FlockOperation::Unlock);
    }

    fn forget(&mut self) -> io::Result<()> {
        rustix::fs::fadvise(&self.0, 0, None, rustix::fs::Advice::DontNeed).map_err(io::Error::from)
    }
}
