//! Updates on sticks, for devices that run from a card of `boards build`.

use serde::Deserialize;
use slots::Disk;
use slots::boot::mark_seen;
use slots::bundle::Manifest;
use slots::state::{Outcome, State};
use slots::update::{Device, UpdateError, install};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

/// What the first program of the device leaves.
pub const DEVICE: &str = "/run/hilum/device.json";
/// How the names of updates end.
const EXTENSION: &str = "hilum-update";

/// The card of a device, on which updates are installed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Updates {
    /// The card, whole.
    pub card: PathBuf,
    /// What the device is.
    pub device: Device,
    /// The release that runs.
    pub release: u64,
    /// The same for people.
    pub version: String,
}

/// Why an update is not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// This is no device of ours.
    #[error("{path}: this is no device that runs from a card of `boards build` ({reason}); update it as its system is")]
    NoDevice {
        /// What was looked for.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file cannot be opened.
    #[error("{path} cannot be opened ({reason})")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The thread that installed it ended.
    #[error("{path}: the installation ended early: try it again")]
    Ended {
        /// The update.
        path: PathBuf,
    },
    /// The update is refused, or the card does not take it.
    #[error("{path}: {reason}")]
    Refused {
        /// The update.
        path: PathBuf,
        /// Why.
        reason: UpdateError,
    },
}

impl InstallError {
    /// True where the release is installed already, or is being tried: nobody has to be told.
    pub fn is_there(&self) -> bool {
        matches!(self, InstallError::Refused { reason: UpdateError::Installed(_) | UpdateError::Trying, .. })
    }
}

/// An update that is being installed by a thread of its own.
#[derive(Debug)]
pub struct Running {
    file: PathBuf,
    percent: Arc<AtomicU8>,
    ended: Receiver<Result<(), InstallError>>,
}

impl Running {
    /// Percent that are done.
    pub fn percent(&self) -> u8 {
        self.percent.load(Ordering::Relaxed)
    }

    /// How it ended, once it did.
    pub fn ended(&self) -> Option<Result<(), InstallError>> {
        match self.ended.try_recv() {
            Ok(ended) => Some(ended),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(InstallError::Ended { path: self.file.clone() })),
        }
    }
}

/// The files at the top of a stick that are named as updates, by name.
fn updates_on(stick: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(stick).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = files.filter(|path| path.is_file() && path.extension().is_some_and(|e| e == EXTENSION));
    let mut found: Vec<PathBuf> = named.collect();
    found.sort();
    found
}

impl Updates {
    /// Of this device; `None` where it runs from no card of ours.
    pub fn of_device() -> Option<Updates> {
        Updates::open(Path::new(DEVICE)).ok()
    }

    /// As the file at `path` says.
    pub fn open(path: &Path) -> Result<Updates, InstallError> {
        let no_device = |reason: String| InstallError::NoDevice { path: path.to_owned(), reason };
        let text = std::fs::read(path).map_err(|e| no_device(e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| no_device(e.to_string()))
    }

    /// The update on a stick: of several that of the highest release; one that is none only where there is no other.
    pub fn on(&self, stick: &Path) -> Option<PathBuf> {
        updates_on(stick).into_iter().max_by_key(|file| self.release_of(file))
    }

    /// How the last update ended, if nobody has seen that yet; it is taken for seen from now on.
    pub fn outcome(&self) -> Option<Outcome> {
        let mut card = Disk::open(&self.card).ok()?;
        let outcome = State::read(&card)?.outcome?;
        if let Err(e) = mark_seen(&mut card) {
            eprintln!("edge-runtime: {e}");
        }
        Some(outcome)
    }

    /// The release of the update `file`; `None` where it is none for this device.
    pub fn release_of(&self, file: &Path) -> Option<u64> {
        let card = Disk::open_to_read(&self.card).ok()?;
        let keys = self.device.keys(&State::read(&card)?);
        Some(Manifest::read(&mut File::open(file).ok()?, &keys).ok()?.release)
    }

    /// Installs the update `file`; `progress` gets the percentage that is done. It is tried at the next start.
    pub fn install_now(&self, file: &Path, mut progress: impl FnMut(u8)) -> Result<Manifest, InstallError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |reason| InstallError::Unreadable { path, reason }
        };
        let mut update = File::open(file).map_err(unreadable(file))?;
        let mut card = Disk::open(&self.card).map_err(unreadable(&self.card))?;
        let installed = install(&mut card, &self.device, &mut update, |done, all| {
            progress((done * 100 / all.max(1)).min(100) as u8);
        });
        installed.map_err(|reason| InstallError::Refused { path: file.to_owned(), reason })
    }

    /// Installs the update `file` in a thread of its own.
    pub fn install(&self, file: PathBuf) -> Running {
        let percent = Arc::new(AtomicU8::new(0));
        let (to, ended) = channel();
        let updates = self.clone();
        let path = file.clone();
        let shown = percent.clone();
        std::thread::spawn(move || {
            let ended = updates.install_now(&file, |percent| shown.store(percent, Ordering::Relaxed));
            let _ = to.send(ended.map(|_| ()));
        });
        Running { file: path, percent, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_are_found_by_their_names() {
        let stick = tempfile::tempdir().unwrap();
        assert!(updates_on(stick.path()).is_empty());
        for name in ["a.jpeg", "1.hilum-update", "2.hilum-update", "3.hilum-update.part"] {
            std::fs::write(stick.path().join(name), b"").unwrap();
        }
        let expected = ["1.hilum-update", "2.hilum-update"].map(|name| stick.path().join(name));
        assert_eq!(updates_on(stick.path()), expected);
    }

    #[test]
    fn no_device_is_said_with_what_to_do() {
        let e = Updates::open(Path::new("/nowhere/device.json")).unwrap_err().to_string();
        assert!(e.contains("/nowhere/device.json") && e.contains("boards build"), "{e}");
    }
}
