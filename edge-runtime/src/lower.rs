//! QDQ ONNX to the integer network: every operator between `DequantizeLinear` and `QuantizeLinear` becomes one node, and what
//! has no integer form a float island.

use crate::engine::island;
use crate::network::{Network, NetworkError, Node, Op, Value, Weights, Window};
use crate::onnx::{self, LOGITS, MAP, OnnxError, dims, pb};
use std::collections::{BTreeSet, HashMap, HashSet};
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

/// ONNX operators that run in integers.
pub const INTEGER_OPERATORS: &str = "Conv, Gemm, Add, Mul, Concat, MaxPool, AveragePool, GlobalAveragePool, Relu, Clip, \
     HardSwish, HardSigmoid, Sigmoid, Tanh, LeakyRelu, Elu, Flatten and Identity";

/// A function of one number, with its parameters (ONNX operator specification, version 13; HardSwish version 14).
#[derive(Clone, Copy)]
enum Function {
    Identity,
    HardSwish,
    HardSigmoid { alpha: f32, beta: f32 },
    Sigmoid,
    Tanh,
    LeakyRelu { alpha: f32 },
    Elu { alpha: f32 },
}

impl Function {
    fn of(node: &pb::NodeProto) -> Function {
        let number = |name: &str, default: f32| onnx::attribute(node, name).map_or(default, |a| a.f);
        match node.op_type.as_str() {
            "HardSwish" => Function::HardSwish,
            "HardSigmoid" => Function::HardSigmoid { alpha: number("alpha", 0.2), beta: number("beta", 0.5) },
            "Sigmoid" => Function::Sigmoid,
            "Tanh" => Function::Tanh,
            "LeakyRelu" => Function::LeakyRelu { alpha: number("alpha", 0.01) },
            "Elu" => Function::Elu { alpha: number("alpha", 1.0) },
            _ => Function::Identity,
        }
    }

    fn at(self, x: f32) -> f32 {
        match self {
            Function::Identity => x,
            Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Function::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Tanh => x.tanh(),
            Function::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Function::Elu { alpha } => {
                if x < 0.0 {
                    alpha * (x.exp() - 1.0)
                } else {
                    x
                }
            }
        }
    }
}

/// True if `model` is quantised in QDQ form.
pub fn is_qdq(model: &pb::ModelProto) -> bool {
    model.graph.iter().flat_map(|g| &g.node).any(|n| n.op_type == "QuantizeLinear")
}

/// What a float tensor between two quantisations stands for.
#[derive(Clone)]
enum Float {
    /// The real values of an activation.
    Value(u32),
    /// An operator whose output is still to be quantised.
    Pending { op: Op, inputs: Vec<u32>, shape: [u32; 3], low: f32, high: f32 },
    /// A function of one activation, still to be quantised.
    Function { function: Function, input: u32, low: f32, high: f32 },
    /// The real values of a constant: initializer, scale, axis.
    Constant { codes: String, scale: String },
    /// What float layers give that have no integer form, or whose weights stayed float.
    Island { reason: String },
}

/// Weights of a layer: codes, their dimensions, and a scale for each output channel.
type Codes = (Vec<i8>, Vec<usize>, Vec<f32>);

/// A float island cut out of the graph: an ONNX model, the values that it reads, and the shape of what it gives.
struct Island {
    model: Vec<u8>,
    inputs: Vec<u32>,
    shape: [u32; 3],
}

struct Lowering<'a> {
    model: &'a pb::ModelProto,
    graph: &'a pb::GraphProto,
    /// The node that gives each tensor.
    givers: HashMap<&'a str, usize>,
    constants: HashMap<&'a str, &'a pb::TensorProto>,
    floats: HashMap<String, Float>,
    codes: HashMap<String, u32>,
    values: Vec<Value>,
    nodes: Vec<Node>,
}

