//! What a layer computes: a file an operator family.
//!
//! A file says everything about its operators: what the bundle stores of them, which shapes fit together, how they are
//! lowered from ONNX, how they are prepared for a kernel, and how they run. A new operator is a file, and a line in the
//! [table](Op) below.

mod concat;
mod convolution;
mod dense;
mod elementwise;
mod float;
mod passing;
mod pooling;
pub mod table;

pub use concat::Concat;
pub use convolution::Conv;
pub use dense::{Dense, Logits};
pub use elementwise::{Add, Multiply};
pub use float::Float;
pub use pooling::{AveragePool, GlobalAveragePool, MaxPool};
pub use table::Table;

use crate::engine::{Activation, Compute, EngineError, Layer};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode};
use crate::network::Value;
use crate::onnx::pb;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

macro_rules! operators {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An operator. The order of the variants, and of the fields in each, is the bundle's format.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub enum Op {
            $($(#[$doc])* $name($name),)*
        }

        impl Op {
            fn operator(&self) -> &dyn Operator {
                match self {
                    $(Op::$name(operator) => operator,)*
                }
            }

            fn operator_mut(&mut self) -> &mut dyn Operator {
                match self {
                    $(Op::$name(operator) => operator,)*
                }
            }
        }

        $(impl From<$name> for Op {
            fn from(operator: $name) -> Op {
                Op::$name(operator)
            }
        })*

        /// ONNX operators that run in integers.
        pub fn onnx_operators() -> impl Iterator<Item = &'static OnnxOperator> {
            [$($name::ONNX,)* passing::ONNX].into_iter().flatten()
        }
    };
}

operators! {
    /// Convolution of one input.
    Conv,
    /// Linear layer over all codes of one input in memory order; gives codes.
    Dense,
    /// Linear layer that ends the network: gives real values, without a step.
    Logits,
    /// Largest code in each window.
    MaxPool,
    /// Mean over all rows and columns, `[1, 1, channels]`.
    GlobalAveragePool,
    /// Sum of two inputs of one shape.
    Add,
    /// Mean of the codes in each window (ONNX `AveragePool`).
    AveragePool,
    /// Inputs of one height and width side by side along the channels.
    Concat,
    /// Product of two inputs of one shape, or of `[h, w, c]` and `[1, 1, c]` (squeeze-and-excitation).
    Multiply,
    /// Any function of one code: hard-swish, sigmoid, a clamp that stands alone, a change of scale.
    Table,
    /// A float island: layers without an integer form, or kept in float, run by tract between codes and codes.
    Float,
}

/// What every operator says of itself.
pub trait Operator {
    /// How many inputs it reads.
    fn arity(&self) -> RangeInclusive<usize> {
        1..=1
    }

    /// True if the shapes, and the lengths of what it holds, fit together. Without `output` it ends the network.
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool;

    /// Its name and geometry, for people.
    fn describe(&self) -> String;

    /// Weights that it holds, also after their codes have moved into the engine.
    fn weights(&self, _input: &Value) -> u64 {
        0
    }

    /// How often each weight is multiplied.
    fn places(&self, _output: Option<&Value>) -> u64 {
        1
    }

    /// Prepares it for the kernel of `layer`. Its weights' codes move into the step.
    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError>;

    /// Prepares it as the end of the network.
    fn prepare_logits(
        &mut self,
        _inputs: &[Activation],
        _compute: &Compute,
    ) -> Result<Box<dyn PreparedLogits>, EngineError> {
        Err(EngineError("a layer that gives codes cannot end the network".into()))
    }
}

impl Op {
    /// [`Operator::arity`].
    pub fn arity(&self) -> RangeInclusive<usize> {
        self.operator().arity()
    }

    /// [`Operator::fits`].
    pub fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        self.operator().fits(inputs, output)
    }

    /// [`Operator::describe`].
    pub fn describe(&self) -> String {
        self.operator().describe()
    }

    /// [`Operator::weights`].
    pub fn weights(&self, input: &Value) -> u64 {
        self.operator().weights(input)
    }

    /// [`Operator::places`].
    pub fn places(&self, output: Option<&Value>) -> u64 {
        self.operator().places(output)
    }

    /// [`Operator::prepare`].
    pub(crate) fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        self.operator_mut().prepare(layer)
    }

    /// [`Operator::prepare_logits`].
    pub(crate) fn prepare_logits(
        &mut self,
        inputs: &[Activation],
        compute: &Compute,
    ) -> Result<Box<dyn PreparedLogits>, EngineError> {
        self.operator_mut().prepare_logits(inputs, compute)
    }
}

/// A prepared layer that reads codes of the arena and writes codes there.
pub trait PreparedOperator: Send + Sync {
    /// The operator's name in tract's graph.
    fn name(&self) -> &'static str;

    /// Reads the inputs of `layer` in `arena` and writes its output there.
    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError>;
}

/// A prepared layer that ends the network.
pub trait PreparedLogits: Send + Sync {
    /// Real values that it gives.
    fn count(&self) -> usize;

    /// The logits from the codes in `arena`.
    fn run(&self, arena: &[u8]) -> Result<Vec<f32>, EngineError>;
}

/// An ONNX operator that runs in integers.
pub struct OnnxOperator {
    /// `op_type`.
    pub name: &'static str,
    /// How a quantiser treats it.
    pub form: Form,
    /// Lowers a node of it.
    pub lower: fn(&Lowering, &OnnxNode) -> Result<Lowered, LowerError>,
}

/// How an ONNX operator is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The first input is an activation, the others become int8 weights and int32 bias; the output has a step of its
    /// own.
    Weighted,
    /// All inputs are activations, and the output has a step of its own.
    Computed,
    /// As [`Form::Computed`], without computing: the step is best that of all inputs.
    Joined,
    /// Picks codes of its one input, whose step the output keeps.
    Picked,
    /// Passes the codes of its one input on as they are.
    Passed,
    /// Bounds its first input by constants: part of the range of the operator before it, where it has no other reader.
    Clamp,
}

impl Form {
    /// True if all inputs are activations.
    pub fn reads_activations_alone(self) -> bool {
        !matches!(self, Form::Weighted | Form::Clamp)
    }

    /// True if codes come out as they went in.
    pub fn moves_codes(self) -> bool {
        matches!(self, Form::Joined | Form::Picked | Form::Passed)
    }
}

/// The ONNX operator that `node` is, if it runs in integers.
pub fn onnx_operator(node: &pb::NodeProto) -> Option<&'static OnnxOperator> {
    let runs = node.op_type != "Flatten" || passing::flattens_to_row(node);
    onnx_operators().find(|o| o.name == node.op_type).filter(|_| runs)
}

/// The names of all ONNX operators that run in integers, for a sentence.
pub fn onnx_names() -> String {
    let names: Vec<&str> = onnx_operators().map(|o| o.name).collect();
    match names.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_onnx_operator_is_listed_once() {
        let mut names: Vec<_> = onnx_operators().map(|o| o.name).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(onnx_names().ends_with(" and Identity"), "{}", onnx_names());
    }
}
