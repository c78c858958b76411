//! Debian's packages that cards are made of: pinned by digest in `packages.lock`, fetched by apt with a configuration
//! of its own, unpacked without root.

use crate::tools::{APT_CACHE, APT_GET, DPKG_DEB, ToolError};
use edge_runtime::process::files::write_atomically;
use serde::{Deserialize, Serialize};
use slots::keys::hex;
use slots::update::digest;
use slots::{Block, Disk};
use std::path::{Path, PathBuf};

/// The pins of this release.
const LOCK: &str = include_str!("../packages.lock");
/// The keys of Debian's archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What a package is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Linux, its modules and device trees.
    Kernel,
    /// What a Raspberry Pi starts from.
    Firmware,
    /// Checks the file system of findings.
    Check,
}

/// A package of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// Its licence, as SPDX says it.
    pub licence: String,
    /// SHA-256 of its file.
    pub sha256: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Debian's suite.
    pub suite: String,
    /// The archive's components.
    pub components: Vec<String>,
    /// The packages.
    #[serde(rename = "package")]
    pub packages: Vec<Package>,
}

/// Why packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// A file cannot be written or read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// This is no Debian.
    #[error(
        "cards are made of Debian's packages, and this system has no archive of Debian ({0}): use a machine or a \
             container with Debian 12 or later"
    )]
    NoDebian(String),
    /// The archive has another version.
    #[error(
        "Debian's archive does not have {name} {version} any more ({reason}): pin what it has now with `boards \
             packages --renew`, or build with --accept-newer"
    )]
    Gone {
        /// The package.
        name: String,
        /// The pinned version.
        version: String,
        /// What apt said.
        reason: String,
    },
    /// The digest is another one.
    #[error("{path} is not the file that is pinned: remove it and try again")]
    Digest {
        /// The file.
        path: PathBuf,
    },
    /// The archive has nothing for a role.
    #[error("Debian's archive names no package for the {0:?}")]
    NoPackage(Role),
}

impl Lock {
    /// The pins of this release, or those of `path`.
    pub fn open(path: Option<&Path>) -> Result<Lock, PackageError> {
        let Some(path) = path else { return Ok(toml::from_str(LOCK).expect("the pins are tested")) };
        let file = |reason| PackageError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(file)?;
        toml::from_str(&text).map_err(|e| file(std::io::Error::other(e.to_string())))
    }

    /// The package for `role`.
    pub fn of(&self, role: Role) -> Result<&Package, PackageError> {
        self.packages.iter().find(|package| package.role == role).ok_or(PackageError::NoPackage(role))
    }

    /// The file that stands at the head of this crate.
    pub fn text(&self) -> String {
        let head = "# Debian's packages that cards are made of, pinned by digest. `boards packages --renew` takes what \
                    the archive has now.\n\n";
        format!("{head}{}", toml::to_string(self).unwrap_or_default())
    }
}

/// Where packages are kept once they were fetched.
pub struct Archive {
    folder: PathBuf,
    lock: Lock,
    is_listed: bool,
}

impl Archive {
    /// An archive whose packages are kept in `folder`.
    pub fn new(folder: PathBuf, lock: Lock) -> Archive {
        Archive { folder, lock, is_listed: false }
    }

    /// The pins.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// The package for `role`, unpacked; its folder.
    pub fn unpacked(&mut self, role: Role) -> Result<PathBuf, PackageError> {
        let package = self.lock.of(role)?.clone();
        let file = self.fetched(&package)?;
        let folder = self.folder.join(format!("{}_{}", package.name, &package.sha256[..16]));
        if folder.is_dir() {
            return Ok(folder);
        }
        // Unpacked beside and renamed, so that half of it is never taken for all.
        let part = tempfile::tempdir_in(&self.folder).map_err(|reason| self.error(reason))?;
        let whole = part.path().join("whole");
        DPKG_DEB.run(|command| command.arg("-x").arg(&file).arg(&whole))?;
        match std::fs::rename(&whole, &folder) {
            Ok(()) => Ok(folder),
            Err(_) if folder.is_dir() => Ok(folder),
            Err(reason) => Err(self.error(reason)),
        }
    }

    /// The file of `package`, from here or from the archive.
    fn fetched(&mut self, package: &Package) -> Result<PathBuf, PackageError> {
        let named = format!("{}_{}_{}.deb", package.name, package.version, package.architecture).replace(':', "%3a");
        let file = self.folder.join(named);
        if !file.is_file() {
            self.list()?;
            self.apt(&["download", &format!("{}={}", package.name, package.version)]).map_err(|e| match e {
                PackageError::Tool(ToolError::Failed { said, .. }) => {
                    let [name, version] = [package.name.clone(), package.version.clone()];
                    PackageError::Gone { name, version, reason: said }
                }
                e => e,
            })?;
        }
        match digest_of(&file).map_err(|reason| PackageError::File { path: file.clone(), reason })? == package.sha256 {
            true => Ok(file),
            false => Err(PackageError::Digest { path: file }),
        }
    }

