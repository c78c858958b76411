//! Validation images as another machine, another exposure or another export would have made them. A model that is right
//! on images like those it was trained on and wrong on these has learnt the machine.

use edge_runtime::image::{GreyPlane, Rectangle};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// The images that a shift changes.
struct Images<'a> {
    frames: &'a [&'a GreyPlane],
    truths: &'a [bool],
}

/// A change of images.
pub struct Shift {
    /// What it is called in reports.
    pub name: &'static str,
    change: fn(&Images, usize, &mut ChaCha8Rng) -> GreyPlane,
}

/// All shifts, at the strengths that their names say. The first changes nothing.
pub const SHIFTS: &[Shift] = &[
    Shift { name: "as they are", change: |images, i, _| images.frames[i].clone() },
    Shift { name: "greys of the other class", change: |images, i, rng| images.like(i, rng, true) },
    Shift { name: "greys of any image", change: |images, i, rng| images.like(i, rng, false) },
    Shift { name: "greys × 0.7", change: |images, i, _| images.mapped(i, |p| 0.7 * p) },
    Shift { name: "greys × 1.3", change: |images, i, _| images.mapped(i, |p| 1.3 * p) },
    Shift { name: "gamma 0.67", change: |images, i, _| images.mapped(i, |p| 255.0 * (p / 255.0).powf(0.67)) },
    Shift { name: "gamma 1.5", change: |images, i, _| images.mapped(i, |p| 255.0 * (p / 255.0).powf(1.5)) },
    Shift { name: "contrast × 0.6", change: |images, i, _| images.mapped(i, |p| 128.0 + 0.6 * (p - 128.0)) },
    Shift { name: "blurred, half the size", change: |images, i, _| blurred(images.frames[i], 0.5) },
    Shift { name: "sharpened", change: |images, i, _| sharpened(images.frames[i]) },
    Shift { name: "middle 85 %", change: |images, i, _| zoomed(images.frames[i], 0.85) },
    Shift { name: "black border of 6 %", change: |images, i, _| bordered(images.frames[i], 0.06) },
    Shift { name: "letter in a corner", change: |images, i, rng| lettered(images.frames[i], rng) },
    Shift { name: "noise of 10 greys", change: |images, i, rng| noisy(images.frames[i], 10.0, rng) },
];

impl Shift {
    /// `frames` changed; `truths` tell their classes. The same `seed` gives the same images.
    pub fn apply(&self, frames: &[&GreyPlane], truths: &[bool], seed: u64) -> Vec<GreyPlane> {
        let images = Images { frames, truths };
        let one = |i: usize| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(i as u64);
            (self.change)(&images, i, &mut rng)
        };
        (0..frames.len()).into_par_iter().map(one).collect()
    }
}

impl Images<'_> {
    /// With the grey levels of a random image, of the other class if so.
    fn like(&self, i: usize, rng: &mut ChaCha8Rng, of_other_class: bool) -> GreyPlane {
        let is_donor = |k: &usize| !of_other_class || self.truths[*k] != self.truths[i];
        let donors: Vec<usize> = (0..self.frames.len()).filter(is_donor).collect();
        match donors.is_empty() {
            true => self.frames[i].clone(),
            false => self.frames[i].with_histogram_of(self.frames[donors[rng.random_range(0..donors.len())]]),
        }
    }

    fn mapped(&self, i: usize, change: impl Fn(f32) -> f32) -> GreyPlane {
        mapped(self.frames[i], change)
    }
}

fn mapped(frame: &GreyPlane, change: impl Fn(f32) -> f32) -> GreyPlane {
    let table: Vec<u8> = (0..=255u8).map(|p| change(f32::from(p)).round().clamp(0.0, 255.0) as u8).collect();
    GreyPlane { pixels: frame.pixels.iter().map(|p| table[usize::from(*p)]).collect(), ..*frame }
}

/// Shrunk to `share` of its sides and back.
fn blurred(frame: &GreyPlane, share: f32) -> GreyPlane {
    let side = |length: u32| ((length as f32 * share).round() as u32).max(1);
    frame.resized(side(frame.width), side(frame.height)).resized(frame.width, frame.height)
}

