//! Convolutions and linear layers of a canonical graph, as far as corrections know them.

use edge_runtime::onnx::{int_or, ints_or, pb};
use std::collections::HashMap;

/// A layer whose weights no other layer has.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// What it reads.
    pub input: String,
    /// What it gives.
    pub output: String,
    /// Name of its weights.
    pub weight: String,
    /// Name of its bias, if it has one.
    pub bias: Option<String>,
    /// `[out, in / groups, kh, kw]`; of a linear layer `[out, in, 1, 1]`.
    pub dims: [usize; 4],
    /// 1, or as many as channels (depthwise).
    pub groups: usize,
    /// Rows and columns between windows.
    pub strides: [usize; 2],
    /// Top, left, bottom, right.
    pub pads: [usize; 4],
    /// Rows and columns between a window's pixels.
    pub dilations: [usize; 2],
}

impl Layer {
    /// True if each channel has a filter of its own.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1
    }
}

/// How often each tensor is read.
pub(super) fn readers(graph: &pb::GraphProto) -> HashMap<&str, usize> {
    let mut readers = HashMap::new();
    for name in graph.node.iter().flat_map(|node| &node.input) {
        *readers.entry(name.as_str()).or_insert(0) += 1;
    }
    for output in &graph.output {
        *readers.entry(output.name.as_str()).or_insert(0) += 1;
    }
    readers
}

/// The layers of `graph` that corrections can handle; the others are rounded as they are.
pub(super) fn layers(graph: &pb::GraphProto) -> Vec<Layer> {
    let readers = readers(graph);
    let constants: HashMap<&str, &pb::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    graph.node.iter().filter_map(|node| layer(node, &constants, &readers)).collect()
}

fn layer(
    node: &pb::NodeProto,
    constants: &HashMap<&str, &pb::TensorProto>,
    readers: &HashMap<&str, usize>,
) -> Option<Layer> {
    let [input, weight, rest @ ..] = node.input.as_slice() else { return None };
    let dims = edge_runtime::onnx::dims(constants.get(weight.as_str())?).ok()?;
    let bias = rest.first().filter(|name| !name.is_empty());
    let is_alone = |name: &String| readers.get(name.as_str()) == Some(&1);
    let is_known = bias.is_none_or(|name| constants.contains_key(name.as_str()) && is_alone(name));
    if !is_alone(weight) || !is_known || constants.contains_key(input.as_str()) {
        return None;
    }
    let common = |dims, groups, strides, pads, dilations| Layer {
        input: input.clone(),
        output: node.output[0].clone(),
        weight: weight.clone(),
        bias: bias.cloned(),
        dims,
        groups,
        strides,
        pads,
        dilations,
    };
    match (node.op_type.as_str(), dims.as_slice()) {
        ("Gemm", &[out, depth]) if int_or(node, "transB", 0) == 1 => {
            Some(common([out, depth, 1, 1], 1, [1; 2], [0; 4], [1; 2]))
        }
        ("Conv", &[out, depth, kh, kw]) => {
            let groups = usize::try_from(int_or(node, "group", 1)).ok()?;
            let is_depthwise = groups > 1 && depth == 1 && groups == out;
            let pads_itself = edge_runtime::onnx::attribute(node, "auto_pad").is_none_or(|a| a.s == b"NOTSET");
            if (groups > 1 && !is_depthwise) || !pads_itself {
                return None;
            }
            let sizes = |name: &str, default: &[i64]| -> Option<Vec<usize>> {
                ints_or(node, name, default).into_iter().map(|v| usize::try_from(v).ok()).collect()
            };
            let strides = sizes("strides", &[1, 1])?.try_into().ok()?;
            let pads = sizes("pads", &[0; 4])?.try_into().ok()?;
            let dilations = sizes("dilations", &[1, 1])?.try_into().ok()?;
            Some(common([out, depth, kh, kw], groups, strides, pads, dilations))
        }
        _ => None,
    }
}
