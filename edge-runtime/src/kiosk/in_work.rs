//! Which file is being scanned: what the next start knows of a file that this program did not survive.

use crate::log::Version;
use std::path::Path;

/// A scan that ended the program this often since the machine started is the file's fault, and not that of a cut of
/// power or of somebody who ended the program.
pub(super) const MOST_TRIES: u32 = 2;

/// A file that is being scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InWork {
    /// Its reference in the log.
    pub(super) reference: String,
    /// Which version of it.
    pub(super) version: Version,
    /// How often its scan was begun since the machine started.
    pub(super) tries: u32,
}

impl std::fmt::Display for InWork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Version { bytes, changed } = self.version;
        writeln!(f, "{}\n{bytes}\n{changed}\n{}\n{}", boot(), self.tries, self.reference)
    }
}

impl InWork {
    /// What `file` says, if it was written since the machine started.
    pub(super) fn read(file: &Path) -> Option<InWork> {
        let text = std::fs::read_to_string(file).ok()?;
        let mut lines = text.lines();
        if lines.next()? != boot() {
            return None;
        }
        let mut number = || lines.next()?.parse::<i64>().ok();
        let version = Version { bytes: number()?.try_into().ok()?, changed: number()? };
        let tries = number()?.try_into().ok()?;
        let reference = lines.next().filter(|reference| !reference.is_empty())?.to_owned();
        Some(InWork { reference, version, tries })
    }
}

/// What tells this start of the machine from others.
fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_the_machine_started_or_is_cut_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in-work");
        let version = Version { bytes: 7, changed: -3 };
        let in_work = InWork { reference: "0123".into(), version, tries: 2 };
        let text = in_work.to_string();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(InWork::read(&path), Some(in_work));
        for other in ["", "\n\n\n\n\n", &text[..text.len() - 6], &text.replacen(&text[..1], "x", 1)] {
            std::fs::write(&path, other).unwrap();
            assert_eq!(InWork::read(&path), None, "{other:?}");
        }
    }
}
