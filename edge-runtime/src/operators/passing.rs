//! Operators that pass codes on as they are. They leave nothing in the network.

use super::{Form, OnnxOperator};

/// Codes keep their memory order; what reads them as a vector permutes its weights instead.
pub const ONNX: &[OnnxOperator] = &[
    OnnxOperator { name: "Flatten", form: Form::Passed, lower: |l, node| l.passed(node) },
    OnnxOperator { name: "Identity", form: Form::Passed, lower: |l, node| l.passed(node) },
];
