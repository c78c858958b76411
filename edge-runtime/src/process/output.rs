//! Standard output, where a full disk or a closed file is an error and no panic.

use crate::process::Failure;
use anyhow::Context;
use serde::Serialize;
use std::fmt::Display;
use std::io::Write;

/// A line on standard output.
pub fn line(text: impl Display) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").context("standard output cannot be written").map_err(Failure::work)
}

/// `report` as JSON on standard output, over several lines with `pretty`.
pub fn json(report: &impl Serialize, pretty: bool) -> Result<(), Failure> {
    let text = match pretty {
        true => serde_json::to_string_pretty(report),
        false => serde_json::to_string(report),
    };
    line(text.context("the report cannot be written as JSON")?)
}
