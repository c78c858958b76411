//! Foreign ONNX (plain PyTorch exports, for one) to the form that [`crate::qdq`] quantises: batch normalisation folded,
//! means as pools, constants as initializers, input and output by the names of the contract, operators of older sets in
//! today's form, logits where there are probabilities. Tensors that are made here are called `TENSOR/canonical/PART`,
//! so that none has the name of another.

mod check;
mod constants;
mod functions;
mod input;
mod opset;
mod order;
mod output;
mod pools;
mod precision;
mod rewrite;
mod same;

pub use check::check_float;
pub use output::{Squashing, ends_in_probabilities};
pub use same::check_same;

use crate::qdq::{self, QuantizeError};
use edge_runtime::onnx::{self, INPUT, LOGITS, pb};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;

/// A model in canonical form.
pub struct Canonical {
    /// The model, whose output holds logits.
    pub model: pb::ModelProto,
    /// What made probabilities of the logits, and was taken off.
    pub squashing: Option<Squashing>,
    /// The model as it came, but for its input, which has known dimensions.
    pub reference: pb::ModelProto,
}

/// Rewrites `model`, whose input has sides of `size` where it leaves them open; a model of host-train comes out as it
/// went in, but for names of folded tensors.
pub fn canonical(model: &pb::ModelProto, size: Option<u32>) -> Result<Canonical, QuantizeError> {
    let mut model = model.clone();
    opset::modernise(&mut model)?;
    let graph = model.graph.as_mut().ok_or_else(|| fail("it is empty"))?;
    // Shapes of inner tensors are those of the model as it came.
    graph.value_info.clear();
    order::settle(graph);
    precision::settle(graph)?;
    input::settle(graph, size)?;
    let reference = model.clone();
    constants::fold(&mut model)?;
    let graph = model.graph.as_mut().ok_or_else(|| fail("it is empty"))?;
    functions::recognise(graph)?;
    let squashing = output::take_off_probabilities(graph)?;
    check::check_finite(graph)?;
    check::check_operators(graph)?;
    free_contract_names(graph);
    rewrite::layers(&mut model)?;
    let graph = model.graph.as_mut().ok_or_else(|| fail("it is empty"))?;
    name_ends(graph)?;
    free_part_names(graph);
    pools::settle(&mut model)?;
    for opset in &mut model.opset_import {
        if opset.domain.is_empty() {
            // Layers that stay as they are may need a newer one.
            opset.version = opset.version.max(onnx::OPSET);
        }
    }
    Ok(Canonical { model, squashing, reference })
}

fn fail(reason: &str) -> QuantizeError {
    QuantizeError::Graph { node: "graph".into(), reason: reason.into() }
}

/// Gives the input and the output the names of the contract.
fn name_ends(graph: &mut pb::GraphProto) -> Result<(), QuantizeError> {
    let [input] = graph.input.as_mut_slice() else { return Err(fail("it must have one input, an image")) };
    let mut names = HashMap::from([(std::mem::replace(&mut input.name, INPUT.into()), INPUT.to_owned())]);
    if !graph.output.iter().any(|o| o.name == LOGITS) {
        let [output] = graph.output.as_mut_slice() else { return Err(fail("it must have one output, logits")) };
        names.insert(std::mem::replace(&mut output.name, LOGITS.into()), LOGITS.to_owned());
    }
    for name in graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output)) {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    }
    Ok(())
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

/// Gives tensors other names where the parts of another one's int8 form will be called so: exporters like
/// `LAYER/scale`.
fn free_part_names(graph: &mut pb::GraphProto) {
    let edges = graph.node.iter().flat_map(|n| n.input.iter().chain(&n.output));
    let all: HashSet<String> = edges.chain(graph.initializer.iter().map(|t| &t.name)).cloned().collect();
    let is_part = |name: &String| {
        let parts = || qdq::PARTS.iter().filter_map(|part| name.find(&format!("/{part}")));
        parts().any(|at| all.contains(&name[..at]))
    };
    let tensors = graph.initializer.iter_mut().map(|t| &mut t.name);
    let edges = graph.node.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output).chain([&mut n.name]));
    for name in tensors.chain(edges).filter(|name| is_part(name)) {
        // Not below the other one's name any more.
        *name = format!("own:{}", name.replace('/', ":"));
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

pub(crate) fn float_tensor(name: &str, dims: &[usize], values: &[f32]) -> pb::TensorProto {
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
        // One value for both outputs.
        b.floats("fb", &[1], &[0.3]);
        b.node("Gemm", &["flat", "fw", "fb"], "y", vec![]);
        b.output("y", &[1, 2]);
        b.finish("foreign", vec![])
    }

    #[test]
    fn the_canonical_form_computes_the_same() {
        let model = foreign();
        let ours = canonical(&model, None).unwrap().model;
        let ops: Vec<&str> = ours.graph.as_ref().unwrap().node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(ops, ["Conv", "Relu", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]);
        let bias = ours.graph.as_ref().unwrap().initializer.iter().find(|t| t.name.starts_with("fb")).unwrap();
        assert_eq!(bias.dims, [2]);
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
        let ours = canonical(&model, None).unwrap().model;
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
        let once = canonical(&foreign(), None).unwrap().model;
        assert_eq!(canonical(&once, None).unwrap().model, once);
    }
}
