//! The integer network: what the bundle stores, what QDQ ONNX is lowered to, and what the engine runs.
//!
//! Activations are `u8`, channels last (`[height, width, channels]`, batch 1), each with one scale and zero point:
//! `real = scale · (code − zero_point)`. Weights are `i8` with a scale for each output channel and zero point 0. Sums are
//! `i32`. This is the arithmetic of ONNX `QLinearConv` (operator version 10).

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
}

/// Weights and bias of a convolution or a dense layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Convolution `[out, kernel_h, kernel_w, in / groups]`; dense `[out, in]`.
    #[serde(with = "bytes")]
    pub codes: Vec<i8>,
    /// Real value of one step, for each output channel.
    pub scales: Vec<f32>,
    /// In steps of `input scale · scales[channel]`.
    pub bias: Vec<i32>,
}

/// `i8` codes as one byte string: the wire form of a sequence of `i8` in postcard, without a call for each code.
mod bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(codes: &[i8], s: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
        s.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<i8>, D::Error> {
        struct Codes;
        impl Visitor<'_> for Codes {
            type Value = Vec<i8>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<i8>, E> {
                Ok(bytes.iter().map(|b| *b as i8).collect())
            }
        }
        d.deserialize_bytes(Codes)
    }
}

/// Geometry of a convolution or pooling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows and columns of the window.
    pub kernel: [u32; 2],
    /// Rows and columns between windows.
    pub stride: [u32; 2],
    /// Added at top, left, bottom, right: the zero point for a convolution, nothing for a pool.
    pub padding: [u32; 4],
    /// Rows and columns between the taps of a window; 1 is a window without holes.
    pub dilation: [u32; 2],
}

impl Window {
    /// One pixel.
    pub fn one() -> Window {
        Window { kernel: [1; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] }
    }

    /// True for a pointwise convolution that reads each pixel once.
    pub fn is_pointwise(&self) -> bool {
        (self.kernel, self.stride, self.padding) == ([1; 2], [1; 2], [0; 4])
    }

    /// Rows and columns from the first tap of a window to its last, holes included.
    pub fn extent(&self) -> [u32; 2] {
        [0, 1].map(|i| self.kernel[i].saturating_sub(1).saturating_mul(self.dilation[i]).saturating_add(1))
    }

    /// `[height, width]` of the output for an input of `[height, width]`; `None` where the window does not fit.
    pub fn output(&self, input: [u32; 2]) -> Option<[u32; 2]> {
        let extent = self.extent();
        let side = |i: usize| {
            let padded = input[i].checked_add(self.padding[i])?.checked_add(self.padding[i + 2])?;
            Some(padded.checked_sub(extent[i])?.checked_div(self.stride[i])? + 1)
        };
        Some([side(0)?, side(1)?])
    }
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Convolution of one input. `groups` is 1, the number of channels (depthwise), or divides both channel counts.
    Conv {
        /// Geometry.
        window: Window,
        /// Groups.
        groups: u32,
        /// Weights.
        weights: Weights,
    },
    /// Linear layer over all codes of one input in memory order; gives codes.
    Dense {
        /// Weights.
        weights: Weights,
    },
    /// Linear layer that ends the network: gives real values, without a step.
    Logits {
        /// Weights.
        weights: Weights,
    },
    /// Largest code in each window.
    MaxPool {
        /// Geometry.
        window: Window,
    },
    /// Mean over all rows and columns, `[1, 1, channels]`.
    GlobalAveragePool,
    /// Sum of two inputs of one shape.
    Add,
    /// Mean of the codes in each window (ONNX `AveragePool`).
    AveragePool {
        /// Geometry, without dilation.
        window: Window,
        /// True if padding counts as real zeros, false if only what lies inside is averaged.
        count_padding: bool,
    },
    /// Inputs of one height and width side by side along the channels.
    Concat,
    /// Product of two inputs of one shape, or of `[h, w, c]` and `[1, 1, c]` (squeeze-and-excitation).
    Multiply,
    /// Any function of one code: hard-swish, sigmoid, a clamp that stands alone, a change of scale.
    Table {
        /// The code that each of the 256 codes becomes.
        codes: Vec<u8>,
    },
    /// A float island: layers without an integer form, or kept in float, run by tract between codes and codes. Without an
    /// output it gives the logits.
    Float {
        /// An ONNX model with an input for each of the node's, `[1, c, h, w]` or `[1, c · h · w]`, and one output.
        model: Vec<u8>,
    },
}

