//! The file formats that are read, told apart by their first bytes.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// A file format of radiographs. To add one, add it here and a decoder in [`super::samples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Portable Network Graphics (ISO/IEC 15948).
    #[serde(rename = "PNG")]
    Png,
    /// JPEG (ITU-T T.81).
    #[serde(rename = "JPEG")]
    Jpeg,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[Format::Png, Format::Jpeg];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
        }
    }

    /// The bytes that a file of this format begins with.
    fn signature(self) -> &'static [u8] {
        match self {
            Format::Png => b"\x89PNG\r\n\x1a\n",
            Format::Jpeg => b"\xff\xd8\xff",
        }
    }

    /// File name endings, lower case.
    fn endings(self) -> &'static [&'static str] {
        match self {
            Format::Png => &["png"],
            Format::Jpeg => &["jpg", "jpeg"],
        }
    }

    /// The format of a file that begins with `bytes`.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        Format::ALL.iter().copied().find(|f| bytes.starts_with(f.signature()))
    }

    /// True if `path` ends like an image file.
    pub fn has_ending(path: &Path) -> bool {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        ending.is_some_and(|e| Format::ALL.iter().any(|f| f.endings().contains(&e.as_str())))
    }

    /// The names of all formats with `between` them: "PNG or JPEG".
    pub fn names(between: &str) -> String {
        Format::ALL.iter().map(|f| f.name()).collect::<Vec<_>>().join(between)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
