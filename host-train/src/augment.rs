//! Random changes to training frames, on the same 8-bit greys that the device sees.

use crate::recipe::Augment;
use data::frame_store::FrameStore;
use edge_runtime::image::GreyPlane;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io;

/// The random generator of image `index` in `epoch`: every image's changes depend on nothing else, so a resumed run,
/// any number of threads and any batch size draw the same.
pub fn rng(seed: u64, epoch: usize, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((epoch as u64) << 32) | index as u64);
    rng
}

/// One random variant of `frames[index]`; the others may lend it their grey levels.
pub fn augment(frames: &FrameStore, index: usize, a: &Augment, rng: &mut impl Rng) -> io::Result<GreyPlane> {
    let frame = frames.get(index)?;
    if a.histogram_exchange > 0.0 && rng.random_bool(f64::from(a.histogram_exchange)) {
        let other = frames.get(rng.random_range(0..frames.len()))?;
        return Ok(changed(&frame.with_histogram_of(&other), a, rng));
    }
    Ok(changed(&frame, a, rng))
}

/// One random variant of `frame` by itself.
fn changed(frame: &GreyPlane, a: &Augment, rng: &mut impl Rng) -> GreyPlane {
    let mut signed = |range: f32| if range > 0.0 { rng.random_range(-range..=range) } else { 0.0 };
    let rotation = signed(a.rotation).to_radians();
    let zoom = 1.0 + signed(a.zoom);
    let dx = signed(a.shift);
    let dy = signed(a.shift);
    let sx = 1.0 + signed(a.stretch);
    let sy = 1.0 + signed(a.stretch);
    let brightness = signed(a.brightness) * 255.0;
    let contrast = 1.0 + signed(a.contrast);
    let gamma = (1.0 + a.gamma).powf(signed(1.0));
    let flip = a.flip && rng.random_bool(0.5);
    let shrink = if a.blur > 0.0 && rng.random_bool(0.5) { rng.random_range(1.0..=1.0 + a.blur) } else { 1.0 };
    let crop = if a.crop > 0.0 { Crop::draw(a.crop, rng) } else { Crop::WHOLE };

    let size = frame.width as usize;
    let centre = (frame.width as f32 - 1.0) / 2.0;
    let (sin, cos) = rotation.sin_cos();
    let mut out = Vec::with_capacity(size * size);
    for y in 0..size {
        for x in 0..size {
            let mut u = x as f32 - centre;
            let v = y as f32 - centre;
            if flip {
                u = -u;
            }
            let u = u * crop.width / (zoom * sx);
            let v = v * crop.height / (zoom * sy);
            let source_x = cos * u - sin * v + centre + (dx + crop.dx) * frame.width as f32;
            let source_y = sin * u + cos * v + centre + (dy + crop.dy) * frame.width as f32;
            out.push(sample(frame, source_x, source_y));
        }
    }
    let mut out = GreyPlane::square(frame.width, out);
    if shrink > 1.0 {
        out = blur(&out, (frame.width as f32 / shrink).round().max(8.0) as u32);
    }
    let mean = out.pixels.iter().map(|p| f32::from(*p)).sum::<f32>() / out.pixels.len() as f32;
    let table: Vec<f32> = (0..256)
        .map(|p| {
            let curved = 255.0 * (p as f32 / 255.0).powf(gamma);
            (curved - mean) * contrast + mean + brightness
        })
        .collect();
    if a.cutout > 0.0 {
        cut_out(&mut out, a.cutout, mean.round() as u8, rng);
    }
    let noise = if a.noise > 0.0 { rng.random_range(0.0..=a.noise) } else { 0.0 };
    for p in &mut out.pixels {
        let mut value = table[usize::from(*p)];
        if noise > 0.0 {
            // Sum of four uniforms: near enough to normal, variance 1/3.
            let sum: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
            value += noise * sum * 3f32.sqrt();
        }
        *p = value.round().clamp(0.0, 255.0) as u8;
    }
    out
}

/// Makes a square of up to `largest` of the side, somewhere, or half of the time none, all `grey`.
fn cut_out(frame: &mut GreyPlane, largest: f32, grey: u8, rng: &mut impl Rng) {
    if rng.random_bool(0.5) {
        return;
    }
    let side = frame.width as usize;
    let square = ((rng.random_range(0.0..=largest) * side as f32) as usize).clamp(1, side);
    let left = rng.random_range(0..=side - square);
    let top = rng.random_range(0..=side - square);
    for row in frame.pixels.chunks_exact_mut(side).skip(top).take(square) {
        row[left..left + square].fill(grey);
    }
}

/// A part of an image that is brought to the size of the whole ("Inception" crop, Szegedy et al. 2015).
#[derive(Clone, Copy)]
struct Crop {
    /// Share of the width.
    width: f32,
    /// Share of the height.
    height: f32,
    /// The centre's distance from that of the image, as a share of the width.
    dx: f32,
    /// The same of the height.
    dy: f32,
}

