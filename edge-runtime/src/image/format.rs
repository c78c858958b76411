//! The file formats that are read, told apart by their first bytes.

use serde::{Deserialize, Serialize};

/// A file format of radiographs. To add one, add it here and a decoder in [`super::samples`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// Portable Network Graphics (ISO/IEC 15948).
    #[serde(rename = "PNG")]
    Png,
    /// JPEG (ITU-T T.81).
    #[serde(rename = "JPEG")]
    Jpeg,
    /// Tagged Image File Format (TIFF 6.0).
    #[serde(rename = "TIFF")]
    Tiff,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[Format::Png, Format::Jpeg, Format::Tiff];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Tiff => "TIFF",
        }
    }

    /// The bytes that a file of this format begins with: one of these.
    fn signatures(self) -> &'static [&'static [u8]] {
        match self {
            Format::Png => &[b"\x89PNG\r\n\x1a\n"],
            Format::Jpeg => &[b"\xff\xd8\xff"],
            Format::Tiff => &[b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"],
        }
    }

    /// The format of a file that begins with `bytes`.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        let begins = |f: &Format| f.signatures().iter().any(|s| bytes.starts_with(s));
        Format::ALL.iter().copied().find(begins)
    }

    /// What a file of another kind that begins with `bytes` is, if it is a known one.
    pub fn detect_other(bytes: &[u8]) -> Option<&'static str> {
        let has = |at: usize, signature: &[u8]| bytes.get(at..).is_some_and(|b| b.starts_with(signature));
        let others: [(&'static str, bool); 9] = [
            ("a DICOM file", has(128, b"DICM")),
            ("a BMP file", has(0, b"BM")),
            ("a GIF file", has(0, b"GIF8")),
            ("a WebP file", has(0, b"RIFF") && has(8, b"WEBP")),
            ("a JPEG 2000 file", has(0, b"\0\0\0\x0cjP  ") || has(0, b"\xff\x4f\xff\x51")),
            ("a JPEG-LS file", has(0, b"\xff\xd8\xff\xf7")),
            ("a JPEG XL file", has(0, b"\xff\x0a") || has(0, b"\0\0\0\x0cJXL ")),
            ("a HEIC or AVIF file", has(4, b"ftyp")),
            ("a PDF file", has(0, b"%PDF")),
        ];
        others.into_iter().find(|(_, is)| *is).map(|(name, _)| name)
    }

    /// The names of all formats, `last` before the last of them: "PNG, JPEG or TIFF".
    pub fn names(last: &str) -> String {
        let names: Vec<&str> = Format::ALL.iter().map(|f| f.name()).collect();
        match names.split_last() {
            Some((end, rest)) => format!("{} {last} {end}", rest.join(", ")),
            None => String::new(),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
