//! ONNX files: reading and writing `ModelProto`, and the few helpers that exporting and lowering share.

mod attribute;
mod build;
mod external;
mod qoperator;
mod tensor;

pub use attribute::{attribute, int_or, ints_or};
pub use build::{GraphBuilder, float, int, ints, node, row, value_info};
pub use external::{external_file, read_external};
pub use qoperator::write_out;
pub use tensor::{dims, f32s, i8s, i32s, i64s, u8s};
pub use tract_onnx::pb;

use crate::model::contract::{self, ActivationRanges, Contract, ContractError};
use crate::process::files::write_atomically;
use prost::Message;
use std::path::{Path, PathBuf};

/// Name of the input tensor of every network of ours.
pub const INPUT: &str = "image";
/// Name of the output that holds the logits, `[1, classes]`.
pub const LOGITS: &str = "logits";
/// Name of the output that holds the class activation map, `[1, classes, h, w]`.
pub const MAP: &str = "map";
/// The operator set that is written: per-channel `QuantizeLinear` came with version 13, `HardSwish` with 14 (ONNX
/// operator changelog).
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
    /// A file that holds weights of the model cannot be read.
    #[error("{path}: the model's weights lie in this file, and it cannot be read ({source}): put it beside the model")]
    External {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
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

#[cfg(test)]
mod tests {
    use super::*;
    use tract_onnx::pb::tensor_proto::DataType;

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
