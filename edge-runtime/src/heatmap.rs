//! The class activation map over the radiograph.

use crate::contract::{InputContract, ResizeRule};
use crate::model::Inference;
use crate::radiograph::Radiograph;

/// How strongly each place of the network's frame speaks for the finding, 0 to 1, `width × height`.
///
/// A place counts from the evidence that, with the network's bias, would by itself reach the operating point (0) up to the
/// strongest evidence in the image, which counts as far as its own probability lies above the operating point. A negative
/// radiograph therefore stays grey, instead of showing its least normal corner in red.
#[derive(Debug, Clone, PartialEq)]
pub struct Heat {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Row by row.
    pub values: Vec<f32>,
}

impl Heat {
    /// Heat of an inference; `None` where the network has no class activation map.
    pub fn of(inference: &Inference, threshold: f32) -> Option<Heat> {
        let map = inference.map.as_ref()?;
        let logit = |p: f32| (p / (1.0 - p)).ln();
        let mean = map.evidence.iter().sum::<f32>() / map.evidence.len() as f32;
        // Mean evidence plus bias is the logit (Zhou et al. 2016).
        let bias = logit(inference.probability.clamp(1e-6, 1.0 - 1e-6)) - mean;
        let threshold = threshold.clamp(1e-6, 1.0 - 1e-6);
        let needed = logit(threshold) - bias;
        let most = map.evidence.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let certainty = 1.0 / (1.0 + (-(most + bias)).exp());
        let top = ((certainty - threshold) / (1.0 - threshold)).max(0.0);
        let span = (most - needed).max(1e-6);
        let values = map.evidence.iter().map(|e| ((e - needed) / span).clamp(0.0, 1.0) * top);
        Some(Heat { width: map.width, height: map.height, values: values.collect() })
    }

    /// Bilinear value at a column and a row, both from [`place`]; 0 where one lies outside.
    fn at(&self, x: Option<Place>, y: Option<Place>) -> f32 {
        let (Some((x0, x1, fx)), Some((y0, y1, fy))) = (x, y) else { return 0.0 };
        let v = |x: usize, y: usize| self.values[y * self.width + x];
        let top = v(x0, y0) * (1.0 - fx) + v(x1, y0) * fx;
        let bottom = v(x0, y1) * (1.0 - fx) + v(x1, y1) * fx;
        top * (1.0 - fy) + bottom * fy
    }
}

/// The cells on both sides of a place, and how far it is from the first to the second.
type Place = (usize, usize, f32);

/// Where `v`, 0 to 1 along the frame, lies among `n` cells; `None` outside.
fn place(v: f32, n: usize) -> Option<Place> {
    (0.0..=1.0).contains(&v).then(|| {
        let v = (v * n as f32 - 0.5).clamp(0.0, (n - 1) as f32);
        let low = v as usize;
        (low, (low + 1).min(n - 1), v - low as f32)
    })
}

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

/// The radiograph, at most `max_side` pixels long, with `heat` over it.
pub fn overlay(radiograph: &Radiograph, heat: Option<&Heat>, input: &InputContract, max_side: u32) -> Picture {
    let longest = radiograph.width.max(radiograph.height);
    let scale = |side: u32| (u64::from(side) * u64::from(max_side.min(longest)) / u64::from(longest)).max(1) as u32;
    let (width, height) = (scale(radiograph.width), scale(radiograph.height));
    let grey = crate::preprocess::resize_to(radiograph, width, height);
    // Where a place of the radiograph lies in the network's frame.
    let (w, h) = (radiograph.width as f32, radiograph.height as f32);
    let (sx, sy) = match input.resize {
        ResizeRule::Stretch => (1.0, 1.0),
        ResizeRule::Letterbox => (w / w.max(h), h / w.max(h)),
        ResizeRule::CenterCrop => (w / w.min(h), h / w.min(h)),
    };
    let heat = heat.filter(|h| h.values.iter().any(|v| *v > 0.0));
    let Some(heat) = heat else {
        return Picture { width, height, rgb: grey.iter().flat_map(|g| [*g; 3]).collect() };
    };
    let places = |side: u32, scale: f32, cells: usize| -> Vec<Option<Place>> {
        (0..side).map(|i| place(((i as f32 + 0.5) / side as f32 - 0.5) * scale + 0.5, cells)).collect()
    };
    let (columns, rows) = (places(width, sx, heat.width), places(height, sy, heat.height));
    let mut rgb = Vec::with_capacity(grey.len() * 3);
    for (line, y) in grey.chunks_exact(width as usize).zip(rows) {
        for (g, x) in line.iter().zip(&columns) {
            rgb.extend(tint(*g, heat.at(*x, y)));
        }
    }
    Picture { width, height, rgb }
}

/// Grey under heat: amber to red, opaque up to a half, so that the anatomy stays visible.
fn tint(grey: u8, heat: f32) -> [u8; 3] {
    let alpha = 0.5 * heat;
    let colour = [255.0, 190.0 * (1.0 - heat), 20.0 * (1.0 - heat)];
    colour.map(|c: f32| (f32::from(grey) * (1.0 - alpha) + c * alpha + 0.5) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ActivationMap;

    fn inference(probability: f32, evidence: Vec<f32>) -> Inference {
        let map = ActivationMap { width: 2, height: evidence.len() / 2, evidence };
        Inference { logits: vec![], probability, map: Some(map) }
    }

    #[test]
    fn a_clearly_negative_radiograph_stays_grey() {
        let heat = Heat::of(&inference(0.01, vec![-1.0, 0.5, 0.2, -0.4]), 0.5).unwrap();
        assert!(heat.values.iter().all(|v| *v == 0.0), "{heat:?}");
    }

    #[test]
    fn the_hottest_place_is_the_one_with_most_evidence() {
        let heat = Heat::of(&inference(0.9, vec![-3.0, 8.0, 0.0, 0.0]), 0.5).unwrap();
        assert!(heat.values[1] > 0.9 && heat.values[0] == 0.0, "{heat:?}");
    }

    #[test]
    fn the_overlay_keeps_the_shape_of_the_radiograph() {
        let r = Radiograph { width: 64, height: 32, pixels: vec![9; 2048], format: "PNG" };
        let input =
            InputContract { size: 8, channels: 1, resize: ResizeRule::Stretch, mean: vec![0.0], std: vec![1.0] };
        let p = overlay(&r, None, &input, 32);
        assert_eq!((p.width, p.height, p.rgb[0]), (32, 16, 9));
    }
}
