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
