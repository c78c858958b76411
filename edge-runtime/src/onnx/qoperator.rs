//! `QLinearConv` (ONNX operators, since version 10) as what it stands for: a convolution between `DequantizeLinear` and
//! `QuantizeLinear`.

use super::{OnnxError, f32s, int, node, pb};
use std::collections::HashMap;
use tract_onnx::pb::tensor_proto::DataType;

/// Writes every `QLinearConv` of `model` out.
pub fn write_out(model: &mut pb::ModelProto) -> Result<(), OnnxError> {
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let mut made = Vec::new();
    let mut nodes = Vec::new();
    {
        let constants: HashMap<&str, &pb::TensorProto> =
            graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for node in &graph.node {
            match written_out(node, &constants)? {
                Some((parts, bias_scale)) => {
                    nodes.extend(parts);
                    made.extend(bias_scale);
                }
                None => nodes.push(node.clone()),
            }
        }
    }
    graph.node = nodes;
    graph.initializer.extend(made);
    Ok(())
}

/// Nodes, and the scale of a bias.
type WrittenOut = (Vec<pb::NodeProto>, Option<pb::TensorProto>);

/// What `conv` stands for; `None` if it is no `QLinearConv` with constant scales.
fn written_out(
    conv: &pb::NodeProto,
    constants: &HashMap<&str, &pb::TensorProto>,
) -> Result<Option<WrittenOut>, OnnxError> {
    let inputs: Vec<&str> = conv.input.iter().map(String::as_str).collect();
    let ([x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, rest @ ..], [output], "QLinearConv") =
        (inputs.as_slice(), conv.output.as_slice(), conv.op_type.as_str())
    else {
        return Ok(None);
    };
    let part = |name: &str| format!("{output}/qlinear/{name}");
    let [image, weights, bias, sums] = ["image", "weights", "bias", "sums"].map(part);
    let mut nodes = vec![
        node("DequantizeLinear", &[x, x_scale, x_zero], &image, vec![]),
        node("DequantizeLinear", &[w, w_scale, w_zero], &weights, vec![int("axis", 0)]),
    ];
    let mut read = vec![image.as_str(), weights.as_str()];
    let mut scale = None;
    if let [codes, ..] = rest {
        let (Some(of_image), Some(of_weights)) = (constants.get(x_scale), constants.get(w_scale)) else {
            return Ok(None);
        };
        let [of_image] = f32s(of_image)?[..] else { return Ok(None) };
        let scales: Vec<f32> = f32s(of_weights)?.iter().map(|scale| scale * of_image).collect();
        let name = part("bias_scale");
        nodes.push(node("DequantizeLinear", &[codes, &name], &bias, vec![int("axis", 0)]));
        scale = Some(pb::TensorProto {
            name,
            dims: of_weights.dims.clone(),
            data_type: DataType::Float as i32,
            float_data: scales,
            ..Default::default()
        });
        read.push(&bias);
    }
    let mut float = node("Conv", &read, &sums, conv.attribute.clone());
    float.name.clone_from(&conv.name);
    nodes.push(float);
    nodes.push(node("QuantizeLinear", &[&sums, y_scale, y_zero], output, vec![]));
    Ok(Some((nodes, scale)))
}