/// What blurring takes away, added once more.
fn sharpened(frame: &GreyPlane) -> GreyPlane {
    let soft = blurred(frame, 0.5);
    let sharp = |(p, s): (&u8, &u8)| (2 * i16::from(*p) - i16::from(*s)).clamp(0, 255) as u8;
    GreyPlane { pixels: frame.pixels.iter().zip(&soft.pixels).map(sharp).collect(), ..*frame }
}

/// The middle `share` of both sides, at full size.
fn zoomed(frame: &GreyPlane, share: f64) -> GreyPlane {
    let whole = frame.whole();
    let width = whole.width * share;
    let height = whole.height * share;
    let left = (whole.width - width) / 2.0;
    let top = (whole.height - height) / 2.0;
    frame.part(Rectangle { left, top, width, height }, frame.width, frame.height)
}

/// Shrunk into a black border of `share` of each side.
fn bordered(frame: &GreyPlane, share: f32) -> GreyPlane {
    let border = |length: u32| (length as f32 * share).round() as u32;
    let left = border(frame.width);
    let top = border(frame.height);
    let width = (frame.width - 2 * left).max(1);
    let inner = frame.resized(width, (frame.height - 2 * top).max(1));
    let mut pixels = vec![0; frame.pixels.len()];
    for (y, row) in inner.pixels.chunks_exact(width as usize).enumerate() {
        let start = (top as usize + y) * frame.width as usize + left as usize;
        pixels[start..start + row.len()].copy_from_slice(row);
    }
    GreyPlane { pixels, ..*frame }
}

/// With an L of white strokes, a tenth of the picture high, near one of the upper corners.
fn lettered(frame: &GreyPlane, rng: &mut ChaCha8Rng) -> GreyPlane {
    let mut lettered = frame.clone();
    let size = (frame.height / 10).max(2);
    let stroke = (size / 5).max(1);
    let left = if rng.random_bool(0.5) { frame.width / 20 } else { frame.width - frame.width / 20 - size };
    let top = frame.height / 20;
    for y in 0..size {
        for x in 0..size / 2 {
            if x < stroke || y >= size - stroke {
                lettered.pixels[((top + y) * frame.width + left + x) as usize] = 255;
            }
        }
    }
    lettered
}

/// With normal noise of a standard deviation of `deviation` greys.
fn noisy(frame: &GreyPlane, deviation: f32, rng: &mut ChaCha8Rng) -> GreyPlane {
    let mut noise = || {
        // Sum of twelve uniforms: near enough to normal, variance 1.
        let sum: f32 = (0..12).map(|_| rng.random::<f32>() - 0.5).sum();
        deviation * sum
    };
    let pixels = frame.pixels.iter().map(|p| (f32::from(*p) + noise()).round().clamp(0.0, 255.0) as u8).collect();
    GreyPlane { pixels, ..*frame }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<GreyPlane> {
        let frame = |k: u32| GreyPlane::square(40, (0..1600).map(|i| (20 * k + i % 40 * 3 + i / 40) as u8).collect());
        (0..4).map(frame).collect()
    }

    #[test]
    fn the_first_changes_nothing_and_all_others_do() {
        let frames = frames();
        let all: Vec<&GreyPlane> = frames.iter().collect();
        let truths = [true, false, true, false];
        for (i, shift) in SHIFTS.iter().enumerate() {
            let changed = shift.apply(&all, &truths, 1);
            assert_eq!(changed == frames, i == 0, "{}", shift.name);
            assert!(changed.iter().all(|f| (f.width, f.height, f.pixels.len()) == (40, 40, 1600)), "{}", shift.name);
            assert_eq!(changed, shift.apply(&all, &truths, 1), "{}", shift.name);
        }
    }

    #[test]
    fn greys_come_from_the_other_class() {
        let dark = GreyPlane::square(40, vec![5; 1600]);
        let bright = GreyPlane::square(40, (0..1600).map(|i| 200 + (i % 40) as u8).collect());
        let swapped = SHIFTS[1].apply(&[&bright, &bright, &dark], &[true, true, false], 3);
        assert!(swapped[..2].iter().all(|f| f.pixels.iter().all(|p| *p == 5)));
        assert!(swapped[2].pixels.iter().all(|p| *p >= 200));
    }

    #[test]
    fn small_pictures_are_changed_too() {
        let tiny = GreyPlane::square(8, (0..64).collect());
        for shift in SHIFTS {
            assert_eq!(shift.apply(&[&tiny], &[true], 1)[0].pixels.len(), 64);
        }
    }
}
