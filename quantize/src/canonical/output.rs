//! Outputs that are probabilities already: what makes them of the logits is taken off, since the contract says it.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};
use std::collections::HashMap;

/// Operators that only change the shape of what they read.
const RESHAPING: [&str; 5] = ["Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze"];

/// Takes `Sigmoid`, `Softmax` or `LogSoftmax` off the end of `graph`, whose output then holds logits. The softmax of
/// logarithms of probabilities is these probabilities, so the contract computes the same of what is left. Refused where
/// the contract cannot say what was taken off: several sigmoids, which are independent, or a reshaping behind them.
pub fn take_off_probabilities(graph: &mut pb::GraphProto) -> Result<(), QuantizeError> {
    let name = match graph.output.as_slice() {
        [only] => only.name.clone(),
        several => match several.iter().find(|o| o.name == onnx::LOGITS) {
            Some(logits) => logits.name.clone(),
            None => return Ok(()),
        },
    };
    let producers: HashMap<&str, usize> =
        graph.node.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect();
    let mut at = name.as_str();
    let mut reshaped = false;
    let last = loop {
        let Some(i) = producers.get(at) else { return Ok(()) };
        let node = &graph.node[*i];
        if !RESHAPING.contains(&node.op_type.as_str()) {
            break *i;
        }
        reshaped |= node.op_type != "Identity";
        let Some(input) = node.input.first() else { return Ok(()) };
        at = input;
    };
    let node = &graph.node[last];
    let operator = node.op_type.clone();
    let columns = graph.output.iter().find(|o| o.name == name).and_then(onnx::row);
    let refuse = |reason| Err(QuantizeError::Probability { operator: operator.clone(), reason });
    match (operator.as_str(), columns) {
        ("Sigmoid" | "Softmax" | "LogSoftmax", _) if reshaped => refuse("it is reshaped afterwards"),
        ("Sigmoid", Some(1)) | ("Softmax" | "LogSoftmax", Some(2..)) => {
            let logits = node.input.first().cloned().unwrap_or_default();
            let read = graph.node.iter().filter(|n| n.input.contains(&logits)).count();
            let identities = at.to_owned();
            if read > 1 || graph.output.iter().any(|o| o.name == logits) {
                return refuse("its logits are read elsewhere too");
            }
            rename(graph, &logits, &identities);
            graph.node.remove(last);
            Ok(())
        }
        ("Sigmoid", _) => refuse("several sigmoids are independent findings, of which none excludes another"),
        ("Softmax" | "LogSoftmax", _) => refuse("of one value it is 1 whatever the image"),
        _ => Ok(()),
    }
}

/// Lets who gives `old` give `new`.
fn rename(graph: &mut pb::GraphProto, old: &str, new: &str) {
    for output in graph.node.iter_mut().flat_map(|n| &mut n.output) {
        if output == old {
            new.clone_into(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::GraphBuilder;

    /// A linear layer, then `ops` in a row.
    fn graph(outputs: usize, ops: &[&str]) -> pb::GraphProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 3]);
        b.floats("w", &[outputs, 3], &vec![0.5; outputs * 3]);
        b.node("Gemm", &["x", "w"], "t0", vec![onnx::int("transB", 1)]);
        for (i, op) in ops.iter().enumerate() {
            b.node(op, &[&format!("t{i}")], &format!("t{}", i + 1), vec![]);
        }
        b.output(&format!("t{}", ops.len()), &[1, outputs]);
        b.finish("m", vec![]).graph.unwrap()
    }

    #[test]
    fn a_probability_that_the_contract_says_is_taken_off() {
        for (outputs, ops) in [(1, ["Sigmoid"].as_slice()), (2, &["Softmax"]), (3, &["LogSoftmax", "Identity"])] {
            let mut graph = graph(outputs, ops);
            take_off_probabilities(&mut graph).unwrap();
            let left: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
            assert_eq!(left[0], "Gemm");
            assert!(!left.contains(&ops[0]), "{left:?}");
            assert_eq!(graph.node.last().unwrap().output, [graph.output[0].name.clone()]);
        }
    }

    #[test]
    fn a_probability_that_it_cannot_say_is_refused() {
        for (outputs, ops) in [(2, ["Sigmoid"].as_slice()), (1, &["Softmax"]), (1, &["Sigmoid", "Flatten"])] {
            let error = take_off_probabilities(&mut graph(outputs, ops)).unwrap_err().to_string();
            assert!(error.contains(ops[0]) && error.contains("logits"), "{error}");
        }
        let mut logits = graph(2, &["Relu"]);
        let before = logits.clone();
        take_off_probabilities(&mut logits).unwrap();
        assert_eq!(logits, before);
    }
}
