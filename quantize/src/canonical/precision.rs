//! Real numbers of 16 and 64 bits in 32: the quantiser and the engine compute in `f32`, which holds the former exactly.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, OnnxError, pb};
use half::{bf16, f16};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::type_proto::Value::TensorType;

/// True for real numbers that are no `f32`.
fn is_other(data_type: i32) -> bool {
    [DataType::Float16, DataType::Bfloat16, DataType::Double].iter().any(|t| data_type == *t as i32)
}

/// Operators that give integers, whatever they read.
const GIVE_INTEGERS: [&str; 6] = ["Shape", "Size", "ArgMax", "ArgMin", "NonZero", "TopK"];

/// Makes every tensor of `graph` that is `float16`, `bfloat16` or `double` a `float`: weights, constants, inputs,
/// outputs and what a `Cast` gives. Casts between real numbers, which such graphs are full of, go.
pub fn settle(graph: &mut pb::GraphProto) -> Result<(), QuantizeError> {
    let mut found = false;
    for node in &mut graph.node {
        for attribute in &mut node.attribute {
            if let Some(tensor) = &mut attribute.t {
                found |= widen_tensor(tensor)?;
            }
            if attribute.name == "to" && node.op_type == "Cast" && is_other(attribute.i as i32) {
                attribute.i = DataType::Float as i64;
                found = true;
            }
        }
    }
    for tensor in &mut graph.initializer {
        found |= widen_tensor(tensor)?;
    }
    for value in graph.input.iter_mut().chain(&mut graph.output) {
        if let Some(TensorType(tensor)) = value.r#type.as_mut().and_then(|t| t.value.as_mut())
            && is_other(tensor.elem_type)
        {
            tensor.elem_type = DataType::Float as i32;
            found = true;
        }
    }
    if found {
        drop_casts(graph);
    }
    Ok(())
}

/// Drops casts of real numbers to real numbers.
fn drop_casts(graph: &mut pb::GraphProto) {
    let mut integers: HashSet<String> =
        graph.initializer.iter().filter(|t| t.data_type != DataType::Float as i32).map(|t| t.name.clone()).collect();
    let outputs: HashSet<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut renamed: HashMap<String, String> = HashMap::new();
    for mut node in std::mem::take(&mut graph.node) {
        for input in &mut node.input {
            if let Some(from) = renamed.get(input) {
                input.clone_from(from);
            }
        }
        let to_float = onnx::int_or(&node, "to", 0) == DataType::Float as i64;
        let reads_integers = node.input.first().is_some_and(|i| integers.contains(i));
        let constant = onnx::attribute(&node, "value").and_then(|a| a.t.as_ref());
        let gives_integers = match node.op_type.as_str() {
            "Cast" => !to_float,
            "Constant" => constant.is_none_or(|t| t.data_type != DataType::Float as i32),
            op => reads_integers || GIVE_INTEGERS.contains(&op),
        };
        if gives_integers {
            integers.extend(node.output.iter().cloned());
        }
        match (node.input.first(), node.output.first()) {
            (Some(from), Some(to)) if node.op_type == "Cast" && to_float && !reads_integers => {
                if outputs.contains(to) {
                    node.op_type = "Identity".into();
                    node.attribute.clear();
                    graph.node.push(node);
                } else {
                    renamed.insert(to.clone(), from.clone());
                }
            }
            _ => graph.node.push(node),
        }
    }
}

/// Widens `tensor`, if it is other than `f32`. Halves lie in `raw_data`, or one in the low half of each `int32_data`
/// (ONNX IR, `TensorProto`).
fn widen_tensor(tensor: &mut pb::TensorProto) -> Result<bool, OnnxError> {
    if !is_other(tensor.data_type) {
        return Ok(false);
    }
    if tensor.data_type == DataType::Double as i32 {
        narrow_tensor(tensor)?;
        return Ok(true);
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
    Ok(true)
}

/// Rounds the doubles of `tensor`.
fn narrow_tensor(tensor: &mut pb::TensorProto) -> Result<(), OnnxError> {
    let count: usize = onnx::dims(tensor)?.iter().product();
    let values: Vec<f64> = match tensor.raw_data.is_empty() {
        true => std::mem::take(&mut tensor.double_data),
        false => tensor.raw_data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
    };
    if values.len() != count {
        let reason = format!("{} values for dimensions {:?}", values.len(), tensor.dims);
        return Err(OnnxError::Tensor { name: tensor.name.clone(), reason });
    }
    tensor.raw_data = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
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
