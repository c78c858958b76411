//! Graphs built node by node.

use super::{OPSET, pb};
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{tensor_shape_proto, type_proto};

/// Builds a graph node by node; tensors are named by the caller.
#[derive(Default)]
pub struct GraphBuilder {
    /// The graph so far.
    pub graph: pb::GraphProto,
}

impl GraphBuilder {
    /// A node of the default operator set with one output, which also names the node.
    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<pb::AttributeProto>) {
        self.graph.node.push(node(op, inputs, output, attributes));
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

/// A node of the default operator set with one output, which also names it.
pub fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<pb::AttributeProto>) -> pb::NodeProto {
    pb::NodeProto {
        input: inputs.iter().map(ToString::to_string).collect(),
        output: vec![output.to_owned()],
        name: output.to_owned(),
        op_type: op.to_owned(),
        attribute,
        ..Default::default()
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

/// Length of a graph output `[1, n]`; `None` for any other shape.
pub fn row(output: &pb::ValueInfoProto) -> Option<usize> {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
    use tract_onnx::pb::type_proto::Value::TensorType;
    let TensorType(tensor) = output.r#type.as_ref()?.value.as_ref()?;
    match tensor.shape.as_ref()?.dim.as_slice() {
        [_, n] => match n.value {
            Some(DimValue(n)) => usize::try_from(n).ok().filter(|n| (1..=65_536).contains(n)),
            _ => None,
        },
        _ => None,
    }
}
