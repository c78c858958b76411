//! Foreign ONNX (plain PyTorch exports, for one) to the form that [`crate::qdq`] quantises: batch normalisation folded,
//! means as pools, constants as initializers, input and output by the names of the contract, operators of older sets in
//! today's form, logits where there are probabilities.

mod check;
mod opset;
mod output;

pub use check::check_float;

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, INPUT, LOGITS, pb};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;

/// Rewrites `model`; a model of host-train comes out as it went in, but for names of folded tensors.
pub fn canonical(model: &pb::ModelProto) -> Result<pb::ModelProto, QuantizeError> {
    let mut model = model.clone();
    let empty = || QuantizeError::Graph { node: "graph".into(), reason: "it is empty".into() };
    opset::modernise(&mut model)?;
    let graph = model.graph.as_mut().ok_or_else(empty)?;
    output::take_off_probabilities(graph)?;
    check::check_finite(graph)?;
    free_contract_names(graph);
    let mut rewriter = Rewriter {
        constants: graph.initializer.iter().map(|t| (t.name.clone(), t.clone())).collect(),
        outputs: graph.output.iter().map(|o| o.name.clone()).collect(),
        renamed: HashMap::new(),
        nodes: Vec::with_capacity(graph.node.len()),
        readers: HashMap::new(),
    };
    for name in graph.node.iter().flat_map(|n| &n.input).chain(&rewriter.outputs) {
        *rewriter.readers.entry(name.clone()).or_insert(0) += 1;
    }
    for node in &graph.node {
        rewriter.node(node)?;
    }
    graph.input.retain(|i| !rewriter.constants.contains_key(&i.name));
    let [input] = graph.input.as_mut_slice() else {
        return Err(QuantizeError::Graph { node: "graph".into(), reason: "it must have one input, an image".into() });
    };
    let mut names = HashMap::from([(std::mem::replace(&mut input.name, INPUT.into()), INPUT.to_owned())]);
    if !graph.output.iter().any(|o| o.name == LOGITS) {
        let [output] = graph.output.as_mut_slice() else {
            return Err(QuantizeError::Graph {
                node: "graph".into(),
                reason: "it must have one output, logits".into(),
            });
        };
        names.insert(std::mem::replace(&mut output.name, LOGITS.into()), LOGITS.to_owned());
    }
    graph.node = rewriter.nodes;
    for name in graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output)) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    let read: HashSet<&String> = graph.node.iter().flat_map(|n| &n.input).collect();
    graph.initializer = rewriter.constants.into_values().filter(|t| read.contains(&t.name)).collect();
    // A repeatable file: maps have no order.
    graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
    for opset in &mut model.opset_import {
        if opset.domain.is_empty() {
            // Layers that stay as they are may need a newer one.
            opset.version = opset.version.max(onnx::OPSET);
        }
    }
    Ok(model)
}

struct Rewriter {
    constants: HashMap<String, pb::TensorProto>,
    outputs: Vec<String>,
    renamed: HashMap<String, String>,
    nodes: Vec<pb::NodeProto>,
    readers: HashMap<String, usize>,
}

