//! A plane of 8-bit grey.

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

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

    /// A square with edges and gradients in all directions, to try a network with.
    pub fn pattern(side: u32) -> GreyPlane {
        let pixel = |i: u32| {
            let [x, y] = [i % side, i / side];
            (x * x / 7 + y * 5 + (x / 16 + y / 24) % 2 * 90) as u8
        };
        GreyPlane { width: side, height: side, pixels: (0..side * side).map(pixel).collect() }
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
        let from = TypedImageRef::<U8>::from_buffer(self.width, self.height, &self.pixels)
            .expect("a plane holds width × height bytes");
        let mut pixels = vec![0; (width * height) as usize];
        let mut to = TypedImage::<U8>::from_buffer(width, height, &mut pixels).expect("as many bytes");
        let filter = ResizeAlg::Convolution(FilterType::Bilinear);
        let options = ResizeOptions::new().resize_alg(filter).crop(part.left, part.top, part.width, part.height);
        Resizer::new().resize_typed(&from, &mut to, &options).expect("a crop inside the image");
        GreyPlane { width, height, pixels }
    }

    /// How many pixels have each grey level.
    pub fn histogram(&self) -> [u32; 256] {
        let mut counts = [0; 256];
        for p in &self.pixels {
            counts[usize::from(*p)] += 1;
        }
        counts
    }

    /// The picture with the grey levels of `other`: each level becomes the one of the same rank there (histogram
    /// matching).
    pub fn with_histogram_of(&self, other: &GreyPlane) -> GreyPlane {
        let from = self.histogram();
        let to = other.histogram();
        let mut table = [0u8; 256];
        let mut level = 0;
        let mut below = 0u64;
        let mut reached = u64::from(to[0]) * self.pixels.len() as u64;
        for (grey, count) in from.iter().enumerate() {
            // The middle of this level's ranks, so that equal histograms change nothing.
            let rank = (2 * below + u64::from(*count)) * other.pixels.len() as u64;
            while 2 * reached < rank {
                level += 1;
                reached += u64::from(to[level]) * self.pixels.len() as u64;
            }
            table[grey] = level as u8;
            below += u64::from(*count);
        }
        GreyPlane { pixels: self.pixels.iter().map(|p| table[usize::from(*p)]).collect(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_its_own_histogram() {
        let plane = GreyPlane::square(16, (0..=255).map(|i: u8| i / 3 * 2).collect());
        assert_eq!(plane.with_histogram_of(&plane), plane);
    }

    #[test]
    fn matching_keeps_the_order_and_takes_the_levels() {
        let plane = GreyPlane::square(16, (0..=255).collect());
        let other = GreyPlane::square(2, vec![10, 20, 20, 250]);
        let matched = plane.with_histogram_of(&other);
        assert!(matched.pixels.is_sorted());
        assert_eq!([matched.pixels[0], matched.pixels[128], matched.pixels[255]], [10, 20, 250]);
        assert_eq!(matched.histogram()[20], 128);
    }
}
