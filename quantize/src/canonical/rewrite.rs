//! Layers in the forms that [`crate::qdq`] quantises: batch normalisation folded, means as pools, products with
//! weights as linear layers.

use super::constants::dimensions;
use super::{constant, float_tensor};
use crate::qdq::QuantizeError;
use edge_runtime::lower::input_shape;
use edge_runtime::onnx::{self, pb};
use edge_runtime::operators::onnx_operator;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;

/// Rewrites the layers of `model`; constants become initializers, and those that nobody reads go.
pub fn layers(model: &mut pb::ModelProto) -> Result<(), QuantizeError> {
    let dims = dimensions(model);
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut rewriter = Rewriter {
        constants: graph.initializer.iter().map(|t| (t.name.clone(), t.clone())).collect(),
        outputs: graph.output.iter().map(|o| o.name.clone()).collect(),
        input: graph.input.first().map(|i| i.name.clone()).unwrap_or_default(),
        input_channels: graph.input.first().and_then(input_shape).map(|[_, _, channels]| i64::from(channels)),
        renamed: HashMap::new(),
        nodes: Vec::with_capacity(graph.node.len()),
        readers: HashMap::new(),
        dims,
    };
    let nodes = graph.node.iter().filter(|n| !rewriter.is_passed_over(n));
    let read = nodes.flat_map(|n| &n.input).chain(&rewriter.outputs);
    let read: Vec<String> = read.map(|name| origin(graph, name, &rewriter).to_owned()).collect();
    for name in read {
        *rewriter.readers.entry(name).or_insert(0) += 1;
    }
    for node in &graph.node {
        rewriter.node(node)?;
    }
    graph.input.retain(|i| !rewriter.constants.contains_key(&i.name));
    graph.node = rewriter.nodes;
    let read: HashSet<&String> = graph.node.iter().flat_map(|n| &n.input).collect();
    graph.initializer = rewriter.constants.into_values().filter(|t| read.contains(&t.name)).collect();
    // A repeatable file: maps have no order.
    graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// What `name` is called before it is passed on unchanged.
fn origin<'a>(graph: &'a pb::GraphProto, name: &'a str, rewriter: &Rewriter) -> &'a str {
    let giver = graph.node.iter().find(|n| n.output.first().is_some_and(|o| o == name));
    match giver.filter(|n| rewriter.is_passed_over(n)).and_then(|n| n.input.first()) {
        Some(from) => origin(graph, from, rewriter),
        None => name,
    }
}

/// Padding below the negative of this stands for minus infinity.
const LOWEST: f32 = 1e4;

/// A graph while its layers are rewritten.
struct Rewriter {
    constants: HashMap<String, pb::TensorProto>,
    outputs: Vec<String>,
    input: String,
    input_channels: Option<i64>,
    renamed: HashMap<String, String>,
    nodes: Vec<pb::NodeProto>,
    readers: HashMap<String, usize>,
    /// Dimensions of tensors.
    dims: HashMap<String, Vec<usize>>,
}

impl Rewriter {
    /// True for a node that gives what it reads.
    fn is_passed_over(&self, node: &pb::NodeProto) -> bool {
        let is_given_away = node.output.first().is_none_or(|output| self.outputs.contains(output));
        matches!(node.op_type.as_str(), "Identity" | "Dropout") && !is_given_away
    }

    fn node(&mut self, node: &pb::NodeProto) -> Result<(), QuantizeError> {
        let mut node = node.clone();
        for input in &mut node.input {
            if let Some(new) = self.renamed.get(input) {
                input.clone_from(new);
            }
        }
        let name =
            if node.name.is_empty() { node.output.first().cloned().unwrap_or_default() } else { node.name.clone() };
        let fail = |reason: &str| QuantizeError::Graph { node: name.clone(), reason: reason.to_owned() };
        let Some(output) = node.output.first().cloned() else { return Err(fail("it has no output")) };
        match node.op_type.as_str() {
            "Constant" => {
                let mut tensor = constant(&node, &output).ok_or_else(|| fail("a constant that is no tensor"))?;
                tensor.name.clone_from(&output);
                self.constants.insert(output, tensor);
                return Ok(());
            }
            _ if self.is_passed_over(&node) => {
                let from = node.input.first().cloned().ok_or_else(|| fail("it has no input"))?;
                if let Some(tensor) = self.constants.get(&from).cloned() {
                    self.constants.insert(output.clone(), pb::TensorProto { name: output.clone(), ..tensor });
                }
                self.renamed.insert(output, from);
                return Ok(());
            }
            "BatchNormalization" if self.dims.get(&node.input[0]).is_none_or(|dims| matches!(dims.len(), 2 | 4)) => {
                return self.batch_normalisation(&node, &fail);
            }
            "ReduceMean" if self.mean(&node, &fail)? => return Ok(()),
            // Of one image, to one row: the only reshaping between convolutions and linear layers.
            "Reshape" if self.reshapes_to_row(&node)? => {
                self.push("Flatten", vec![node.input[0].clone()], &output, vec![onnx::int("axis", 1)]);
                return Ok(());
            }
            "Gemm" => {
                if onnx::int_or(&node, "transB", 0) == 0 {
                    self.transpose(&mut node, &fail)?;
                }
                self.spread_bias(&mut node)?;
            }
            "MatMul" if self.is_linear(&node) => {
                node.op_type = "Gemm".into();
                self.transpose(&mut node, &fail)?;
            }
            "Add" if self.add_bias(&node)? => return Ok(()),
            "Add" | "Sub" | "Mul" | "Div" if self.arithmetic(&node, &fail)? => return Ok(()),
            "Pad" => self.pad(&mut node, &fail)?,
            // A maximum pool pads by itself with what stands for minus infinity, a convolution with zero.
            "MaxPool" if onnx::int_or(&node, "ceil_mode", 0) == 0 => {
                self.take_padding(&mut node, |value| value <= -LOWEST)?
            }
            "Conv" => self.take_padding(&mut node, |value| value == 0.0)?,
            "Squeeze" if self.squeezes_plane(&node)? => {
                self.push("Flatten", vec![node.input[0].clone()], &output, vec![onnx::int("axis", 1)]);
                return Ok(());
            }
            _ => {}
        }
        self.nodes.push(node);
        Ok(())
    }

    /// The mean over rows and columns as a pool; false for means over other axes.
    fn mean(&mut self, node: &pb::NodeProto, fail: &dyn Fn(&str) -> QuantizeError) -> Result<bool, QuantizeError> {
        let axes = match node.input.get(1).filter(|n| !n.is_empty()) {
            Some(name) => onnx::i64s(self.constants.get(name).ok_or_else(|| fail("its axes are not constant"))?)?,
            None => onnx::ints_or(node, "axes", &[]),
        };
        let is_picture = self.dims.get(&node.input[0]).is_none_or(|dims| dims.len() == 4);
        if !is_picture || !matches!(axes.as_slice(), [2, 3] | [3, 2] | [-2, -1] | [-1, -2]) {
            return Ok(false);
        }
        let output = &node.output[0];
        let keep = onnx::int_or(node, "keepdims", 1) != 0;
        let from = node.input[0].clone();
        let pooled = if keep { output.clone() } else { format!("{output}/canonical/pooled") };
        self.push("GlobalAveragePool", vec![from], &pooled, vec![]);
        if !keep {
            self.push("Flatten", vec![pooled], output, vec![onnx::int("axis", 1)]);
        }
        Ok(true)
    }

    fn reshapes_to_row(&self, node: &pb::NodeProto) -> Result<bool, QuantizeError> {
        let shape = node.input.get(1).and_then(|n| self.constants.get(n));
        let shape = shape.map(onnx::i64s).transpose()?.unwrap_or_default();
        let dims = |names: &[String]| names.first().and_then(|name| self.dims.get(name)).and_then(|dims| dims.first());
        // `Flatten` makes a row of each image, whatever the number of rows that is asked for.
        let is_of_one = dims(&node.input) == Some(&1) && dims(&node.output) == Some(&1);
        Ok(match shape.as_slice() {
            [0, -1] => true,
            [1 | -1, _] => is_of_one,
            _ => false,
        })
    }

    fn push(&mut self, op: &str, input: Vec<String>, output: &str, attribute: Vec<pb::AttributeProto>) {
        let inputs: Vec<&str> = input.iter().map(String::as_str).collect();
        self.nodes.push(onnx::node(op, &inputs, output, attribute));
    }

    fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, QuantizeError> {
        Ok(self.constants.get(name).map(onnx::f32s).transpose()?)
    }

    /// `y = x · s + t` for each channel: into the convolution right before it, else a depthwise 1×1 convolution, whose
    /// int8 weights (±127, a scale for each channel) hold `s` exactly.
    fn batch_normalisation(
        &mut self,
        node: &pb::NodeProto,
        fail: &dyn Fn(&str) -> QuantizeError,
    ) -> Result<(), QuantizeError> {
        let part = |i: usize| -> Result<Vec<f32>, QuantizeError> {
            let name = node.input.get(i).ok_or_else(|| fail("it lacks an input"))?;
            self.floats(name)?.ok_or_else(|| fail("its statistics are not constant"))
        };
        let gamma = part(1)?;
        let beta = part(2)?;
        let mean = part(3)?;
        let variance = part(4)?;
        let epsilon = f64::from(onnx::attribute(node, "epsilon").map_or(1e-5, |a| a.f));
        let channels = gamma.len();
        if channels == 0 || [beta.len(), mean.len(), variance.len()].iter().any(|n| *n != channels) {
            return Err(fail("its statistics have different lengths"));
        }
        let scale: Vec<f64> =
            gamma.iter().zip(&variance).map(|(g, v)| f64::from(*g) / (f64::from(*v) + epsilon).sqrt()).collect();
        let shift: Vec<f64> = (0..channels).map(|c| f64::from(beta[c]) - f64::from(mean[c]) * scale[c]).collect();
        let layer = self.linear_layer(&node.input[0]);
        if layer.is_none() && self.is_row(&node.input[0]) {
            self.nodes.push(node.clone());
            return Ok(());
        }
        self.scale_and_shift(node, layer, &scale, &shift, fail)
    }

    /// Where the layer with weights stands that gives `name` to one reader alone.
    fn linear_layer(&self, name: &str) -> Option<usize> {
        let at = self.nodes.iter().position(|n| n.output.first().is_some_and(|o| o == name))?;
        let layer = &self.nodes[at];
        let linear = layer.op_type == "Conv" || is_plain_linear(layer);
        let channels = layer.input.get(1).and_then(|name| self.constants.get(name))?.dims.first()?;
        let has_bias = |name: &String| self.constants.get(name).is_some_and(|bias| bias.dims == [*channels]);
        let is_constant = layer.input.get(2).is_none_or(|name| name.is_empty() || has_bias(name));
        (linear && is_constant && self.readers.get(name) == Some(&1)).then_some(at)
    }

    /// The channels of `name`, where it is known to be an image.
    fn channels(&self, name: &str) -> Option<i64> {
        if *name == self.input {
            return self.input_channels;
        }
        let node = self.nodes.iter().rev().find(|n| n.output.first().is_some_and(|o| o == name))?;
        match node.op_type.as_str() {
            "Conv" => {
                let dims = &node.input.get(1).and_then(|weights| self.constants.get(weights))?.dims;
                dims.first().copied().filter(|_| dims.len() == 4)
            }
            "Relu" | "Clip" | "Sigmoid" | "HardSwish" | "HardSigmoid" | "LeakyRelu" | "Elu" | "Tanh" | "MaxPool"
            | "AveragePool" | "GlobalAveragePool" => self.channels(node.input.first()?),
            _ => None,
        }
    }

    /// What `node` gives is what it reads times `scale` plus `shift`, for each channel: into the weights of `layer`,
    /// which gives what it reads, else a depthwise 1×1 convolution.
    fn scale_and_shift(
        &mut self,
        node: &pb::NodeProto,
        layer: Option<usize>,
        scale: &[f64],
        shift: &[f64],
        fail: &dyn Fn(&str) -> QuantizeError,
    ) -> Result<(), QuantizeError> {
        let output = node.output[0].clone();
        let channels = scale.len();
        let Some(at) = layer else {
            let [values, bias] = [scale, shift].map(|numbers| numbers.iter().map(|v| *v as f32).collect::<Vec<f32>>());
            self.depthwise(&node.input[0], &output, &values, &bias);
            return Ok(());
        };
        let layer = self.nodes[at].clone();
        let weight = layer.input.get(1).and_then(|n| self.constants.get(n));
        let weight = weight.ok_or_else(|| fail("no weights before it"))?;
        let dims = onnx::dims(weight)?;
        let values = onnx::f32s(weight)?;
        if dims.first() != Some(&channels) {
            return Err(fail("the layer before it has another number of channels"));
        }
        let old = match layer.input.get(2).filter(|n| !n.is_empty()) {
            Some(name) => self.floats(name)?.ok_or_else(|| fail("the bias before it is not constant"))?,
            None => vec![0.0; channels],
        };
        if old.len() != channels {
            return Err(fail("the bias before it has another number of channels"));
        }
        let depth = values.len() / channels;
        let values: Vec<f32> =
            values.iter().enumerate().map(|(i, w)| (f64::from(*w) * scale[i / depth]) as f32).collect();
        let bias: Vec<f32> = (0..channels).map(|c| (f64::from(old[c]) * scale[c] + shift[c]) as f32).collect();
        let weight_name = format!("{output}/canonical/weight");
        let bias_name = format!("{output}/canonical/bias");
        self.constants.insert(weight_name.clone(), float_tensor(&weight_name, &dims, &values));
        self.constants.insert(bias_name.clone(), float_tensor(&bias_name, &[channels], &bias));
        let layer = &mut self.nodes[at];
        layer.input = vec![layer.input[0].clone(), weight_name, bias_name];
        layer.output = vec![output];
        Ok(())
    }

    /// A sum, difference, product or quotient with a constant for each channel, or one for all; false for other
    /// arithmetic.
    fn arithmetic(
        &mut self,
        node: &pb::NodeProto,
        fail: &dyn Fn(&str) -> QuantizeError,
    ) -> Result<bool, QuantizeError> {
        let [first, second] = node.input.as_slice() else { return Ok(false) };
        let (x, name, is_turned) = match (self.constants.get(first), self.constants.get(second)) {
            (None, Some(_)) => (first, second, false),
            (Some(_), None) => (second, first, true),
            _ => return Ok(false),
        };
        let layer = self.linear_layer(x);
        let weights = layer.and_then(|at| self.nodes[at].input.get(1)).and_then(|name| self.constants.get(name));
        let is_row = weights.is_some_and(|w| w.dims.len() == 2);
        let tensor = &self.constants[name];
        let channels = match weights {
            Some(weights) if is_row => weights.dims.first().copied(),
            _ => self.channels(x),
        };
        if tensor.data_type != DataType::Float as i32 {
            return Ok(false);
        }
        let Some(channels) = channels.and_then(|c| usize::try_from(c).ok()) else { return Ok(false) };
        let is_each = match tensor.dims.as_slice() {
            [] | [1] => false,
            [n] | [1, n] if is_row => *n == channels as i64,
            [1, n, 1, 1] | [n, 1, 1] if !is_row => *n == channels as i64,
            _ => return Ok(false),
        };
        let values = onnx::f32s(tensor)?;
        let is_whole = values.len() == if is_each { channels } else { 1 };
        if !is_whole {
            return Ok(false);
        }
        let value = |c: usize| f64::from(if is_each { values[c] } else { values[0] });
        let of: fn(f64) -> [f64; 2] = match (node.op_type.as_str(), is_turned) {
            ("Add", _) => |v| [1.0, v],
            ("Sub", false) => |v| [1.0, -v],
            ("Sub", true) => |v| [-1.0, v],
            ("Mul", _) => |v| [v, 0.0],
            ("Div", false) => |v| [1.0 / v, 0.0],
            _ => return Ok(false),
        };
        let (scale, shift): (Vec<f64>, Vec<f64>) = (0..channels).map(|c| of(value(c)).into()).unzip();
        if scale.iter().chain(&shift).any(|s| !(*s as f32).is_finite()) {
            return Ok(false);
        }
        let node = pb::NodeProto { input: vec![x.clone()], ..node.clone() };
        self.scale_and_shift(&node, layer, &scale, &shift, fail)?;
        Ok(true)
    }

    /// A depthwise 1×1 convolution from `input` to `output`.
    fn depthwise(&mut self, input: &str, output: &str, weights: &[f32], bias: &[f32]) {
        let channels = weights.len();
        let weight_name = format!("{output}/canonical/weight");
        let bias_name = format!("{output}/canonical/bias");
        self.constants.insert(weight_name.clone(), float_tensor(&weight_name, &[channels, 1, 1, 1], weights));
        self.constants.insert(bias_name.clone(), float_tensor(&bias_name, &[channels], bias));
        let attributes = vec![
            onnx::int("group", channels as i64),
            onnx::ints("kernel_shape", &[1, 1]),
            onnx::ints("strides", &[1, 1]),
            onnx::ints("pads", &[0; 4]),
            onnx::ints("dilations", &[1, 1]),
        ];
        self.push("Conv", vec![input.to_owned(), weight_name, bias_name], output, attributes);
    }

    /// True if `name` is known to be a row, `[1, n]`: what a linear layer or a flattening gives, element by element.
    fn is_row(&self, name: &str) -> bool {
        let mut name = name.to_owned();
        // Backwards, since a node stands behind what it reads.
        for node in self.nodes.iter().rev() {
            if node.output.first() != Some(&name) {
                continue;
            }
            match (node.op_type.as_str(), node.input.first()) {
                ("Gemm", _) => return true,
                ("Flatten", _) => return onnx_operator(node).is_some(),
                (
                    "Relu" | "Clip" | "Sigmoid" | "HardSwish" | "LeakyRelu" | "Tanh" | "BatchNormalization",
                    Some(from),
                ) => {
                    name.clone_from(from);
                }
                _ => return false,
            }
        }
        false
    }

    /// Takes the value, which only constant padding has, off other modes: an engine that sees it pads with it.
    fn pad(&self, node: &mut pb::NodeProto, fail: &dyn Fn(&str) -> QuantizeError) -> Result<(), QuantizeError> {
        let is_constant = onnx::attribute(node, "mode").is_none_or(|a| a.s.is_empty() || a.s == b"constant");
        if !is_constant {
            if node.input.get(3).is_some_and(|axes| !axes.is_empty()) {
                return Err(fail("padding of chosen axes by other than a constant cannot be read"));
            }
            node.input.truncate(2);
        }
        let Some(pads) = node.input.get(1).and_then(|name| self.constants.get(name)) else { return Ok(()) };
        match onnx::i64s(pads)?.iter().all(|p| *p >= 0) {
            true => Ok(()),
            false => Err(fail("padding by a negative number cannot be read: crop with Slice")),
        }
    }

    /// Makes padding by a value that `pads_itself` with that of the window `node` behind it.
    fn take_padding(&mut self, node: &mut pb::NodeProto, pads_itself: fn(f32) -> bool) -> Result<(), QuantizeError> {
        let input = node.input.first().cloned().unwrap_or_default();
        let Some(at) = self.nodes.iter().position(|n| n.op_type == "Pad" && n.output.first() == Some(&input)) else {
            return Ok(());
        };
        let pad = self.nodes[at].clone();
        let constant = |i: usize| pad.input.get(i).and_then(|name| self.constants.get(name));
        let value = constant(2).map(onnx::f32s).transpose()?.and_then(|v| v.first().copied()).unwrap_or(0.0);
        let pads = constant(1).map(onnx::i64s).transpose()?.unwrap_or_default();
        let axes = constant(3).map(onnx::i64s).transpose()?;
        let Some([top, left, bottom, right]) = of_planes(&pads, axes.as_deref()) else { return Ok(()) };
        let kernel = onnx::ints_or(node, "kernel_shape", &[]);
        let fits = kernel.iter().zip([top.max(bottom), left.max(right)]).all(|(k, p)| p < *k);
        let has_padding = onnx::ints_or(node, "pads", &[]).iter().any(|p| *p != 0)
            || onnx::attribute(node, "auto_pad").is_some_and(|a| !a.s.is_empty() && a.s != b"NOTSET");
        let is_constant = onnx::attribute(&pad, "mode").is_none_or(|a| a.s.is_empty() || a.s == b"constant");
        let is_alone = self.readers.get(&input) == Some(&1);
        if !is_constant || !pads_itself(value) || !fits || has_padding || !is_alone {
            return Ok(());
        }
        node.input[0].clone_from(&pad.input[0]);
        node.attribute.retain(|a| a.name != "pads" && a.name != "auto_pad");
        node.attribute.push(onnx::ints("pads", &[top, left, bottom, right]));
        self.nodes.remove(at);
        Ok(())
    }

    /// True for the product of a row and a constant matrix.
    fn is_linear(&self, node: &pb::NodeProto) -> bool {
        let [row, weights] = node.input.as_slice() else { return false };
        self.constants.get(weights).is_some_and(|w| w.dims.len() == 2) && self.is_row(row)
    }

    /// Gives the constant that `node` adds to a linear layer without bias, which nobody else reads, to that layer.
    fn add_bias(&mut self, node: &pb::NodeProto) -> Result<bool, QuantizeError> {
        let [first, second] = node.input.as_slice() else { return Ok(false) };
        let (from, bias) = if self.constants.contains_key(second) { (first, second) } else { (second, first) };
        let Some(tensor) = self.constants.get(bias) else { return Ok(false) };
        let Some(layer) = self.nodes.iter_mut().find(|n| n.output.first() == Some(from)) else { return Ok(false) };
        let weights = layer.input.get(1).and_then(|name| self.constants.get(name));
        let rows = weights.and_then(|w| w.dims.first()).copied();
        let dims = tensor.dims.as_slice();
        let is_bias = matches!(dims, [n] | [1, n] if Some(*n) == rows);
        let is_free = layer.input.len() == 2 && is_plain_linear(layer) && self.readers.get(from) == Some(&1);
        if !is_bias || !is_free {
            return Ok(false);
        }
        let values = onnx::f32s(tensor)?;
        let name = format!("{bias}/canonical/row");
        layer.input.push(name.clone());
        layer.output.clone_from(&node.output);
        self.constants.insert(name.clone(), float_tensor(&name, &[values.len()], &values));
        Ok(true)
    }

    /// True for a `Squeeze` of rows and columns of length one, as behind global pooling.
    fn squeezes_plane(&self, node: &pb::NodeProto) -> Result<bool, QuantizeError> {
        let Some(axes) = node.input.get(1).and_then(|name| self.constants.get(name)) else { return Ok(false) };
        let axes = onnx::i64s(axes)?;
        let pooled = self.nodes.iter().rev().find(|n| n.output.first() == node.input.first());
        let is_pooled = pooled.is_some_and(|n| n.op_type == "GlobalAveragePool" || n.op_type == "GlobalMaxPool");
        Ok(is_pooled && matches!(axes.as_slice(), [2, 3] | [3, 2] | [-2, -1] | [-1, -2]))
    }

    /// Weights `[in, out]` to `[out, in]`.
    fn transpose(
        &mut self,
        node: &mut pb::NodeProto,
        fail: &dyn Fn(&str) -> QuantizeError,
    ) -> Result<(), QuantizeError> {
        let name = node.input.get(1).cloned().unwrap_or_default();
        let weight = self.constants.get(&name).ok_or_else(|| fail("its weights are not constant"))?;
        let dims = onnx::dims(weight)?;
        let values = onnx::f32s(weight)?;
        let [rows, columns] = dims.as_slice() else { return Err(fail("its weights are no matrix")) };
        let turned: Vec<f32> =
            (0..*columns).flat_map(|c| (0..*rows).map(move |r| (r, c))).map(|(r, c)| values[r * columns + c]).collect();
        let new = format!("{name}/canonical/transposed");
        self.constants.insert(new.clone(), float_tensor(&new, &[*columns, *rows], &turned));
        node.input[1] = new;
        node.attribute.retain(|a| a.name != "transB");
        node.attribute.push(onnx::int("transB", 1));
        Ok(())
    }

    /// One value that is added to all outputs becomes one for each (ONNX `Gemm`: C is broadcast).
    fn spread_bias(&mut self, node: &mut pb::NodeProto) -> Result<(), QuantizeError> {
        let constant = |i: usize| node.input.get(i).and_then(|name| self.constants.get(name));
        let (Some(weight), Some(bias)) = (constant(1), constant(2)) else { return Ok(()) };
        let outputs = onnx::dims(weight)?.first().copied().unwrap_or(0);
        let values = onnx::f32s(bias)?;
        if values.len() != 1 || outputs < 2 {
            return Ok(());
        }
        let name = format!("{}/canonical/for_each", node.input[2]);
        let spread = float_tensor(&name, &[outputs], &vec![values[0]; outputs]);
        self.constants.insert(name.clone(), spread);
        node.input[2] = name;
        Ok(())
    }
}

/// Padding at the top, left, bottom and right of planes, of the `pads` of a `Pad` of all or some `axes`; `None` where
/// other axes are padded (ONNX operator specification, `Pad` version 18).
fn of_planes(pads: &[i64], axes: Option<&[i64]>) -> Option<[i64; 4]> {
    let axes = axes.unwrap_or(&[0, 1, 2, 3]);
    let (begins, ends) = pads.split_at_checked(axes.len())?;
    if ends.len() != axes.len() {
        return None;
    }
    let mut planes = [0; 4];
    for (axis, (begin, end)) in axes.iter().zip(begins.iter().zip(ends)) {
        match axis.rem_euclid(4) {
            side @ 2..4 => {
                planes[side as usize - 2] = *begin;
                planes[side as usize] = *end;
            }
            _ if (*begin, *end) == (0, 0) => {}
            _ => return None,
        }
    }
    Some(planes)
}

/// True for a `Gemm` with weights `[out, in]` and nothing to scale: a linear layer.
fn is_plain_linear(node: &pb::NodeProto) -> bool {
    let factor = |name: &str| onnx::attribute(node, name).map_or(1.0, |a| a.f);
    let is = |name: &str, value: i64| onnx::int_or(node, name, 0) == value;
    node.op_type == "Gemm" && is("transB", 1) && is("transA", 0) && factor("alpha") == 1.0 && factor("beta") == 1.0
}
