//! ONNX files: reading and writing `ModelProto`, and the few helpers that exporting and lowering share.

use crate::contract::{self, ActivationRanges, Contract, ContractError};
use crate::files::write_atomically;
use prost::Message;
use std::path::{Path, PathBuf};
pub use tract_onnx::pb;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{tensor_shape_proto, type_proto};

/// Name of the input tensor of every network of ours.
pub const INPUT: &str = "image";
/// Name of the output that holds the logits, `[1, classes]`.
pub const LOGITS: &str = "logits";
/// Name of the output that holds the class activation map, `[1, classes, h, w]`.
pub const MAP: &str = "map";
/// The operator set that is written: per-channel `QuantizeLinear` came with version 13, `HardSwish` with 14 (ONNX operator
/// changelog).
pub const OPSET: i64 = 14;

/// Why an ONNX file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no `ModelProto`.
    #[error("{path}: not an ONNX model ({reason})")]
    NotOnnx {
        /// The file.
        path: PathBuf,
        /// What the protobuf decoder said.
        reason: String,
    },
    /// A tensor is not stored the way it must be.
    #[error("tensor `{name}`: {reason}")]
    Tensor {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Reads a `ModelProto` and checks that it holds a graph.
pub fn load(path: &Path) -> Result<pb::ModelProto, OnnxError> {
    let bytes = std::fs::read(path).map_err(|source| OnnxError::Io { path: path.to_owned(), source })?;
    decode(&bytes, path)
}

/// Decodes a `ModelProto`; `path` is only named in errors.
pub fn decode(bytes: &[u8], path: &Path) -> Result<pb::ModelProto, OnnxError> {
    let not = |reason: String| OnnxError::NotOnnx { path: path.to_owned(), reason };
    let model = pb::ModelProto::decode(bytes).map_err(|e| not(e.to_string()))?;
    match &model.graph {
        Some(g) if !g.node.is_empty() => Ok(model),
        _ => Err(not("it holds no graph".into())),
    }
}

/// The operators of the model in `bytes`, each once, in order; none of bytes that are no model.
pub fn operators(bytes: &[u8]) -> Vec<String> {
    let mut seen: Vec<String> = Vec::new();
    for node in decode(bytes, Path::new("")).iter().flat_map(|m| &m.graph).flat_map(|g| &g.node) {
        if !seen.contains(&node.op_type) {
            seen.push(node.op_type.clone());
        }
    }
    seen
}

/// The protobuf bytes of `model`.
pub fn encode(model: &pb::ModelProto) -> Vec<u8> {
    model.encode_to_vec()
}

/// Writes `model` whole or not at all.
pub fn save(model: &pb::ModelProto, path: &Path) -> Result<(), OnnxError> {
    write_atomically(path, &encode(model)).map_err(|source| OnnxError::Io { path: path.to_owned(), source })
}

/// The contract in `model`'s metadata.
pub fn contract(model: &pb::ModelProto) -> Result<Contract, ContractError> {
    Contract::from_metadata(|k| metadata(model, k))
}

/// The recorded activation ranges in `model`'s metadata, if there are any.
pub fn ranges(model: &pb::ModelProto) -> Result<Option<ActivationRanges>, ContractError> {
    contract::ranges_from_metadata(|k| metadata(model, k))
}

/// One value of `metadata_props`.
pub fn metadata(model: &pb::ModelProto, key: &str) -> Option<String> {
    model.metadata_props.iter().find(|p| p.key == key).map(|p| p.value.clone())
}

/// Adds or replaces one value of `metadata_props`.
pub fn set_metadata(model: &mut pb::ModelProto, key: String, value: String) {
    model.metadata_props.retain(|p| p.key != key);
    model.metadata_props.push(pb::StringStringEntryProto { key, value });
}

/// Builds a graph node by node; tensors are named by the caller.
#[derive(Default)]
pub struct GraphBuilder {
    /// The graph so far.
    pub graph: pb::GraphProto,
}

impl GraphBuilder {
    /// A node of the default operator set with one output, which also names the node.
    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) {
        self.graph.node.push(pb::NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: op.to_owned(),
            attribute: attributes,
            ..Default::default()
        });
    }

    /// A float initializer of shape `dims`.
    pub fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.raw(name, dims, DataType::Float, raw);
    }

    /// An initializer of any type from its little-endian bytes (ONNX IR, `TensorProto.raw_data`).
    pub fn raw(&mut self, name: &str, dims: &[usize], data_type: DataType, raw: Vec<u8>) {
        self.graph.initializer.push(pb::TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|d| *d as i64).collect(),
            data_type: data_type as i32,
            raw_data: raw,
            ..Default::default()
        });
    }

    /// Declares the graph's float input.
    pub fn input(&mut self, name: &str, dims: &[usize]) {
        self.graph.input.push(value_info(name, dims));
    }

    /// Declares a float output of the graph.
    pub fn output(&mut self, name: &str, dims: &[usize]) {
        self.graph.output.push(value_info(name, dims));
    }

    /// The finished model with `metadata` as its `metadata_props`.
    pub fn finish(mut self, name: &str, metadata: Vec<(String, String)>) -> pb::ModelProto {
        self.graph.name = name.to_owned();
        pb::ModelProto {
            ir_version: 8,
            opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }],
            producer_name: "Hilum".into(),
            producer_version: env!("CARGO_PKG_VERSION").into(),
            graph: Some(self.graph),
            metadata_props: metadata
                .into_iter()
                .map(|(key, value)| pb::StringStringEntryProto { key, value })
                .collect(),
            ..Default::default()
        }
    }
}