    /// Pins what the archive has now.
    pub fn renew(&mut self) -> Result<(), PackageError> {
        self.list()?;
        let mut renewed = Vec::new();
        for package in self.lock.packages.clone() {
            // The kernel's own name holds its version; this one points to the newest.
            let name = match package.role {
                Role::Kernel => field(&self.show("linux-image-arm64")?, "Depends")
                    .and_then(|depends| depends.split([' ', ',']).next().map(str::to_owned))
                    .ok_or(PackageError::NoPackage(Role::Kernel))?,
                Role::Firmware | Role::Check => package.name.clone(),
            };
            let text = self.show(&name)?;
            let value = |key| field(&text, key).ok_or(PackageError::NoPackage(package.role));
            renewed.push(Package { version: value("Version")?, sha256: value("SHA256")?, name, ..package });
        }
        self.lock.packages = renewed;
        Ok(())
    }

    fn show(&self, name: &str) -> Result<String, PackageError> {
        let configuration = self.folder.join("apt/apt.conf");
        let shown = APT_CACHE
            .run(|command| command.env("APT_CONFIG", &configuration).args(["show", "--no-all-versions", name]))?;
        Ok(String::from_utf8_lossy(&shown).into_owned())
    }

    fn error(&self, reason: std::io::Error) -> PackageError {
        PackageError::File { path: self.folder.clone(), reason }
    }

    /// Reads the archive's lists into a folder of our own; the system's stay as they are.
    fn list(&mut self) -> Result<(), PackageError> {
        if self.is_listed {
            return Ok(());
        }
        let root = self.folder.join("apt");
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            std::fs::create_dir_all(root.join(folder)).map_err(|reason| self.error(reason))?;
        }
        let Lock { suite, components, .. } = &self.lock;
        let source = format!(
            "Types: deb\nURIs: {}\nSuites: {suite}\nComponents: {}\nSigned-By: {KEYRING}\n",
            archive_of_this_system()?,
            components.join(" ")
        );
        let own = root.display();
        let configuration = format!(
            "Dir::State \"{own}/state\";\nDir::State::status \"{own}/status\";\nDir::Cache \"{own}/cache\";\n\
             Dir::Etc::sourcelist \"{own}/hilum.sources\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\nAPT::Architecture \"arm64\";\n\
             APT::Architectures {{ \"arm64\"; }};\nAcquire::Languages \"none\";\nAPT::Sandbox::User \"root\";\n"
        );
        for (name, text) in [("status", ""), ("hilum.sources", &source), ("apt.conf", &configuration)] {
            let path = root.join(name);
            write_atomically(&path, text.as_bytes()).map_err(|reason| PackageError::File { path, reason })?;
        }
        self.apt(&["update"])?;
        self.is_listed = true;
        Ok(())
    }

    fn apt(&self, arguments: &[&str]) -> Result<(), PackageError> {
        let configuration = self.folder.join("apt/apt.conf");
        APT_GET.run(|command| {
            command.arg("-q").args(arguments).current_dir(&self.folder).env("APT_CONFIG", configuration)
        })?;
        Ok(())
    }
}

/// The value of `key` in a package's description.
fn field(text: &str, key: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Where this system has Debian's archive from.
fn archive_of_this_system() -> Result<String, PackageError> {
    let format = "$(ORIGIN)|$(LABEL)|$(REPO_URI)";
    let targets = APT_GET
        .run(|command| command.args(["indextargets", "--format", format]))
        .map_err(|e| PackageError::NoDebian(e.to_string()))?;
    let targets = String::from_utf8_lossy(&targets).into_owned();
    let found = targets.lines().find_map(|line| line.strip_prefix("Debian|Debian|"));
    match found {
        Some(archive) if Path::new(KEYRING).exists() => Ok(archive.to_owned()),
        Some(_) => Err(PackageError::NoDebian(format!("{KEYRING} is missing"))),
        None => Err(PackageError::NoDebian("apt names none; run `apt-get update` once".into())),
    }
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let file = Disk::open_to_read(path)?;
    Ok(hex(&digest(&file, 0, file.length()?, |_| {})?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_are_whole_and_written_as_they_are_read() {
        let lock = Lock::open(None).unwrap();
        for role in [Role::Kernel, Role::Firmware, Role::Check] {
            let package = lock.of(role).unwrap();
            assert_eq!(package.sha256.len(), 64, "{}", package.name);
        }
        assert_eq!(toml::from_str::<Lock>(&lock.text()).unwrap(), lock);
    }

    #[test]
    fn fields_are_found_in_descriptions() {
        let text = "Package: a\nVersion: 1.2-3\nSHA256: ab\nDepends: b (= 1), c\n";
        assert_eq!(field(text, "Version").as_deref(), Some("1.2-3"));
        assert_eq!(field(text, "Depends").as_deref(), Some("b (= 1), c"));
        assert_eq!(field(text, "Size"), None);
    }

    #[test]
    fn a_file_that_is_not_the_pinned_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let lock = Lock::open(None).unwrap();
        let package = lock.of(Role::Check).unwrap().clone();
        let name = format!("{}_{}_{}.deb", package.name, package.version, package.architecture);
        std::fs::write(folder.path().join(name), b"something else").unwrap();
        let mut archive = Archive::new(folder.path().to_owned(), lock);
        assert!(matches!(archive.unpacked(Role::Check), Err(PackageError::Digest { .. })));
    }
}
