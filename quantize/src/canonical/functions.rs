//! Functions that exporters write as arithmetic, in the one operator that each of them is: clamps as maximum and
//! minimum, hard sigmoid and hard swish as sums, clamps and products (ONNX operator specification; Howard et al. 2019).

use super::constants::drop_unread;
use super::{constant, float_tensor};
use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};
use std::collections::HashMap;

/// The slope of the hard sigmoid in hard swish.
const SIXTH: f32 = 1.0 / 6.0;
/// Constants of arithmetic are rounded: nothing else is as close to what is looked for.
const NEAR: f32 = 1e-5;

/// Replaces arithmetic in `graph`; what nobody reads any more goes.
pub fn recognise(graph: &mut pb::GraphProto) -> Result<(), QuantizeError> {
    let mut functions = Functions::of(graph)?;
    let nodes = std::mem::take(&mut graph.node);
    for node in nodes {
        let node = functions.rewritten(&node).unwrap_or(node);
        functions.nodes.extend(node.output.first().map(|o| (o.clone(), graph.node.len())));
        graph.node.push(node.clone());
        functions.written.push(node);
    }
    graph.initializer.append(&mut functions.bounds);
    drop_unread(graph);
    Ok(())
}

/// A graph whose arithmetic is looked at.
struct Functions {
    /// Constants of one value.
    scalars: HashMap<String, f32>,
    /// Nodes as they are now, in their order.
    written: Vec<pb::NodeProto>,
    /// Which of them gives a tensor.
    nodes: HashMap<String, usize>,
    /// Bounds of new clamps.
    bounds: Vec<pb::TensorProto>,
}

/// `x` bounded by `low` and `high`.
struct Clamp<'a> {
    x: &'a str,
    low: f32,
    high: f32,
}

/// `clamp(alpha · x + beta, 0, 1)`.
struct HardSigmoid<'a> {
    x: &'a str,
    alpha: f32,
    beta: f32,
}

impl Functions {
    fn of(graph: &pb::GraphProto) -> Result<Functions, QuantizeError> {
        let values = graph.node.iter().filter(|n| n.op_type == "Constant");
        let values = values.filter_map(|n| constant(n, "").map(|tensor| (n.output.first(), tensor)));
        let values: Vec<_> = values.filter_map(|(name, tensor)| Some((name?.clone(), tensor))).collect();
        let all = graph.initializer.iter().map(|t| (&t.name, t)).chain(values.iter().map(|(name, t)| (name, t)));
        let mut scalars = HashMap::new();
        for (name, tensor) in all.filter(|(_, t)| is_one_float(t)) {
            scalars.extend(onnx::f32s(tensor)?.first().map(|value| (name.clone(), *value)));
        }
        Ok(Functions { scalars, written: Vec::new(), nodes: HashMap::new(), bounds: Vec::new() })
    }

    /// `node` as one operator, if it ends arithmetic that is one.
    fn rewritten(&mut self, node: &pb::NodeProto) -> Option<pb::NodeProto> {
        let output = node.output.first()?;
        if let Some(x) = self.hard_swish(node) {
            return Some(onnx::node("HardSwish", &[x], output, vec![]));
        }
        if let Some(HardSigmoid { x, alpha, beta }) = self.hard_sigmoid(node) {
            let attributes = vec![onnx::float("alpha", alpha), onnx::float("beta", beta)];
            return Some(onnx::node("HardSigmoid", &[x], output, attributes));
        }
        if !matches!(node.op_type.as_str(), "Max" | "Min" | "Clip") {
            return None;
        }
        let outer = self.clamp(node)?;
        let inner = self.node(outer.x).and_then(|n| self.clamp(n));
        let Clamp { x, low, high } = match inner {
            None if node.op_type == "Clip" => return None,
            None => outer,
            Some(Clamp { x, low, high }) => {
                let bounded = |v: f32| v.max(outer.low).min(outer.high);
                Clamp { x, low: bounded(low), high: bounded(high) }
            }
        };
        let x = x.to_owned();
        let names = [("low", low), ("high", high)].map(|(end, value)| {
            let name = if value.is_finite() { format!("{output}/canonical/{end}") } else { String::new() };
            if !name.is_empty() {
                self.scalars.insert(name.clone(), value);
                self.bounds.push(float_tensor(&name, &[], &[value]));
            }
            name
        });
        let mut inputs = vec![x.as_str(), &names[0], &names[1]];
        while inputs.last().is_some_and(|i| i.is_empty()) {
            inputs.pop();
        }
        Some(onnx::node("Clip", &inputs, output, vec![]))
    }

