//! What a float model must be before anything is done with it.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};

/// Operators of models that are quantised already: QDQ, operators on codes, and dynamic quantisation.
const QUANTISED: [&str; 11] = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "MatMulIntegerToFloat",
    "QGemm",
    "QAttention",
    "QEmbedLayerNormalization",
];

/// Refuses a model that is quantised already.
pub fn check_float(model: &pb::ModelProto) -> Result<(), QuantizeError> {
    let quantised = |n: &pb::NodeProto| QUANTISED.contains(&n.op_type.as_str()) || n.op_type.starts_with("QLinear");
    match model.graph.iter().flat_map(|g| &g.node).any(quantised) {
        true => Err(QuantizeError::AlreadyQuantised),
        false => Ok(()),
    }
}

/// Refuses weights that are no numbers: a training run that diverged.
pub fn check_finite(graph: &pb::GraphProto) -> Result<(), QuantizeError> {
    use tract_onnx::pb::tensor_proto::DataType;
    let is_float = |t: &&pb::TensorProto| t.data_type == DataType::Float as i32;
    let weights = graph.initializer.iter().map(|tensor| (&tensor.name, tensor));
    let constants = graph.node.iter().filter(|n| n.op_type == "Constant").flat_map(|n| {
        let values = n.attribute.iter().filter_map(|a| a.t.as_ref());
        n.output.first().into_iter().flat_map(move |name| values.clone().map(move |tensor| (name, tensor)))
    });
    for (name, tensor) in weights.chain(constants).filter(|(_, tensor)| is_float(tensor)) {
        let values = edge_runtime::onnx::f32s(tensor)?;
        // One value alone may be the bound of a clamp, which is infinite where there is none.
        let is_broken = |v: &f32| v.is_nan() || values.len() > 1 && v.is_infinite();
        if values.iter().any(is_broken) {
            return Err(QuantizeError::NotFinite(name.clone()));
        }
    }
    Ok(())
}

/// Refuses operators that the engines read differently, or not at all.
pub fn check_operators(graph: &pb::GraphProto) -> Result<(), QuantizeError> {
    for node in &graph.node {
        let is_set = |name: &str| onnx::attribute(node, name).is_some_and(|a| a.i != 0 || !a.ints.is_empty());
        let reason = match node.op_type.as_str() {
            "Celu" if onnx::attribute(node, "alpha").is_some_and(|a| a.f != 1.0) => "with another alpha than 1",
            "GlobalLpPool" | "LpPool" => "over a norm",
            "ConvTranspose" if is_set("output_shape") => "with an output_shape, not pads",
            "BatchNormalization" if is_set("training_mode") => "that computes its statistics from the batch",
            "If" | "Loop" | "Scan" => "that chooses at run time which layers run",
            _ => continue,
        };
        let node_name = if node.name.is_empty() { node.output.first() } else { Some(&node.name) };
        let name = node_name.cloned().unwrap_or_default();
        return Err(QuantizeError::Operator { node: name, operator: node.op_type.clone(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::GraphBuilder;

    #[test]
    fn quantised_models_and_broken_weights_are_refused() {
        let model = |op: &str, weights: [f32; 2]| {
            let mut b = GraphBuilder::default();
            b.input("x", &[1, 2]);
            b.floats("w", &[2], &weights);
            b.node(op, &["x", "w"], "y", vec![]);
            b.output("y", &[1, 2]);
            b.finish("m", vec![])
        };
        for op in ["QLinearConv", "DynamicQuantizeLinear", "QuantizeLinear", "QGemm"] {
            let error = check_float(&model(op, [0.0; 2])).unwrap_err().to_string();
            assert!(error.contains("quantised already"), "{error}");
        }
        check_float(&model("Add", [0.0; 2])).unwrap();
        check_finite(&model("Add", [0.0; 2]).graph.unwrap()).unwrap();
        let mut constant = model("Add", [0.0; 2]).graph.unwrap();
        let mut tensor = constant.initializer.remove(0);
        tensor.raw_data[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        constant.node.push(pb::NodeProto {
            op_type: "Constant".into(),
            output: vec!["c".into()],
            attribute: vec![pb::AttributeProto { name: "value".into(), t: Some(tensor), ..Default::default() }],
            ..Default::default()
        });
        assert!(check_finite(&constant).unwrap_err().to_string().contains("`c`"));
        for broken in [f32::NAN, f32::INFINITY] {
            let error = check_finite(&model("Add", [0.0, broken]).graph.unwrap()).unwrap_err().to_string();
            assert!(error.contains("`w`"), "{error}");
        }
    }

    #[test]
    fn operators_that_are_read_differently_are_refused_by_name() {
        let graph = |op: &str, attribute: Vec<pb::AttributeProto>| {
            let mut b = GraphBuilder::default();
            b.input("x", &[1, 2]);
            b.node(op, &["x"], "y", attribute);
            b.finish("m", vec![]).graph.unwrap()
        };
        for (op, attribute) in [
            ("Celu", vec![onnx::float("alpha", 0.5)]),
            ("GlobalLpPool", vec![]),
            ("ConvTranspose", vec![onnx::ints("output_shape", &[8, 8])]),
            ("BatchNormalization", vec![onnx::int("training_mode", 1)]),
            ("If", vec![]),
        ] {
            let error = check_operators(&graph(op, attribute)).unwrap_err().to_string();
            assert!(error.contains(op), "{error}");
        }
        check_operators(&graph("Celu", vec![onnx::float("alpha", 1.0)])).unwrap();
        check_operators(&graph("BatchNormalization", vec![onnx::int("training_mode", 0)])).unwrap();
    }
}
