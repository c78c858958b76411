//! QDQ ONNX to the integer network: every operator between `DequantizeLinear` and `QuantizeLinear` becomes one node
//! ([`crate::operators`] says how), and what has no integer form a float island.

mod island;
mod reading;

pub use reading::DequantisedWeights;

use crate::network::{Network, NetworkError, Node, Quantisation, Value};
use crate::onnx::{self, LOGITS, MAP, OnnxError, pb};
use crate::operators::table::Function;
use crate::operators::{Dense, Float, Logits, Op, Table, onnx_names, onnx_operator};
use std::collections::HashMap;
use tract_onnx::pb::type_proto;

/// Why a QDQ model cannot be lowered.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// A tensor is not stored as expected.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// The network that came out is not sound.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The graph has something that the engine does not run in integers.
    #[error("node `{node}`: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// What, and what is supported.
        reason: String,
    },
}

pub(crate) fn unsupported(node: &str, reason: impl Into<String>) -> LowerError {
    LowerError::Unsupported { node: node.to_owned(), reason: reason.into() }
}

/// True if `model` is quantised in QDQ form.
pub fn is_qdq(model: &pb::ModelProto) -> bool {
    model.graph.iter().flat_map(|g| &g.node).any(|n| n.op_type == "QuantizeLinear")
}

/// A node of the graph, and what it is called in errors and in the network.
pub struct OnnxNode<'a> {
    /// Its name, or that of its first output.
    pub name: String,
    /// The node.
    pub proto: &'a pb::NodeProto,
}

impl<'a> OnnxNode<'a> {
    fn new(proto: &'a pb::NodeProto) -> OnnxNode<'a> {
        let name = if proto.name.is_empty() { proto.output.first() } else { Some(&proto.name) };
        OnnxNode { name: name.cloned().unwrap_or_default(), proto }
    }

    /// The name of input `i`; empty where there is none.
    pub fn input(&self, i: usize) -> &'a str {
        self.proto.input.get(i).map_or("", |s| s)
    }
}

/// What a float tensor between two quantisations stands for.
#[derive(Clone)]
pub enum Lowered {
    /// What an integer operator gives before it is quantised, within the bounds of the clamps behind it.
    Pending {
        /// What gives it.
        source: Source,
        /// Least real value.
        low: f32,
        /// Largest real value.
        high: f32,
    },
    /// The real values of a constant.
    Constant {
        /// The initializer of its codes.
        codes: String,
        /// That of its scale.
        scale: String,
    },
    /// What float layers give that have no integer form, or whose weights stayed float.
    Island {
        /// Why they are float.
        reason: String,
    },
}

/// What gives a [`Lowered::Pending`] tensor.
#[derive(Clone)]
pub enum Source {
    /// An activation that is quantised already.
    Value(u32),
    /// An operator.
    Operator {
        /// The operator.
        op: Op,
        /// The activations that it reads.
        inputs: Vec<u32>,
        /// `[height, width, channels]` of what it gives.
        shape: [u32; 3],
    },
    /// A function of one activation.
    Function {
        /// The function.
        function: Function,
        /// The activation.
        input: u32,
    },
}

impl Lowered {
    /// What `source` gives, without bounds.
    pub fn of(source: Source) -> Lowered {
        Lowered::Pending { source, low: f32::NEG_INFINITY, high: f32::INFINITY }
    }

    /// What `op` gives of the activations `inputs`.
    pub fn operator(op: Op, inputs: Vec<u32>, shape: [u32; 3]) -> Lowered {
        Lowered::of(Source::Operator { op, inputs, shape })
    }
}

/// A graph that is being lowered.
pub struct Lowering<'a> {
    model: &'a pb::ModelProto,
    graph: &'a pb::GraphProto,
    input: &'a pb::ValueInfoProto,
    /// The image, which is shifted before it is quantised.
    image: &'a str,
    /// By how much.
    shift: f32,
    outputs: Vec<&'a str>,
    /// The node that gives each tensor.
    producers: HashMap<&'a str, usize>,
    constants: HashMap<&'a str, &'a pb::TensorProto>,
    floats: HashMap<String, Lowered>,
    /// The activation whose codes a tensor holds.
    codes: HashMap<String, u32>,
    values: Vec<Value>,
    /// Activations that islands give: true for those of the form `[1, n]` in ONNX.
    rows: HashMap<u32, bool>,
    nodes: Vec<Node>,
}

/// A network, and what the model does to its image first.
#[derive(Debug)]
pub struct LoweredModel {
    /// The network. The image's codes are of the values that the model reads, less `shift`.
    pub network: Network,
    /// What is subtracted from the image before it is quantised.
    pub shift: f32,
}

