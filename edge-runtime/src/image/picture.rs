//! A picture for people, in colour.

use ::image::{ColorType, ImageFormat};
use std::io::Cursor;

/// An RGB picture, row by row, 3 bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height × 3` bytes.
    pub rgb: Vec<u8>,
}

impl Picture {
    /// The picture as a PNG file.
    pub fn to_png(&self) -> ::image::ImageResult<Vec<u8>> {
        let mut bytes = Cursor::new(Vec::new());
        let format = ImageFormat::Png;
        ::image::write_buffer_with_format(&mut bytes, &self.rgb, self.width, self.height, ColorType::Rgb8, format)?;
        Ok(bytes.into_inner())
    }
}