    /// The node that gives `name`.
    fn node(&self, name: &str) -> Option<&pb::NodeProto> {
        self.nodes.get(name).and_then(|at| self.written.get(*at))
    }

    /// A node of two inputs, one of which is a constant of one value: the other one, and the value.
    fn with_scalar<'a>(&self, node: &'a pb::NodeProto) -> Option<(&'a str, f32)> {
        let [first, second] = node.input.as_slice() else { return None };
        match (self.scalars.get(first), self.scalars.get(second)) {
            (None, Some(value)) => Some((first, *value)),
            (Some(value), None) if !matches!(node.op_type.as_str(), "Sub" | "Div") => Some((second, *value)),
            _ => None,
        }
    }

    fn clamp<'a>(&self, node: &'a pb::NodeProto) -> Option<Clamp<'a>> {
        let open = [f32::NEG_INFINITY, f32::INFINITY];
        let (x, [low, high]) = match node.op_type.as_str() {
            "Relu" => (node.input.first()?.as_str(), [0.0, open[1]]),
            "Max" => self.with_scalar(node).map(|(x, bound)| (x, [bound, open[1]]))?,
            "Min" => self.with_scalar(node).map(|(x, bound)| (x, [open[0], bound]))?,
            "Clip" => {
                let bound = |i: usize, default: f32| match node.input.get(i).filter(|name| !name.is_empty()) {
                    Some(name) => self.scalars.get(name).copied(),
                    None => Some(default),
                };
                (node.input.first()?.as_str(), [bound(1, open[0])?, bound(2, open[1])?])
            }
            _ => return None,
        };
        (low <= high).then_some(Clamp { x, low, high })
    }

    /// `x` times or divided by a constant: `x`, and what it is multiplied by.
    fn scaled<'a>(&self, node: &'a pb::NodeProto) -> Option<(&'a str, f32)> {
        let (x, value) = self.with_scalar(node)?;
        match node.op_type.as_str() {
            "Mul" => Some((x, value)),
            "Div" => Some((x, 1.0 / value)),
            _ => None,
        }
    }

    /// `clamp(x + shift, low, high)`.
    fn shifted_clamp(&self, name: &str) -> Option<(Clamp<'_>, f32)> {
        let clamp = self.clamp(self.node(name)?)?;
        let sum = self.node(clamp.x).filter(|n| n.op_type == "Add")?;
        let (x, shift) = self.with_scalar(sum)?;
        Some((Clamp { x, ..clamp }, shift))
    }

    /// A clamp of a sum, scaled so that it ends at 0 and 1; or the operator itself.
    fn hard_sigmoid(&self, node: &pb::NodeProto) -> Option<HardSigmoid<'_>> {
        let (clamped, alpha) = self.scaled(node)?;
        let (clamp, shift) = self.shifted_clamp(clamped)?;
        let ends = [clamp.low * alpha, clamp.high * alpha - 1.0];
        ends.iter().all(|end| end.abs() < NEAR).then_some(HardSigmoid { x: clamp.x, alpha, beta: shift * alpha })
    }

    /// `x · clamp(x + 3, 0, 6) / 6`, whichever is multiplied first.
    fn hard_swish<'a>(&'a self, node: &'a pb::NodeProto) -> Option<&'a str> {
        if let Some((product, scale)) = self.scaled(node) {
            let [a, b] = self.node(product).filter(|n| n.op_type == "Mul")?.input.as_slice() else { return None };
            return [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
                let (clamp, shift) = self.shifted_clamp(gate)?;
                let is_it = clamp.x == x && is_gate(scale, shift * scale) && clamp.low.abs() < NEAR;
                (is_it && (clamp.high * scale - 1.0).abs() < NEAR).then_some(x.as_str())
            });
        }
        let [a, b] = node.input.as_slice() else { return None };
        let mut orders = [(a, b), (b, a)].into_iter().filter(|_| node.op_type == "Mul");
        orders.find_map(|(x, gate)| {
            let gate = self.node(gate).filter(|n| n.op_type == "HardSigmoid" && n.input.first() == Some(x))?;
            let number = |name: &str, default: f32| onnx::attribute(gate, name).map_or(default, |a| a.f);
            is_gate(number("alpha", 0.2), number("beta", 0.5)).then_some(x.as_str())
        })
    }
}