/// Lowers `model`, whose weights are int8 per channel or per tensor and whose activations are uint8.
pub fn lower(model: &pb::ModelProto) -> Result<Network, LowerError> {
    let no_graph = || unsupported("graph", "it is empty");
    let graph = model.graph.as_ref().ok_or_else(no_graph)?;
    let mut l = Lowering {
        model,
        graph,
        givers: graph
            .node
            .iter()
            .enumerate()
            .flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i)))
            .collect(),
        constants: graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
        floats: HashMap::new(),
        codes: HashMap::new(),
        values: vec![],
        nodes: vec![],
    };
    let input = graph.input.iter().find(|i| !l.constants.contains_key(i.name.as_str())).ok_or_else(no_graph)?;
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for node in &graph.node {
        let moves = matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear");
        match l.node(node, input, &outputs) {
            Err(LowerError::Unsupported { node: name, reason }) if !moves => {
                l.float(node, &format!("node `{name}`: {reason}"));
            }
            result => result?,
        }
    }
    l.end(&outputs)?;
    let map = match l.floats.get(MAP) {
        Some(Float::Value(v)) if outputs.contains(&MAP) => Some(*v),
        _ => None,
    };
    let network = Network { values: l.values, nodes: l.nodes, map };
    network.check()?;
    Ok(network)
}

/// `window` padded at its end so that windows that reach beyond the image count (`ceil_mode`), but not one that would begin
/// there (ONNX operator specification, `MaxPool`).
fn covering(mut window: Window, input: [u32; 2]) -> Window {
    for (i, extent) in window.extent().into_iter().enumerate() {
        let (before, stride) = (u64::from(window.padding[i]), u64::from(window.stride[i]).max(1));
        let inside = before + u64::from(input[i]);
        let span = (inside + u64::from(window.padding[i + 2])).saturating_sub(u64::from(extent));
        let last = span.div_ceil(stride) * stride;
        let last = if last >= inside { last.saturating_sub(stride) } else { last };
        let needed = (last + u64::from(extent)).saturating_sub(inside);
        window.padding[i + 2] = window.padding[i + 2].max(u32::try_from(needed).unwrap_or(u32::MAX));
    }
    window
}

fn unsupported(node: &str, reason: impl Into<String>) -> LowerError {
    LowerError::Unsupported { node: node.to_owned(), reason: reason.into() }
}