impl Rewriter {
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
            "Identity" | "Dropout" if !self.outputs.contains(&output) => {
                let from = node.input.first().cloned().ok_or_else(|| fail("it has no input"))?;
                if let Some(tensor) = self.constants.get(&from).cloned() {
                    self.constants.insert(output.clone(), pb::TensorProto { name: output.clone(), ..tensor });
                }
                self.renamed.insert(output, from);
                return Ok(());
            }
            "BatchNormalization" => return self.batch_normalisation(&node, &fail),
            "ReduceMean" => {
                let axes = match node.input.get(1).filter(|n| !n.is_empty()) {
                    Some(name) => {
                        onnx::i64s(self.constants.get(name).ok_or_else(|| fail("its axes are not constant"))?)?
                    }
                    None => onnx::ints_or(&node, "axes", &[]),
                };
                if !matches!(axes.as_slice(), [2, 3] | [3, 2] | [-2, -1] | [-1, -2]) {
                    self.nodes.push(node);
                    return Ok(());
                }
                let keep = onnx::int_or(&node, "keepdims", 1) != 0;
                let from = node.input[0].clone();
                let pooled = if keep { output.clone() } else { format!("{output}/pooled") };
                self.push("GlobalAveragePool", vec![from], &pooled, vec![]);
                if !keep {
                    self.push("Flatten", vec![pooled], &output, vec![onnx::int("axis", 1)]);
                }
                return Ok(());
            }
            // Of one image, to one row: the only reshaping between convolutions and linear layers.
            "Reshape" => {
                let shape = node.input.get(1).and_then(|n| self.constants.get(n));
                let shape = shape.map(onnx::i64s).transpose()?.unwrap_or_default();
                if !matches!(shape.as_slice(), [1 | -1, _] | [0, -1]) {
                    self.nodes.push(node);
                    return Ok(());
                }
                let from = node.input[0].clone();
                self.push("Flatten", vec![from], &output, vec![onnx::int("axis", 1)]);
                return Ok(());
            }
            "Gemm" if onnx::int_or(&node, "transB", 0) == 0 => self.transpose(&mut node, &fail)?,
            _ => {}
        }
        self.nodes.push(node);
        Ok(())
    }

    fn push(&mut self, op: &str, input: Vec<String>, output: &str, attribute: Vec<pb::AttributeProto>) {
        self.nodes.push(pb::NodeProto {
            name: output.to_owned(),
            op_type: op.to_owned(),
            input,
            output: vec![output.to_owned()],
            attribute,
            ..Default::default()
        });
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
        let output = node.output[0].clone();
        let before = self.nodes.iter().position(|n| n.output.first() == node.input.first());
        let folded = before.filter(|at| {
            let layer = &self.nodes[*at];
            let linear = layer.op_type == "Conv" || is_plain_linear(layer);
            linear && self.readers.get(&layer.output[0]) == Some(&1)
        });
        if folded.is_none() && self.is_row(&node.input[0]) {
            self.nodes.push(node.clone());
            return Ok(());
        }
        let weight_name = format!("{output}/weight");
        let bias_name = format!("{output}/bias");
        if let Some(at) = folded {
            let conv = self.nodes[at].clone();
            let weight =
                conv.input.get(1).and_then(|n| self.constants.get(n)).ok_or_else(|| fail("no weights before it"))?;
            let dims = onnx::dims(weight)?;
            let values = onnx::f32s(weight)?;
            if dims.first() != Some(&channels) {
                return Err(fail("the layer before it has another number of channels"));
            }
            let old = match conv.input.get(2).filter(|n| !n.is_empty()) {
                Some(name) => self.floats(name)?.ok_or_else(|| fail("the bias before it is not constant"))?,
                None => vec![0.0; channels],
            };
            if old.len() != channels {
                return Err(fail("the bias before it has another number of channels"));
            }
            let depth = values.len() / channels;
            let values: Vec<f32> =
                values.iter().enumerate().map(|(i, w)| (f64::from(*w) * scale[i / depth]) as f32).collect();
            let bias: Vec<f32> = (0..channels)
                .map(|c| ((f64::from(old[c]) - f64::from(mean[c])) * scale[c] + f64::from(beta[c])) as f32)
                .collect();
            self.constants.insert(weight_name.clone(), float_tensor(&weight_name, &dims, &values));
            self.constants.insert(bias_name.clone(), float_tensor(&bias_name, &[channels], &bias));
            let conv = &mut self.nodes[at];
            conv.input = vec![conv.input[0].clone(), weight_name, bias_name];
            conv.output = vec![output];
            return Ok(());
        }
        let values: Vec<f32> = scale.iter().map(|s| *s as f32).collect();
        let bias: Vec<f32> =
            (0..channels).map(|c| (f64::from(beta[c]) - f64::from(mean[c]) * scale[c]) as f32).collect();
        self.depthwise(&node.input[0], &output, &values, &bias);
        Ok(())
    }

    /// A depthwise 1×1 convolution from `input` to `output`.
    fn depthwise(&mut self, input: &str, output: &str, weights: &[f32], bias: &[f32]) {
        let channels = weights.len();
        let weight_name = format!("{output}/weight");
        let bias_name = format!("{output}/bias");
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
                ("Gemm" | "Flatten", _) => return true,
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
        let new = format!("{name}/transposed");
        self.constants.insert(new.clone(), float_tensor(&new, &[*columns, *rows], &turned));
        node.input[1] = new;
        node.attribute.retain(|a| a.name != "transB");
        node.attribute.push(onnx::int("transB", 1));
        Ok(())
    }
}

