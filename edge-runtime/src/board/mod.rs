//! What a device is: `boards/*.toml`, one file a board, embedded in the program.

pub mod card;
pub mod prediction;

use crate::stages::StageTimes;
use embedded_graphics::geometry::Size;
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
    /// How a card is made for it; absent where none can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<card::Card>,
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

/// A display: how it is connected, and its form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Display {
    /// A PNG file that holds what would be shown.
    Png {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A window of a desktop.
    Window {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Linux's frame buffer.
    Framebuffer {
        /// Such as `/dev/fb0`.
        device: PathBuf,
        /// Columns that are used.
        width: u32,
        /// Rows that are used.
        height: u32,
    },
    /// A display of the kernel's mode setting, such as HDMI.
    Drm {
        /// Such as `/dev/dri/card0`.
        device: PathBuf,
        /// Columns that are used.
        width: u32,
        /// Rows that are used.
        height: u32,
    },
    /// A colour panel on an SPI bus.
    Spi(Wiring),
    /// An SSD1306 of 128×64 pixels on an I²C bus, on or off each.
    I2c {
        /// Such as `/dev/i2c-1`.
        device: PathBuf,
        /// Degrees by which it is turned: 0 or 180.
        #[serde(default)]
        rotation: u16,
    },
}

/// A colour panel on an SPI bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wiring {
    /// Its controller.
    pub controller: Controller,
    /// The bus and its chip select, such as `/dev/spidev0.0`.
    pub device: PathBuf,
    /// The chip of the lines, such as `/dev/gpiochip0`.
    pub gpio: PathBuf,
    /// The line that tells data from commands.
    pub data_line: u32,
    /// The line that resets the controller.
    pub reset_line: u32,
    /// The line of the light, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light_line: Option<u32>,
    /// Clock of the bus in hertz.
    pub speed_hz: u32,
    /// Degrees by which it is turned: 0, 90, 180 or 270.
    #[serde(default)]
    pub rotation: u16,
    /// Which colour comes first.
    #[serde(default)]
    pub colour_order: ColourOrder,
    /// Whether the panel shows colours inverted.
    #[serde(default)]
    pub inverted: bool,
    /// Columns, as it is turned.
    pub width: u32,
    /// Rows, as it is turned.
    pub height: u32,
}

/// The controller of a colour panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// 240×320.
    Ili9341,
    /// 320×480.
    Ili9488,
    /// 240×320 or 240×240.
    St7789,
}

/// Which colour of a pixel comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourOrder {
    /// Red.
    #[default]
    Rgb,
    /// Blue.
    Bgr,
}

impl Display {
    /// Columns and rows.
    pub fn size(&self) -> Size {
        match self {
            Display::Png { width, height }
            | Display::Window { width, height }
            | Display::Framebuffer { width, height, .. }
            | Display::Drm { width, height, .. } => Size::new(*width, *height),
            Display::Spi(wiring) => Size::new(wiring.width, wiring.height),
            Display::I2c { .. } => Size::new(128, 64),
        }
    }

    /// True for panels that know on and off alone.
    pub fn is_mono(&self) -> bool {
        matches!(self, Display::I2c { .. })
    }

    /// How it is connected, as board files say it.
    pub fn kind(&self) -> &'static str {
        match self {
            Display::Png { .. } => "png",
            Display::Window { .. } => "window",
            Display::Framebuffer { .. } => "framebuffer",
            Display::Drm { .. } => "drm",
            Display::Spi(_) => "spi",
            Display::I2c { .. } => "i2c",
        }
    }

    /// The same for people.
    pub fn in_words(&self) -> String {
        let Size { width, height } = self.size();
        let what = match self {
            Display::Png { .. } => "a PNG file".to_owned(),
            Display::Window { .. } => "a window".to_owned(),
            Display::Framebuffer { device, .. } => format!("frame buffer {}", device.display()),
            Display::Drm { device, .. } => format!("display of {}", device.display()),
            Display::Spi(wiring) => format!("{:?} on {}", wiring.controller, wiring.device.display()),
            Display::I2c { device, .. } => format!("Ssd1306 on {}", device.display()),
        };
        format!("{what}, {width}×{height}")
    }

    /// What no panel is.
    fn wrong(&self) -> Option<&'static str> {
        let Size { width, height } = self.size();
        if !(64..=4096).contains(&width) || !(64..=4096).contains(&height) {
            return Some("display.width and display.height must be 64 to 4096");
        }
        match self {
            Display::Spi(wiring) if ![0, 90, 180, 270].contains(&wiring.rotation) => {
                Some("display.rotation must be 0, 90, 180 or 270")
            }
            Display::I2c { rotation, .. } if ![0, 180].contains(rotation) => Some("display.rotation must be 0 or 180"),
            _ => None,
        }
    }
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
        if let Some(wrong) = board.display.wrong() {
            return Err(bad(wrong.into()));
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
    fn a_display_says_how_it_is_wired_and_nothing_else() {
        let text = FILES.iter().find(|(name, _)| *name == "raspberry-pi-4").unwrap().1;
        let parse = |text: &str| Board::parse("a", text, Path::new("a.toml")).map_err(|e| e.to_string());
        assert_eq!(parse(text).unwrap().display.size(), Size::new(320, 240));
        assert!(parse(&text.replace("rotation = 90", "rotation = 45")).unwrap_err().contains("0, 90, 180 or 270"));
        assert!(parse(&text.replace("speed_hz", "speed")).unwrap_err().contains("speed"));
        assert!(parse(&text.replace("kind = \"spi\"", "kind = \"hdmi\"")).unwrap_err().contains("hdmi"));
    }

    #[test]
    fn an_unknown_board_lists_the_known() {
        assert!(Board::find("raspberry-pi-9").unwrap_err().to_string().contains("raspberry-pi-5"));
    }
}
