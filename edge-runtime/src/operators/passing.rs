//! Operators that pass codes on as they are. They leave nothing in the network.

use super::{Form, OnnxOperator};
use crate::onnx::{self, pb};

/// Codes keep their memory order; what reads them as a vector permutes its weights instead.
pub const ONNX: &[OnnxOperator] = &[
    OnnxOperator { name: "Flatten", form: Form::Passed, lower: |l, node| l.passed(node) },
    OnnxOperator { name: "Identity", form: Form::Passed, lower: |l, node| l.passed(node) },
];

/// True for a `Flatten` of one image, whose first dimension is 1, to one row. Other axes part its codes.
pub fn flattens_to_row(node: &pb::NodeProto) -> bool {
    matches!(onnx::int_or(node, "axis", 1), 0 | 1)
}
