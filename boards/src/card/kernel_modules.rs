//! Kernel modules with what they depend on, in the order in which they are loaded.

use super::archive::Entry;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Why modules cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// A module cannot be unpacked.
    #[error("{path} cannot be unpacked ({reason}): fetch the kernel's package again")]
    Packed {
        /// The module.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// No such module.
    #[error("the kernel has no module `{0}`: mend `modules` in the board's file")]
    Unknown(String),
}

/// The modules of a kernel.
pub struct Modules {
    files: HashMap<String, PathBuf>,
    builtin: HashSet<String>,
}

/// Names in the kernel know no dashes.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn stem(path: &Path) -> Option<String> {
    path.file_name()?.to_str()?.split(".ko").next().map(canonical)
}

impl Modules {
    /// The modules below `folder`, which is `usr/lib/modules/VERSION` of a kernel's package.
    pub fn below(folder: &Path) -> Result<Modules, ModuleError> {
        let mut files = HashMap::new();
        collect(folder, &mut files)?;
        let list = folder.join("modules.builtin");
        let builtin = std::fs::read_to_string(&list).map_err(|reason| ModuleError::File { path: list, reason })?;
        let builtin = builtin.lines().filter_map(|line| stem(Path::new(line))).collect();
        Ok(Modules { files, builtin })
    }

    /// `wanted` (each with its parameters behind a space) and what they depend on: the files, and the lines of the list
    /// that is loaded.
    pub fn take(&self, wanted: &[String]) -> Result<(Vec<Entry>, Vec<String>), ModuleError> {
        let mut taken = Taken { modules: self, seen: HashSet::new(), entries: vec![], lines: vec![] };
        for line in wanted {
            let (name, parameters) = line.split_once(' ').unwrap_or((line, ""));
            taken.take(name, parameters)?;
        }
        Ok((taken.entries, taken.lines))
    }
}

struct Taken<'a> {
    modules: &'a Modules,
    seen: HashSet<String>,
    entries: Vec<Entry>,
    lines: Vec<String>,
}

impl Taken<'_> {
    fn take(&mut self, name: &str, parameters: &str) -> Result<(), ModuleError> {
        let name = canonical(name);
        if self.modules.builtin.contains(&name) || !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let path = self.modules.files.get(&name).ok_or_else(|| ModuleError::Unknown(name.clone()))?;
        let bytes = std::fs::read(path).map_err(|reason| ModuleError::File { path: path.clone(), reason })?;
        let mut plain = Vec::new();
        lzma_rs::xz_decompress(&mut bytes.as_slice(), &mut plain)
            .map_err(|e| ModuleError::Packed { path: path.clone(), reason: format!("{e:?}") })?;
        for other in listed(&plain, b"\0depends=", ',') {
            self.take(&other, "")?;
        }
        // Wanted before it by whoever loads modules; an alias names no file, and is left out.
        for other in listed(&plain, b"\0softdep=pre: ", ' ') {
            if self.modules.files.contains_key(&canonical(&other)) {
                self.take(&other, "")?;
            }
        }
        let file = format!("{name}.ko.xz");
        self.lines.push(format!("{file} {parameters}").trim_end().to_owned());
        self.entries.push(Entry::file(format!("lib/modules/{file}"), bytes));
        Ok(())
    }
}

/// The modules that another one names behind `key` in its section `.modinfo`.
fn listed(module: &[u8], key: &[u8], between: char) -> Vec<String> {
    let Some(at) = module.windows(key.len()).position(|window| window == key) else { return vec![] };
    let value = module[at + key.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(value).split(between).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn collect(folder: &Path, into: &mut HashMap<String, PathBuf>) -> Result<(), ModuleError> {
    let file = |reason| ModuleError::File { path: folder.to_owned(), reason };
    for entry in std::fs::read_dir(folder).map_err(file)? {
        let path = entry.map_err(file)?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.to_string_lossy().ends_with(".ko.xz")
            && let Some(name) = stem(&path)
        {
            into.insert(name, path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let depends = |module: &[u8]| listed(module, b"\0depends=", ',');
        assert_eq!(depends(b"x\0depends=jbd2,mbcache\0name=ext4\0"), ["jbd2", "mbcache"]);
        assert!(depends(b"x\0depends=\0name=fat\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on() {
        let folder = tempfile::tempdir().unwrap();
        let add = |name: &str, depends: &str| {
            let mut packed = Vec::new();
            lzma_rs::xz_compress(&mut format!("x\0depends={depends}\0").as_bytes(), &mut packed).unwrap();
            std::fs::write(folder.path().join(format!("{name}.ko.xz")), packed).unwrap();
        };
        add("ext4", "jbd2,usbcore\0softdep=pre: crypto-crc32c sound");
        add("jbd2", "");
        add("sound", "");
        std::fs::write(folder.path().join("modules.builtin"), "kernel/usbcore.ko\n").unwrap();
        let modules = Modules::below(folder.path()).unwrap();
        let (entries, lines) = modules.take(&["ext4 a=1".into(), "jbd2".into()]).unwrap();
        assert_eq!(lines, ["jbd2.ko.xz", "sound.ko.xz", "ext4.ko.xz a=1"]);
        assert_eq!(entries[2].path, "lib/modules/ext4.ko.xz");
        assert!(matches!(modules.take(&["vfat".into()]), Err(ModuleError::Unknown(name)) if name == "vfat"));
    }
}
