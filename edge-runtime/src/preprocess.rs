//! The one preprocessing of the house: training, calibration and the device all call [`preprocess`].

use crate::contract::{InputContract, ResizeRule};
use crate::radiograph::Radiograph;
use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// A radiograph at the network's size: `size × size` 8-bit greys, row by row, not yet normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Side in pixels.
    pub size: u32,
    /// `size × size` grey levels.
    pub pixels: Vec<u8>,
}

/// Resizes `radiograph` by the contract's rule, with a triangle filter whose support grows with the reduction
/// (antialiased bilinear, as Pillow's `BILINEAR`). Fixed-point arithmetic: the same pixels on every architecture.
pub fn preprocess(radiograph: &Radiograph, input: &InputContract) -> Frame {
    let (w, h) = (f64::from(radiograph.width), f64::from(radiograph.height));
    let size = input.size;
    match input.resize {
        ResizeRule::Stretch => Frame { size, pixels: resize(radiograph, (0.0, 0.0, w, h), size, size) },
        ResizeRule::CenterCrop => {
            let side = w.min(h);
            Frame { size, pixels: resize(radiograph, ((w - side) / 2.0, (h - side) / 2.0, side, side), size, size) }
        }
        ResizeRule::Letterbox => {
            let scale = f64::from(size) / w.max(h);
            let fit = |side: f64| ((side * scale).round() as u32).clamp(1, size);
            let (inner_w, inner_h) = (fit(w), fit(h));
            let inner = resize(radiograph, (0.0, 0.0, w, h), inner_w, inner_h);
            let mut pixels = vec![0; (size * size) as usize];
            let (left, top) = ((size - inner_w) / 2, (size - inner_h) / 2);
            for (y, row) in inner.chunks_exact(inner_w as usize).enumerate() {
                let start = ((top + y as u32) * size + left) as usize;
                pixels[start..start + row.len()].copy_from_slice(row);
            }
            Frame { size, pixels }
        }
    }
}

/// The whole radiograph at another size, for people to look at.
pub fn resize_to(radiograph: &Radiograph, width: u32, height: u32) -> Vec<u8> {
    let whole = (0.0, 0.0, f64::from(radiograph.width), f64::from(radiograph.height));
    resize(radiograph, whole, width, height)
}

fn resize(source: &Radiograph, (left, top, w, h): (f64, f64, f64, f64), to_w: u32, to_h: u32) -> Vec<u8> {
    let whole = w == f64::from(source.width) && h == f64::from(source.height);
    if whole && (source.width, source.height) == (to_w, to_h) {
        return source.pixels.clone();
    }
    let from = ImageRef::new(source.width, source.height, &source.pixels, PixelType::U8)
        .expect("a radiograph holds width × height bytes");
    let mut to = Image::new(to_w, to_h, PixelType::U8);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(left, top, w, h);
    Resizer::new().resize(&from, &mut to, &options).expect("equal pixel types and a crop inside the image");
    to.into_vec()
}

impl Frame {
    /// The network's input, normalised, `[channels, size, size]` in memory order.
    pub fn to_f32(&self, input: &InputContract) -> Vec<f32> {
        let mut out = Vec::with_capacity(input.len());
        for channel in 0..input.channels as usize {
            let table: Vec<f32> = (0..=255).map(|p| input.normalise(p, channel)).collect();
            out.extend(self.pixels.iter().map(|p| table[usize::from(*p)]));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(size: u32, resize: ResizeRule) -> InputContract {
        InputContract { size, channels: 1, resize, mean: vec![128.0], std: vec![128.0] }
    }

    fn ramp(width: u32, height: u32) -> Radiograph {
        let pixels = (0..width * height).map(|i| (i % width * 255 / (width - 1)) as u8).collect();
        Radiograph { width, height, pixels, format: "PNG" }
    }

    #[test]
    fn an_image_of_the_right_size_is_untouched() {
        let r = ramp(32, 32);
        assert_eq!(preprocess(&r, &input(32, ResizeRule::Stretch)).pixels, r.pixels);
    }

    #[test]
    fn letterbox_pads_the_short_side_with_black() {
        let f = preprocess(&ramp(64, 32), &input(32, ResizeRule::Letterbox));
        assert!(f.pixels[..8 * 32].iter().all(|p| *p == 0));
        assert!(f.pixels[8 * 32 + 31] > 240);
        assert!(f.pixels[24 * 32..].iter().all(|p| *p == 0));
    }

    #[test]
    fn center_crop_keeps_the_middle() {
        let f = preprocess(&ramp(96, 32), &input(32, ResizeRule::CenterCrop));
        assert!((84..=87).contains(&f.pixels[0]), "{}", f.pixels[0]);
        assert!((167..=171).contains(&f.pixels[31]), "{}", f.pixels[31]);
    }

    #[test]
    fn normalisation_of_the_default_maps_the_pixel_range_to_minus_one_to_one() {
        let f = Frame { size: 2, pixels: vec![0, 64, 128, 255] };
        assert_eq!(f.to_f32(&input(2, ResizeRule::Stretch)), [-1.0, -0.5, 0.0, 127.0 / 128.0]);
    }
}
