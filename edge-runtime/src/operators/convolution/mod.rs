//! Convolutions: dense and grouped ones as products, 3×3 by Winograd's filtering where that pays, depthwise directly.

mod depthwise;
pub(super) mod product;
mod winograd;

use super::{Form, OnnxOperator, Operator, PreparedOperator};
use crate::engine::{EngineError, Layer};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode, unsupported};
use crate::network::{MAX_CODES, Value, Weights, Window};
use crate::onnx;
use kernels::Scaling;
use serde::{Deserialize, Serialize};

/// Convolution of one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conv {
    /// Geometry.
    pub window: Window,
    /// 1, the number of channels (depthwise), or a divisor of both channel counts.
    pub groups: u32,
    /// `[out, kernel_h, kernel_w, in / groups]`.
    pub weights: Weights,
}

impl Conv {
    pub(super) const ONNX: &'static [OnnxOperator] = &[OnnxOperator { name: "Conv", form: Form::Weighted, lower }];

    fn taps(&self) -> u64 {
        self.window.kernel.iter().map(|k| u64::from(*k)).product()
    }
}

impl Operator for Conv {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        let (Some(output), input) = (output, inputs[0]) else { return false };
        let channels = input.channels();
        let outputs = output.channels();
        let groups = self.groups;
        groups > 0
            && channels.is_multiple_of(groups)
            && outputs.is_multiple_of(groups)
            && self.window.fits(input.size(), output.size())
            && self.taps() * u64::from(channels / groups) <= MAX_CODES
            && self.weights.fit(outputs as usize, self.taps() as usize * (channels / groups) as usize)
    }

    fn describe(&self) -> String {
        let [height, width] = self.window.kernel;
        let kind = match self.groups as usize {
            1 => "conv",
            groups if groups == self.weights.bias.len() => "depthwise",
            _ => "grouped conv",
        };
        format!("{kind} {height}×{width} / {}", self.window.stride[0])
    }

    fn weights(&self, input: &Value) -> u64 {
        self.taps() * u64::from(input.channels() / self.groups) * self.weights.bias.len() as u64
    }

    fn places(&self, output: Option<&Value>) -> u64 {
        output.map_or(1, |o| o.size().iter().map(|d| u64::from(*d)).product())
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        let channels = layer.inputs[0].value.channels() as usize;
        let outputs = self.weights.bias.len();
        let groups = self.groups as usize;
        if groups == 1
            && let Some(step) = winograd::Winograd::prepare(&self.window, &self.weights, layer)
        {
            self.weights.codes = Vec::new();
            return Ok(Box::new(step));
        }
        if groups == channels && outputs == channels && groups > 1 {
            let step = depthwise::Depthwise::prepare(self.window, &self.weights, layer);
            self.weights.codes = Vec::new();
            return Ok(Box::new(step));
        }
        Ok(Box::new(product::Product::prepare("HilumConv", self.window, groups, &mut self.weights, layer)))
    }
}

/// From sums to codes of `layer`'s output.
fn scaling(weights: &Weights, layer: &Layer) -> Scaling {
    let input = &layer.inputs[0].value;
    let output = &layer.output.value;
    // Finite, whatever a file says: an infinite one times 0 would be no number.
    let multiplier = weights.scales.iter().map(|s| (input.scale * s / output.scale).min(1e30)).collect();
    let depth = weights.codes.len() / weights.bias.len();
    Scaling::new(depth, weights.folded_bias(input.zero_point), multiplier)
}

fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
    let input = l.value(node, node.input(0))?;
    let weights = l.weights(node, node.input(1))?;
    let dims = <[usize; 4]>::try_from(weights.dims.as_slice());
    let [outputs, in_group, kernel_h, kernel_w] =
        dims.map_err(|_| unsupported(&node.name, "only two-dimensional convolutions are supported"))?;
    let window = l.window(node, Some([kernel_h as u32, kernel_w as u32]))?;
    let groups = u32::try_from(onnx::int_or(node.proto, "group", 1)).unwrap_or(0);
    // [out, in, h, w] to [out, h, w, in].
    let taps = kernel_h * kernel_w;
    let mut codes = Vec::with_capacity(weights.codes.len());
    for o in 0..outputs {
        for tap in 0..taps {
            codes.extend((0..in_group).map(|i| weights.codes[(o * in_group + i) * taps + tap]));
        }
    }
    let bias = l.bias(node, outputs)?;
    let shape = l.output_shape(node, &window, l.shape(input), outputs as u32)?;
    let weights = Weights { codes, scales: weights.scales, bias };
    Ok(Lowered::operator(Conv { window, groups, weights }.into(), vec![input], shape))
}
