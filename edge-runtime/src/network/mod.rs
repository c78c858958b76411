//! The integer network: what the bundle stores, what QDQ ONNX is lowered to, and what the engine runs.
//!
//! Activations are `u8`, channels last (`[height, width, channels]`, batch 1), each with one scale and zero point:
//! `real = scale · (code − zero_point)`. Weights are `i8` with a scale for each output channel and zero point 0. Sums
//! are
//! `i32`. This is the arithmetic of ONNX `QLinearConv` (operator version 10). What a node computes:
//! [`crate::operators`].

mod quantisation;
mod weights;
mod window;

pub use quantisation::Quantisation;
pub use weights::Weights;
pub use window::Window;

use crate::operators::Op;
use serde::{Deserialize, Serialize};

/// A quantised activation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// `[height, width, channels]`; a vector has height and width 1.
    pub shape: [u32; 3],
    /// Real value of one step.
    pub scale: f32,
    /// Code of the real 0.
    pub zero_point: u8,
}

impl Value {
    /// Number of codes.
    pub fn len(&self) -> usize {
        self.shape.iter().map(|d| *d as usize).product()
    }

    /// True for a value without codes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `[height, width]`.
    pub fn size(&self) -> [u32; 2] {
        [self.shape[0], self.shape[1]]
    }

    /// Channels.
    pub fn channels(&self) -> u32 {
        self.shape[2]
    }

    /// True if it has codes, not absurdly many, and a step.
    fn is_sound(&self) -> bool {
        let codes = self.shape.iter().try_fold(1u64, |n, d| n.checked_mul(u64::from(*d)));
        codes.is_some_and(|n| (1..=MAX_CODES).contains(&n)) && self.scale.is_finite() && self.scale > 0.0
    }
}

/// One step of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Name of the tensor it gives, as in the ONNX graph.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Indices in [`Network::values`].
    pub inputs: Vec<u32>,
    /// Index in [`Network::values`] of what it gives; `None` for the logits.
    pub output: Option<u32>,
    /// Codes below are raised to this (ReLU).
    pub low: u8,
    /// Codes above are lowered to this (ReLU6).
    pub high: u8,
}

/// An integer network for one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Activations; number 0 is the input.
    pub values: Vec<Value>,
    /// Steps in an order in which each reads only what was computed before.
    pub nodes: Vec<Node>,
    /// Index in `values` of the class activation map, `[h, w, labels]`, if there is one.
    pub map: Option<u32>,
}

/// Why a network is refused.
#[derive(Debug, thiserror::Error)]
#[error("layer `{node}`: {reason}")]
pub struct NetworkError {
    /// The node.
    pub node: String,
    /// What is wrong.
    pub reason: String,
}

/// Largest number of codes in one activation: far above any network for these devices, far below any overflow.
pub const MAX_CODES: u64 = 1 << 26;

impl Network {
    /// Checks every index, shape and length, so that running the network cannot go out of bounds.
    pub fn check(&self) -> Result<(), NetworkError> {
        let whole = |reason: &str| NetworkError { node: "network".into(), reason: reason.into() };
        if !self.values.iter().all(Value::is_sound) {
            return Err(whole("an activation has an impossible shape or scale"));
        }
        if self.values.is_empty() || self.nodes.is_empty() {
            return Err(whole("it has no layers"));
        }
        let mut ready = vec![false; self.values.len()];
        ready[0] = true;
        for node in &self.nodes {
            let refused = |reason: &str| NetworkError { node: node.name.clone(), reason: reason.into() };
            self.check_node(node, &mut ready).map_err(refused)?;
        }
        if self.nodes.iter().filter(|n| n.output.is_none()).count() != 1 {
            return Err(whole("it must give logits exactly once"));
        }
        if self.map.is_some_and(|m| !ready.get(m as usize).is_some_and(|r| *r)) {
            return Err(whole("its class activation map is never computed"));
        }
        Ok(())
    }

    /// Checks `node`, and marks what it computes as `ready`.
    fn check_node(&self, node: &Node, ready: &mut [bool]) -> Result<(), &'static str> {
        if node.inputs.iter().any(|i| !ready.get(*i as usize).is_some_and(|r| *r)) {
            return Err("it reads what is not computed yet");
        }
        if !node.op.arity().contains(&node.inputs.len()) {
            return Err("it has the wrong number of inputs");
        }
        let inputs: Vec<&Value> = node.inputs.iter().map(|i| &self.values[*i as usize]).collect();
        let Some(output) = node.output.map(|o| o as usize) else {
            return match node.op.fits(&inputs, None) {
                true => Ok(()),
                false => Err("it has no output, or its weights do not fit"),
            };
        };
        match ready.get_mut(output) {
            Some(slot) if !*slot => *slot = true,
            _ => return Err("its output is no activation, or one that is computed already"),
        }
        match node.op.fits(&inputs, Some(&self.values[output])) {
            true => Ok(()),
            false => Err("its shapes do not fit together"),
        }
    }

    /// Multiply-accumulates of one inference.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|n| self.node_macs(n)).sum()
    }

    /// Multiply-accumulates of one node.
    pub fn node_macs(&self, node: &Node) -> u64 {
        let output = node.output.map(|o| &self.values[o as usize]);
        node.op.places(output) * self.node_weights(node)
    }

    /// Weights of one node, also after they have moved into the engine.
    pub fn node_weights(&self, node: &Node) -> u64 {
        node.op.weights(&self.values[node.inputs[0] as usize])
    }
}