impl Lowering<'_> {
    fn node(&mut self, node: &pb::NodeProto, input: &pb::ValueInfoProto, outputs: &[&str]) -> Result<(), LowerError> {
        let name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        let name = name.cloned().unwrap_or_default();
        let (Some(first), Some(output)) = (node.input.first(), node.output.first()) else {
            return Err(unsupported(&name, "it has no input or no output"));
        };
        let float = match node.op_type.as_str() {
            "QuantizeLinear" => return self.quantise(&name, node, first, output, input),
            "DequantizeLinear" => match self.codes.get(first) {
                Some(v) => Float::Value(*v),
                None => Float::Constant { codes: first.clone(), scale: node.input.get(1).cloned().unwrap_or_default() },
            },
            "Conv" => self.conv(&name, node)?,
            "Gemm" => self.gemm(&name, node)?,
            "MaxPool" => {
                let x = self.value(&name, first)?;
                let shape = self.values[x as usize].shape;
                let mut window = self.window(&name, node, None)?;
                if onnx::int_or(node, "ceil_mode", 0) != 0 {
                    window = covering(window, [shape[0], shape[1]]);
                }
                let out = self.output_shape(&name, &window, shape, shape[2])?;
                self.pending(Op::MaxPool { window }, vec![x], out)
            }
            "GlobalAveragePool" => {
                let x = self.value(&name, first)?;
                let [_, _, c] = self.values[x as usize].shape;
                self.pending(Op::GlobalAveragePool, vec![x], [1, 1, c])
            }
            "AveragePool" => {
                let x = self.value(&name, first)?;
                let shape = self.values[x as usize].shape;
                let window = self.window(&name, node, None)?;
                let out = self.output_shape(&name, &window, shape, shape[2])?;
                let count_padding = onnx::int_or(node, "count_include_pad", 0) != 0;
                self.pending(Op::AveragePool { window, count_padding }, vec![x], out)
            }
            "Add" | "Mul" => {
                let a = self.value(&name, first)?;
                let b = self.value(&name, node.input.get(1).map_or("", |s| s))?;
                let (op, size) = if node.op_type == "Add" { (Op::Add, 0) } else { (Op::Multiply, 1) };
                // The gate of a squeeze-and-excitation may come first or second.
                let (a, b) = match self.values[a as usize].len() < self.values[b as usize].len() && size == 1 {
                    true => (b, a),
                    false => (a, b),
                };
                let shape = self.values[a as usize].shape;
                self.pending(op, vec![a, b], shape)
            }
            "Concat" => {
                if !matches!(onnx::int_or(node, "axis", 0), 1 | -3) {
                    return Err(unsupported(&name, "Concat must join along the channels (axis 1)"));
                }
                let parts: Result<Vec<u32>, _> = node.input.iter().map(|i| self.value(&name, i)).collect();
                let parts = parts?;
                let [h, w, _] = self.values[parts[0] as usize].shape;
                let channels = parts.iter().map(|p| self.values[*p as usize].shape[2]).fold(0, u32::saturating_add);
                self.pending(Op::Concat, parts, [h, w, channels])
            }
            // Functions of one number: a table of 256 codes, filled when the step of the output is known.
            "HardSwish" | "HardSigmoid" | "Sigmoid" | "Tanh" | "LeakyRelu" | "Elu" => {
                let x = self.value(&name, first)?;
                Float::Function { function: Function::of(node), input: x, low: f32::NEG_INFINITY, high: f32::INFINITY }
            }
            // Codes keep their memory order; what reads them as a vector permutes its weights instead.
            "Flatten" | "Identity" => self.floats.get(first).cloned().ok_or_else(|| self.unknown(&name, first))?,
            "Relu" => self.clamped(&name, first, 0.0, f32::INFINITY)?,
            "Clip" => {
                let bound = |i: usize, default: f32| match node.input.get(i).filter(|n| !n.is_empty()) {
                    Some(n) => self.scalar(&name, n),
                    None => Ok(default),
                };
                let (low, high) = (bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?);
                self.clamped(&name, first, low, high)?
            }
            other => {
                return Err(unsupported(
                    &name,
                    format!("operator {other} has no integer form here ({INTEGER_OPERATORS} have)"),
                ));
            }
        };
        if let (true, Float::Pending { op: Op::Dense { weights }, inputs, .. }) =
            (outputs.contains(&output.as_str()), &float)
        {
            // A linear layer whose sums leave the graph unquantised: the logits.
            let op = Op::Logits { weights: weights.clone() };
            self.nodes.push(Node { name, op, inputs: inputs.clone(), output: None, low: 0, high: 255 });
        }
        self.floats.insert(output.clone(), float);
        Ok(())
    }

    /// Leaves `node` to a float island.
    fn float(&mut self, node: &pb::NodeProto, reason: &str) {
        for output in &node.output {
            self.floats.insert(output.clone(), Float::Island { reason: reason.to_owned() });
        }
    }

    /// Ends a network whose logits are no sums of a linear layer: they leave it as the real values that they are.
    fn end(&mut self, outputs: &[&str]) -> Result<(), LowerError> {
        if !outputs.contains(&LOGITS) || self.nodes.iter().any(|n| n.output.is_none()) {
            return Ok(());
        }
        let Island { model, inputs, .. } = self.island(LOGITS)?;
        self.nodes.push(Node { name: LOGITS.into(), op: Op::Float { model }, inputs, output: None, low: 0, high: 255 });
        Ok(())
    }

    /// The layers between dequantised activations and the float tensor `to`.
    fn island(&self, to: &str) -> Result<Island, LowerError> {
        let mut graph = pb::GraphProto { name: to.to_owned(), ..Default::default() };
        let (mut open, mut seen) = (vec![to], HashSet::new());
        let (mut nodes, mut inputs) = (BTreeSet::new(), Vec::new());
        while let Some(tensor) = open.pop() {
            if tensor.is_empty() || !seen.insert(tensor) {
                continue;
            }
            if let Some(Float::Value(v)) = self.floats.get(tensor) {
                let [h, w, c] = self.values[*v as usize].shape.map(|d| d as usize);
                let dims = if self.is_row(tensor) { vec![1, h * w * c] } else { vec![1, c, h, w] };
                graph.input.push(onnx::value_info(tensor, &dims));
                inputs.push(*v);
            } else if let Some(constant) = self.constants.get(tensor) {
                graph.initializer.push((*constant).clone());
            } else if let Some(node) = self.givers.get(tensor) {
                nodes.insert(*node);
                open.extend(self.graph.node[*node].input.iter().map(String::as_str));
            } else {
                return Err(unsupported(to, format!("it reads `{tensor}`, which is not quantised")));
            }
        }
        graph.node = nodes.into_iter().map(|n| self.graph.node[n].clone()).collect();
        let mut gives = to.to_owned();
        if graph.node.is_empty() {
            // An activation that leaves the network as it is.
            gives.push_str("/row");
            let mut row = onnx::GraphBuilder::default();
            row.node("Flatten", &[to], &gives, vec![onnx::int("axis", 1)]);
            graph.node = row.graph.node;
        }
        graph.output = vec![pb::ValueInfoProto { name: gives, ..Default::default() }];
        let model = pb::ModelProto {
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            graph: Some(graph),
            ..Default::default()
        };
        let bytes = onnx::encode(&model);
        let reason = match self.floats.get(to) {
            Some(Float::Island { reason }) => reason.as_str(),
            _ => "",
        };
        let (_, shape) =
            island::plan(&bytes).map_err(|e| unsupported(to, format!("{}, and in float {}", reason, e.0)))?;
        Ok(Island { model: bytes, inputs, shape: shape.map(|d| d as u32) })
    }

    /// True if the dequantised `tensor` has the form `[1, n]` in ONNX: a row, or an image that was flattened.
    fn is_row(&self, tensor: &str) -> bool {
        let mut tensor = tensor;
        // A graph that bites its tail ends, too.
        for _ in 0..self.graph.node.len() {
            let Some(node) = self.givers.get(tensor).map(|n| &self.graph.node[*n]) else { return false };
            match (node.op_type.as_str(), node.input.first()) {
                ("Flatten" | "Gemm", _) => return true,
                ("Conv" | "MaxPool" | "AveragePool" | "GlobalAveragePool", _) | (_, None) => return false,
                (_, Some(from)) => tensor = from,
            }
        }
        false
    }

    fn pending(&self, op: Op, inputs: Vec<u32>, shape: [u32; 3]) -> Float {
        Float::Pending { op, inputs, shape, low: f32::NEG_INFINITY, high: f32::INFINITY }
    }

    fn clamped(&self, name: &str, input: &str, min: f32, max: f32) -> Result<Float, LowerError> {
        match self.floats.get(input) {
            Some(Float::Pending { op, inputs, shape, low, high }) => Ok(Float::Pending {
                op: op.clone(),
                inputs: inputs.clone(),
                shape: *shape,
                low: low.max(min),
                high: high.min(max),
            }),
            Some(Float::Function { function, input, low, high }) => {
                Ok(Float::Function { function: *function, input: *input, low: low.max(min), high: high.min(max) })
            }
            Some(Float::Value(v)) => {
                Ok(Float::Function { function: Function::Identity, input: *v, low: min, high: max })
            }
            _ => Err(unsupported(name, "a clamp must directly follow the operator it belongs to")),
        }
    }

    fn quantise(
        &mut self,
        name: &str,
        node: &pb::NodeProto,
        from: &str,
        to: &str,
        input: &pb::ValueInfoProto,
    ) -> Result<(), LowerError> {
        let parameter = |i: usize| node.input.get(i).map_or("", |s| s.as_str());
        let scale = self.scalar(name, parameter(1))?;
        let zero_point = match onnx::u8s(self.constant(name, parameter(2))?)?.as_slice() {
            [z] => *z,
            _ => return Err(unsupported(name, "activations need one uint8 zero point")),
        };
        let code = |real: f32| ((real / scale).round_ties_even() + f32::from(zero_point)).clamp(0.0, 255.0) as u8;
        let id = self.values.len() as u32;
        if from == input.name {
            let shape = input_shape(input)
                .ok_or_else(|| unsupported(name, "the input must have shape [1, channels, height, width]"))?;
            if id != 0 {
                return Err(unsupported(name, "the input must be quantised first, and once"));
            }
            self.values.push(Value { shape, scale, zero_point });
            self.codes.insert(to.to_owned(), 0);
            return Ok(());
        }
        match self.floats.get(from).cloned() {
            Some(Float::Pending { op, inputs, shape, low, high }) => {
                let node =
                    Node { name: name.to_owned(), op, inputs, output: Some(id), low: code(low), high: code(high) };
                self.values.push(Value { shape, scale, zero_point });
                self.nodes.push(node);
                self.codes.insert(to.to_owned(), id);
                Ok(())
            }
            Some(Float::Function { function, input, low, high }) => {
                let x = self.values[input as usize].clone();
                let real = |c: u8| function.at((f32::from(c) - f32::from(x.zero_point)) * x.scale).max(low).min(high);
                let op = Op::Table { codes: (0..=255).map(|c| code(real(c))).collect() };
                let node = Node { name: name.to_owned(), op, inputs: vec![input], output: Some(id), low: 0, high: 255 };
                self.values.push(Value { shape: x.shape, scale, zero_point });
                self.nodes.push(node);
                self.codes.insert(to.to_owned(), id);
                Ok(())
            }
            Some(Float::Island { .. }) => {
                let Island { model, inputs, shape } = self.island(from)?;
                let op = Op::Float { model };
                self.values.push(Value { shape, scale, zero_point });
                self.nodes.push(Node { name: name.to_owned(), op, inputs, output: Some(id), low: 0, high: 255 });
                self.codes.insert(to.to_owned(), id);
                Ok(())
            }
            Some(Float::Value(v)) => {
                let value = &self.values[v as usize];
                if (value.scale, value.zero_point) != (scale, zero_point) {
                    return Err(unsupported(name, "an activation is quantised a second time with another scale"));
                }
                self.codes.insert(to.to_owned(), v);
                Ok(())
            }
            _ => Err(self.unknown(name, from)),
        }
    }

    fn conv(&self, name: &str, node: &pb::NodeProto) -> Result<Float, LowerError> {
        let x = self.value(name, &node.input[0])?;
        let shape = self.values[x as usize].shape;
        let (codes, d, scales) = self.weights(name, node.input.get(1).map_or("", |s| s))?;
        let [out, per_group, kernel_h, kernel_w] = <[usize; 4]>::try_from(d)
            .map_err(|_| unsupported(name, "only two-dimensional convolutions are supported"))?;
        let window = self.window(name, node, Some([kernel_h as u32, kernel_w as u32]))?;
        let groups = u32::try_from(onnx::int_or(node, "group", 1)).unwrap_or(0);
        // [out, in, h, w] to [out, h, w, in].
        let taps = kernel_h * kernel_w;
        let mut ordered = Vec::with_capacity(codes.len());
        for o in 0..out {
            for tap in 0..taps {
                ordered.extend((0..per_group).map(|i| codes[(o * per_group + i) * taps + tap]));
            }
        }
        let bias = self.bias(name, node, out)?;
        let shape = self.output_shape(name, &window, shape, out as u32)?;
        let weights = Weights { codes: ordered, scales, bias };
        Ok(self.pending(Op::Conv { window, groups, weights }, vec![x], shape))
    }

    fn gemm(&self, name: &str, node: &pb::NodeProto) -> Result<Float, LowerError> {
        let x = self.value(name, &node.input[0])?;
        let [h, w, c] = self.values[x as usize].shape.map(|d| d as usize);
        let scaled = ["alpha", "beta"].iter().any(|a| onnx::attribute(node, a).is_some_and(|a| a.f != 1.0));
        if onnx::int_or(node, "transB", 0) != 1 || onnx::int_or(node, "transA", 0) != 0 || scaled {
            return Err(unsupported(name, "Gemm must have transB = 1, transA = 0, alpha = beta = 1"));
        }
        let (codes, d, scales) = self.weights(name, node.input.get(1).map_or("", |s| s))?;
        let [out, depth] = <[usize; 2]>::try_from(d).map_err(|_| unsupported(name, "its weights must be a matrix"))?;
        if depth != h * w * c {
            return Err(unsupported(name, format!("it reads {depth} values where {} come in", h * w * c)));
        }
        // ONNX flattened [c, h, w]; memory here holds [h, w, c].
        let mut ordered = Vec::with_capacity(codes.len());
        for o in 0..out {
            for pixel in 0..h * w {
                ordered.extend((0..c).map(|channel| codes[o * depth + channel * h * w + pixel]));
            }
        }
        let bias = self.bias(name, node, out)?;
        Ok(self.pending(Op::Dense { weights: Weights { codes: ordered, scales, bias } }, vec![x], [1, 1, out as u32]))
    }

    fn window(&self, name: &str, node: &pb::NodeProto, kernel: Option<[u32; 2]>) -> Result<Window, LowerError> {
        let bad = |what: &str| unsupported(name, what);
        let auto_pad = onnx::attribute(node, "auto_pad").map(|a| a.s.as_slice()).unwrap_or(b"NOTSET");
        if auto_pad != b"NOTSET" && !auto_pad.is_empty() {
            return Err(bad("auto_pad is not supported: write the padding out"));
        }
        if onnx::int_or(node, "ceil_mode", 0) != 0 && node.op_type != "MaxPool" {
            return Err(bad("ceil_mode is not supported"));
        }
        let read = |key: &str, default: &[i64]| -> Result<Vec<u32>, LowerError> {
            onnx::ints_or(node, key, default).iter().map(|v| u32::try_from(*v).map_err(|_| bad(key))).collect()
        };
        let pair = |v: Vec<u32>| <[u32; 2]>::try_from(v).map_err(|_| bad("its window is not two-dimensional"));
        let declared = pair(read("kernel_shape", &kernel.unwrap_or([0, 0]).map(i64::from))?)?;
        if kernel.is_some_and(|k| k != declared) || declared.contains(&0) {
            return Err(bad("kernel_shape does not fit its weights"));
        }
        let stride = pair(read("strides", &[1, 1])?)?;
        let padding = <[u32; 4]>::try_from(read("pads", &[0; 4])?).map_err(|_| bad("pads must be four numbers"))?;
        let dilation = pair(read("dilations", &[1, 1])?)?;
        Ok(Window { kernel: declared, stride, padding, dilation })
    }

    fn output_shape(
        &self,
        name: &str,
        window: &Window,
        [h, w, _]: [u32; 3],
        channels: u32,
    ) -> Result<[u32; 3], LowerError> {
        let [out_h, out_w] =
            window.output([h, w]).ok_or_else(|| unsupported(name, "its window does not fit its input"))?;
        Ok([out_h, out_w, channels])
    }

    fn unknown(&self, name: &str, tensor: &str) -> LowerError {
        unsupported(name, format!("its input `{tensor}` is not quantised"))
    }

    fn value(&self, name: &str, tensor: &str) -> Result<u32, LowerError> {
        match self.floats.get(tensor) {
            Some(Float::Value(v)) => Ok(*v),
            _ => Err(self.unknown(name, tensor)),
        }
    }

    fn constant(&self, name: &str, tensor: &str) -> Result<&pb::TensorProto, LowerError> {
        self.constants.get(tensor).copied().ok_or_else(|| unsupported(name, format!("`{tensor}` is no initializer")))
    }

    fn scalar(&self, name: &str, tensor: &str) -> Result<f32, LowerError> {
        match onnx::f32s(self.constant(name, tensor)?)?.as_slice() {
            [v] => Ok(*v),
            _ => Err(unsupported(name, format!("`{tensor}` must be one number"))),
        }
    }

    fn weights(&self, name: &str, tensor: &str) -> Result<Codes, LowerError> {
        let Some(Float::Constant { codes, scale }) = self.floats.get(tensor) else {
            return Err(unsupported(name, format!("its weights `{tensor}` are not dequantised int8")));
        };
        let codes = self.constant(name, codes)?;
        let d = dims(codes)?;
        let mut scales = onnx::f32s(self.constant(name, scale)?)?;
        let outputs = d.first().copied().unwrap_or(0);
        if scales.len() == 1 {
            scales.resize(outputs, scales[0]);
        }
        if scales.len() != outputs || outputs == 0 {
            return Err(unsupported(name, "its weights need one scale for each output channel"));
        }
        Ok((onnx::i8s(codes)?, d, scales))
    }

    fn bias(&self, name: &str, node: &pb::NodeProto, outputs: usize) -> Result<Vec<i32>, LowerError> {
        let Some(tensor) = node.input.get(2).filter(|n| !n.is_empty()) else { return Ok(vec![0; outputs]) };
        let Some(Float::Constant { codes, .. }) = self.floats.get(tensor) else {
            return Err(unsupported(name, format!("its bias `{tensor}` is not dequantised int32")));
        };
        Ok(onnx::i32s(self.constant(name, codes)?)?)
    }
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
