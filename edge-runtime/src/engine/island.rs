//! Float islands: layers without an integer form, run by tract as they are, between codes and codes.

use super::arena::View;
use super::{EngineError, Plan, floats};
use crate::network::Value;
use crate::onnx;
use std::path::Path;
use tract_onnx::prelude::Tensor;

/// An island ready to run.
pub struct Island {
    plan: Plan,
    /// Dimensions that the model gives each input.
    dims: Vec<Vec<usize>>,
    /// Real values that it gives.
    outputs: usize,
}

/// Dimensions of an island's output as `[height, width, channels]`: an image or a row.
pub fn shape(dims: &[usize]) -> Option<[usize; 3]> {
    match *dims {
        [1, c, h, w] => Some([h, w, c]),
        [1, c] => Some([1, 1, c]),
        _ => None,
    }
}

/// Plans the ONNX model `bytes`; gives its output's `[height, width, channels]` too.
pub fn plan(bytes: &[u8]) -> Result<(Plan, [usize; 3]), EngineError> {
    let proto = onnx::decode(bytes, Path::new("float island")).map_err(|e| EngineError(e.to_string()))?;
    let plan = Plan::of_onnx(&proto, None)?;
    let dims =
        plan.output_dims(0).ok_or_else(|| EngineError("the shape that a float layer gives is not fixed".into()))?;
    let shape = shape(&dims).ok_or_else(|| {
        EngineError(format!("a float layer gives {dims:?}: only [1, c, h, w] and [1, c] are supported"))
    })?;
    Ok((plan, shape))
}

impl Island {
    /// Plans the ONNX model `bytes`, which reads `inputs` and gives a tensor like `output`, or the logits.
    pub fn new(bytes: &[u8], inputs: &[(View, Value)], output: Option<&Value>) -> Result<Island, EngineError> {
        let (plan, shape) = plan(bytes)?;
        let dims = plan.input_dims();
        let fits = dims.len() == inputs.len()
            && dims.iter().zip(inputs).all(|(d, (_, v))| d.iter().product::<usize>() == v.len())
            && output.is_none_or(|v| v.shape.map(|d| d as usize) == shape);
        if !fits {
            return Err(EngineError("a float layer does not fit the activations around it".into()));
        }
        Ok(Island { plan, dims, outputs: shape.iter().product() })
    }

    /// Real values that [`Island::run`] gives.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Dequantises the inputs, whose codes `codes` gives, and runs the model; `read` gets `[channels][height][width]`.
    pub fn run<'a, R>(
        &self,
        inputs: &[(View, Value)],
        codes: impl Fn(&View) -> &'a [u8],
        read: impl FnOnce(&[f32]) -> R,
    ) -> Result<R, EngineError> {
        let mut tensors = Vec::with_capacity(inputs.len());
        for ((view, value), dims) in inputs.iter().zip(&self.dims) {
            let (codes, zero) = (codes(view), f32::from(value.zero_point));
            let real = |at: usize| (f32::from(codes[at]) - zero) * value.scale;
            let planes = (0..view.shape[2]).flat_map(|c| (0..view.pixels()).map(move |p| p * view.pixel + c));
            let reals: Vec<f32> = planes.map(real).collect();
            tensors.push(Tensor::from_shape(dims, &reals)?);
        }
        let outputs = self.plan.run_all(tensors)?;
        let reals = floats(outputs.first().ok_or_else(|| EngineError("a float layer gave nothing".into()))?)?;
        if reals.len() != self.outputs {
            return Err(EngineError(format!(
                "a float layer gave {} values where {} are due",
                reals.len(),
                self.outputs
            )));
        }
        Ok(read(reals))
    }
}
