//! The one preprocessing of the house: training, calibration and the device all call [`preprocess`].

use super::GreyPlane;
use super::plane::Rectangle;
use crate::model::contract::{InputContract, ResizeRule};

/// `plane` at the network's size by the contract's rule: `size × size` greys, not yet normalised. How pixels are
/// resampled: [`GreyPlane::part`].
pub fn preprocess(plane: &GreyPlane, input: &InputContract) -> GreyPlane {
    let size = input.size;
    match input.resize {
        ResizeRule::Stretch => plane.resized(size, size),
        ResizeRule::CenterCrop => plane.part(central_square(plane), size, size),
        ResizeRule::Letterbox => letterbox(plane, size),
    }
}

fn central_square(plane: &GreyPlane) -> Rectangle {
    let whole = plane.whole();
    let side = whole.width.min(whole.height);
    let left = (whole.width - side) / 2.0;
    let top = (whole.height - side) / 2.0;
    Rectangle { left, top, width: side, height: side }
}

fn letterbox(plane: &GreyPlane, size: u32) -> GreyPlane {
    let whole = plane.whole();
    let scale = f64::from(size) / whole.width.max(whole.height);
    let fit = |side: f64| ((side * scale).round() as u32).clamp(1, size);
    let inner = plane.resized(fit(whole.width), fit(whole.height));
    let left = (size - inner.width) / 2;
    let top = (size - inner.height) / 2;
    let mut pixels = vec![0; (size * size) as usize];
    for (y, row) in inner.pixels.chunks_exact(inner.width as usize).enumerate() {
        let start = ((top + y as u32) * size + left) as usize;
        pixels[start..start + row.len()].copy_from_slice(row);
    }
    GreyPlane::square(size, pixels)
}

/// The network's input for a plane of the contract's size, normalised: `[channels, size, size]` in memory order.
pub fn normalise(plane: &GreyPlane, input: &InputContract) -> Vec<f32> {
    let mut out = Vec::with_capacity(input.len());
    for channel in 0..input.channels as usize {
        let table: Vec<f32> = (0..=255).map(|p| input.normalise(p, channel)).collect();
        out.extend(plane.pixels.iter().map(|p| table[usize::from(*p)]));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(size: u32, resize: ResizeRule) -> InputContract {
        InputContract { size, channels: 1, resize, mean: vec![128.0], std: vec![128.0] }
    }

    fn ramp(width: u32, height: u32) -> GreyPlane {
        let pixels = (0..width * height).map(|i| (i % width * 255 / (width - 1)) as u8).collect();
        GreyPlane { width, height, pixels }
    }

    #[test]
    fn an_image_of_the_right_size_is_untouched() {
        let plane = ramp(32, 32);
        assert_eq!(preprocess(&plane, &input(32, ResizeRule::Stretch)), plane);
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
        let plane = GreyPlane::square(2, vec![0, 64, 128, 255]);
        assert_eq!(normalise(&plane, &input(2, ResizeRule::Stretch)), [-1.0, -0.5, 0.0, 127.0 / 128.0]);
    }
}
