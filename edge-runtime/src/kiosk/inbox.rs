//! Folders that are watched: which files are new and whole.

use crate::image::folder::image_files_of_readable;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// A file that neither grew nor changed this long is whole.
const SETTLED: Duration = Duration::from_millis(400);
/// All folders are read again this often, for file systems that do not date their folders.
const READ_ALL: Duration = Duration::from_secs(30);

/// Of this many files each is looked at for changes in place; of more, only with all folders.
const FEW: usize = 500;

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Version {
    path: PathBuf,
    bytes: u64,
    changed: Option<SystemTime>,
}

/// A watched folder.
#[derive(Debug)]
pub struct Inbox {
    folder: PathBuf,
    /// What was given out or is to be passed over, as it was then.
    known: HashMap<PathBuf, Version>,
    /// Files that may still grow, and since when they did not.
    waiting: HashMap<PathBuf, (Version, Instant)>,
    /// When the folders in it were changed.
    folders: HashMap<PathBuf, Option<SystemTime>>,
    read_all: Option<Instant>,
    /// Nothing in it changes: what is there is whole.
    is_still: bool,
    /// Folders that cannot be read.
    unreadable: HashSet<PathBuf>,
}

impl Inbox {
    /// Watches `folder`.
    pub fn new(folder: PathBuf) -> Inbox {
        Inbox {
            folder,
            known: HashMap::new(),
            waiting: HashMap::new(),
            folders: HashMap::new(),
            read_all: None,
            is_still: false,
            unreadable: HashSet::new(),
        }
    }

    /// A folder in which nothing changes, such as a stick that is mounted read-only.
    pub fn still(folder: PathBuf) -> Inbox {
        Inbox { is_still: true, ..Inbox::new(folder) }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a folder in it could not be read.
    pub fn has_unreadable(&self) -> bool {
        !self.unreadable.is_empty()
    }

    /// How many files have been seen that may still grow.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The new files that are whole, in the order of their names; those for which `is_done` says so are passed over.
    pub fn poll(&mut self, now: Instant, is_done: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
        if self.has_changed(now) {
            let (files, unreadable) = image_files_of_readable(&self.folder);
            for (folder, e) in unreadable {
                if self.unreadable.insert(folder.clone()) {
                    eprintln!("edge-runtime: {} cannot be read ({e}): what is in it is not scanned", folder.display());
                }
            }
            for path in files {
                let Some(version) = Version::of(&path) else { continue };
                if self.known.get(&path) == Some(&version) || self.waiting.contains_key(&path) {
                    continue;
                }
                if is_done(&path) {
                    self.known.insert(path, version);
                } else {
                    self.waiting.insert(path, (version, now));
                }
            }
        }
        let mut whole = Vec::new();
        let is_still = self.is_still;
        self.waiting.retain(|path, (version, since)| match Version::of(path) {
            None => false,
            Some(seen) if seen != *version => {
                (*version, *since) = (seen, now);
                true
            }
            Some(_) if is_still || now.duration_since(*since) >= SETTLED => {
                whole.push(version.clone());
                false
            }
            Some(_) => true,
        });
        self.known.extend(whole.iter().map(|version| (version.path.clone(), version.clone())));
        let mut paths: Vec<PathBuf> = whole.into_iter().map(|version| version.path).collect();
        paths.sort();
        paths
    }

    /// A file that turned out not to be whole is given out again when it has changed or `now` has passed.
    pub fn give_back(&mut self, path: &Path, now: Instant) {
        if let Some(version) = Version::of(path) {
            self.known.remove(path);
            self.waiting.insert(path.to_owned(), (version, now));
        }
    }

    /// Whether a folder has another date than when it was read, or all have to be read again.
    fn has_changed(&mut self, now: Instant) -> bool {
        let is_due = self.read_all.is_none_or(|last| !self.is_still && now.duration_since(last) >= READ_ALL);
        let is_another = |(path, version): (&PathBuf, &Version)| Version::of(path).is_some_and(|now| now != *version);
        let has_changed = is_due
            || self.folders.iter().any(|(folder, date)| modified(folder) != *date)
            || !self.is_still && self.known.len() <= FEW && self.known.iter().any(is_another);
        if has_changed {
            self.read_all = Some(now);
            self.folders = folders_under(&self.folder).into_iter().map(|f| (f.clone(), modified(&f))).collect();
        }
        has_changed
    }
}

impl Version {
    fn of(path: &Path) -> Option<Version> {
        let there = std::fs::metadata(path).ok()?;
        Some(Version { path: path.to_owned(), bytes: there.len(), changed: there.modified().ok() })
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|there| there.modified()).ok()
}

/// Folders deeper than this are not watched, so that no folder within itself holds the device up.
const DEEPEST: usize = 8;
/// More folders than this are read with all others.
const MOST_FOLDERS: usize = 1000;

fn folders_under(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut level = vec![folder.to_owned()];
    for _ in 0..DEEPEST {
        let inner: Vec<PathBuf> = level
            .iter()
            .filter_map(|folder| std::fs::read_dir(folder).ok())
            .flat_map(|entries| entries.flatten())
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        found.extend(inner.iter().cloned());
        level = inner;
        if level.is_empty() || found.len() > MOST_FOLDERS {
            break;
        }
    }
    found.truncate(MOST_FOLDERS);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn never(_: &Path) -> bool {
        false
    }

    #[test]
    fn a_file_is_given_out_once_when_it_no_longer_grows() {
        let dir = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::new(dir.path().to_owned());
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert!(inbox.poll(at(0), never).is_empty());
        let path = dir.path().join("a.png");
        std::fs::write(&path, PNG).unwrap();
        assert!(inbox.poll(at(250), never).is_empty());
        std::fs::write(&path, [PNG, PNG].concat()).unwrap();
        assert!(inbox.poll(at(700), never).is_empty(), "it grew");
        assert_eq!(inbox.waiting(), 1);
        assert_eq!(inbox.poll(at(1200), never), [path.as_path()]);
        assert!(inbox.poll(at(1500), never).is_empty());
        assert!(inbox.poll(at(1500) + READ_ALL, never).is_empty());
        std::fs::write(&path, [PNG, PNG, PNG].concat()).unwrap();
        let _ = inbox.poll(at(1600) + READ_ALL, never);
        assert_eq!(inbox.poll(at(2600) + READ_ALL, never), [path.as_path()], "another version is another file");
    }

    #[test]
    fn folders_are_watched_and_leftovers_and_what_is_done_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut inbox = Inbox::still(dir.path().to_owned());
        for name in ["b/1.png", "a/2.png", ".hidden.png", "a/._2.png", "done.png", "notes.txt"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, if name == "notes.txt" { b"text" } else { PNG }).unwrap();
        }
        let found = inbox.poll(Instant::now(), |path| path.ends_with("done.png"));
        assert_eq!(found, [dir.path().join("a/2.png"), dir.path().join("b/1.png")]);
    }

    #[test]
    fn a_folder_that_is_gone_gives_nothing() {
        let mut inbox = Inbox::new("/nowhere/at/all".into());
        assert!(inbox.poll(Instant::now(), never).is_empty());
    }
}
