//! Concatenation along the channels. Inputs of the output's step mostly lie in it already ([`crate::engine::arena`]).

use super::{Form, OnnxOperator, Operator, PreparedOperator};
use crate::engine::{EngineError, Layer, View};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode, unsupported};
use crate::network::Value;
use crate::onnx;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Inputs of one height and width side by side along the channels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Concat;

impl Concat {
    pub(super) const ONNX: &'static [OnnxOperator] = &[OnnxOperator { name: "Concat", form: Form::Joined, lower }];
}

impl Operator for Concat {
    fn arity(&self) -> RangeInclusive<usize> {
        1..=4096
    }

    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        let channels: u64 = inputs.iter().map(|v| u64::from(v.channels())).sum();
        output.is_some_and(|o| inputs.iter().all(|v| v.size() == o.size()) && channels == u64::from(o.channels()))
    }

    fn describe(&self) -> String {
        "concat".into()
    }

    fn prepare(&mut self, _: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for Concat {
    fn name(&self) -> &'static str {
        "HilumConcat"
    }

    /// Copies the inputs that do not lie in the output already.
    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let out = &layer.output.view;
        let mut channel = 0;
        for input in &layer.inputs {
            let from = &input.view;
            let to = View { offset: out.offset + channel, pixel_stride: out.pixel_stride, shape: from.shape };
            channel += from.shape[2];
            if to == *from {
                continue;
            }
            let zero = f32::from(input.value.zero_point);
            let step = input.value.scale / layer.output.value.scale;
            let table: [u8; 256] = std::array::from_fn(|code| layer.code((code as f32 - zero) * step));
            for pixel in 0..from.pixels() {
                let start = from.offset + pixel * from.pixel_stride;
                let at = to.offset + pixel * to.pixel_stride;
                for c in 0..from.shape[2] {
                    arena[at + c] = table[usize::from(arena[start + c])];
                }
            }
        }
        Ok(())
    }
}

fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
    if !matches!(onnx::int_or(node.proto, "axis", 0), 1 | -3) {
        return Err(unsupported(&node.name, "Concat must join along the channels (axis 1)"));
    }
    let parts: Result<Vec<u32>, _> = node.proto.input.iter().map(|i| l.value(node, i)).collect();
    let parts = parts?;
    let [height, width, _] = l.shape(parts[0]);
    let channels = parts.iter().map(|p| l.shape(*p)[2]).fold(0, u32::saturating_add);
    Ok(Lowered::operator(Concat.into(), parts, [height, width, channels]))
}
