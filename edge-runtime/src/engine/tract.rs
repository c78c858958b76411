//! What tract asks of an operator. tract orders the layers and drives them; the one tensor that goes through its graph
//! is the arena, in which every layer reads its inputs and writes its output, so that nothing is allocated and no
//! activation is copied on the way.

use super::{EngineError, Layer};
use crate::operators::PreparedOperator;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// A prepared layer as a tract operator.
#[derive(Clone)]
pub(super) struct Driven(Arc<Prepared>);

struct Prepared {
    layer: Layer,
    step: Box<dyn PreparedOperator>,
}

/// The graph of layers, one after the other.
pub(super) struct Chain {
    model: TypedModel,
    outlet: OutletId,
    arena_len: usize,
}

/// A chain that tract has planned.
pub(super) struct Driver {
    plan: Arc<TypedRunnableModel>,
    arena_len: usize,
}

/// What one inference at a time needs; keeps its arena.
pub(super) struct State {
    tract: TypedSimpleState,
    arena: Arc<Tensor>,
}

impl Chain {
    /// A chain of up to `layers` over an arena of `len` codes.
    pub fn new(layers: usize, len: usize) -> Result<Chain, EngineError> {
        let mut model = TypedModel::default();
        let outlet = model.add_source("arena", u8::fact([len]))?;
        // Nodes are large: growing into place copies them time and again.
        model.nodes.reserve(layers + 1);
        Ok(Chain { model, outlet, arena_len: len })
    }

    /// Adds a layer at the end.
    pub fn push(&mut self, name: &str, layer: Layer, step: Box<dyn PreparedOperator>) -> Result<(), EngineError> {
        let driven = Driven(Arc::new(Prepared { layer, step }));
        self.outlet = self.model.wire_node(name, driven, &[self.outlet])?[0];
        Ok(())
    }

    /// Lets tract plan it.
    pub fn plan(mut self) -> Result<Driver, EngineError> {
        self.model.select_output_outlets(&[self.outlet])?;
        Ok(Driver { plan: self.model.into_runnable()?, arena_len: self.arena_len })
    }
}

impl Driver {
    /// A state for one inference at a time.
    pub fn spawn(&self) -> Result<State, EngineError> {
        let arena = Arc::new(Tensor::zero::<u8>(&[self.arena_len])?);
        Ok(State { tract: self.plan.spawn()?, arena })
    }
}

impl State {
    /// Lets `fill` write the input, and runs all layers.
    pub fn run(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<(), EngineError> {
        let mut arena = std::mem::replace(&mut self.arena, Arc::new(Tensor::zero::<u8>(&[0])?));
        fill(bytes_mut(&mut arena)?);
        let outputs = self.tract.run(tvec!(TValue::from_const(arena)))?;
        self.tract.reset_turn()?;
        let lost = || EngineError("the arena was lost on the way".into());
        self.arena = outputs.into_iter().next().map(IntoArcTensor::into_arc_tensor).ok_or_else(lost)?;
        Ok(())
    }

    /// The codes of all activations that are still there.
    pub fn arena(&self) -> Result<&[u8], EngineError> {
        Ok(self.arena.try_as_plain_ram()?.as_slice::<u8>()?)
    }
}

fn bytes_mut(tensor: &mut Arc<Tensor>) -> TractResult<&mut [u8]> {
    let tensor = Arc::get_mut(tensor).ok_or_else(|| format_err!("the arena is shared"))?;
    Ok(tensor.as_bytes_mut())
}

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Prepared { layer, step } = &*self.0;
        let shapes: Vec<_> = layer.inputs.iter().map(|i| i.value.shape).collect();
        write!(f, "{} {shapes:?} → {:?}", step.name(), layer.output.value.shape)
    }
}

impl PartialEq for Driven {
    fn eq(&self, other: &Driven) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Driven {}

impl Op for Driven {
    fn name(&self) -> StaticName {
        self.0.step.name().into()
    }

    op_as_typed_op!();
}

impl EvalOp for Driven {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut arena = inputs.remove(0).into_arc_tensor();
        self.0.step.run(&self.0.layer, bytes_mut(&mut arena)?)?;
        Ok(tvec!(TValue::from_const(arena)))
    }
}

impl TypedOp for Driven {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    as_op!();
}
