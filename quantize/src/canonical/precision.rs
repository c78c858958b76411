//! Weights of 16 bits in 32: the quantiser and the engine compute in `f32`, which holds both kinds exactly.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, OnnxError, pb};
use half::{bf16, f16};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value::TensorType;

fn is_half(data_type: i32) -> bool {
    data_type == DataType::Float16 as i32 || data_type == DataType::Bfloat16 as i32
}

/// Makes every tensor of `graph` that is `float16` or `bfloat16` a `float`: weights, constants, inputs, outputs and
/// what a `Cast` gives.
pub fn widen(graph: &mut pb::GraphProto) -> Result<(), QuantizeError> {
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            if let Some(tensor) = &mut attribute.t {
                widen_tensor(tensor)?;
            }
            if attribute.name == "to" && node.op_type == "Cast" && is_half(attribute.i as i32) {
                attribute.i = DataType::Float as i64;
            }
        }
    }
    for tensor in &mut graph.initializer {
        widen_tensor(tensor)?;
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
            && is_half(tensor.elem_type)
        {
            tensor.elem_type = DataType::Float as i32;
        }
    }
    Ok(())
}

/// The values lie in `raw_data`, or one in the low half of each `int32_data` (ONNX IR, `TensorProto`).
fn widen_tensor(tensor: &mut pb::TensorProto) -> Result<(), OnnxError> {
    if !is_half(tensor.data_type) {
        return Ok(());
    }
    let bad = |reason: String| OnnxError::Tensor { name: tensor.name.clone(), reason };
    let count: usize = onnx::dims(tensor)?.iter().product();
    let codes: Vec<u16> = if tensor.raw_data.is_empty() {
        tensor.int32_data.iter().map(|v| *v as u16).collect()
    } else {
        let (codes, rest) = tensor.raw_data.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(bad("a cut value at the end of its data".into()));
        }
        codes.iter().map(|code| u16::from_le_bytes(*code)).collect()
    };
    if codes.len() != count {
        return Err(bad(format!("{} values for dimensions {:?}", codes.len(), tensor.dims)));
    }
    let is_ieee = tensor.data_type == DataType::Float16 as i32;
    let wide = |code: &u16| if is_ieee { f16::from_bits(*code).to_f32() } else { bf16::from_bits(*code).to_f32() };
    tensor.raw_data = codes.iter().flat_map(|code| wide(code).to_le_bytes()).collect();
    tensor.int32_data.clear();
    tensor.data_type = DataType::Float as i32;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(data_type: DataType, codes: &[u16], raw: bool) -> pb::TensorProto {
        let mut tensor = pb::TensorProto {
            name: "w".into(),
            dims: vec![codes.len() as i64],
            data_type: data_type as i32,
            ..Default::default()
        };
        match raw {
            true => tensor.raw_data = codes.iter().flat_map(|c| c.to_le_bytes()).collect(),
            false => tensor.int32_data = codes.iter().map(|c| i32::from(*c)).collect(),
        }
        tensor
    }

    #[test]
    fn both_kinds_are_widened_exactly() {
        let values = [0.0f32, -1.5, 0.099_975_586, 65_504.0];
        for raw in [false, true] {
            let mut ieee = tensor(DataType::Float16, &values.map(|v| f16::from_f32(v).to_bits()), raw);
            widen_tensor(&mut ieee).unwrap();
            assert_eq!(onnx::f32s(&ieee).unwrap(), values);
            let mut brain = tensor(DataType::Bfloat16, &[0x3f80, 0xc040], raw);
            widen_tensor(&mut brain).unwrap();
            assert_eq!(onnx::f32s(&brain).unwrap(), [1.0, -3.0]);
        }
    }

    #[test]
    fn a_cut_tensor_is_refused() {
        let mut cut = tensor(DataType::Float16, &[0, 1], true);
        cut.raw_data.pop();
        assert!(widen_tensor(&mut cut).is_err());
        cut.raw_data.pop();
        assert!(widen_tensor(&mut cut).is_err());
    }
}
