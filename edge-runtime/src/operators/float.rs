//! Float islands: layers without an integer form, or kept in float, run by tract as they are between codes and codes.
//! [`crate::lower`] cuts them out of the graph.

use super::{OnnxOperator, Operator, PreparedLogits, PreparedOperator};
use crate::engine::{Activation, Compute, EngineError, FloatPlan, Layer, floats};
use crate::network::Value;
use crate::onnx;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;
use std::path::Path;
use tract_onnx::prelude::Tensor;

/// A float island. Without an output it gives the logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Float {
    /// An ONNX model with an input for each of the node's, `[1, c, h, w]` or `[1, c · h · w]`, and one output.
    pub model: Vec<u8>,
}

impl Float {
    /// None: it stands for all operators that are in no table.
    pub(super) const ONNX: &'static [OnnxOperator] = &[];

    /// What `model` gives.
    pub fn output(model: &[u8]) -> Result<IslandOutput, EngineError> {
        Ok(Planned::new(model)?.output)
    }
}

impl Operator for Float {
    fn arity(&self) -> RangeInclusive<usize> {
        1..=64
    }

    /// What it gives is known when it is planned.
    fn fits(&self, _: &[&Value], _: Option<&Value>) -> bool {
        true
    }

    fn describe(&self) -> String {
        format!("float {}", onnx::operators(&self.model).join(", "))
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Ok(Box::new(Island::new(&self.model, &layer.inputs, Some(&layer.output.value))?))
    }

    fn prepare_logits(&mut self, inputs: &[Activation], _: &Compute) -> Result<Box<dyn PreparedLogits>, EngineError> {
        let island = Island::new(&self.model, inputs, None)?;
        Ok(Box::new(LastIsland { island, inputs: inputs.to_vec() }))
    }
}

/// What an island gives.
#[derive(Clone, Copy)]
pub struct IslandOutput {
    /// `[height, width, channels]`.
    pub shape: [usize; 3],
    /// True if it has the form `[1, n]` in ONNX.
    pub is_row: bool,
}

/// A model that tract has planned.
struct Planned {
    plan: FloatPlan,
    output: IslandOutput,
}

impl Planned {
    fn new(model: &[u8]) -> Result<Planned, EngineError> {
        let proto = onnx::decode(model, Path::new("float island")).map_err(|e| EngineError(e.to_string()))?;
        let plan = FloatPlan::new(&proto, None)?;
        let dims = plan.output_dims(0);
        let dims = dims.ok_or_else(|| EngineError("the shape that a float layer gives is not fixed".into()))?;
        let shape = match *dims {
            [1, c, h, w] => [h, w, c],
            [1, c] => [1, 1, c],
            _ => {
                let reason = format!("a float layer gives {dims:?}: only [1, c, h, w] and [1, c] are supported");
                return Err(EngineError(reason));
            }
        };
        Ok(Planned { plan, output: IslandOutput { shape, is_row: dims.len() == 2 } })
    }
}

/// An island ready to run.
struct Island {
    plan: FloatPlan,
    /// Dimensions that the model gives each input.
    dims: Vec<Vec<usize>>,
    /// Real values that it gives.
    count: usize,
}

impl Island {
    /// Plans `model`, which reads `inputs` and gives a tensor like `output`, or the logits.
    fn new(model: &[u8], inputs: &[Activation], output: Option<&Value>) -> Result<Island, EngineError> {
        let Planned { plan, output: given } = Planned::new(model)?;
        let shape = given.shape;
        let dims = plan.input_dims();
        let fits = dims.len() == inputs.len()
            && dims.iter().zip(inputs).all(|(d, input)| d.iter().product::<usize>() == input.value.len())
            && output.is_none_or(|v| v.shape.map(|d| d as usize) == shape);
        match fits {
            true => Ok(Island { plan, dims, count: shape.iter().product() }),
            false => Err(EngineError("a float layer does not fit the activations around it".into())),
        }
    }

    /// Dequantises the inputs, whose codes `codes` gives, and runs the model; `read` gets `[channels][height][width]`.
    fn run<'a, R>(
        &self,
        inputs: &[Activation],
        codes: impl Fn(usize) -> &'a [u8],
        read: impl FnOnce(&[f32]) -> R,
    ) -> Result<R, EngineError> {
        let mut tensors = Vec::with_capacity(inputs.len());
        for (i, (Activation { view, value }, dims)) in inputs.iter().zip(&self.dims).enumerate() {
            let codes = codes(i);
            let zero = f32::from(value.zero_point);
            let real = |at: usize| (f32::from(codes[at]) - zero) * value.scale;
            let pixels = view.pixels();
            let planes = (0..view.shape[2]).flat_map(|c| (0..pixels).map(move |p| p * view.pixel_stride + c));
            let reals: Vec<f32> = planes.map(real).collect();
            tensors.push(Tensor::from_shape(dims, &reals)?);
        }
        let outputs = self.plan.run_all(tensors)?;
        let reals = floats(outputs.first().ok_or_else(|| EngineError("a float layer gave nothing".into()))?)?;
        if reals.len() != self.count {
            let reason = format!("a float layer gave {} values where {} are due", reals.len(), self.count);
            return Err(EngineError(reason));
        }
        Ok(read(reals))
    }
}

impl PreparedOperator for Island {
    fn name(&self) -> &'static str {
        "HilumFloat"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        Island::run(self, &layer.inputs, |i| inputs.codes(i), |reals| layer.quantise(reals, out))
    }
}

/// An island that ends the network.
struct LastIsland {
    island: Island,
    inputs: Vec<Activation>,
}

impl PreparedLogits for LastIsland {
    fn count(&self) -> usize {
        self.island.count
    }

    fn run(&self, arena: &[u8]) -> Result<Vec<f32>, EngineError> {
        let codes = |i: usize| &arena[self.inputs[i].view.range()];
        self.island.run(&self.inputs, codes, <[f32]>::to_vec)
    }
}