impl Crop {
    const WHOLE: Crop = Crop { width: 1.0, height: 1.0, dx: 0.0, dy: 0.0 };

    /// A part of `smallest` to all of the area, its sides as 3 : 4 to 4 : 3, anywhere inside.
    fn draw(smallest: f32, rng: &mut impl Rng) -> Crop {
        let area: f32 = rng.random_range(smallest..=1.0);
        let aspect = (4.0f32 / 3.0).powf(rng.random_range(-1.0..=1.0));
        let width = (area * aspect).sqrt().min(1.0);
        let height = (area / aspect).sqrt().min(1.0);
        let mut inside = |share: f32| rng.random_range(-0.5..=0.5) * (1.0 - share);
        Crop { width, height, dx: inside(width), dy: inside(height) }
    }
}

/// Bilinear sample; black outside.
fn sample(frame: &GreyPlane, x: f32, y: f32) -> u8 {
    let size = frame.width as i32;
    let x0 = x.floor();
    let y0 = y.floor();
    let fx = x - x0;
    let fy = y - y0;
    let at = |dx: i32, dy: i32| {
        let x = x0 as i32 + dx;
        let y = y0 as i32 + dy;
        if x < 0 || y < 0 || x >= size || y >= size { 0.0 } else { f32::from(frame.pixels[(y * size + x) as usize]) }
    };
    let top = at(0, 0) * (1.0 - fx) + at(1, 0) * fx;
    let bottom = at(0, 1) * (1.0 - fx) + at(1, 1) * fx;
    (top * (1.0 - fy) + bottom * fy).round() as u8
}

/// `frame` shrunk to a side of `to` and back.
fn blur(frame: &GreyPlane, to: u32) -> GreyPlane {
    frame.resized(to, to).resized(frame.width, frame.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(frame: GreyPlane, a: &Augment, rng: &mut impl Rng) -> GreyPlane {
        augment(&FrameStore::of(vec![frame]), 0, a, rng).unwrap()
    }

    fn frame() -> GreyPlane {
        GreyPlane::square(32, (0..1024).map(|i| (i % 32 * 8) as u8).collect())
    }

    #[test]
    fn no_augmentation_changes_nothing() {
        assert_eq!(one(frame(), &Augment::default(), &mut rng(1, 0, 0)), frame());
    }

    #[test]
    fn the_same_draw_gives_the_same_image_and_another_does_not() {
        let a = Augment { rotation: 10.0, noise: 5.0, blur: 1.0, flip: true, ..Default::default() };
        let first = one(frame(), &a, &mut rng(1, 2, 3));
        assert_eq!(first, one(frame(), &a, &mut rng(1, 2, 3)));
        assert_ne!(first, one(frame(), &a, &mut rng(1, 2, 4)));
    }

    #[test]
    fn a_crop_lies_inside_of_the_image() {
        let mut rng = rng(1, 0, 0);
        for _ in 0..1000 {
            let crop = Crop::draw(0.08, &mut rng);
            assert!(crop.width <= 1.0 && crop.height <= 1.0 && crop.width * crop.height >= 0.08 * 0.9);
            assert!(crop.dx.abs() + crop.width / 2.0 <= 0.5001 && crop.dy.abs() + crop.height / 2.0 <= 0.5001);
        }
    }

    #[test]
    fn a_cut_out_square_is_grey_and_no_larger_than_stated() {
        let white = GreyPlane::square(32, vec![255; 1024]);
        let mut plane = GreyPlane::square(32, vec![0; 1024]);
        let mut seen = false;
        for i in 0..50 {
            plane.pixels.fill(0);
            cut_out(&mut plane, 0.5, 7, &mut rng(1, 0, i));
            let cut = plane.pixels.iter().filter(|p| **p == 7).count();
            seen |= cut > 0;
            assert!(cut <= 256 && ((cut as f64).sqrt().fract() == 0.0), "{cut}");
        }
        assert!(seen);
        let a = Augment { cutout: 0.5, ..Default::default() };
        assert_eq!(one(white.clone(), &a, &mut rng(1, 0, 0)), white);
    }

    #[test]
    fn a_crop_shows_a_part() {
        let a = Augment { crop: 0.1, ..Default::default() };
        let part = one(frame(), &a, &mut rng(1, 0, 0));
        let span = |f: &GreyPlane| f.pixels.iter().max().unwrap() - f.pixels.iter().min().unwrap();
        assert!(span(&part) < span(&frame()));
    }

    #[test]
    fn exchanged_greys_are_those_of_another_image() {
        let dark = GreyPlane::square(32, frame().pixels.iter().map(|p| p / 4).collect());
        let a = Augment { histogram_exchange: 1.0, ..Default::default() };
        let frames = FrameStore::of(vec![frame(), dark]);
        let mut seen: Vec<u8> = (0..20)
            .map(|i| *augment(&frames, 0, &a, &mut rng(1, 0, i)).unwrap().pixels.iter().max().unwrap())
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [62, 248]);
    }
}
