//! Sums and products of two activations.

use super::{Form, OnnxOperator, Operator, PreparedOperator};
use crate::engine::{EngineError, Layer};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode, unsupported};
use crate::network::Value;
use kernels::{Product, Sum};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Sum of two inputs of one shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Add;

/// Product of two inputs of one shape, or of `[h, w, c]` and `[1, 1, c]` (squeeze-and-excitation).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Multiply;

impl Add {
    pub(super) const ONNX: &'static [OnnxOperator] =
        &[OnnxOperator { name: "Add", form: Form::Computed, lower: Add::lower }];

    fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
        let first = l.value(node, node.input(0))?;
        let second = l.value(node, node.input(1))?;
        if l.shape(first) != l.shape(second) {
            return Err(unsupported(&node.name, "a sum of two shapes; the engine adds activations of one shape"));
        }
        Ok(Lowered::operator(Add.into(), vec![first, second], l.shape(first)))
    }
}

impl Operator for Add {
    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        output.is_some_and(|o| o.shape == inputs[0].shape && inputs[1].shape == inputs[0].shape)
    }

    fn describe(&self) -> String {
        "add".into()
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        let output = &layer.output.value;
        let scale = [0, 1].map(|i: usize| (layer.inputs[i].value.scale / output.scale).min(1e30));
        let zero = [0, 1].map(|i: usize| f32::from(layer.inputs[i].value.zero_point));
        let offset = f32::from(output.zero_point) - (scale[0] * zero[0] + scale[1] * zero[1]);
        Ok(Box::new(Sum { scale, offset, low: layer.low, high: layer.high }))
    }
}

impl PreparedOperator for Sum {
    fn name(&self) -> &'static str {
        "HilumAdd"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let first = inputs.codes(0);
        let second = inputs.codes(1);
        layer.each_run(out, |out, starts| {
            (layer.compute.kernel.add)(self, &first[starts[0]..], &second[starts[1]..], out);
        });
        Ok(())
    }
}

impl Multiply {
    pub(super) const ONNX: &'static [OnnxOperator] =
        &[OnnxOperator { name: "Mul", form: Form::Computed, lower: Multiply::lower }];

    fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
        let first = l.value(node, node.input(0))?;
        let second = l.value(node, node.input(1))?;
        let len = |value: u32| l.shape(value).iter().map(|d| u64::from(*d)).product::<u64>();
        // The gate of a squeeze-and-excitation may come first or second.
        let inputs = if len(first) < len(second) { vec![second, first] } else { vec![first, second] };
        let shape = l.shape(inputs[0]);
        let gate = l.shape(inputs[1]);
        if gate != shape && gate != [1, 1, shape[2]] {
            let reason = "a product of two shapes; the engine multiplies activations of one shape, or each channel by \
                          one value";
            return Err(unsupported(&node.name, reason));
        }
        Ok(Lowered::operator(Multiply.into(), inputs, shape))
    }
}

impl Operator for Multiply {
    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        let shape = inputs[0].shape;
        let gate = [1, 1, inputs[0].channels()];
        output.is_some_and(|o| o.shape == shape) && (inputs[1].shape == shape || inputs[1].shape == gate)
    }

    fn describe(&self) -> String {
        "multiply".into()
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        let output = &layer.output.value;
        let inputs = [&layer.inputs[0].value, &layer.inputs[1].value];
        Ok(Box::new(Product {
            zero: inputs.map(|v| f32::from(v.zero_point)),
            scale: (inputs[0].scale * inputs[1].scale / output.scale).min(1e30),
            zero_point: output.zero_point,
            low: layer.low,
            high: layer.high,
        }))
    }
}

impl PreparedOperator for Product {
    fn name(&self) -> &'static str {
        "HilumMultiply"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let first = inputs.codes(0);
        let second = inputs.codes(1);
        let view = &layer.inputs[0].view;
        let multiply = layer.compute.kernel.multiply;
        if layer.inputs[1].view.pixels() == view.pixels() {
            layer.each_run(out, |out, starts| multiply(self, &first[starts[0]..], &second[starts[1]..], out));
            return Ok(());
        }
        for (pixel, out) in out.chunks_mut(layer.output.view.pixel_stride).enumerate() {
            multiply(self, &first[pixel * view.pixel_stride..], second, &mut out[..view.shape[2]]);
        }
        Ok(())
    }
}
