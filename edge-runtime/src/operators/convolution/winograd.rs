//! Convolutions 3×3 by fewer products, where a kernel has them and they pay.

use super::scaling;
use crate::engine::{EngineError, Layer};
use crate::network::{Weights, Window};
use crate::operators::PreparedOperator;
use kernels::winograd::{Transformed, Winograd as Tiles};

/// Tiles below which the filtering does not pay: its weights take 3.6 times the memory, which few tiles share.
const WORTH_TRANSFORMING: usize = 32;

/// A kernel's loop over tiles.
type Loop = fn(&Tiles, usize, &mut [u8]);

/// A convolution 3×3 without strides or holes.
pub struct Winograd {
    window: Window,
    weights: Transformed,
    winograd: Loop,
}

impl Winograd {
    /// `None` where plain products serve better.
    pub fn prepare(window: &Window, weights: &Weights, layer: &Layer) -> Option<Winograd> {
        let winograd = layer.compute.kernel.winograd?;
        let channels = layer.inputs[0].value.channels() as usize;
        let [height, width, outputs] = layer.output.view.shape;
        let pays = (window.kernel, window.stride, window.dilation) == ([3; 2], [1; 2], [1; 2])
            && Transformed::fits(channels)
            && outputs >= kernels::NR
            && height.div_ceil(2) * width.div_ceil(2) >= WORTH_TRANSFORMING;
        pays.then(|| {
            let weights = Transformed::new(&weights.codes, outputs, channels, scaling(weights, layer));
            Winograd { window: *window, weights, winograd }
        })
    }
}

impl PreparedOperator for Winograd {
    fn name(&self) -> &'static str {
        "HilumWinograd"
    }

    /// Over a copy of the input with its border, up to whole tiles.
    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let out_view = &layer.output.view;
        let [height, out_width, columns] = out_view.shape;
        let mut border = self.window.padding;
        border[2] += (height % 2) as u32;
        border[3] += (out_width % 2) as u32;
        layer.with_border(border, 0, inputs.codes(0), |input| {
            let tiles = Tiles {
                input,
                tile_columns: out_width.div_ceil(2),
                weights: &self.weights,
                requantise: layer.requantise(&self.weights.scaling),
                out_width,
                out_pixel_stride: out_view.pixel_stride,
            };
            let macs = out_view.pixels() * 9 * self.weights.channels * columns;
            let line = 2 * out_width * out_view.pixel_stride;
            layer.each_part(macs, out, line, 1, |first, _, out| (self.winograd)(&tiles, first, out));
        });
        Ok(())
    }
}
