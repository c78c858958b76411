//! The file formats that are read, told apart by their first bytes.

use serde::{Deserialize, Serialize};

/// Bytes before the magic of a DICOM file (PS3.10, 7.1).
pub(super) const DICOM_PREAMBLE: usize = 128;
/// What follows them.
pub(super) const DICOM_MAGIC: &[u8] = b"DICM";

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
    /// Digital Imaging and Communications in Medicine (PS3.10).
    #[serde(rename = "DICOM")]
    Dicom,
}

impl Format {
    /// Every format.
    pub const ALL: &[Format] = &[Format::Dicom, Format::Png, Format::Jpeg, Format::Tiff];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Tiff => "TIFF",
            Format::Dicom => "DICOM",
        }
    }

    /// The form of it that every program writes, for a sentence.
    pub fn simplest(self) -> &'static str {
        match self {
            Format::Dicom => "uncompressed, or as a PNG",
            Format::Png => "as a PNG of one picture",
            Format::Jpeg => "as an 8-bit JPEG, or as a PNG",
            Format::Tiff => "as an uncompressed TIFF of one page, or as a PNG",
        }
    }

    /// True if a file of this format begins with `bytes`.
    fn begins(self, bytes: &[u8]) -> bool {
        let has_one_of = |signatures: &[&[u8]]| signatures.iter().any(|s| bytes.starts_with(s));
        match self {
            Format::Png => has_one_of(&[b"\x89PNG\r\n\x1a\n"]),
            Format::Jpeg => has_one_of(&[b"\xff\xd8\xff"]) && !bytes.starts_with(b"\xff\xd8\xff\xf7"),
            Format::Tiff => has_one_of(&[b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"]),
            Format::Dicom => is_dicom(bytes),
        }
    }

    /// The format of a file that begins with `bytes`.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        Format::ALL.iter().copied().find(|format| format.begins(bytes))
    }

    /// What a file of another kind that begins with `bytes` is, if it is a known one.
    pub fn detect_other(bytes: &[u8]) -> Option<&'static str> {
        let has = |at: usize, signature: &[u8]| bytes.get(at..).is_some_and(|b| b.starts_with(signature));
        let others: [(&'static str, bool); 8] = [
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

/// True if `bytes` begin as a DICOM file does; those of older machines begin with their elements.
fn is_dicom(bytes: &[u8]) -> bool {
    if bytes.get(DICOM_PREAMBLE..).is_some_and(|b| b.starts_with(DICOM_MAGIC)) || bytes.starts_with(DICOM_MAGIC) {
        return true;
    }
    let Some([g0, g1, e0, e1, a, b, c, d]) = bytes.first_chunk::<8>() else { return false };
    let is_typed = a.is_ascii_uppercase() && b.is_ascii_uppercase();
    let first = match [*g0, *g1] {
        [0x02, 0x00] => return [*e0, *e1, *a, *b] == [0, 0, b'U', b'L'],
        [0x08, 0x00] => [*e0, *e1],
        [0x00, 0x08] if is_typed => [*e1, *e0],
        _ => return false,
    };
    // The group begins with its length, the character set, the image's type or its class.
    let is_first = matches!(first, [0x00 | 0x01 | 0x05 | 0x08 | 0x12 | 0x16, 0x00]);
    is_first && (is_typed || u32::from_le_bytes([*a, *b, *c, *d]) < 256)
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
