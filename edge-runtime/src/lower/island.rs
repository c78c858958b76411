//! Float islands are cut out of the graph: everything between dequantised activations and the next codes.

use super::{LowerError, Lowered, Lowering, unsupported};
use crate::onnx::{self, pb};
use crate::operators::{Float, onnx_operator};
use std::collections::{BTreeSet, HashSet};

/// An ONNX model, the activations that it reads, and the shape of what it gives.
pub(super) struct Island {
    pub model: Vec<u8>,
    pub inputs: Vec<u32>,
    pub shape: [u32; 3],
    /// True if what it gives has the form `[1, n]` in ONNX.
    pub is_row: bool,
}

impl Lowering<'_> {
    /// The layers between dequantised activations and the float tensor `to`.
    pub(super) fn island(&self, to: &str) -> Result<Island, LowerError> {
        let mut graph = pb::GraphProto { name: to.to_owned(), ..Default::default() };
        let mut open = vec![to];
        let mut seen = HashSet::new();
        let mut nodes = BTreeSet::new();
        let mut inputs = Vec::new();
        while let Some(tensor) = open.pop() {
            if tensor.is_empty() || !seen.insert(tensor) {
                continue;
            }
            if let Some(value) = self.quantised(tensor) {
                let [h, w, c] = self.shape(value).map(|d| d as usize);
                let dims = if self.is_row(tensor) { vec![1, h * w * c] } else { vec![1, c, h, w] };
                graph.input.push(onnx::value_info(tensor, &dims));
                inputs.push(value);
            } else if let Some(constant) = self.constants.get(tensor) {
                graph.initializer.push((*constant).clone());
            } else if let Some(node) = self.producers.get(tensor) {
                nodes.insert(*node);
                open.extend(self.graph.node[*node].input.iter().map(String::as_str));
            } else {
                return Err(unsupported(to, format!("it reads `{tensor}`, which is not quantised")));
            }
        }
        graph.node = nodes.into_iter().map(|n| self.graph.node[n].clone()).collect();
        let mut name = to.to_owned();
        if graph.node.is_empty() {
            // An activation that leaves the network as it is.
            name.push_str("/row");
            let mut row = onnx::GraphBuilder::default();
            row.node("Flatten", &[to], &name, vec![onnx::int("axis", 1)]);
            graph.node = row.graph.node;
        }
        graph.output = vec![pb::ValueInfoProto { name, ..Default::default() }];
        let model = onnx::encode(&pb::ModelProto {
            ir_version: self.model.ir_version,
            opset_import: self.model.opset_import.clone(),
            graph: Some(graph),
            ..Default::default()
        });
        let output = Float::output(&model).map_err(|e| {
            let reason = match self.floats.get(to) {
                Some(Lowered::Island { reason }) => reason.as_str(),
                _ => "",
            };
            unsupported(to, format!("{reason}, and in float {}", e.0))
        })?;
        Ok(Island { model, inputs, shape: output.shape.map(|d| d as u32), is_row: output.is_row })
    }

    /// True if the dequantised `tensor` has the form `[1, n]` in ONNX: a row, or an image that was flattened.
    fn is_row(&self, tensor: &str) -> bool {
        let mut tensor = tensor;
        // A graph that bites its tail ends, too.
        for _ in 0..self.graph.node.len() {
            if let Some(is_row) = self.codes.get(tensor).and_then(|value| self.rows.get(value)) {
                return *is_row;
            }
            let Some(node) = self.producers.get(tensor).map(|n| &self.graph.node[*n]) else { return false };
            match (node.op_type.as_str(), node.input.first()) {
                ("Gemm", _) => return true,
                ("Flatten", _) => return onnx_operator(node).is_some(),
                ("Conv" | "MaxPool" | "AveragePool" | "GlobalAveragePool", _) | (_, None) => return false,
                (_, Some(from)) => tensor = from,
            }
        }
        false
    }
}
