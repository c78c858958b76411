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
    /// What came of it. Its file is the reference too.
    pub record: Record,
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
    /// What came of it.
    pub record: Record,
}

impl Draft {
    pub(super) fn numbered(self, sequence: u64) -> Entry {
        let Draft { time, is_clock_set, reference, record } = self;
        Entry { sequence, time, is_clock_set, record: Record { file: reference, ..record } }
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
