//! Convolutions of a QDQ model as `QLinearConv` (ONNX operators, since version 10), for runtimes that do not put
//! `DequantizeLinear`, `Conv` and `QuantizeLinear` together. What has no such operator in the standard keeps its form.
//! [`edge_runtime::onnx::write_out`] is the way back.

use edge_runtime::onnx::pb;
use std::collections::{HashMap, HashSet};

/// Puts the convolutions of `model` together with what stands around them; gives how many there were.
pub fn put_together(model: &mut pb::ModelProto) -> usize {
    let Some(graph) = &mut model.graph else { return 0 };
    let joined: HashMap<String, pb::NodeProto> = joined(graph).into_iter().collect();
    let sums: HashSet<&String> = joined.keys().collect();
    let mut nodes = Vec::new();
    for node in &graph.node {
        let is_conv = node.output.first().is_some_and(|output| sums.contains(output));
        let quantised = node.input.first().and_then(|sums| joined.get(sums));
        match quantised {
            Some(conv) => nodes.push(conv.clone()),
            None if is_conv => {}
            None => nodes.push(node.clone()),
        }
    }
    graph.node = nodes;
    remove_unread(graph);
    joined.len()
}

/// For the float result of each convolution the `QLinearConv` that takes its place.
fn joined(graph: &pb::GraphProto) -> Vec<(String, pb::NodeProto)> {
    let giver: HashMap<&str, &pb::NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    let mut readers: HashMap<&str, Vec<&pb::NodeProto>> = HashMap::new();
    for node in &graph.node {
        node.input.iter().for_each(|input| readers.entry(input.as_str()).or_default().push(node));
    }
    let constants: HashSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let dequantised = |name: &String| {
        let node = giver.get(name.as_str()).filter(|node| node.op_type == "DequantizeLinear")?;
        let [codes, scale, zero] = node.input.as_slice() else { return None };
        let is_constant = [scale, zero].iter().all(|name| constants.contains(name.as_str()));
        is_constant.then(|| [codes.clone(), scale.clone(), zero.clone()])
    };
    let conv = |node: &pb::NodeProto| -> Option<(String, pb::NodeProto)> {
        let ([image, weights, bias @ ..], [sums]) = (node.input.as_slice(), node.output.as_slice()) else {
            return None;
        };
        let [quantise] = readers.get(sums.as_str())?.as_slice() else { return None };
        let [_, scale, zero] = quantise.input.as_slice() else { return None };
        let fits = node.op_type == "Conv" && quantise.op_type == "QuantizeLinear";
        if !fits || graph.output.iter().any(|output| output.name == *sums) {
            return None;
        }
        let mut input: Vec<String> = dequantised(image)?.into_iter().chain(dequantised(weights)?).collect();
        input.extend([scale.clone(), zero.clone()]);
        if let Some(bias) = bias.first() {
            let [codes, ..] = dequantised(bias)?;
            input.push(codes);
        }
        let joined =
            pb::NodeProto { op_type: "QLinearConv".into(), input, output: quantise.output.clone(), ..node.clone() };
        Some((sums.clone(), joined))
    };
    graph.node.iter().filter_map(conv).collect()
}

/// Removes what nothing reads any more.
fn remove_unread(graph: &mut pb::GraphProto) {
    let outputs: HashSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let read: HashSet<String> = graph.node.iter().flat_map(|node| node.input.iter().cloned()).collect();
    let is_read = |name: &String| read.contains(name) || outputs.contains(name);
    graph.node.retain(|node| node.op_type != "DequantizeLinear" || node.output.iter().any(is_read));
    let read: HashSet<&String> = graph.node.iter().flat_map(|node| &node.input).collect();
    graph.initializer.retain(|tensor| read.contains(&tensor.name));
}
