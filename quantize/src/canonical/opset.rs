//! Operators of older operator sets in the form of version [`onnx::OPSET`] (ONNX operator changelog).

use super::{constant, float_tensor, int_tensor};
use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};
use tract_onnx::pb::attribute_proto::AttributeType;

/// The oldest operator set that is read: since then arithmetic broadcasts as it does today.
const OLDEST: i64 = 7;

/// Operators that mean the same from [`OLDEST`] on, or whose older form the canonical rewriting removes.
const UNCHANGED: &[&str] = &[
    "Abs",
    "Acos",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Atan",
    "AveragePool",
    "Cast",
    "Ceil",
    "Celu",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "CumSum",
    "DepthToSpace",
    "Div",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gemm",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LpNormalization",
    "LpPool",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "MeanVarianceNormalization",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "NonMaxSuppression",
    "NonZero",
    "Not",
    "OneHot",
    "Or",
    "PRelu",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Round",
    "Selu",
    "Shape",
    "Sigmoid",
    "Sign",
    "Sin",
    "Size",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Sqrt",
    "Sub",
    "Sum",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "Transpose",
    "Where",
    "Xor",
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
    let mut old = Old { version, outputs, constants: std::mem::take(&mut graph.initializer), nodes: Vec::new() };
    for node in std::mem::take(&mut graph.node) {
        old.rewrite(node)?;
    }
    graph.node = old.nodes;
    graph.initializer = old.constants;
    model.opset_import.iter_mut().filter(|o| o.domain.is_empty()).for_each(|o| o.version = onnx::OPSET);
    Ok(())
}

/// A graph of an older operator set while it is rewritten.
struct Old {
    version: i64,
    outputs: Vec<String>,
    constants: Vec<pb::TensorProto>,
    nodes: Vec<pb::NodeProto>,
}

impl Old {
    fn rewrite(&mut self, mut node: pb::NodeProto) -> Result<(), QuantizeError> {
        if !node.domain.is_empty() && node.domain != "ai.onnx" {
            self.nodes.push(node);
            return Ok(());
        }
        let is_last = node.output.iter().any(|o| self.outputs.contains(o));
        match node.op_type.as_str() {
            "BatchNormalization" if onnx::int_or(&node, "spatial", 1) == 0 => return Err(self.unknown(&node)),
            "BatchNormalization" => node.attribute.retain(|a| a.name != "spatial"),
            // Its share of zeros matters in training alone.
            "Dropout" => node.attribute.retain(|a| a.name != "ratio"),
            op if UNCHANGED.contains(&op) => {}
            "Clip" if self.version < 11 => self.bounds(&mut node),
            "Clip" => {}
            // Over all axes from `axis` on, and over the one axis since: the same for rows, which an output is.
            "Softmax" | "LogSoftmax" if self.version == 13 || is_last || onnx::int_or(&node, "axis", 1) == -1 => {}
            "Softmax" | "LogSoftmax" => return self.softmax_of_a_matrix(node),
            "Squeeze" | "Unsqueeze" | "ReduceSum" if self.version < 13 => {
                self.attributes_to_inputs(&mut node, &["axes"])
            }
            "Split" if self.version < 13 => self.attributes_to_inputs(&mut node, &["split"]),
            "Squeeze" | "Unsqueeze" | "ReduceSum" | "Split" => {}
            "Slice" if self.version < 10 => self.attributes_to_inputs(&mut node, &["starts", "ends", "axes"]),
            "Slice" => {}
            "Pad" if self.version < 11 => self.padding(&mut node),
            "Pad" => {}
            "Upsample" if self.version < 10 => self.resize(&mut node)?,
            "Resize" if self.version < 11 => self.resize(&mut node)?,
            "Resize" => {}
            _ => return Err(self.unknown(&node)),
        }
        self.nodes.push(node);
        Ok(())
    }

    fn unknown(&self, node: &pb::NodeProto) -> QuantizeError {
        QuantizeError::OldOperator { operator: node.op_type.clone(), version: self.version, modern: onnx::OPSET }
    }

    /// Adds the constant `tensor` and gives its name.
    fn constant(&mut self, tensor: pb::TensorProto) -> String {
        let name = tensor.name.clone();
        self.constants.push(tensor);
        name
    }

