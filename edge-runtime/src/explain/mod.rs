//! The class activation map over the radiograph.

use crate::image::{GreyPlane, Picture};
use crate::model::Inference;
use crate::model::contract::{InputContract, ResizeRule};

/// How strongly each place of the network's frame speaks for the finding, 0 to 1, `width × height`.
///
/// A place counts from the evidence that, with the network's bias, would by itself reach the operating point (0) up to
/// the strongest evidence in the image, which counts as far as its own probability lies above the operating point. A
/// negative radiograph therefore stays grey, instead of showing its least normal corner in red.
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

    /// Bilinear value at a column and a row; 0 where one lies outside.
    fn at(&self, column: Option<Interpolation>, row: Option<Interpolation>) -> f32 {
        let (Some(x), Some(y)) = (column, row) else { return 0.0 };
        let value = |x: usize, y: usize| self.values[y * self.width + x];
        let top = x.between(value(x.low, y.low), value(x.high, y.low));
        let bottom = x.between(value(x.low, y.high), value(x.high, y.high));
        y.between(top, bottom)
    }
}

/// The cells on both sides of a position along one axis.
#[derive(Clone, Copy)]
struct Interpolation {
    low: usize,
    high: usize,
    /// How far the position is from `low` to `high`, 0 to 1.
    fraction: f32,
}

impl Interpolation {
    /// Between which of `cells` lies `position`, 0 to 1 along the frame; `None` outside.
    fn at(position: f32, cells: usize) -> Option<Interpolation> {
        (0.0..=1.0).contains(&position).then(|| {
            let position = (position * cells as f32 - 0.5).clamp(0.0, (cells - 1) as f32);
            let low = position as usize;
            Interpolation { low, high: (low + 1).min(cells - 1), fraction: position - low as f32 }
        })
    }

    fn between(self, low: f32, high: f32) -> f32 {
        low * (1.0 - self.fraction) + high * self.fraction
    }
}

/// The radiograph's `plane`, at most `max_side` pixels long, with `heat` over it.
pub fn overlay(plane: &GreyPlane, heat: Option<&Heat>, input: &InputContract, max_side: u32) -> Picture {
    let longest = plane.width.max(plane.height);
    let scale = |side: u32| (u64::from(side) * u64::from(max_side.min(longest)) / u64::from(longest)).max(1) as u32;
    let grey = plane.resized(scale(plane.width), scale(plane.height));
    let Some(heat) = heat.filter(|h| h.values.iter().any(|v| *v > 0.0)) else {
        let rgb = grey.pixels.iter().flat_map(|g| [*g; 3]).collect();
        return Picture { width: grey.width, height: grey.height, rgb };
    };
    let [across, down] = frame_scale(plane, input.resize);
    let columns = interpolations(grey.width, across, heat.width);
    let rows = interpolations(grey.height, down, heat.height);
    let mut rgb = Vec::with_capacity(grey.pixels.len() * 3);
    for (line, y) in grey.pixels.chunks_exact(grey.width as usize).zip(rows) {
        for (g, x) in line.iter().zip(&columns) {
            rgb.extend(tint(*g, heat.at(*x, y)));
        }
    }
    Picture { width: grey.width, height: grey.height, rgb }
}

/// Width and height of the radiograph in those of the network's frame: above 1 where it was cropped, below where
/// padded.
fn frame_scale(plane: &GreyPlane, resize: ResizeRule) -> [f32; 2] {
    let width = plane.width as f32;
    let height = plane.height as f32;
    let side = match resize {
        ResizeRule::Stretch => return [1.0, 1.0],
        ResizeRule::Letterbox => width.max(height),
        ResizeRule::CenterCrop => width.min(height),
    };
    [width / side, height / side]
}

/// Where each of `side` pixels lies among the heat's `cells`, if the radiograph is `scale` times as long as the frame.
fn interpolations(side: u32, scale: f32, cells: usize) -> Vec<Option<Interpolation>> {
    let position = |i: u32| ((i as f32 + 0.5) / side as f32 - 0.5) * scale + 0.5;
    (0..side).map(|i| Interpolation::at(position(i), cells)).collect()
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
        let r = GreyPlane { width: 64, height: 32, pixels: vec![9; 2048] };
        let input =
            InputContract { size: 8, channels: 1, resize: ResizeRule::Stretch, mean: vec![0.0], std: vec![1.0] };
        let p = overlay(&r, None, &input, 32);
        assert_eq!((p.width, p.height, p.rgb[0]), (32, 16, 9));
    }
}
