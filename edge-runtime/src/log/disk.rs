//! What the log asks of a disk, and a folder that gives it.

use crate::process::files::sync_folder;
use rustix::fs::{FlockOperation, fdatasync, flock};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder of files, of which what was synced survives a cut of power, and of anything else any part may.
pub trait Disk {
    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The whole of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// A new file of `bytes` in place of any that has the name; synced, and so is its name.
    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Writes `bytes` from `offset` on; not synced.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Syncs what was written to a file.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Cuts a file to `length` bytes; not synced.
    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// Files of this size are no log.
const MOST_BYTES: u64 = 64 << 20;

/// A folder of the file system.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    /// Held while this program may append.
    _lock: Option<Arc<File>>,
}

/// The file that a program which appends holds a lock on.
const LOCK: &str = "lock";

impl Folder {
    /// The folder `path`, made where it is missing, for this program alone: two that append would take each other's
    /// numbers.
    pub fn create(path: PathBuf) -> io::Result<Folder> {
        std::fs::create_dir_all(&path)?;
        let lock = match File::options().create(true).truncate(false).write(true).open(path.join(LOCK)) {
            Ok(lock) => lock,
            // Nobody can append there.
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(Folder { path, _lock: None }),
            Err(e) => return Err(e),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Folder { path, _lock: Some(lock.into()) }),
            Err(Errno::WOULDBLOCK) => {
                Err(io::Error::other("another edge-runtime keeps its findings there: end it first"))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The folder `path`, which must be there.
    pub fn existing(path: PathBuf) -> io::Result<Folder> {
        std::fs::read_dir(&path)?;
        Ok(Folder { path, _lock: None })
    }

    fn file(&self, name: &str) -> io::Result<File> {
        File::options().write(true).open(self.path.join(name))
    }
}

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        std::fs::read_dir(&self.path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.path.join(name))?.take(MOST_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        crate::process::files::write_atomically(&self.path.join(name), bytes)?;
        sync_folder(&self.path)
    }

    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(name)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        Ok(fdatasync(self.file(name)?)?)
    }

    fn truncate(&mut self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.set_len(length)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        sync_folder(&self.path)
    }
}