/// True for the hard sigmoid of hard swish.
fn is_gate(alpha: f32, beta: f32) -> bool {
    (alpha - SIXTH).abs() < NEAR && (beta - 0.5).abs() < NEAR
}

fn is_one_float(tensor: &pb::TensorProto) -> bool {
    use tract_onnx::pb::tensor_proto::DataType;
    tensor.data_type == DataType::Float as i32 && matches!(tensor.dims.as_slice(), [] | [1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::engine::{FloatPlan, floats};
    use edge_runtime::onnx::GraphBuilder;

    /// `steps`, each an operator and its two inputs, of which `x` is the image; the last one's result is the output.
    fn operators_of(steps: &[(&str, [&str; 2])]) -> Vec<String> {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2, 4, 4]);
        for (name, value) in [("0", 0.0), ("3", 3.0), ("6", 6.0), ("sixth", SIXTH), ("-1", -1.0), ("1", 1.0)] {
            b.floats(name, &[], &[value]);
        }
        for (i, (op, inputs)) in steps.iter().enumerate() {
            b.node(op, inputs, &format!("s{i}"), vec![]);
        }
        let last = format!("s{}", steps.len() - 1);
        b.output(&last, &[1, 2, 4, 4]);
        let written = b.finish("m", vec![]);
        let mut ours = written.clone();
        recognise(ours.graph.as_mut().unwrap()).unwrap();
        let image: Vec<f32> = (0..32).map(|i| (i as f32 - 16.0) / 2.0).collect();
        let run = |m: &pb::ModelProto| {
            let outputs = FloatPlan::new(m, None).unwrap().run(&[1, 2, 4, 4], &image).unwrap();
            floats(&outputs[0]).unwrap().to_vec()
        };
        for (a, b) in run(&written).iter().zip(run(&ours)) {
            assert!((a - b).abs() < 1e-5, "{steps:?}: {a} {b}");
        }
        ours.graph.unwrap().node.iter().map(|n| n.op_type.clone()).collect()
    }

    #[test]
    fn arithmetic_becomes_the_function_that_it_is() {
        let gate = [("Add", ["x", "3"]), ("Max", ["s0", "0"]), ("Min", ["6", "s1"])];
        let with = |rest: &[(&'static str, [&'static str; 2])]| operators_of(&[&gate, rest].concat());
        assert_eq!(operators_of(&[("Max", ["x", "0"]), ("Min", ["s0", "6"])]), ["Clip"]);
        assert_eq!(operators_of(&[("Max", ["x", "-1"]), ("Min", ["s0", "1"]), ("Max", ["s1", "0"])]), ["Clip"]);
        assert_eq!(with(&[("Div", ["s2", "6"])]), ["HardSigmoid"]);
        assert_eq!(with(&[("Mul", ["s2", "sixth"]), ("Mul", ["x", "s3"])]), ["HardSwish"]);
        assert_eq!(with(&[("Div", ["s2", "6"]), ("Mul", ["s3", "x"])]), ["HardSwish"]);
        assert_eq!(with(&[("Mul", ["x", "s2"]), ("Div", ["s3", "6"])]), ["HardSwish"]);
        assert_eq!(with(&[("Mul", ["s2", "x"]), ("Mul", ["sixth", "s3"])]), ["HardSwish"]);
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        let gate = [("Add", ["x", "3"]), ("Max", ["s0", "0"]), ("Min", ["6", "s1"])];
        let with = |rest: &[(&'static str, [&'static str; 2])]| operators_of(&[&gate, rest].concat());
        // Another divisor, another factor, a constant that is divided.
        assert_eq!(with(&[("Div", ["s2", "3"])]), ["Add", "Clip", "Div"]);
        assert_eq!(with(&[("Div", ["s2", "6"]), ("Mul", ["s3", "s0"])]), ["Add", "HardSigmoid", "Mul"]);
        assert_eq!(operators_of(&[("Max", ["x", "1"]), ("Div", ["6", "s0"])]), ["Clip", "Div"]);
        // A tensor that is compared with another.
        assert_eq!(operators_of(&[("Add", ["x", "3"]), ("Max", ["s0", "x"])]), ["Add", "Max"]);
    }
}
