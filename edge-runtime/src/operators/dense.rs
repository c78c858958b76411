//! Linear layers, inside the network and at its end.

use super::convolution::product::Product;
use super::{Form, OnnxOperator, Operator, PreparedLogits, PreparedOperator};
use crate::engine::{Activation, Compute, EngineError, Layer, View};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode, unsupported};
use crate::network::{Value, Weights, Window};
use crate::onnx;
use kernels::{Kernel, copy_pixels, scratch};
use serde::{Deserialize, Serialize};

/// Linear layer over all codes of one input in memory order; gives codes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dense {
    /// `[out, in]`.
    pub weights: Weights,
}

/// Linear layer that ends the network: gives real values, without a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logits {
    /// `[out, in]`.
    pub weights: Weights,
}

fn count(weights: &Weights, input: &Value) -> u64 {
    input.len() as u64 * weights.bias.len() as u64
}

impl Dense {
    pub(super) const ONNX: &'static [OnnxOperator] = &[OnnxOperator { name: "Gemm", form: Form::Weighted, lower }];
}

impl Operator for Dense {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        output.is_some_and(|o| self.weights.fit(o.len(), inputs[0].len()))
    }

    fn describe(&self) -> String {
        "dense".into()
    }

    fn weights(&self, input: &Value) -> u64 {
        count(&self.weights, input)
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        // A dense layer is a convolution whose window is the whole input.
        let window = Window { kernel: layer.inputs[0].value.size(), ..Window::one() };
        Ok(Box::new(Product::prepare("HilumDense", window, 1, &mut self.weights, layer)))
    }
}

impl Logits {
    /// None: a Gemm is known as the end when all of the graph is.
    pub(super) const ONNX: &'static [OnnxOperator] = &[];
}

impl Operator for Logits {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        output.is_none() && self.weights.fit(self.weights.bias.len(), inputs[0].len())
    }

    fn describe(&self) -> String {
        "logits".into()
    }

    fn weights(&self, input: &Value) -> u64 {
        count(&self.weights, input)
    }

    fn prepare(&mut self, _: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Err(EngineError("logits have no codes".into()))
    }

    fn prepare_logits(
        &mut self,
        inputs: &[Activation],
        compute: &Compute,
    ) -> Result<Box<dyn PreparedLogits>, EngineError> {
        let input = &inputs[0];
        Ok(Box::new(Sums {
            input: input.view,
            bias: self.weights.folded_bias(input.value.zero_point),
            scale: self.weights.scales.iter().map(|s| input.value.scale * s).collect(),
            weights: std::mem::take(&mut self.weights.codes),
            kernel: compute.kernel,
        }))
    }
}

/// Prepared [`Logits`].
struct Sums {
    input: View,
    weights: Vec<i8>,
    bias: Vec<i32>,
    scale: Vec<f32>,
    kernel: &'static Kernel,
}

impl Sums {
    fn of(&self, codes: &[u8]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(codes.len()).zip(self.bias.iter().zip(&self.scale));
        rows.map(|(w, (bias, scale))| (self.kernel.dot)(codes, w).wrapping_add(*bias) as f32 * scale).collect()
    }
}

impl PreparedLogits for Sums {
    fn count(&self) -> usize {
        self.bias.len()
    }

    fn run(&self, arena: &[u8]) -> Result<Vec<f32>, EngineError> {
        let input = &self.input;
        if input.is_contiguous() {
            return Ok(self.of(&arena[input.range()]));
        }
        Ok(scratch::with::<u8, _>(input.shape.iter().product(), |codes| {
            copy_pixels(&arena[input.offset..], input.pixel_stride, codes, input.shape[2]);
            self.of(codes)
        }))
    }
}

fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
    let input = l.value(node, node.input(0))?;
    let [height, width, channels] = l.shape(input).map(|d| d as usize);
    let scaled = ["alpha", "beta"].iter().any(|a| onnx::attribute(node.proto, a).is_some_and(|a| a.f != 1.0));
    if onnx::int_or(node.proto, "transB", 0) != 1 || onnx::int_or(node.proto, "transA", 0) != 0 || scaled {
        return Err(unsupported(&node.name, "Gemm must have transB = 1, transA = 0, alpha = beta = 1"));
    }
    let weights = l.weights(node, node.input(1))?;
    let dims = <[usize; 2]>::try_from(weights.dims.as_slice());
    let [outputs, depth] = dims.map_err(|_| unsupported(&node.name, "its weights must be a matrix"))?;
    let pixels = height * width;
    if depth != pixels * channels {
        let reason = format!("it reads {depth} values where {} come in", pixels * channels);
        return Err(unsupported(&node.name, reason));
    }
    // ONNX flattened [c, h, w]; memory here holds [h, w, c].
    let mut codes = Vec::with_capacity(weights.codes.len());
    for o in 0..outputs {
        for pixel in 0..pixels {
            codes.extend((0..channels).map(|channel| weights.codes[o * depth + channel * pixels + pixel]));
        }
    }
    let bias = l.bias(node, outputs)?;
    let weights = Weights { codes, scales: weights.scales, bias };
    Ok(Lowered::operator(Dense { weights }.into(), vec![input], [1, 1, outputs as u32]))
}
