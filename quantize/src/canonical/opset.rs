//! Operators of older operator sets in the form of version [`onnx::OPSET`] (ONNX operator changelog).

use super::{float_tensor, int_tensor};
use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};

/// The oldest operator set that is read: since then arithmetic broadcasts as it does today.
const OLDEST: i64 = 7;

/// Operators that mean the same from [`OLDEST`] on, or whose older form the canonical rewriting removes.
const UNCHANGED: &[&str] = &[
    "Abs",
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Log",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "Relu",
    "Reshape",
    "Selu",
    "Shape",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Where",
];

/// The operator set of ONNX itself that `model` is written in.
fn version(model: &pb::ModelProto) -> i64 {
    let own = |o: &&pb::OperatorSetIdProto| matches!(o.domain.as_str(), "" | "ai.onnx");
    model.opset_import.iter().find(own).map_or(1, |o| o.version)
}

/// Rewrites the nodes of `model` that an older operator set writes differently.
pub fn modernise(model: &mut pb::ModelProto) -> Result<(), QuantizeError> {
    let version = version(model);
    model.opset_import.iter_mut().filter(|o| o.domain == "ai.onnx").for_each(|o| o.domain.clear());
    if version >= onnx::OPSET {
        return Ok(());
    }
    if version < OLDEST {
        return Err(QuantizeError::Opset { version, oldest: OLDEST });
    }
    let Some(graph) = &mut model.graph else { return Ok(()) };
    let outputs: Vec<String> = graph.output.iter().map(|o| o.name.clone()).collect();
    let mut added = Vec::new();
    for node in &mut graph.node {
        let is_last = node.output.iter().any(|o| outputs.contains(o));
        added.extend(modern(node, version, is_last)?);
    }
    graph.initializer.extend(added);
    model.opset_import.iter_mut().filter(|o| o.domain.is_empty()).for_each(|o| o.version = onnx::OPSET);
    Ok(())
}

/// Rewrites `node` of operator set `version`, and gives the constants that it reads now.
fn modern(node: &mut pb::NodeProto, version: i64, is_last: bool) -> Result<Vec<pb::TensorProto>, QuantizeError> {
    if !node.domain.is_empty() && node.domain != "ai.onnx" {
        return Ok(vec![]);
    }
    match node.op_type.as_str() {
        "BatchNormalization" if onnx::int_or(node, "spatial", 1) == 0 => Err(unknown(node, version)),
        op if UNCHANGED.contains(&op) => Ok(vec![]),
        "Clip" if version < 11 => Ok(bounds(node)),
        "Clip" => Ok(vec![]),
        // Over all axes from `axis` on, and over the one axis since: the same for rows, which an output is.
        "Softmax" | "LogSoftmax" if is_last || onnx::int_or(node, "axis", 1) == -1 => Ok(vec![]),
        "Squeeze" | "Unsqueeze" | "ReduceSum" => Ok(moved(node, &["axes"])),
        "Split" => Ok(moved(node, &["split"])),
        "Slice" if version < 10 => Ok(moved(node, &["starts", "ends", "axes"])),
        "Slice" => Ok(vec![]),
        _ => Err(unknown(node, version)),
    }
}

fn unknown(node: &pb::NodeProto, version: i64) -> QuantizeError {
    QuantizeError::OldOperator { operator: node.op_type.clone(), version, modern: onnx::OPSET }
}

/// The bounds of a `Clip` before version 11: attributes, where absent the ends of `f32`.
fn bounds(node: &mut pb::NodeProto) -> Vec<pb::TensorProto> {
    let output = node.output.first().cloned().unwrap_or_default();
    let mut constants = Vec::new();
    node.input.truncate(1);
    for (key, default) in [("min", f32::MIN), ("max", f32::MAX)] {
        let value = onnx::attribute(node, key).map_or(default, |a| a.f);
        let name = format!("{output}/{key}");
        constants.push(float_tensor(&name, &[], &[value]));
        node.input.push(name);
    }
    node.attribute.clear();
    constants
}

/// Attributes that became inputs: those of `keys` that `node` has, in order.
fn moved(node: &mut pb::NodeProto, keys: &[&str]) -> Vec<pb::TensorProto> {
    let output = node.output.first().cloned().unwrap_or_default();
    let mut constants = Vec::new();
    for key in keys {
        let Some(values) = onnx::attribute(node, key).map(|a| a.ints.clone()) else { continue };
        let name = format!("{output}/{key}");
        node.input.push(name.clone());
        constants.push(int_tensor(&name, &[values.len()], &values));
    }
    node.attribute.retain(|a| !keys.contains(&a.name.as_str()));
    constants
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::engine::{FloatPlan, floats};
    use edge_runtime::onnx::GraphBuilder;

    fn old(version: i64, op: &str, attribute: Vec<pb::AttributeProto>) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 4]);
        b.node(op, &["x"], "m", attribute);
        b.node("Relu", &["m"], "y", vec![]);
        b.output("y", &[1, 4]);
        let mut model = b.finish("m", vec![]);
        model.opset_import[0].version = version;
        model
    }

    #[test]
    fn a_clamp_of_version_10_keeps_its_bounds() {
        let mut model = old(10, "Clip", vec![onnx::float("min", -1.0), onnx::float("max", 6.0)]);
        modernise(&mut model).unwrap();
        assert_eq!(model.opset_import[0].version, onnx::OPSET);
        let outputs = FloatPlan::new(&model, None).unwrap().run(&[1, 4], &[-3.0, 2.0, 6.5, 9.0]).unwrap();
        assert_eq!(floats(&outputs[0]).unwrap(), [0.0, 2.0, 6.0, 6.0]);
    }

    #[test]
    fn what_is_not_known_to_mean_the_same_is_refused_by_name() {
        let error = modernise(&mut old(9, "Upsample", vec![])).unwrap_err().to_string();
        assert!(error.contains("Upsample") && error.contains('9'), "{error}");
        let error = modernise(&mut old(12, "Softmax", vec![])).unwrap_err().to_string();
        assert!(error.contains("Softmax"), "{error}");
        assert!(modernise(&mut old(6, "Relu", vec![])).is_err());
    }

    #[test]
    fn a_modern_model_stays_as_it_is() {
        let model = old(onnx::OPSET, "Upsample", vec![]);
        let mut same = model.clone();
        modernise(&mut same).unwrap();
        assert_eq!(same, model);
    }
}
