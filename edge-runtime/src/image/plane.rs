//! A plane of 8-bit grey.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// Grey levels of a picture, row by row; black = 0 as on a radiograph's air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreyPlane {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height` grey levels.
    pub pixels: Vec<u8>,
}

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rectangle {
    /// First column.
    pub left: f64,
    /// First row.
    pub top: f64,
    /// Columns.
    pub width: f64,
    /// Rows.
    pub height: f64,
}

impl GreyPlane {
    /// A square of `side × side` grey levels.
    pub fn square(side: u32, pixels: Vec<u8>) -> GreyPlane {
        GreyPlane { width: side, height: side, pixels }
    }

    /// The whole picture.
    pub fn whole(&self) -> Rectangle {
        Rectangle { left: 0.0, top: 0.0, width: f64::from(self.width), height: f64::from(self.height) }
    }

    /// The whole picture at another size.
    pub fn resized(&self, width: u32, height: u32) -> GreyPlane {
        self.part(self.whole(), width, height)
    }

    /// `part` of the picture, brought to `width × height` with a triangle filter whose support grows with the reduction
    /// (antialiased bilinear, as Pillow's `BILINEAR`). Fixed-point arithmetic: the same pixels on every architecture.
    pub fn part(&self, part: Rectangle, width: u32, height: u32) -> GreyPlane {
        if part == self.whole() && (self.width, self.height) == (width, height) {
            return self.clone();
        }
        let from = ImageRef::new(self.width, self.height, &self.pixels, PixelType::U8)
            .expect("a plane holds width × height bytes");
        let mut to = Image::new(width, height, PixelType::U8);
        let filter = ResizeAlg::Convolution(FilterType::Bilinear);
        let options = ResizeOptions::new().resize_alg(filter).crop(part.left, part.top, part.width, part.height);
        Resizer::new().resize(&from, &mut to, &options).expect("equal pixel types and a crop inside the image");
        GreyPlane { width, height, pixels: to.into_vec() }
    }
}
