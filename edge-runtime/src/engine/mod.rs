//! tract plans and runs every network; its integer operators are ours ([`operators`]), their inner loops, and the threads that share them, [`kernels`].

pub mod arena;
pub(crate) mod island;
pub mod operators;

pub use kernels;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

/// A float network ready to run, for one image at a time. Cheap to share between threads.
#[derive(Clone)]
pub struct Plan {
    plan: Arc<TypedRunnableModel>,
    outputs: Vec<String>,
}

/// Why tract refuses a network.
#[derive(Debug, thiserror::Error)]
#[error("the engine cannot run this network: {0}")]
pub struct EngineError(pub String);

impl From<TractError> for EngineError {
    fn from(e: TractError) -> EngineError {
        // The innermost cause names the operator; what surrounds it repeats the graph.
        EngineError(e.root_cause().to_string())
    }
}

impl Plan {
    /// Plans a float network as tract runs it by itself. With `outputs`, those tensors become the outputs instead of the
    /// graph's own: how calibration sees every activation.
    pub fn of_onnx(proto: &ModelProto, outputs: Option<&[String]>) -> Result<Plan, EngineError> {
        // tract reports most unsupported graphs as errors, but asserts on some: an image of ours must not end the process.
        let planned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| -> TractResult<_> {
            let mut model = tract_onnx::onnx().model_for_proto_model(proto)?;
            if let Some(names) = outputs {
                model.select_outputs_by_name(names)?;
            }
            model.into_optimized()?.into_runnable()
        }));
        let plan = planned.map_err(|_| EngineError("tract gave up while planning it".into()))??;
        let outputs = match outputs {
            Some(names) => names.to_vec(),
            None => proto.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone()).collect(),
        };
        Ok(Plan { plan, outputs })
    }

    /// Names of the outputs, in the order that [`Plan::run`] gives them.
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

    /// Runs one input; each output comes as float values in its own memory order.
    pub fn run(&self, input: Tensor) -> Result<Vec<Tensor>, EngineError> {
        self.run_all(vec![input])
    }

    /// As [`Plan::run`], of several inputs.
    pub fn run_all(&self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, EngineError> {
        let outputs = self.plan.run(inputs.into_iter().map(TValue::from).collect())?;
        Ok(outputs.into_iter().map(|t| t.into_tensor()).collect())
    }

    /// Runs float input of shape `dims`.
    pub fn run_f32(&self, dims: &[usize], values: &[f32]) -> Result<Vec<Tensor>, EngineError> {
        self.run(Tensor::from_shape(dims, values)?)
    }
}

/// The values of a float tensor.
pub fn floats(tensor: &Tensor) -> Result<&[f32], EngineError> {
    let view = tensor.as_plain_ram().ok_or_else(|| EngineError("an output is not in memory".into()))?;
    Ok(view.as_slice::<f32>()?)
}
