//! A synthetic chest: lungs, ribs, spine, heart, diaphragm, and in half of the images a consolidation. It stands in for
//! data in tests and first tries; it teaches nothing about real lungs.

use image::{GrayImage, Luma};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Side of a phantom in pixels.
pub const SIDE: u32 = 192;

/// One phantom; the same for the same `seed`.
pub fn chest(seed: u64, pneumonia: bool) -> GrayImage {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut vary = |around: f32, by: f32| around + rng.random_range(-by..=by);
    let exposure = vary(1.0, 0.12);
    let centre_x = vary(0.5, 0.02);
    let centre_y = vary(0.46, 0.02);
    let lung_w = vary(0.155, 0.015);
    let lung_h = vary(0.30, 0.02);
    let gap = vary(0.185, 0.01);
    let rib_phase = vary(0.0, 1.0);
    let rib_pitch = vary(0.075, 0.008);
    let heart = vary(0.13, 0.02);
    // One to three soft opacities inside one lung.
    let side = if vary(0.0, 1.0) > 0.0 { 1.0 } else { -1.0 };
    let blobs: Vec<[f32; 4]> = (0..if pneumonia { 1 + (vary(1.0, 1.0) as usize) } else { 0 })
        .map(|_| {
            [centre_x + side * gap + vary(0.0, 0.07), centre_y + vary(0.06, 0.16), vary(0.075, 0.025), vary(0.34, 0.08)]
        })
        .collect();
    let grain = vary(0.02, 0.01).abs();

    GrayImage::from_fn(SIDE, SIDE, |px, py| {
        let x = (px as f32 + 0.5) / SIDE as f32;
        let y = (py as f32 + 0.5) / SIDE as f32;
        let ellipse = |cx: f32, cy: f32, w: f32, h: f32| {
            let d = (((x - cx) / w).powi(2) + ((y - cy) / h).powi(2)).sqrt();
            // 1 inside, 0 outside, a soft edge of a twelfth of the radius.
            ((1.0 - d) * 12.0 + 0.5).clamp(0.0, 1.0)
        };
        let body = ellipse(0.5, 0.62, 0.46, 0.60);
        let lungs = ellipse(centre_x - gap, centre_y, lung_w, lung_h).max(ellipse(
            centre_x + gap,
            centre_y,
            lung_w * 0.95,
            lung_h,
        ));
        let bow = ((x - centre_x).abs() - 0.1).max(0.0);
        let rib = (((y + bow * bow * 1.6) / rib_pitch + rib_phase) * std::f32::consts::TAU).sin().max(0.0).powi(3);
        let spine = (1.0 - ((x - centre_x) / 0.05).powi(2)).max(0.0);
        let mut grey = body * (0.52 + 0.10 * spine);
        grey -= lungs * 0.36;
        grey += lungs * rib * 0.09;
        grey += ellipse(centre_x + 0.07, centre_y + 0.18, heart, heart * 1.1) * 0.22;
        grey += ellipse(centre_x - gap, centre_y + lung_h + 0.02, 0.2, 0.1) * 0.14;
        for [bx, by, radius, strength] in &blobs {
            let d2 = ((x - bx).powi(2) + (y - by).powi(2)) / (radius * radius);
            grey += lungs * strength * (-d2).exp();
        }
        grey = grey * exposure + rng.random_range(-grain..=grain);
        Luma([(grey * 255.0).round().clamp(0.0, 255.0) as u8])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phantom_depends_on_its_seed_alone() {
        assert_eq!(chest(1, true), chest(1, true));
        assert_ne!(chest(1, true), chest(2, true));
    }

    #[test]
    fn pneumonia_brightens_a_lung() {
        let sum = |p| (0..10).map(|s| chest(s, p).as_raw().iter().map(|v| u64::from(*v)).sum::<u64>()).sum::<u64>();
        assert!(sum(true) > sum(false));
    }
}