/// True for a `Gemm` with weights `[out, in]` and nothing to scale: a linear layer.
fn is_plain_linear(node: &pb::NodeProto) -> bool {
    let factor = |name: &str| onnx::attribute(node, name).map_or(1.0, |a| a.f);
    let is = |name: &str, value: i64| onnx::int_or(node, name, 0) == value;
    node.op_type == "Gemm" && is("transB", 1) && is("transA", 0) && factor("alpha") == 1.0 && factor("beta") == 1.0
}

/// Gives inner tensors other names than those of the contract's input and outputs.
fn free_contract_names(graph: &mut pb::GraphProto) {
    let ends: HashSet<String> =
        graph.input.iter().map(|i| &i.name).chain(graph.output.iter().map(|o| &o.name)).cloned().collect();
    let inner = |name: &String| [INPUT, LOGITS, onnx::MAP].contains(&name.as_str()) && !ends.contains(name);
    let tensors = graph.initializer.iter_mut().map(|t| &mut t.name);
    // Names of nodes count too: tract tells them from the input by name.
    let edges = graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output).chain([&mut n.name]));
    for name in tensors.chain(edges).filter(|name| inner(name)) {
        name.push_str("/inner");
    }
}

/// The value of a `Constant`, in whichever of its attributes it stands.
fn constant(node: &pb::NodeProto, name: &str) -> Option<pb::TensorProto> {
    let attribute = |key| onnx::attribute(node, key);
    if let Some(tensor) = attribute("value") {
        return tensor.t.clone();
    }
    if let Some(a) = attribute("value_float") {
        return Some(float_tensor(name, &[], &[a.f]));
    }
    if let Some(a) = attribute("value_floats") {
        return Some(float_tensor(name, &[a.floats.len()], &a.floats));
    }
    if let Some(a) = attribute("value_int") {
        return Some(int_tensor(name, &[], &[a.i]));
    }
    attribute("value_ints").map(|a| int_tensor(name, &[a.ints.len()], &a.ints))
}

