//! Files that are either whole or absent, outputs that destroy nothing, and digests.

use sha2::{Digest, Sha256};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` to `path` so that a reader sees the old file or the whole new one, never a part: a temporary file in
/// the same folder, `fsync`, then rename (POSIX `rename(2)` is atomic). A link stays, and the file that it leads to is
/// written; a pipe or a device is written through.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    Staged::new(path, bytes)?.persist()
}

/// Writes files that belong together, each as [`write_atomically`] does; none takes its name before all of them are
/// on the disk. The error names the file.
pub fn write_together(files: &[(&Path, &[u8])]) -> Result<(), (PathBuf, io::Error)> {
    let named = |path: &Path| {
        let path = path.to_owned();
        move |e| (path, e)
    };
    let staged: Vec<Staged> =
        files.iter().map(|(path, bytes)| Staged::new(path, bytes).map_err(named(path))).collect::<Result<_, _>>()?;
    staged.into_iter().zip(files).try_for_each(|(staged, (path, _))| staged.persist().map_err(named(path)))
}

/// Bytes that are on the disk, but not yet under their name.
enum Staged<'a> {
    File {
        temporary: tempfile::NamedTempFile,
        target: PathBuf,
    },
    /// A pipe or a device has no other name.
    Through {
        path: &'a Path,
        bytes: &'a [u8],
    },
}

impl<'a> Staged<'a> {
    fn new(path: &'a Path, bytes: &'a [u8]) -> io::Result<Staged<'a>> {
        let target = match std::fs::metadata(path) {
            Ok(there) if there.is_dir() => return Err(io::Error::other("it is a folder")),
            Ok(there) if !there.is_file() => return Ok(Staged::Through { path, bytes }),
            Ok(_) => std::fs::canonicalize(path)?,
            // Nothing is there, or a link that leads nowhere.
            Err(_) => std::fs::read_link(path).map_or(path.to_owned(), |to| folder_of(path).join(to)),
        };
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o644));
        }
        let mut temporary = builder.prefix(".hilum-").tempfile_in(folder_of(&target)).map_err(of_folder)?;
        temporary.write_all(bytes)?;
        temporary.as_file().sync_all()?;
        Ok(Staged::File { temporary, target })
    }

    fn persist(self) -> io::Result<()> {
        match self {
            Staged::File { temporary, target } => temporary.persist(&target).map(|_| ()).map_err(|e| e.error),
            Staged::Through { path, bytes } => write_through(path, bytes),
        }
    }
}

/// Puts the names of `folder`'s files on the disk: after a cut of power a renamed file is there.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    std::fs::File::open(folder)?.sync_all()
}

/// An error of making the temporary file, whose own words would name that one.
fn of_folder(e: io::Error) -> io::Error {
    match e.kind() {
        io::ErrorKind::NotFound => io::Error::new(e.kind(), "its folder is not there"),
        kind => kind.into(),
    }
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::File::options().write(true).open(path)?;
    file.write_all(bytes)?;
    file.flush()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Why outputs are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// An output is a file that is read.
    #[error("{0} would be written over, and it is an input: give another name")]
    IsInput(PathBuf),
    /// Two outputs are one file.
    #[error("two outputs would go to {0}: give them different names")]
    Twice(PathBuf),
    /// An output has no folder to lie in.
    #[error("{0}: there is no such folder: make it first")]
    NoFolder(PathBuf),
    /// An output is a file of another kind.
    #[error("{0}: there is another file already: move it, or choose another name")]
    IsOther(PathBuf),
}

/// Refuses to write over `path` what does not begin with `head`, as such outputs do.
pub fn may_replace(path: &Path, head: &str) -> Result<(), OutputError> {
    // A pipe holds nothing that could be lost, and reading it would wait, or take from it.
    if !path.is_file() {
        return Ok(());
    }
    let Ok(mut file) = std::fs::File::open(path) else { return Ok(()) };
    let mut start = vec![0; head.len()];
    let read = file.read(&mut start).unwrap_or(0);
    match start[..read] != *head.as_bytes() {
        true => Err(OutputError::IsOther(path.to_owned())),
        false => Ok(()),
    }
}

/// Refuses an output whose folder is not there, before long work is done for it.
pub fn check_folder(path: &Path) -> Result<(), OutputError> {
    let folder = folder_of(path);
    match folder.is_dir() {
        true => Ok(()),
        false => Err(OutputError::NoFolder(folder.to_owned())),
    }
}

/// Refuses `outputs` that are one of `inputs`, or one another, by whatever name or link.
pub fn check_outputs(outputs: &[&Path], inputs: &[&Path]) -> Result<(), OutputError> {
    for (i, output) in outputs.iter().enumerate() {
        if inputs.iter().any(|input| is_same(output, input)) {
            return Err(OutputError::IsInput(output.to_path_buf()));
        }
        if outputs[..i].iter().any(|other| is_same(output, other)) {
            return Err(OutputError::Twice(output.to_path_buf()));
        }
    }
    Ok(())
}

/// True if both paths lead to one file. Devices hold nothing that could be lost.
fn is_same(a: &Path, b: &Path) -> bool {
    match (std::fs::metadata(a), std::fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && is_same_file(&a, &b),
        _ => resolved(a) == resolved(b),
    }
}

#[cfg(unix)]
fn is_same_file(a: &std::fs::Metadata, b: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn is_same_file(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    false
}

/// Links that are followed to a file that is not there yet.
const MOST_LINKS: usize = 40;

/// The path without links and dots, as far as it exists.
fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match std::fs::read_link(&path) {
            Ok(to) if !path.exists() => path = folder_of(&path).join(to),
            _ => break,
        }
    }
    let path = path.as_path();
    let folder = std::fs::canonicalize(folder_of(path)).unwrap_or_else(|_| folder_of(path).to_owned());
    std::fs::canonicalize(path).unwrap_or_else(|_| folder.join(path.file_name().unwrap_or_default()))
}

/// SHA-256 of `bytes`, as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_said_without_the_temporary_file() {
        let e = write_atomically(Path::new("/nowhere/at/all.txt"), b"x").unwrap_err();
        assert_eq!(e.to_string(), "its folder is not there");
    }

    #[test]
    fn only_files_of_the_same_kind_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.html");
        assert_eq!(may_replace(&path, "<!doctype html>"), Ok(()));
        std::fs::write(&path, "<!doctype html><html>").unwrap();
        assert_eq!(may_replace(&path, "<!doctype html>"), Ok(()));
        std::fs::write(&path, "<!doc").unwrap();
        assert_eq!(may_replace(&path, "<!doctype html>"), Err(OutputError::IsOther(path)));
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        write_atomically(&path, b"first, and longer").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn of_files_that_belong_together_none_changes_where_one_cannot() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("a");
        std::fs::write(&first, "old").unwrap();
        let nowhere = dir.path().join("missing/b");
        let (path, _) = write_together(&[(&first, b"new"), (&nowhere, b"new")]).unwrap_err();
        assert_eq!(path, nowhere);
        assert_eq!(std::fs::read(&first).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let second = dir.path().join("b");
        write_together(&[(&first, b"new"), (&second, b"new")]).unwrap();
        assert!([first, second].iter().all(|path| std::fs::read(path).unwrap() == b"new"));
    }

    #[cfg(unix)]
    #[test]
    fn links_and_devices_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("file", &link).unwrap();
        for text in [b"first", b"later"] {
            write_atomically(&link, text).unwrap();
            assert!(link.is_symlink() && std::fs::read(&file).unwrap() == text);
        }
        write_atomically(Path::new("/dev/null"), b"nothing").unwrap();
        assert!(!Path::new("/dev/null").is_file());
        assert!(write_atomically(dir.path(), b"a folder").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn one_file_is_known_by_every_name() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), "a").unwrap();
        std::fs::hard_link(at("a"), at("b")).unwrap();
        std::os::unix::fs::symlink("a", at("c")).unwrap();
        for same in ["a", "./a", "b", "c"] {
            let refused = check_outputs(&[&at(same)], &[&at("a")]);
            assert_eq!(refused, Err(OutputError::IsInput(at(same))));
        }
        assert_eq!(check_outputs(&[&at("new")], &[&at("a")]), Ok(()));
        assert_eq!(check_outputs(&[&at("new"), &at("./new")], &[]), Err(OutputError::Twice(at("./new"))));
        assert_eq!(check_outputs(&[Path::new("/dev/null"), Path::new("/dev/null")], &[]), Ok(()));
    }

    #[test]
    fn sha256_of_abc_is_the_one_in_fips_180() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