impl Op {
    /// True for what may end the network: it gives real values.
    pub fn gives_logits(&self) -> bool {
        matches!(self, Op::Logits { .. } | Op::Float { .. })
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
const MAX_CODES: u64 = 1 << 26;

impl Network {
    /// Checks every index, shape and length, so that running the network cannot go out of bounds.
    pub fn check(&self) -> Result<(), NetworkError> {
        let whole = |reason: &str| NetworkError { node: "network".into(), reason: reason.into() };
        for v in &self.values {
            let codes = v.shape.iter().try_fold(1u64, |n, d| n.checked_mul(u64::from(*d)));
            let sound = codes.is_some_and(|n| (1..=MAX_CODES).contains(&n)) && v.scale.is_finite() && v.scale > 0.0;
            if !sound {
                return Err(whole("an activation has an impossible shape or scale"));
            }
        }
        if self.values.is_empty() || self.nodes.is_empty() {
            return Err(whole("it has no layers"));
        }
        let mut ready = vec![false; self.values.len()];
        ready[0] = true;
        for node in &self.nodes {
            let bad = |reason: &str| Err(NetworkError { node: node.name.clone(), reason: reason.into() });
            if node.inputs.iter().any(|i| !ready.get(*i as usize).is_some_and(|r| *r)) {
                return bad("it reads what is not computed yet");
            }
            let arity = match node.op {
                Op::Add | Op::Multiply => 2..=2,
                Op::Concat => 1..=4096,
                Op::Float { .. } => 1..=64,
                _ => 1..=1,
            };
            if !arity.contains(&node.inputs.len()) {
                return bad("it has the wrong number of inputs");
            }
            let x = &self.values[node.inputs[0] as usize];
            let Some(out) = node.output else {
                match &node.op {
                    Op::Logits { weights } if weights_fit(weights, weights.bias.len(), x.len()) => continue,
                    Op::Float { .. } => continue,
                    _ => return bad("it has no output, or its weights do not fit"),
                }
            };
            match ready.get_mut(out as usize) {
                Some(slot) if !*slot => *slot = true,
                _ => return bad("its output is no activation, or one that is computed already"),
            }
            let y = &self.values[out as usize];
            let [h, w, c] = x.shape;
            let fits = match &node.op {
                Op::Conv { window, groups, weights } => {
                    let [_, _, out_c] = y.shape;
                    let g = *groups;
                    let taps = u64::from(window.kernel[0]) * u64::from(window.kernel[1]);
                    g > 0
                        && c % g == 0
                        && out_c % g == 0
                        && window_fits(window, [h, w], y.shape)
                        && taps * u64::from(c / g) <= MAX_CODES
                        && weights_fit(weights, out_c as usize, taps as usize * (c / g) as usize)
                }
                Op::Dense { weights } => weights_fit(weights, y.len(), x.len()),
                Op::MaxPool { window } => {
                    c == y.shape[2] && window.dilation == [1, 1] && pool_fits(window, [h, w], y.shape)
                }
                Op::GlobalAveragePool => y.shape == [1, 1, c],
                Op::AveragePool { window, .. } => {
                    c == y.shape[2] && window.dilation == [1, 1] && pool_fits(window, [h, w], y.shape)
                }
                Op::Add => y.shape == x.shape && self.values[node.inputs[1] as usize].shape == x.shape,
                Op::Multiply => {
                    let other = self.values[node.inputs[1] as usize].shape;
                    y.shape == x.shape && (other == x.shape || other == [1, 1, c])
                }
                Op::Concat => {
                    let parts = node.inputs.iter().map(|i| self.values[*i as usize].shape);
                    let channels: u64 = parts.clone().map(|s| u64::from(s[2])).sum();
                    parts.clone().all(|s| s[..2] == y.shape[..2]) && channels == u64::from(y.shape[2])
                }
                Op::Table { codes } => codes.len() == 256 && y.shape == x.shape,
                // What it gives is known when it is planned.
                Op::Float { .. } => true,
                Op::Logits { .. } => false,
            };
            if !fits {
                return bad("its shapes do not fit together");
            }
        }
        if self.nodes.iter().filter(|n| n.output.is_none()).count() != 1 {
            return Err(whole("it must give logits exactly once"));
        }
        if self.map.is_some_and(|m| !ready.get(m as usize).is_some_and(|r| *r)) {
            return Err(whole("its class activation map is never computed"));
        }
        Ok(())
    }

    /// Multiply-accumulates of one inference.
    pub fn macs(&self) -> u64 {
        self.nodes.iter().map(|n| self.node_macs(n)).sum()
    }

    /// Multiply-accumulates of one node.
    pub fn node_macs(&self, node: &Node) -> u64 {
        let pixels = match (&node.op, node.output) {
            (Op::Conv { .. }, Some(y)) => self.values[y as usize].shape[..2].iter().map(|d| u64::from(*d)).product(),
            _ => 1,
        };
        pixels * self.node_weights(node)
    }

    /// Weights of one node, also after they have moved into the engine.
    pub fn node_weights(&self, node: &Node) -> u64 {
        let x = &self.values[node.inputs[0] as usize];
        match &node.op {
            Op::Conv { window, groups, weights } => {
                let taps: u64 = window.kernel.iter().map(|k| u64::from(*k)).product();
                taps * u64::from(x.shape[2] / groups) * weights.bias.len() as u64
            }
            Op::Dense { weights } | Op::Logits { weights } => x.len() as u64 * weights.bias.len() as u64,
            _ => 0,
        }
    }
}

fn weights_fit(weights: &Weights, outputs: usize, inputs: usize) -> bool {
    outputs > 0
        && weights.bias.len() == outputs
        && weights.scales.len() == outputs
        && weights.scales.iter().all(|s| s.is_finite() && *s > 0.0)
        && outputs.checked_mul(inputs) == Some(weights.codes.len())
        // No sum of products may leave 32 bits, whatever the activations are. Short sums cannot, whatever the weights are: only
        // long ones are read, which a cold start notices.
        && inputs < 1 << 24
        && (inputs <= (LARGEST_SUM / 128) as usize
            || weights.codes.chunks_exact(inputs).all(|row| {
                row.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>() <= LARGEST_SUM
            }))
}

/// Largest sum of weights without their signs that no activations bring out of 32 bits.
const LARGEST_SUM: u32 = i32::MAX as u32 / 255;

/// A pool must see at least one pixel in each window.
fn pool_fits(window: &Window, input: [u32; 2], output: [u32; 3]) -> bool {
    let p = window.padding;
    p[0].max(p[2]) < window.kernel[0] && p[1].max(p[3]) < window.kernel[1] && window_fits(window, input, output)
}

fn window_fits(window: &Window, input: [u32; 2], output: [u32; 3]) -> bool {
    window.kernel.iter().chain(&window.stride).chain(&window.dilation).all(|d| (1..=4096).contains(d))
        && window.padding.iter().all(|p| *p <= 4096)
        && window.output(input) == Some([output[0], output[1]])
}
