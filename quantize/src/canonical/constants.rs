//! Arithmetic on shapes and on weights, done once: what depends on no image becomes an initializer.

use crate::qdq::QuantizeError;
use edge_runtime::engine::quietly;
use edge_runtime::onnx::{self, pb};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

/// What tract finds out about a graph before it runs.
#[derive(Default)]
struct Known {
    /// Tensors that hold the same values for every image.
    constants: HashMap<String, pb::TensorProto>,
    /// Dimensions of the graph's outputs.
    outputs: HashMap<String, Vec<usize>>,
}

/// Replaces nodes of `model` that give the same for every image by what they give (`Shape` and what is computed of it;
/// weights that are turned or scaled), and settles the graph's outputs whose dimensions are open. Needs an input of
/// known dimensions.
pub fn fold(model: &mut pb::ModelProto) -> Result<(), QuantizeError> {
    let Some(graph) = &model.graph else { return Ok(()) };
    // Graphs within nodes read tensors of this one, which cannot be followed here.
    let has_branches = graph.node.iter().flat_map(|n| &n.attribute).any(|a| a.g.is_some());
    if has_branches || !has_arithmetic(graph) && graph.output.iter().all(|o| onnx::row(o).is_some()) {
        return Ok(());
    }
    let known = know(model).or_else(|| {
        *model = InOrder::of(model)?.folded()?;
        know(model)
    });
    // A graph that tract cannot read is refused with its reason where it is planned.
    let Some(known) = known else { return Ok(()) };
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let outputs: HashSet<&String> = graph.output.iter().map(|o| &o.name).collect();
    let is_known = |n: &pb::NodeProto| {
        n.op_type != "Constant"
            && !n.output.is_empty()
            && n.output.iter().all(|o| known.constants.contains_key(o) && !outputs.contains(o))
    };
    let folded: Vec<String> = graph.node.iter().filter(|n| is_known(n)).flat_map(|n| n.output.clone()).collect();
    graph.node.retain(|n| !n.output.iter().any(|o| folded.contains(o)));
    graph.initializer.extend(folded.iter().filter_map(|name| known.constants.get(name)).cloned());
    for output in &mut graph.output {
        if let (None, Some(dims)) = (onnx::row(output), known.outputs.get(&output.name)) {
            *output = onnx::value_info(&output.name, dims);
        }
    }
    drop_unread(graph);
    Ok(())
}

/// True if a node reads shapes or constants alone.
fn has_arithmetic(graph: &pb::GraphProto) -> bool {
    let values = graph.node.iter().filter(|n| n.op_type == "Constant").flat_map(|n| &n.output);
    let constants: HashSet<&String> = graph.initializer.iter().map(|t| &t.name).chain(values).collect();
    let reads_constants = |n: &pb::NodeProto| !n.input.is_empty() && n.input.iter().all(|i| constants.contains(i));
    graph.node.iter().any(|n| n.op_type == "Shape" || reads_constants(n))
}

fn know(model: &pb::ModelProto) -> Option<Known> {
    let analysed = quietly(|| -> TractResult<Known> {
        let mut inferred = tract_onnx::onnx().model_for_proto_model(model)?;
        inferred.analyse(true)?;
        let mut known = Known::default();
        let graph = model.graph.iter();
        for name in graph.clone().flat_map(|g| &g.node).flat_map(|n| &n.output) {
            let Some(outlet) = inferred.find_outlet_label(name) else { continue };
            if let Some(value) = inferred.outlet_fact(outlet)?.value.concretize() {
                known.constants.extend(tensor(name, &value).map(|t| (name.clone(), t)));
            }
        }
        for name in graph.flat_map(|g| &g.output).map(|o| &o.name) {
            let Some(outlet) = inferred.find_outlet_label(name) else { continue };
            let dims = inferred.outlet_fact(outlet)?.shape.concretize();
            let dims = dims.and_then(|d| d.iter().map(|d| d.to_usize().ok()).collect::<Option<Vec<usize>>>());
            known.outputs.extend(dims.map(|d| (name.clone(), d)));
        }
        Ok(known)
    });
    analysed?.ok()
}

