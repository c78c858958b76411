//! A display in memory.

use crate::image::Picture;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use std::ops::Range;

/// Rows without change that are sent with the rows around them, because an area of its own costs more.
const MOST_SAME_ROWS: i32 = 3;

/// A display in memory.
#[derive(Debug, Clone, PartialEq)]
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
        let rgb = self.pixels.iter().flat_map(|pixel| Canvas::rgb888(*pixel)).collect();
        Picture { width: self.size.width, height: self.size.height, rgb }
    }

    /// A colour with 8 bits a channel.
    pub fn rgb888(pixel: Rgb565) -> [u8; 3] {
        let wide = |v: u8, bits: u32| (u32::from(v) * 255 / ((1 << bits) - 1)) as u8;
        [wide(pixel.r(), 5), wide(pixel.g(), 6), wide(pixel.b(), 5)]
    }

    /// Pixels of row `y` in `columns`, as far as the display has them.
    pub fn row(&self, y: i32, columns: Range<i32>) -> &[Rgb565] {
        let width = self.size.width as i32;
        if !(0..self.size.height as i32).contains(&y) {
            return &[];
        }
        let within = |x: i32| (y * width + x.clamp(0, width)) as usize;
        self.pixels.get(within(columns.start)..within(columns.end)).unwrap_or(&[])
    }

    /// Where this display differs from `before`, which is as large: a rectangle for each band of rows.
    pub fn changes(&self, before: &Canvas) -> Vec<Rectangle> {
        let width = self.size.width as usize;
        let mut changes: Vec<Rectangle> = Vec::new();
        let rows = self.pixels.chunks(width).zip(before.pixels.chunks(width));
        for (y, (new, old)) in rows.enumerate() {
            let differs = |(new, old): (&Rgb565, &Rgb565)| new != old;
            let Some(first) = new.iter().zip(old).position(differs) else { continue };
            let last = new.iter().zip(old).rposition(differs).unwrap_or(first);
            let row = Rectangle::with_corners(Point::new(first as i32, y as i32), Point::new(last as i32, y as i32));
            match changes.last_mut() {
                Some(band) if y as i32 - band.top_left.y - band.size.height as i32 <= MOST_SAME_ROWS => {
                    let left = band.top_left.x.min(row.top_left.x);
                    let right = (last as i32).max(band.top_left.x + band.size.width as i32 - 1);
                    *band = Rectangle::with_corners(Point::new(left, band.top_left.y), Point::new(right, y as i32));
                }
                _ => changes.push(row),
            }
        }
        changes
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_cover_what_differs() {
        let before = Canvas::new(40, 30);
        let mut after = before.clone();
        assert!(after.changes(&before).is_empty());
        for area in [(3, 1, 2, 2), (30, 5, 4, 1), (0, 20, 40, 10)] {
            let (x, y, width, height) = area;
            let area = Rectangle::new(Point::new(x, y), Size::new(width, height));
            after.fill_solid(&area, Rgb565::WHITE).unwrap();
        }
        let at = |x, y, width, height| Rectangle::new(Point::new(x, y), Size::new(width, height));
        assert_eq!(after.changes(&before), [at(3, 1, 31, 5), at(0, 20, 40, 10)]);
    }
}
