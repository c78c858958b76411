//! What a device is: `boards/*.toml`, one file a board, embedded in the program.

pub mod prediction;

use crate::stages::StageTimes;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/boards.rs"));

/// The board that is assumed where none is named.
pub const HOST: &str = "host";

/// A clinic device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// File name without `.toml`; not stored in the file.
    #[serde(default)]
    pub name: String,
    /// The name people use.
    pub title: String,
    /// System on chip.
    pub soc: String,
    /// CPU cores of one kind.
    pub cores: u32,
    /// Their design.
    pub core: String,
    /// Clock in MHz.
    pub clock_mhz: u32,
    /// CPU features that the integer kernels ask for.
    pub features: Vec<String>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Rust target triple of the binary that is flashed.
    pub target: String,
    /// The display.
    pub display: Display,
    /// How radiographs come in.
    pub input: String,
    /// How the device is written.
    pub flash: String,
    /// Latency budget.
    pub budget_ms: StageTimes,
    /// Why the budget is what it is.
    pub budget_basis: String,
    /// Where the figures are from.
    pub sources: Vec<String>,
    /// What a predicted latency assumes; absent where none is predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed: Option<Assumed>,
}

/// Assumptions of [`prediction`], not measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assumed {
    /// Instructions of the integer kernels that one core completes a cycle.
    pub instructions_per_cycle: f64,
    /// Megabytes a second at which weights come from memory.
    pub memory_mb_per_s: f64,
}

/// A display.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Display {
    /// Controller or connection.
    pub kind: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Why a board cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// No such board.
    #[error("no board `{name}`: there are {known}; or give a file of your own")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A board file that cannot be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Board {
    /// All embedded boards, by name.
    pub fn all() -> Result<Vec<Board>, BoardError> {
        FILES.iter().map(|(name, text)| Board::parse(name, text, Path::new(name))).collect()
    }

    /// An embedded board by name, or a board file by path.
    pub fn find(name: &str) -> Result<Board, BoardError> {
        if let Some((name, text)) = FILES.iter().find(|(n, _)| *n == name) {
            return Board::parse(name, text, Path::new(name));
        }
        let path = Path::new(name);
        if path.extension().is_some_and(|e| e == "toml") {
            let text = std::fs::read_to_string(path)
                .map_err(|e| BoardError::File { path: path.to_owned(), reason: e.to_string() })?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            return Board::parse(&stem, &text, path);
        }
        let known = FILES.iter().map(|f| f.0).collect::<Vec<_>>().join(", ");
        Err(BoardError::Unknown { name: name.to_owned(), known })
    }

    /// The board `name` that `text` describes; `path` is only named in errors.
    pub fn parse(name: &str, text: &str, path: &Path) -> Result<Board, BoardError> {
        let bad = |reason: String| BoardError::File { path: path.to_owned(), reason };
        let board: Board = toml::from_str(text).map_err(|e| bad(e.to_string()))?;
        if !board.budget_ms.iter().all(|(_, ms)| ms.is_finite() && ms > 0.0) {
            return Err(bad("every stage of budget_ms must be above zero".into()));
        }
        if !(64..=4096).contains(&board.display.width) || !(64..=4096).contains(&board.display.height) {
            return Err(bad("display.width and display.height must be 64 to 4096".into()));
        }
        if board.assumed.as_ref().is_some_and(|a| !(a.instructions_per_cycle > 0.0 && a.memory_mb_per_s > 0.0)) {
            return Err(bad("assumed.instructions_per_cycle and assumed.memory_mb_per_s must be above zero".into()));
        }
        Ok(Board { name: name.to_owned(), ..board })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_board_file_is_sound_and_complete() {
        let boards = Board::all().unwrap();
        for name in [
            "raspberry-pi-zero-2w",
            "raspberry-pi-3b",
            "raspberry-pi-4",
            "raspberry-pi-5",
            "jetson-nano",
            "jetson-orin-nano",
            HOST,
        ] {
            let board = boards.iter().find(|b| b.name == name).unwrap_or_else(|| panic!("no {name}"));
            assert!(!board.sources.is_empty() && board.cores > 0, "{name}");
        }
    }

    #[test]
    fn an_unknown_board_lists_the_known() {
        assert!(Board::find("raspberry-pi-9").unwrap_err().to_string().contains("raspberry-pi-5"));
    }
}