    /// The bounds of a `Clip` before version 11: attributes, where absent the ends of `f32`.
    fn bounds(&mut self, node: &mut pb::NodeProto) {
        let output = first_output(node);
        node.input.truncate(1);
        for (key, default) in [("min", f32::MIN), ("max", f32::MAX)] {
            let value = onnx::attribute(node, key).map_or(default, |a| a.f);
            let input = self.constant(float_tensor(&format!("{output}/canonical/{key}"), &[], &[value]));
            node.input.push(input);
        }
        node.attribute.clear();
    }

    /// Attributes that became inputs: those of `keys` that `node` has, in order.
    fn attributes_to_inputs(&mut self, node: &mut pb::NodeProto, keys: &[&str]) {
        let output = first_output(node);
        for key in keys {
            let Some(values) = onnx::attribute(node, key).map(|a| a.ints.clone()) else { continue };
            let input = self.constant(int_tensor(&format!("{output}/canonical/{key}"), &[values.len()], &values));
            node.input.push(input);
        }
        node.attribute.retain(|a| !keys.contains(&a.name.as_str()));
    }

    /// `Pad` before version 11: widths and value are attributes.
    fn padding(&mut self, node: &mut pb::NodeProto) {
        let value = onnx::attribute(node, "value").map_or(0.0, |a| a.f);
        self.attributes_to_inputs(node, &["pads"]);
        let input = self.constant(float_tensor(&format!("{}/canonical/value", first_output(node)), &[], &[value]));
        node.input.push(input);
        node.attribute.retain(|a| a.name != "value");
    }

    /// `Upsample`, and `Resize` of version 10, as `Resize` of version 11: places are found by dividing by the scale
    /// and rounding down. Shrinking to the nearest pixel rounded up, so it is refused.
    fn resize(&mut self, node: &mut pb::NodeProto) -> Result<(), QuantizeError> {
        let output = first_output(node);
        let scales = match onnx::attribute(node, "scales") {
            Some(a) => self.constant(float_tensor(&format!("{output}/canonical/scales"), &[a.floats.len()], &a.floats)),
            None => node.input.get(1).cloned().unwrap_or_default(),
        };
        let mode =
            onnx::attribute(node, "mode").map_or("nearest".into(), |a| String::from_utf8_lossy(&a.s).into_owned());
        let factors = self.floats(&scales)?;
        let enlarges = factors.is_some_and(|f| f.iter().all(|factor| *factor >= 1.0));
        if !(mode == "linear" || mode == "nearest" && (enlarges || node.op_type == "Upsample")) {
            return Err(self.unknown(node));
        }
        node.op_type = "Resize".into();
        node.input = vec![node.input.first().cloned().unwrap_or_default(), String::new(), scales];
        node.attribute = vec![
            text("mode", &mode),
            text("coordinate_transformation_mode", "asymmetric"),
            text("nearest_mode", "floor"),
        ];
        Ok(())
    }

    /// The values of the constant `name`: an initializer or a `Constant`.
    fn floats(&self, name: &str) -> Result<Option<Vec<f32>>, QuantizeError> {
        let node = self.nodes.iter().find(|n| n.op_type == "Constant" && n.output.first().is_some_and(|o| o == name));
        let tensor = self.constants.iter().find(|t| t.name == name).cloned();
        Ok(tensor.or_else(|| node.and_then(|n| constant(n, name))).as_ref().map(onnx::f32s).transpose()?)
    }

    /// `Softmax` before version 13: over a matrix of all axes before `axis` and all from it on.
    fn softmax_of_a_matrix(&mut self, mut node: pb::NodeProto) -> Result<(), QuantizeError> {
        let output = first_output(&node);
        let input = node.input.first().cloned().ok_or_else(|| self.unknown(&node))?;
        let [shape, flat, row] = ["shape", "flat", "row"].map(|part| format!("{output}/canonical/{part}"));
        let axis = onnx::int_or(&node, "axis", 1);
        self.nodes.push(onnx::node("Shape", &[&input], &shape, vec![]));
        self.nodes.push(onnx::node("Flatten", &[&input], &flat, vec![onnx::int("axis", axis)]));
        node.name.clone_from(&row);
        node.input = vec![flat];
        node.output = vec![row.clone()];
        node.attribute = vec![onnx::int("axis", -1)];
        self.nodes.push(node);
        self.nodes.push(onnx::node("Reshape", &[&row, &shape], &output, vec![]));
        Ok(())
    }
}

