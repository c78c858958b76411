//! What a float model must be before anything is done with it.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::pb;

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
    for tensor in graph.initializer.iter().filter(|t| t.data_type == DataType::Float as i32) {
        let values = edge_runtime::onnx::f32s(tensor)?;
        // One value alone may be the bound of a clamp, which is infinite where there is none.
        if values.len() > 1 && values.iter().any(|v| !v.is_finite()) {
            return Err(QuantizeError::NotFinite(tensor.name.clone()));
        }
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
        for broken in [f32::NAN, f32::INFINITY] {
            let error = check_finite(&model("Add", [0.0, broken]).graph.unwrap()).unwrap_err().to_string();
            assert!(error.contains("`w`"), "{error}");
        }
    }
}