fn int_tensor(name: &str, dims: &[usize], values: &[i64]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

fn float_tensor(name: &str, dims: &[usize], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|d| *d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::engine::{FloatPlan, floats};
    use edge_runtime::onnx::GraphBuilder;

    /// Convolution, batch normalisation, batch normalisation again (which cannot be folded twice), mean, reshape,
    /// linear.
    fn foreign() -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2, 4, 4]);
        let numbers = |n: usize, by: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * by).sin()).collect() };
        let positive = |n: usize| -> Vec<f32> { (0..n).map(|i| 0.5 + i as f32).collect() };
        b.floats("w", &[3, 2, 3, 3], &numbers(54, 0.7));
        b.node("Conv", &["x", "w"], "c", vec![onnx::ints("pads", &[1; 4])]);
        for (i, from) in ["c", "r"].iter().enumerate() {
            for (part, values) in
                [("g", numbers(3, 1.3)), ("b", numbers(3, 2.1)), ("m", numbers(3, 0.4)), ("v", positive(3))]
            {
                b.floats(&format!("{part}{i}"), &[3], &values);
            }
            let parts: Vec<String> = ["g", "b", "m", "v"].iter().map(|p| format!("{p}{i}")).collect();
            let inputs = [*from, &parts[0], &parts[1], &parts[2], &parts[3]];
            b.node("BatchNormalization", &inputs, &format!("n{i}"), vec![]);
            if i == 0 {
                b.node("Relu", &["n0"], "r", vec![]);
            }
        }
        b.node("ReduceMean", &["n1"], "mean", vec![onnx::ints("axes", &[2, 3])]);
        b.raw("shape", &[2], DataType::Int64, [1i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect());
        b.node("Reshape", &["mean", "shape"], "flat", vec![]);
        b.floats("fw", &[3, 2], &numbers(6, 0.9));
        b.node("Gemm", &["flat", "fw"], "y", vec![]);
        b.output("y", &[1, 2]);
        b.finish("foreign", vec![])
    }

    #[test]
    fn the_canonical_form_computes_the_same() {
        let model = foreign();
        let ours = canonical(&model).unwrap();
        let ops: Vec<&str> = ours.graph.as_ref().unwrap().node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]);
        let input: Vec<f32> = (0..32).map(|i| (i as f32).cos()).collect();
        let run = |m: &pb::ModelProto| {
            let outputs = FloatPlan::new(m, None).unwrap().run(&[1, 2, 4, 4], &input).unwrap();
            floats(&outputs[0]).unwrap().to_vec()
        };
        for (a, b) in run(&model).iter().zip(run(&ours)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    /// A linear layer, batch normalisation, ReLU, batch normalisation of a row, linear; inner tensors are called as the
    /// contract calls its ends.
    #[test]
    fn batch_normalisation_of_rows_and_taken_names_change_nothing() {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 1, 2, 2]);
        b.node("Flatten", &["x"], "image", vec![]);
        b.floats("w", &[3, 4], &[0.3, -0.2, 0.5, 0.1, -0.4, 0.2, 0.6, 0.9, 0.7, -0.8, 0.3, 0.2]);
        b.floats("logits", &[3], &[0.1, 0.2, -0.3]);
        b.node("Gemm", &["image", "w", "logits"], "g", vec![onnx::int("transB", 1)]);
        for (part, values) in
            [("s", [1.5, 0.5, -1.0]), ("b", [0.1, 0.2, 0.3]), ("m", [0.2, -0.1, 0.0]), ("v", [0.5, 1.0, 2.0])]
        {
            b.floats(part, &[3], &values);
        }
        b.node("BatchNormalization", &["g", "s", "b", "m", "v"], "n", vec![]);
        b.node("Relu", &["n"], "r", vec![]);
        b.node("BatchNormalization", &["r", "s", "b", "m", "v"], "y", vec![]);
        b.output("y", &[1, 3]);
        let model = b.finish("m", vec![]);
        let ours = canonical(&model).unwrap();
        let ops: Vec<&str> = ours.graph.as_ref().unwrap().node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Flatten", "Gemm", "Relu", "BatchNormalization"]);
        let run = |m: &pb::ModelProto| {
            let outputs = FloatPlan::new(m, None).unwrap().run(&[1, 1, 2, 2], &[1.0, -2.0, 0.5, 3.0]).unwrap();
            floats(&outputs[0]).unwrap().to_vec()
        };
        for (a, b) in run(&model).iter().zip(run(&ours)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn constants_are_read_from_any_attribute() {
        let of = |attribute: pb::AttributeProto| {
            let node = pb::NodeProto { attribute: vec![attribute], ..Default::default() };
            constant(&node, "c").unwrap()
        };
        assert_eq!(onnx::f32s(&of(onnx::float("value_float", 1.5))).unwrap(), [1.5]);
        assert_eq!(onnx::i64s(&of(onnx::int("value_int", -2))).unwrap(), [-2]);
        assert_eq!(of(onnx::ints("value_ints", &[1, -1])).dims, [2]);
        let floats = pb::AttributeProto { name: "value_floats".into(), floats: vec![0.5, 2.0], ..Default::default() };
        assert_eq!(onnx::f32s(&of(floats)).unwrap(), [0.5, 2.0]);
        assert!(constant(&pb::NodeProto::default(), "c").is_none());
    }

    #[test]
    fn the_canonical_form_is_a_fixed_point() {
        let once = canonical(&foreign()).unwrap();
        assert_eq!(canonical(&once).unwrap(), once);
    }
}