fn first_output(node: &pb::NodeProto) -> String {
    node.output.first().cloned().unwrap_or_default()
}

fn text(name: &str, value: &str) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: AttributeType::String as i32,
        s: value.as_bytes().to_vec(),
        ..Default::default()
    }
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
        let error = modernise(&mut old(9, "Scan", vec![])).unwrap_err().to_string();
        assert!(error.contains("Scan") && error.contains('9'), "{error}");
        assert!(modernise(&mut old(6, "Relu", vec![])).is_err());
    }

    /// What `model` gives of `values` shaped `dims`, once it is modern.
    fn runs(mut model: pb::ModelProto, dims: &[usize], values: &[f32]) -> Vec<f32> {
        modernise(&mut model).unwrap();
        let outputs = FloatPlan::new(&model, None).unwrap().run(dims, values).unwrap();
        floats(&outputs[0]).unwrap().to_vec()
    }

    /// One operator of an older set on `[1, 1, 2, 2]`.
    fn plane(version: i64, op: &str, attribute: Vec<pb::AttributeProto>, to: &[usize]) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 1, 2, 2]);
        b.node(op, &["x"], "m", attribute);
        b.node("Neg", &["m"], "y", vec![]);
        b.output("y", to);
        let mut model = b.finish("m", vec![]);
        model.opset_import[0].version = version;
        model
    }

    #[test]
    fn padding_and_enlarging_of_older_sets_give_what_they_gave() {
        let values = [1.0, 2.0, 3.0, 4.0];
        let pads = vec![onnx::ints("pads", &[0, 0, 0, 1, 0, 0, 0, 0]), onnx::float("value", 9.0)];
        let padded = runs(plane(10, "Pad", pads, &[1, 1, 2, 3]), &[1, 1, 2, 2], &values);
        assert_eq!(padded, [-9.0, -1.0, -2.0, -9.0, -3.0, -4.0]);
        for mode in ["nearest", "linear"] {
            let floats = vec![1.0, 1.0, 1.0, 2.0];
            let scales = pb::AttributeProto { name: "scales".into(), floats, ..Default::default() };
            let model = plane(8, "Upsample", vec![text("mode", mode), scales], &[1, 1, 2, 4]);
            let middle = if mode == "linear" { 1.5 } else { 1.0 };
            let enlarged = runs(model, &[1, 1, 2, 2], &values);
            assert_eq!(enlarged, [-1.0, -middle, -2.0, -2.0, -3.0, -middle - 2.0, -4.0, -4.0]);
        }
    }

    #[test]
    fn softmax_of_older_sets_is_over_all_axes_behind_the_given_one() {
        let given = runs(plane(12, "Softmax", vec![], &[1, 1, 2, 2]), &[1, 1, 2, 2], &[0.0, 1.0, 2.0, 3.0]);
        let sum: f32 = (0..4).map(|i| (i as f32).exp()).sum();
        for (i, value) in given.iter().enumerate() {
            assert!((value + (i as f32).exp() / sum).abs() < 1e-6, "{given:?}");
        }
    }

    #[test]
    fn shrinking_to_the_nearest_pixel_is_refused() {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 1, 2, 2]);
        b.floats("s", &[4], &[1.0, 1.0, 0.5, 0.5]);
        b.node("Resize", &["x", "s"], "y", vec![]);
        b.output("y", &[1, 1, 1, 1]);
        let mut model = b.finish("m", vec![]);
        model.opset_import[0].version = 10;
        assert!(modernise(&mut model).unwrap_err().to_string().contains("Resize"));
    }

    #[test]
    fn a_modern_model_stays_as_it_is() {
        let model = old(onnx::OPSET, "Upsample", vec![]);
        let mut same = model.clone();
        modernise(&mut same).unwrap();
        assert_eq!(same, model);
    }
}
