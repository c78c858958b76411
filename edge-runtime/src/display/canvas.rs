//! A display in memory.

use crate::image::Picture;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;

/// A display in memory.
pub struct Canvas {
    size: Size,
    pixels: Vec<Rgb565>,
}

impl Canvas {
    /// A black display.
    pub fn new(width: u32, height: u32) -> Canvas {
        Canvas { size: Size::new(width, height), pixels: vec![Rgb565::BLACK; (width * height) as usize] }
    }

    /// The picture as 8-bit RGB.
    pub fn to_picture(&self) -> Picture {
        let wide = |v: u8, bits: u32| (u32::from(v) * 255 / ((1 << bits) - 1)) as u8;
        let rgb = self.pixels.iter().flat_map(|p| [wide(p.r(), 5), wide(p.g(), 6), wide(p.b(), 5)]).collect();
        Picture { width: self.size.width, height: self.size.height, rgb }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb565;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb565>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y))
                && x < self.size.width
                && y < self.size.height
            {
                self.pixels[(y * self.size.width + x) as usize] = colour;
            }
        }
        Ok(())
    }
}
