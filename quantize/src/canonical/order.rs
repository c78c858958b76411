//! Nodes in the order that ONNX demands, without inputs that are named and empty.

use edge_runtime::onnx::pb;
use std::collections::HashSet;

/// Puts each node behind those that give what it reads, where a writer left them in another order, and takes empty
/// names off the ends of their inputs.
pub fn settle(graph: &mut pb::GraphProto) {
    for node in &mut graph.node {
        while node.input.last().is_some_and(String::is_empty) {
            node.input.pop();
        }
    }
    let mut given: HashSet<String> = graph.input.iter().map(|i| i.name.clone()).collect();
    given.extend(graph.initializer.iter().map(|t| t.name.clone()));
    given.insert(String::new());
    let mut waiting = std::mem::take(&mut graph.node);
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for node in waiting {
            if node.input.iter().all(|name| given.contains(name)) {
                given.extend(node.output.iter().cloned());
                graph.node.push(node);
            } else {
                later.push(node);
            }
        }
        waiting = later;
        if waiting.len() == before {
            // What reads something that nobody gives is refused where it is planned.
            graph.node.append(&mut waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::GraphBuilder;

    #[test]
    fn nodes_stand_behind_what_they_read() {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2]);
        b.node("Relu", &["b"], "y", vec![]);
        b.node("Neg", &["a", ""], "b", vec![]);
        b.node("Abs", &["x"], "a", vec![]);
        b.output("y", &[1, 2]);
        let mut graph = b.finish("m", vec![]).graph.unwrap();
        settle(&mut graph);
        let names: Vec<&str> = graph.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(names, ["Abs", "Neg", "Relu"]);
        assert_eq!(graph.node[1].input, ["a"]);
    }
}