/// Lowers `model`, whose weights are int8 per channel or per tensor and whose activations are uint8.
pub fn lower(model: &pb::ModelProto) -> Result<LoweredModel, LowerError> {
    let mut lowering = Lowering::new(model)?;
    for node in &lowering.graph.node {
        if lowering.shifts_image(node)? {
            continue;
        }
        let is_quantisation = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
        match lowering.node(&OnnxNode::new(node)) {
            Err(LowerError::Unsupported { node: name, reason }) if !is_quantisation => {
                lowering.leave_float(node, &format!("node `{name}`: {reason}"));
            }
            result => result?,
        }
    }
    let shift = lowering.shift;
    Ok(LoweredModel { network: lowering.finish()?, shift })
}

impl<'a> Lowering<'a> {
    fn new(model: &'a pb::ModelProto) -> Result<Lowering<'a>, LowerError> {
        let no_graph = || unsupported("graph", "it is empty");
        let graph = model.graph.as_ref().ok_or_else(no_graph)?;
        let constants: HashMap<&str, _> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let input = graph.input.iter().find(|i| !constants.contains_key(i.name.as_str())).ok_or_else(no_graph)?;
        let nodes = graph.node.iter().enumerate();
        Ok(Lowering {
            model,
            graph,
            input,
            image: &input.name,
            shift: 0.0,
            outputs: graph.output.iter().map(|o| o.name.as_str()).collect(),
            producers: nodes.flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect(),
            constants,
            floats: HashMap::new(),
            codes: HashMap::new(),
            values: vec![],
            rows: HashMap::new(),
            nodes: vec![],
        })
    }

    /// Takes `node` for part of the image, if it subtracts one number from it before it is quantised.
    fn shifts_image(&mut self, node: &'a pb::NodeProto) -> Result<bool, LowerError> {
        let ([from, by], [output]) = (node.input.as_slice(), node.output.as_slice()) else { return Ok(false) };
        let by = self.constants.get(by.as_str()).filter(|_| node.op_type == "Sub" && from == self.image);
        let Some(by) = by.filter(|_| self.values.is_empty()) else { return Ok(false) };
        let [by] = onnx::f32s(by)?[..] else { return Ok(false) };
        if !by.is_finite() {
            return Ok(false);
        }
        self.image = output;
        self.shift += by;
        Ok(true)
    }

    fn node(&mut self, node: &OnnxNode) -> Result<(), LowerError> {
        let Some(output) = node.proto.output.first().filter(|_| !node.proto.input.is_empty()) else {
            return Err(unsupported(&node.name, "it has no input or no output"));
        };
        let float = match node.proto.op_type.as_str() {
            "QuantizeLinear" => return self.quantise(node, output),
            "DequantizeLinear" => match self.codes.get(node.input(0)) {
                Some(v) => Lowered::of(Source::Value(*v)),
                None => Lowered::Constant { codes: node.input(0).to_owned(), scale: node.input(1).to_owned() },
            },
            name => match onnx_operator(node.proto) {
                Some(operator) => (operator.lower)(self, node)?,
                None => {
                    let reason = format!("operator {name} has no integer form here ({} have)", onnx_names());
                    return Err(unsupported(&node.name, reason));
                }
            },
        };
        if self.outputs.contains(&output.as_str()) {
            self.keep_logits(node, &float);
        }
        self.floats.insert(output.clone(), float);
        Ok(())
    }

    /// A linear layer whose sums leave the graph unquantised gives the logits.
    fn keep_logits(&mut self, node: &OnnxNode, float: &Lowered) {
        if let Lowered::Pending { source: Source::Operator { op, inputs, .. }, .. } = float
            && let Op::Dense(Dense { weights }) = op
        {
            let op = Logits { weights: weights.clone() }.into();
            let name = node.name.clone();
            self.nodes.push(Node { name, op, inputs: inputs.clone(), output: None, low: 0, high: 255 });
        }
    }

    /// Leaves `node` to a float island.
    fn leave_float(&mut self, node: &pb::NodeProto, reason: &str) {
        for output in &node.output {
            self.floats.insert(output.clone(), Lowered::Island { reason: reason.to_owned() });
        }
    }

    fn finish(mut self) -> Result<Network, LowerError> {
        if self.outputs.contains(&LOGITS) && self.nodes.iter().all(|n| n.output.is_some()) {
            // Logits that are no sums of a linear layer leave the network as the real values that they are.
            let island = self.island(LOGITS)?;
            let op = Float { model: island.model }.into();
            let name = LOGITS.to_owned();
            self.nodes.push(Node { name, op, inputs: island.inputs, output: None, low: 0, high: 255 });
        }
        let map = if self.outputs.contains(&MAP) { self.quantised(MAP) } else { None };
        let network = Network { values: self.values, nodes: self.nodes, map };
        network.check()?;
        Ok(network)
    }

    fn quantise(&mut self, node: &OnnxNode, to: &str) -> Result<(), LowerError> {
        let from = node.input(0);
        let step = self.step(node)?;
        if from == self.image {
            return self.quantise_input(node, step, to);
        }
        let float = self.floats.get(from).cloned();
        let id = self.values.len() as u32;
        let (op, inputs, shape, bounds) = match float {
            Some(Lowered::Pending { source, low, high }) => match source {
                Source::Value(v) => return self.quantise_again(node, v, step, to),
                Source::Operator { op, inputs, shape } => (op, inputs, shape, [step.code(low), step.code(high)]),
                Source::Function { function, input } => {
                    let x = &self.values[input as usize];
                    let from = Quantisation { scale: x.scale, zero_point: x.zero_point };
                    let real = |code: u8| function.at(from.real(code)).max(low).min(high);
                    let codes = (0..=255).map(|code| step.code(real(code))).collect();
                    (Table { codes }.into(), vec![input], x.shape, [0, 255])
                }
            },
            Some(Lowered::Island { .. }) => {
                let island = self.island(from)?;
                self.rows.insert(id, island.is_row);
                (Float { model: island.model }.into(), island.inputs, island.shape, [0, 255])
            }
            Some(Lowered::Constant { .. }) | None => return Err(not_quantised(node, from)),
        };
        let [low, high] = bounds;
        self.values.push(Value { shape, scale: step.scale, zero_point: step.zero_point });
        self.nodes.push(Node { name: node.name.clone(), op, inputs, output: Some(id), low, high });
        self.codes.insert(to.to_owned(), id);
        Ok(())
    }

    fn quantise_input(&mut self, node: &OnnxNode, step: Quantisation, to: &str) -> Result<(), LowerError> {
        let shape = input_shape(self.input)
            .ok_or_else(|| unsupported(&node.name, "the input must have shape [1, channels, height, width]"))?;
        if !self.values.is_empty() {
            return Err(unsupported(&node.name, "the input must be quantised first, and once"));
        }
        self.values.push(Value { shape, scale: step.scale, zero_point: step.zero_point });
        self.codes.insert(to.to_owned(), 0);
        Ok(())
    }

    fn quantise_again(&mut self, node: &OnnxNode, value: u32, step: Quantisation, to: &str) -> Result<(), LowerError> {
        let known = &self.values[value as usize];
        if (known.scale, known.zero_point) != (step.scale, step.zero_point) {
            let reason = "an activation is quantised a second time with another scale";
            return Err(unsupported(&node.name, reason));
        }
        self.codes.insert(to.to_owned(), value);
        Ok(())
    }

    /// The activation whose real values `tensor` holds.
    fn quantised(&self, tensor: &str) -> Option<u32> {
        match self.floats.get(tensor) {
            Some(Lowered::Pending { source: Source::Value(v), .. }) => Some(*v),
            _ => None,
        }
    }
}

fn not_quantised(node: &OnnxNode, tensor: &str) -> LowerError {
    unsupported(&node.name, format!("its input `{tensor}` is not quantised"))
}

/// `[height, width, channels]` of a graph input `[1, channels, height, width]`.
pub fn input_shape(input: &pb::ValueInfoProto) -> Option<[u32; 3]> {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
    let type_proto::Value::TensorType(t) = input.r#type.as_ref()?.value.as_ref()?;
    let dims: Vec<i64> = t
        .shape
        .as_ref()?
        .dim
        .iter()
        .map(|d| match d.value {
            Some(DimValue(v)) => v,
            _ => 1, // a named batch dimension
        })
        .collect();
    match dims.as_slice() {
        [1, c, h, w] if [*c, *h, *w].iter().all(|d| (1..=4096).contains(d)) => Some([*h as u32, *w as u32, *c as u32]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::{GraphBuilder, INPUT};
    use tract_onnx::pb::tensor_proto::DataType;

    #[test]
    fn a_graph_that_bites_its_tail_ends() {
        let mut b = GraphBuilder::default();
        b.input(INPUT, &[1, 1, 2, 2]);
        b.floats("scale", &[], &[0.1]);
        b.raw("zero", &[], DataType::Uint8, vec![0]);
        b.node("QuantizeLinear", &[INPUT, "scale", "zero"], "codes", vec![]);
        b.node("DequantizeLinear", &["codes", "scale", "zero"], "real", vec![]);
        b.node("Softplus", &["real"], "soft", vec![]);
        b.node("QuantizeLinear", &["soft", "scale", "zero"], "soft/codes", vec![]);
        // Gives `codes` a second time, from what was computed of it.
        b.node("Identity", &["real"], "codes", vec![]);
        b.output("soft", &[1, 1, 2, 2]);
        assert!(lower(&b.finish("m", vec![])).is_err());
    }
}
