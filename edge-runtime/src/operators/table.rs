//! Functions of one number: a table of 256 codes, filled when the step of the output is known.

use super::{Form, OnnxOperator, Operator, PreparedOperator};
use crate::engine::{EngineError, Layer};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode};
use crate::network::Value;
use crate::onnx;
use serde::{Deserialize, Serialize};

/// Any function of one code: hard-swish, sigmoid, a clamp that stands alone, a change of scale.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// The code that each of the 256 codes becomes.
    pub codes: Vec<u8>,
}

/// A function of one number, with its parameters (ONNX operator specification, version 13; HardSwish version 14).
#[derive(Debug, Clone, Copy)]
pub enum Function {
    /// The number itself.
    Identity,
    /// `x · clamp(x / 6 + ½, 0, 1)`.
    HardSwish,
    /// `clamp(alpha · x + beta, 0, 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `1 / (1 + e⁻ˣ)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x` above 0, `alpha · x` below.
    LeakyRelu {
        /// Slope below 0.
        alpha: f32,
    },
    /// `x` above 0, `alpha · (eˣ − 1)` below.
    Elu {
        /// Least value, negated.
        alpha: f32,
    },
}

impl Function {
    /// Its value at `x`.
    pub fn at(self, x: f32) -> f32 {
        match self {
            Function::Identity => x,
            Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Function::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
            Function::LeakyRelu { alpha } if x < 0.0 => alpha * x,
            Function::Elu { alpha } if x < 0.0 => alpha * (x.exp() - 1.0),
            Function::LeakyRelu { .. } | Function::Elu { .. } => x,
        }
    }
}

/// An ONNX operator that is a function.
const fn function(name: &'static str, lower: fn(&Lowering, &OnnxNode) -> Result<Lowered, LowerError>) -> OnnxOperator {
    OnnxOperator { name, form: Form::Computed, lower }
}

fn number(node: &OnnxNode, name: &str, default: f32) -> f32 {
    onnx::attribute(node.proto, name).map_or(default, |a| a.f)
}

impl Table {
    pub(super) const ONNX: &'static [OnnxOperator] = &[
        OnnxOperator { name: "Relu", form: Form::Clamp, lower: |l, node| l.clamped(node, [0.0, f32::INFINITY]) },
        OnnxOperator { name: "Clip", form: Form::Clamp, lower: clip },
        function("HardSwish", |l, node| l.function(node, Function::HardSwish)),
        function("HardSigmoid", |l, node| {
            let alpha = number(node, "alpha", 0.2);
            let beta = number(node, "beta", 0.5);
            l.function(node, Function::HardSigmoid { alpha, beta })
        }),
        function("Sigmoid", |l, node| l.function(node, Function::Sigmoid)),
        function("Tanh", |l, node| l.function(node, Function::Tanh)),
        function("LeakyRelu", |l, node| l.function(node, Function::LeakyRelu { alpha: number(node, "alpha", 0.01) })),
        function("Elu", |l, node| l.function(node, Function::Elu { alpha: number(node, "alpha", 1.0) })),
    ];
}

fn clip(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
    let bound = |i: usize, default: f32| match node.input(i) {
        "" => Ok(default),
        name => l.scalar(node, name),
    };
    let low = bound(1, f32::NEG_INFINITY)?;
    let high = bound(2, f32::INFINITY)?;
    l.clamped(node, [low, high])
}

impl Operator for Table {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        self.codes.len() == 256 && output.is_some_and(|o| o.shape == inputs[0].shape)
    }

    fn describe(&self) -> String {
        "table".into()
    }

    fn prepare(&mut self, layer: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        let clamped = |i: usize| self.codes.get(i).map_or(0, |c| (*c).max(layer.low).min(layer.high));
        Ok(Box::new(Codes(std::array::from_fn(clamped))))
    }
}

/// A prepared [`Table`], clamped.
struct Codes([u8; 256]);

impl PreparedOperator for Codes {
    fn name(&self) -> &'static str {
        "HilumTable"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let input = inputs.codes(0);
        layer.each_run(out, |out, starts| {
            out.iter_mut().zip(&input[starts[0]..]).for_each(|(o, x)| *o = self.0[usize::from(*x)]);
        });
        Ok(())
    }
}
