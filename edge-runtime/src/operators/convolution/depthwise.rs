//! Depthwise convolutions.

use super::scaling;
use crate::engine::{EngineError, Layer};
use crate::network::{Weights, Window};
use crate::operators::PreparedOperator;
use kernels::Scaling;

/// A convolution with one channel a group.
pub struct Depthwise {
    window: Window,
    /// `[taps][channels]`.
    weights: Vec<i8>,
    scaling: Scaling,
}

impl Depthwise {
    pub fn prepare(window: Window, weights: &Weights, layer: &Layer) -> Depthwise {
        let channels = weights.bias.len();
        let taps = weights.codes.len() / channels;
        let mut scaling = scaling(weights, layer);
        scaling.fill_up();
        let by_tap = (0..taps).flat_map(|t| (0..channels).map(move |c| weights.codes[c * taps + t])).collect();
        Depthwise { window, weights: by_tap, scaling }
    }
}

impl PreparedOperator for Depthwise {
    fn name(&self) -> &'static str {
        "HilumDepthwise"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let depthwise = kernels::Depthwise {
            window: layer.sliding_window(&self.window, inputs.codes(0)),
            zero_point: layer.inputs[0].value.zero_point,
            weights: &self.weights,
            requantise: layer.requantise(&self.scaling),
        };
        let taps = depthwise.window.kernel[0] * depthwise.window.kernel[1];
        layer.each_line(taps, out, |first, out| (layer.compute.kernel.depthwise)(&depthwise, first, out));
        Ok(())
    }
}
