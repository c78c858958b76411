//! Float networks, as tract runs them by itself.

use super::EngineError;
use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

/// A float network ready to run, for one image at a time. Cheap to share between threads.
#[derive(Clone)]
pub struct FloatPlan {
    plan: Arc<TypedRunnableModel>,
    outputs: Vec<String>,
}

impl FloatPlan {
    /// Plans `proto`. With `outputs`, those tensors become the outputs instead of the graph's own: how calibration sees
    /// every activation.
    pub fn new(proto: &ModelProto, outputs: Option<&[String]>) -> Result<FloatPlan, EngineError> {
        // tract reports most unsupported graphs as errors, but asserts on some: an image of ours must not end the
        // process.
        let planned = quietly(|| -> TractResult<_> {
            let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
            if let Some(names) = outputs {
                model.select_outputs_by_name(names)?;
            }
            model.into_optimized()?.into_runnable()
        });
        let plan = planned.ok_or_else(|| EngineError("tract gave up while planning it".into()))??;
        let outputs = match outputs {
            Some(names) => names.to_vec(),
            None => proto.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone()).collect(),
        };
        Ok(FloatPlan { plan, outputs })
    }

    /// Names of the outputs, in the order that [`FloatPlan::run`] gives them.
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }

    /// Dimensions of the inputs; those that are not fixed are left out.
    pub fn input_dims(&self) -> Vec<Vec<usize>> {
        let model = self.plan.model();
        let fixed = |i: usize| model.input_fact(i).ok()?.shape.as_concrete().map(<[usize]>::to_vec);
        (0..model.inputs.len()).map(|i| fixed(i).unwrap_or_default()).collect()
    }

    /// Dimensions of output `i`, if they are known before it runs.
    pub fn output_dims(&self, i: usize) -> Option<Vec<usize>> {
        let fact = self.plan.model().output_fact(i).ok()?;
        fact.shape.as_concrete().map(<[usize]>::to_vec)
    }

    /// Runs one input of shape `dims`; each output comes in its own memory order.
    pub fn run(&self, dims: &[usize], values: &[f32]) -> Result<Vec<Tensor>, EngineError> {
        self.run_all(vec![Tensor::from_shape(dims, values)?])
    }

    /// As [`FloatPlan::run`], of several inputs.
    pub fn run_all(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        let outputs = self.plan.run(inputs.into_iter().map(TValue::from).collect())?;
        Ok(outputs.into_iter().map(|t| t.into_tensor()).collect())
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, in which tract may assert something of a model that is not so; gives `None` then, without a word on
/// stderr.
pub fn quietly<T>(work: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
    let before = IS_QUIET.replace(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    IS_QUIET.set(before);
    result.ok()
}

/// The values of a float tensor.
pub fn floats(tensor: &Tensor) -> Result<&[f32], EngineError> {
    let view = tensor.as_plain_ram().ok_or_else(|| EngineError("an output is not in memory".into()))?;
    Ok(view.as_slice::<f32>()?)
}