/// Dimensions of the tensors of `model`, as far as they are known before it runs.
pub(super) fn dimensions(model: &pb::ModelProto) -> HashMap<String, Vec<usize>> {
    let analysed = quietly(|| -> TractResult<HashMap<String, Vec<usize>>> {
        let mut inferred = tract_onnx::onnx().model_for_proto_model(model)?;
        inferred.analyse(true)?;
        let mut known = HashMap::new();
        let graph = model.graph.iter();
        let inputs = graph.clone().flat_map(|g| &g.input).map(|input| &input.name);
        for name in graph.flat_map(|g| &g.node).flat_map(|n| &n.output).chain(inputs) {
            let Some(outlet) = inferred.find_outlet_label(name) else { continue };
            let dims = inferred.outlet_fact(outlet)?.shape.concretize();
            let dims = dims.and_then(|d| d.iter().map(|d| d.to_usize().ok()).collect::<Option<Vec<usize>>>());
            known.extend(dims.map(|dims| (name.clone(), dims)));
        }
        Ok(known)
    });
    analysed.and_then(Result::ok).unwrap_or_default()
}

/// Arithmetic on shapes, done node after node: tract cannot tell the dimensions of a whole graph whose padding follows
/// from the shape of what is padded (`SAME` padding as PyTorch's exporter writes it), but of the part before each
/// `Shape` it can.
struct InOrder<'a> {
    model: &'a pb::ModelProto,
    constants: HashMap<String, pb::TensorProto>,
    /// Nodes so far that depend on the image.
    kept: Vec<pb::NodeProto>,
    /// Dimensions of tensors whose shape was asked for.
    dims: HashMap<String, Vec<usize>>,
}