/// A float tensor `name` of shape `dims`.
pub fn value_info(name: &str, dims: &[usize]) -> pb::ValueInfoProto {
    let dim = |d: &usize| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*d as i64)),
        ..Default::default()
    };
    pb::ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(pb::TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: DataType::Float as i32,
                shape: Some(pb::TensorShapeProto { dim: dims.iter().map(dim).collect() }),
            })),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// An integer attribute.
pub fn int(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Int as i32, i: value, ..Default::default() }
}

/// An attribute of several integers.
pub fn ints(name: &str, values: &[i64]) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::Ints as i32,
        ints: values.to_vec(),
        ..Default::default()
    }
}

/// A float attribute.
pub fn float(name: &str, value: f32) -> pb::AttributeProto {
    pb::AttributeProto { name: name.into(), r#type: AttributeType::Float as i32, f: value, ..Default::default() }
}

/// Attribute `name` of `node`.
pub fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// Integer attribute `name` of `node`, or `default`.
pub fn int_or(node: &pb::NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

/// Integers attribute `name` of `node`, or `default`.
pub fn ints_or(node: &pb::NodeProto, name: &str, default: &[i64]) -> Vec<i64> {
    attribute(node, name).map_or(default.to_vec(), |a| a.ints.clone())
}

/// The dimensions of `tensor` as sizes.
pub fn dims(tensor: &pb::TensorProto) -> Result<Vec<usize>, OnnxError> {
    let bad = || OnnxError::Tensor { name: tensor.name.clone(), reason: format!("dimensions {:?}", tensor.dims) };
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims = dims.ok_or_else(bad)?;
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n < 1 << 31).ok_or_else(bad)?;
    Ok(dims)
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $ty:ty, $data_type:ident, $field:ident) => {
        $(#[$doc])*
        pub fn $name(tensor: &pb::TensorProto) -> Result<Vec<$ty>, OnnxError> {
            let bad = |reason: String| OnnxError::Tensor { name: tensor.name.clone(), reason };
            if tensor.data_type != DataType::$data_type as i32 {
                return Err(bad(format!("data type {} where {} was expected", tensor.data_type, stringify!($ty))));
            }
            let count: usize = dims(tensor)?.iter().product();
            let values: Vec<$ty> = if tensor.raw_data.is_empty() {
                tensor.$field.iter().map(|v| *v as $ty).collect()
            } else {
                let (chunks, rest) = tensor.raw_data.as_chunks::<{ size_of::<$ty>() }>();
                if !rest.is_empty() {
                    return Err(bad("a cut value at the end of its data".into()));
                }
                chunks.iter().map(|c| <$ty>::from_le_bytes(*c)).collect()
            };
            if values.len() != count {
                return Err(bad(format!("{} values for dimensions {:?} (external data are not read)", values.len(), tensor.dims)));
            }
            Ok(values)
        }
    };
}

reader!(
    /// The values of a float tensor.
    f32s, f32, Float, float_data
);
reader!(
    /// The values of an int8 tensor.
    i8s, i8, Int8, int32_data
);
reader!(
    /// The values of a uint8 tensor.
    u8s, u8, Uint8, int32_data
);
reader!(
    /// The values of an int32 tensor.
    i32s, i32, Int32, int32_data
);
reader!(
    /// The values of an int64 tensor.
    i64s, i64, Int64, int64_data
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_round_trips_with_its_metadata() {
        let mut b = GraphBuilder::default();
        b.input(INPUT, &[1, 1, 2, 2]);
        b.floats("w", &[2], &[1.5, -2.0]);
        b.node("Relu", &[INPUT], "y", vec![]);
        b.output("y", &[1, 1, 2, 2]);
        let model = b.finish("t", vec![("hilum.x".into(), "1".into())]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        save(&model, &path).unwrap();
        let back = load(&path).unwrap();
        assert_eq!(metadata(&back, "hilum.x").as_deref(), Some("1"));
        assert_eq!(f32s(&back.graph.unwrap().initializer[0]).unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn noise_is_no_model() {
        assert!(decode(b"", Path::new("x")).is_err());
        assert!(decode(b"GIF89a, or so", Path::new("x")).is_err());
    }

    #[test]
    fn a_tensor_with_too_few_values_is_refused() {
        let t = pb::TensorProto {
            name: "w".into(),
            dims: vec![3],
            data_type: DataType::Float as i32,
            float_data: vec![1.0],
            ..Default::default()
        };
        assert!(f32s(&t).is_err());
    }
}
