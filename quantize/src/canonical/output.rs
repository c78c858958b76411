//! Outputs that are probabilities already: what makes them of the logits is taken off, since the contract says it.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};
use std::collections::HashMap;

/// Operators that only change the shape of what they read.
const RESHAPING: [&str; 4] = ["Flatten", "Reshape", "Squeeze", "Unsqueeze"];

/// What a network ends in that makes probabilities of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Squashing {
    /// The logistic function of one value.
    Sigmoid,
    /// The logistic function of each of several values, of which none excludes another.
    Sigmoids,
    /// Softmax, or its logarithm.
    Softmax,
}

/// Takes `Sigmoid`, `Softmax` or `LogSoftmax` off the end of `graph`, whose output then holds logits. The softmax of
/// logarithms of probabilities is these probabilities, so the contract computes the same of what is left. Refused where
/// that cannot be done: a reshaping behind them, logits that are read elsewhere too.
pub fn take_off_probabilities(graph: &mut pb::GraphProto) -> Result<Option<Squashing>, QuantizeError> {
    let name = match graph.output.as_slice() {
        [only] => only.name.clone(),
        several => match several.iter().find(|o| o.name == onnx::LOGITS) {
            Some(logits) => logits.name.clone(),
            None => return Ok(None),
        },
    };
    take_off_nothing(graph, &name);
    let producers: HashMap<&str, usize> =
        graph.node.iter().enumerate().flat_map(|(i, n)| n.output.iter().map(move |o| (o.as_str(), i))).collect();
    let mut at = name.as_str();
    let mut reshaped = false;
    let last = loop {
        let Some(i) = producers.get(at) else { return Ok(None) };
        let node = &graph.node[*i];
        if !RESHAPING.contains(&node.op_type.as_str()) {
            break *i;
        }
        reshaped = true;
        let Some(input) = node.input.first() else { return Ok(None) };
        at = input;
    };
    let node = &graph.node[last];
    let operator = node.op_type.clone();
    let columns = graph.output.iter().find(|o| o.name == name).and_then(onnx::row);
    let refuse = |reason| Err(QuantizeError::Probability { operator: operator.clone(), reason });
    let squashing = match (operator.as_str(), columns) {
        ("Sigmoid" | "Softmax" | "LogSoftmax", _) if reshaped => return refuse("it is reshaped afterwards"),
        ("Sigmoid", Some(1)) => Squashing::Sigmoid,
        ("Sigmoid", Some(2..)) => Squashing::Sigmoids,
        ("Softmax" | "LogSoftmax", Some(2..)) => Squashing::Softmax,
        ("Softmax" | "LogSoftmax", Some(_)) => return refuse("of one value it is 1 whatever the image"),
        ("Sigmoid" | "Softmax" | "LogSoftmax", None) => return refuse("how many there are cannot be known"),
        _ => return Ok(None),
    };
    let logits = node.input.first().cloned().unwrap_or_default();
    let read = graph.node.iter().filter(|n| n.input.contains(&logits)).count();
    if read > 1 || graph.output.iter().any(|o| o.name == logits) {
        return refuse("its logits are read elsewhere too");
    }
    rename(graph, &logits, &name);
    graph.node.remove(last);
    take_off_nothing(graph, &name);
    Ok(Some(squashing))
}

/// Takes off what ends the graph and computes nothing: whoever gives what it reads gives `name`.
fn take_off_nothing(graph: &mut pb::GraphProto, name: &str) {
    while let Some(last) = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == name)) {
        let node = &graph.node[last];
        let Some(input) = node.input.first().cloned() else { return };
        let is_given = graph.node.iter().any(|n| n.output.contains(&input));
        let is_read = graph.node.iter().filter(|n| n.input.contains(&input)).count() > 1;
        let is_output = graph.output.iter().any(|o| o.name == input);
        if !matches!(node.op_type.as_str(), "Identity" | "Dropout") || !is_given || is_read || is_output {
            return;
        }
        graph.node.remove(last);
        rename(graph, &input, name);
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
        for (outputs, ops, squashing) in [
            (1, ["Sigmoid"].as_slice(), Squashing::Sigmoid),
            (14, &["Sigmoid", "Identity"], Squashing::Sigmoids),
            (2, &["Softmax"], Squashing::Softmax),
            (3, &["LogSoftmax", "Identity", "Dropout"], Squashing::Softmax),
        ] {
            let mut graph = graph(outputs, ops);
            assert_eq!(take_off_probabilities(&mut graph).unwrap(), Some(squashing));
            let left: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
            assert_eq!(left, ["Gemm"]);
            assert_eq!(graph.node.last().unwrap().output, [graph.output[0].name.clone()]);
        }
    }

    #[test]
    fn a_probability_that_it_cannot_say_is_refused() {
        for (outputs, ops) in [(1, ["Softmax"].as_slice()), (1, &["Sigmoid", "Flatten"])] {
            let error = take_off_probabilities(&mut graph(outputs, ops)).unwrap_err().to_string();
            assert!(error.contains(ops[0]) && error.contains("logits"), "{error}");
        }
        let mut logits = graph(2, &["Relu"]);
        let before = logits.clone();
        assert_eq!(take_off_probabilities(&mut logits).unwrap(), None);
        assert_eq!(logits, before);
    }
}