impl<'a> InOrder<'a> {
    fn of(model: &'a pb::ModelProto) -> Option<InOrder<'a>> {
        let initializers = &model.graph.as_ref()?.initializer;
        let constants = initializers.iter().map(|t| (t.name.clone(), t.clone())).collect();
        Some(InOrder { model, constants, kept: Vec::new(), dims: HashMap::new() })
    }

    /// The model without that arithmetic; `None` where there was none to do.
    fn folded(mut self) -> Option<pb::ModelProto> {
        let graph = self.model.graph.as_ref()?;
        for node in &graph.node {
            match self.value(node) {
                Some(tensors) => self.constants.extend(tensors.into_iter().map(|t| (t.name.clone(), t))),
                None => self.kept.push(node.clone()),
            }
        }
        if self.kept.len() == graph.node.len() {
            return None;
        }
        let outputs: Vec<String> = graph.output.iter().map(|o| o.name.clone()).collect();
        let mut model = self.part(self.kept.clone(), &outputs);
        let folded = model.graph.as_mut()?;
        folded.output.clone_from(&graph.output);
        Some(model)
    }

    /// What `node` gives, if no image changes it.
    fn value(&mut self, node: &pb::NodeProto) -> Option<Vec<pb::TensorProto>> {
        let output = node.output.first()?;
        if node.op_type == "Constant" {
            let tensor = super::constant(node, output)?;
            return Some(vec![pb::TensorProto { name: output.clone(), ..tensor }]);
        }
        let is_constant = |name: &String| name.is_empty() || self.constants.contains_key(name);
        if node.input.iter().all(is_constant) {
            let known = know(&self.part(vec![node.clone()], &node.output))?;
            return node.output.iter().map(|o| known.constants.get(o).cloned()).collect();
        }
        if node.op_type != "Shape" {
            return None;
        }
        let dims = self.dimensions(node.input.first()?)?;
        let length = dims.len() as i64;
        // ONNX `Shape`, version 15: a slice of the dimensions, counted from the end where it is negative.
        let bound = |name: &str, default: i64| {
            let at = onnx::int_or(node, name, default);
            (if at < 0 { at + length } else { at }).clamp(0, length) as usize
        };
        let of = dims.get(bound("start", 0)..bound("end", length)).unwrap_or_default();
        let values: Vec<i64> = of.iter().map(|d| *d as i64).collect();
        Some(vec![super::int_tensor(output, &[values.len()], &values)])
    }

    /// The dimensions of the tensor `name`.
    fn dimensions(&mut self, name: &str) -> Option<Vec<usize>> {
        if let Some(dims) = self.dims.get(name) {
            return Some(dims.clone());
        }
        let part = self.part(self.kept.clone(), &[name.to_owned()]);
        let dims = know(&part)?.outputs.remove(name)?;
        self.dims.insert(name.to_owned(), dims.clone());
        Some(dims)
    }

    /// A model of `nodes` that gives `outputs`, without what those do not need.
    fn part(&self, nodes: Vec<pb::NodeProto>, outputs: &[String]) -> pb::ModelProto {
        let mut graph = pb::GraphProto { node: nodes, ..Default::default() };
        graph.output = outputs.iter().map(|o| pb::ValueInfoProto { name: o.clone(), ..Default::default() }).collect();
        drop_unread(&mut graph);
        let read: HashSet<&String> = graph.node.iter().flat_map(|n| &n.input).chain(outputs).collect();
        graph.initializer = self.constants.values().filter(|t| read.contains(&t.name)).cloned().collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        let inputs = self.model.graph.iter().flat_map(|g| &g.input);
        graph.input = inputs.filter(|i| read.contains(&i.name)).cloned().collect();
        pb::ModelProto {
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            metadata_props: self.model.metadata_props.clone(),
            graph: Some(graph),
            ..Default::default()
        }
    }
}

/// `value` as ONNX has it; shapes, which tract counts in symbols, are `int64`.
fn tensor(name: &str, value: &Tensor) -> Option<pb::TensorProto> {
    let value = match value.datum_type() {
        DatumType::TDim => value.cast_to::<i64>().ok()?.into_owned(),
        _ => value.clone(),
    };
    let plain = value.as_plain_ram()?;
    let (data_type, raw_data) = match value.datum_type() {
        DatumType::I64 => {
            (DataType::Int64, plain.as_slice::<i64>().ok()?.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DatumType::I32 => {
            (DataType::Int32, plain.as_slice::<i32>().ok()?.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DatumType::F32 => {
            (DataType::Float, plain.as_slice::<f32>().ok()?.iter().flat_map(|v| v.to_le_bytes()).collect())
        }
        DatumType::Bool => (DataType::Bool, plain.as_slice::<bool>().ok()?.iter().map(|v| u8::from(*v)).collect()),
        _ => return None,
    };
    let dims = value.shape().iter().map(|d| *d as i64).collect();
    Some(pb::TensorProto { name: name.to_owned(), dims, data_type: data_type as i32, raw_data, ..Default::default() })
}

/// Drops nodes whose outputs nobody reads.
pub(super) fn drop_unread(graph: &mut pb::GraphProto) {
    let mut read: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    // Backwards, since a node stands behind what it reads.
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if node.output.iter().any(|o| read.contains(o)) {
            read.extend(node.input.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.node = kept;
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::GraphBuilder;

    /// `x.view(x.size(0), -1)` and a linear layer whose weights are turned, as PyTorch writes them.
    #[test]
    fn a_view_and_turned_weights_become_constants() {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2, 1, 1]);
        b.raw("zero", &[], DataType::Int64, 0i64.to_le_bytes().to_vec());
        b.raw("axes", &[1], DataType::Int64, 0i64.to_le_bytes().to_vec());
        b.raw("rest", &[1], DataType::Int64, (-1i64).to_le_bytes().to_vec());
        b.node("Shape", &["x"], "shape", vec![]);
        b.node("Gather", &["shape", "zero"], "batch", vec![onnx::int("axis", 0)]);
        b.node("Unsqueeze", &["batch", "axes"], "length", vec![]);
        b.node("Concat", &["length", "rest"], "target", vec![onnx::int("axis", 0)]);
        b.node("Reshape", &["x", "target"], "flat", vec![]);
        b.floats("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        b.node("Transpose", &["w"], "turned", vec![onnx::ints("perm", &[1, 0])]);
        b.node("MatMul", &["flat", "turned"], "y", vec![]);
        b.output("y", &[1, 0]);
        let mut model = b.finish("m", vec![]);
        fold(&mut model).unwrap();
        let graph = model.graph.unwrap();
        let operators: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(operators, ["Reshape", "MatMul"]);
        let constant = |name: &str| graph.initializer.iter().find(|t| t.name == name).unwrap();
        assert_eq!(onnx::i64s(constant("target")).unwrap(), [1, -1]);
        assert_eq!(onnx::f32s(constant("turned")).unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(onnx::row(&graph.output[0]), Some(3));
    }
}
