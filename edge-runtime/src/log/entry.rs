//! What is kept of a scan.

use crate::finding::{Outcome, Record};
use serde::{Deserialize, Serialize};

/// What is kept of a scan, before the log numbers it.
#[derive(Debug, Clone, PartialEq)]
pub struct Draft {
    /// When, in seconds since 1970 (UTC), as the device's clock said.
    pub time: i64,
    /// Whether that clock had been set.
    pub is_clock_set: bool,
    /// What stands for the file's name: see [`super::ClinicKey`].
    pub reference: String,
    /// The file's size and date.
    pub version: Version,
    /// What came of it. Its file is the reference too.
    pub record: Record,
}

/// Which version of a file it was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its size.
    pub bytes: u64,
    /// When it was changed, in milliseconds since 1970.
    pub changed: i64,
}

/// What is kept of a scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number, from 1, never given twice.
    pub sequence: u64,
    /// When, in seconds since 1970 (UTC), as the device's clock said.
    pub time: i64,
    /// Whether that clock had been set.
    pub is_clock_set: bool,
    /// The file's size and date.
    pub version: Version,
    /// What came of it.
    pub record: Record,
}

impl Draft {
    pub(super) fn numbered(self, sequence: u64) -> Entry {
        let Draft { time, is_clock_set, reference, version, record } = self;
        Entry { sequence, time, is_clock_set, version, record: Record { file: reference, ..record } }
    }
}

impl Entry {
    /// SHA-256 of the image, where it was read.
    pub fn digest(&self) -> Option<&str> {
        match &self.record.outcome {
            Outcome::Finding(finding) => Some(&finding.sha256),
            Outcome::Refusal(_) => None,
        }
    }
}
