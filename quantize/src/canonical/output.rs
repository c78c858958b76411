//! Outputs that are probabilities already: what makes them of the logits is taken off, since the contract says it.

use super::constant;
use crate::qdq::QuantizeError;
use edge_runtime::model::contract::ActivationRanges;
use edge_runtime::onnx::{self, pb};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;

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

/// The nodes behind the last one that computes something, from the output backwards.
struct Tail {
    /// Those that change nothing of a probability.
    idle: Vec<usize>,
    /// Those that only change its shape.
    reshaping: Vec<usize>,
    /// The last one that computes something.
    last: usize,
}

/// Takes `Sigmoid`, `Softmax` or `LogSoftmax` off the end of `graph`, whose output then holds logits. The softmax of
/// logarithms of probabilities is these probabilities, so the contract computes the same of what is left. What stands
/// behind and changes no probability goes too. Refused where that cannot be done.
pub fn take_off_probabilities(graph: &mut pb::GraphProto) -> Result<Option<Squashing>, QuantizeError> {
    let name = match graph.output.as_slice() {
        [only] => only.name.clone(),
        several => match several.iter().find(|o| o.name == onnx::LOGITS) {
            Some(logits) => logits.name.clone(),
            None => return Ok(None),
        },
    };
    take_off_nothing(graph, &name);
    let Some(tail) = tail(graph, &name) else { return Ok(None) };
    let node = graph.node[tail.last].clone();
    let operator = node.op_type.clone();
    if !["Sigmoid", "Softmax", "LogSoftmax"].contains(&operator.as_str()) {
        return Ok(None);
    }
    let refuse = |reason| QuantizeError::Probability { operator: operator.clone(), reason };
    let output = graph.output.iter().find(|o| o.name == name);
    let count = output.and_then(elements).ok_or_else(|| refuse("how many there are cannot be known"))?;
    let squashing = match (operator.as_str(), count) {
        ("Sigmoid", 1) => Squashing::Sigmoid,
        ("Sigmoid", _) => Squashing::Sigmoids,
        (_, 1) => return Err(refuse("of one value it is 1 whatever the image")),
        _ => Squashing::Softmax,
    };
    let logits = node.input.first().cloned().unwrap_or_default();
    let is_row = ["Gemm", "MatMul", "Flatten", "Add"].contains(&giver(graph, &logits));
    let axis = onnx::int_or(&node, "axis", -1);
    if squashing == Squashing::Softmax && !(axis == 1 || axis == -1 && is_row) {
        return Err(refuse("it goes over another axis than that of the labels"));
    }
    let between: Vec<String> =
        tail.idle.iter().chain(&tail.reshaping).flat_map(|i| graph.node[*i].input.first().cloned()).collect();
    let is_read_elsewhere = |tensor: &String| {
        graph.node.iter().filter(|n| n.input.contains(tensor)).count() > 1
            || graph.output.iter().any(|o| o.name == *tensor)
    };
    if is_read_elsewhere(&logits) || between.iter().any(is_read_elsewhere) {
        return Err(refuse("its logits are read elsewhere too"));
    }
    drop_tail(graph, &tail, is_row);
    connect(graph, &logits, &name, count);
    take_off_nothing(graph, &name);
    Ok(Some(squashing))
}

/// The operator that gives `tensor`, but for nodes that compute nothing.
fn giver<'a>(graph: &'a pb::GraphProto, mut tensor: &'a str) -> &'a str {
    // A graph that bites its tail ends, too.
    for _ in 0..graph.node.len() {
        let Some(node) = graph.node.iter().find(|n| n.output.iter().any(|o| o == tensor)) else { return "" };
        match node.input.first() {
            Some(input) if computes_nothing(graph, node) => tensor = input,
            _ => return &node.op_type,
        }
    }
    ""
}

/// The end of `graph`; none where the output is no node's.
fn tail(graph: &pb::GraphProto, name: &str) -> Option<Tail> {
    let mut tail = Tail { idle: vec![], reshaping: vec![], last: 0 };
    let mut at = name;
    // A graph that bites its tail ends, too.
    for _ in 0..graph.node.len() {
        let i = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == at))?;
        let node = &graph.node[i];
        if RESHAPING.contains(&node.op_type.as_str()) {
            tail.reshaping.push(i);
        } else if keeps_probabilities(graph, node) {
            tail.idle.push(i);
        } else {
            tail.last = i;
            return Some(tail);
        }
        at = node.input.first()?;
    }
    None
}

/// True for a node that gives the probabilities it reads: nothing, a cast, a product with 1, a sum with 0, bounds that
/// hold all of them.
fn keeps_probabilities(graph: &pb::GraphProto, node: &pb::NodeProto) -> bool {
    let bound = |i: usize, default: f32| match node.input.get(i).filter(|name| !name.is_empty()) {
        Some(name) => constant_of(graph, name),
        None => Some(default),
    };
    match node.op_type.as_str() {
        "Clip" => {
            bound(1, 0.0).is_some_and(|low| low <= EPSILON) && bound(2, 1.0).is_some_and(|high| high >= 1.0 - EPSILON)
        }
        _ => computes_nothing(graph, node),
    }
}

/// Bounds as near to 0 and 1 as this keep logarithms finite, and nothing else.
const EPSILON: f32 = 1e-5;

fn computes_nothing(graph: &pb::GraphProto, node: &pb::NodeProto) -> bool {
    let second = |value: f32| node.input.get(1).and_then(|name| constant_of(graph, name)) == Some(value);
    match node.op_type.as_str() {
        "Identity" | "Dropout" => true,
        "Cast" => onnx::int_or(node, "to", 0) == i64::from(DataType::Float as i32),
        "Mul" | "Div" => second(1.0),
        "Add" | "Sub" => second(0.0),
        "Concat" | "Max" | "Min" | "Sum" | "Mean" => node.input.len() == 1,
        _ => false,
    }
}

/// The one number that the initializer or `Constant` called `name` holds.
fn constant_of(graph: &pb::GraphProto, name: &str) -> Option<f32> {
    let node = graph.node.iter().find(|n| n.op_type == "Constant" && n.output.first().is_some_and(|o| o == name));
    let tensor = graph.initializer.iter().find(|t| t.name == name).cloned();
    let values = onnx::f32s(&tensor.or_else(|| constant(node?, name))?).ok()?;
    let [value] = values[..] else { return None };
    Some(value)
}

/// Values of a tensor whose dimensions are known, those of its batch left out.
fn elements(output: &pb::ValueInfoProto) -> Option<usize> {
    use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
    use tract_onnx::pb::type_proto::Value::TensorType;
    if let Some(columns) = onnx::row(output) {
        return Some(columns);
    }
    let TensorType(tensor) = output.r#type.as_ref()?.value.as_ref()?;
    let length = |d: &tract_onnx::pb::tensor_shape_proto::Dimension| match d.value {
        Some(DimValue(n)) => usize::try_from(n).ok().filter(|n| *n > 0),
        _ => None,
    };
    tensor.shape.as_ref()?.dim.iter().map(length).product::<Option<usize>>().filter(|n| *n <= 65_536)
}

/// Takes the nodes of `tail` out: its last, those that change nothing, and of a row those that reshape it, too.
fn drop_tail(graph: &mut pb::GraphProto, tail: &Tail, is_row: bool) {
    let reshaping: &[usize] = if is_row { &tail.reshaping } else { &[] };
    let gone: HashSet<usize> = tail.idle.iter().chain(reshaping).copied().chain([tail.last]).collect();
    let mut renamed: HashMap<String, String> = HashMap::new();
    for (i, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
        for input in &mut node.input {
            if let Some(from) = renamed.get(input) {
                input.clone_from(from);
            }
        }
        match (gone.contains(&i), node.input.first(), node.output.first()) {
            (true, Some(from), Some(to)) => {
                renamed.insert(to.clone(), from.clone());
            }
            _ => graph.node.push(node),
        }
    }
}

/// Makes the row of `count` values that ends the graph, which is `logits` or what reshapes it, its output `name`.
fn connect(graph: &mut pb::GraphProto, logits: &str, name: &str, count: usize) {
    let is_given = graph.node.iter().any(|n| n.output.iter().any(|o| o == name));
    if !is_given {
        rename(graph, logits, name);
    }
    let Some(output) = graph.output.iter_mut().find(|o| o.name == name) else { return };
    if onnx::row(output).is_some() {
        return;
    }
    *output = onnx::value_info(name, &[1, count]);
    let giver = graph.node.iter().find(|n| n.output.iter().any(|o| o == name)).map(|n| n.op_type.clone());
    if giver.is_some_and(|op| op == "Gemm" || op == "MatMul" || op == "Add") {
        return;
    }
    let row = format!("{name}/canonical/row");
    rename(graph, name, &row);
    graph.node.push(onnx::node("Flatten", &[&row], name, vec![onnx::int("axis", 0)]));
}

/// Takes off what ends the graph and computes nothing: whoever gives what it reads gives `name`.
fn take_off_nothing(graph: &mut pb::GraphProto, name: &str) {
    while let Some(last) = graph.node.iter().position(|n| n.output.first().is_some_and(|o| o == name)) {
        let node = &graph.node[last];
        let Some(input) = node.input.first().cloned() else { return };
        let is_given = graph.node.iter().any(|n| n.output.contains(&input));
        let is_read = graph.node.iter().filter(|n| n.input.contains(&input)).count() > 1;
        let is_output = graph.output.iter().any(|o| o.name == input);
        if !computes_nothing(graph, node) || !is_given || is_read || is_output {
            return;
        }
        graph.node.remove(last);
        rename(graph, &input, name);
    }
}
/// True if the logits of the canonical `model` seem to be probabilities that nothing here takes off: made of logistic
/// functions or softmaxes by arithmetic alone; or by layers, or of something else that is no sum of a layer, where they
/// lay between 0 and 1 for every image that was seen; or logarithms of such numbers.
/// seen, or is the logarithm of such numbers.
pub fn ends_in_probabilities(model: &pb::ModelProto, ranges: &ActivationRanges) -> bool {
    let Some(graph) = &model.graph else { return false };
    let Some([low, high]) = ranges.get(onnx::LOGITS) else { return false };
    let mut at = onnx::LOGITS;
    let mut giver = None;
    for _ in 0..graph.node.len() {
        giver = graph.node.iter().find(|n| n.output.iter().any(|o| o == at));
        match giver.and_then(|node| node.input.first()) {
            Some(input) if giver.is_some_and(|node| RESHAPING.contains(&node.op_type.as_str())) => at = input,
            _ => break,
        }
    }
    let Some(giver) = giver else { return false };
    let is_constant = |name: &String| graph.initializer.iter().any(|t| t.name == *name);
    let is_sum = match giver.op_type.as_str() {
        "Gemm" | "MatMul" | "Conv" | "GlobalAveragePool" | "Einsum" => true,
        "Add" | "Sum" => !giver.input.iter().any(is_constant),
        _ => false,
    };
    let is_logarithm = giver.op_type == "Log" && *high <= EPSILON;
    let are_shares = *low >= -EPSILON && *high <= 1.0 + EPSILON;
    let behind = behind_probabilities(graph, onnx::LOGITS, &mut HashMap::new());
    // What a layer made of trained squashings is beyond 0 and 1 for some images.
    let are_probabilities = match behind {
        Some(Behind::Arithmetic) => true,
        Some(Behind::Weights) => are_shares,
        // Of a probability it has one sign; of odds, which make logits, both.
        Some(Behind::Logarithm) => *low >= -EPSILON || *high <= EPSILON,
        None => false,
    };
    are_probabilities || is_logarithm || !is_sum && are_shares
}

/// What stands between a logistic function or softmax and a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Behind {
    /// Shapes, choices and arithmetic with constants.
    Arithmetic,
    /// Weights, too, which may have been trained: a squashing inside a network is no probability.
    Weights,
    /// A logarithm, too.
    Logarithm,
}

/// What stands between probabilities and `tensor`, if all of what it is made of are some. `known` is of tensors that
/// were asked for before, and of those that are being asked for.
fn behind_probabilities<'a>(
    graph: &'a pb::GraphProto,
    tensor: &'a str,
    known: &mut HashMap<&'a str, Option<Behind>>,
) -> Option<Behind> {
    if let Some(known) = known.get(tensor) {
        return *known;
    }
    known.insert(tensor, None);
    if known.len() > MOST_BEHIND {
        return None;
    }
    let behind = behind_of(graph, tensor, known);
    known.insert(tensor, behind);
    behind
}

fn behind_of<'a>(
    graph: &'a pb::GraphProto,
    tensor: &str,
    known: &mut HashMap<&'a str, Option<Behind>>,
) -> Option<Behind> {
    let node = graph.node.iter().find(|n| n.output.iter().any(|o| o == tensor))?;
    let operator = node.op_type.as_str();
    let is_constant = |name: &&String| graph.initializer.iter().any(|t| t.name == **name);
    let read = || node.input.iter().filter(|name| !name.is_empty() && !is_constant(name));
    let gives = |name: &String, operators: &[&str]| {
        let giver = graph.node.iter().find(|n| n.output.contains(name));
        giver.is_some_and(|n| operators.contains(&n.op_type.as_str()))
    };
    // Softmax and the logistic function written out: powers over their sum.
    let is_written_out = operator == "Div"
        && node.input.get(1).is_some_and(|below| {
            gives(below, &["ReduceSum"]) && node.input.first().is_some_and(|above| gives(above, &["Exp"]))
                || gives(below, &["Add"]) && read().count() == 1
        });
    if is_written_out || SQUASHING.contains(&operator) {
        return Some(Behind::Arithmetic);
    }
    let own = match operator {
        "Log" => Behind::Logarithm,
        "Gemm" | "MatMul" | "Conv" | "BatchNormalization" => Behind::Weights,
        _ if RESHAPING.contains(&operator) || ARITHMETIC.contains(&operator) => Behind::Arithmetic,
        _ => return None,
    };
    let all: Option<Vec<Behind>> = read().map(|name| behind_probabilities(graph, name, known)).collect();
    all?.into_iter().max().map(|behind| behind.max(own))
}

/// Nobody has more tensors behind a probability.
const MOST_BEHIND: usize = 200;

/// Operators that give numbers from 0 to 1, or their logarithms.
const SQUASHING: [&str; 4] = ["Sigmoid", "Softmax", "LogSoftmax", "HardSigmoid"];

/// Operators that make other probabilities of probabilities, or multiples of them.
const ARITHMETIC: [&str; 24] = [
    "Mul",
    "Div",
    "Add",
    "Sub",
    "Neg",
    "Sum",
    "Mean",
    "Max",
    "Min",
    "Clip",
    "Relu",
    "Pow",
    "Sqrt",
    "Exp",
    "Identity",
    "Concat",
    "Slice",
    "Gather",
    "Transpose",
    "ReduceMean",
    "ReduceMax",
    "ReduceSum",
    "GlobalAveragePool",
    "GlobalMaxPool",
];

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
        let error = take_off_probabilities(&mut graph(1, &["Softmax"])).unwrap_err().to_string();
        assert!(error.contains("Softmax") && error.contains("logits"), "{error}");
        let mut other_axis = graph(2, &["Softmax"]);
        other_axis.node[1].attribute.push(onnx::int("axis", 0));
        assert!(take_off_probabilities(&mut other_axis).unwrap_err().to_string().contains("axis"));
        let mut logits = graph(2, &["Relu"]);
        let before = logits.clone();
        assert_eq!(take_off_probabilities(&mut logits).unwrap(), None);
        assert_eq!(logits, before);
    }

    #[test]
    fn what_changes_no_probability_goes_with_it() {
        for (kind, value) in [("Mul", 1.0), ("Add", 0.0)] {
            let mut graph = graph(2, &["Softmax", kind]);
            graph.node[2].input.push("k".into());
            graph.initializer.push(crate::canonical::float_tensor("k", &[], &[value]));
            assert_eq!(take_off_probabilities(&mut graph).unwrap(), Some(Squashing::Softmax));
            assert_eq!(graph.node.len(), 1);
        }
        let mut squeezed = graph(1, &["Sigmoid", "Squeeze"]);
        squeezed.output[0] = onnx::value_info("t2", &[1]);
        assert_eq!(take_off_probabilities(&mut squeezed).unwrap(), Some(Squashing::Sigmoid));
        assert_eq!((squeezed.node.len(), onnx::row(&squeezed.output[0])), (1, Some(1)));
    }

    #[test]
    fn a_graph_that_bites_its_tail_comes_back() {
        for ops in [["Identity", "Cast"], ["Flatten", "Squeeze"]] {
            let mut graph = graph(2, &ops);
            graph.node[1].input[0] = "t2".into();
            assert!(!matches!(take_off_probabilities(&mut graph), Ok(Some(_))), "{ops:?}");
        }
    }

    #[test]
    fn probabilities_that_are_not_recognised_are_noticed() {
        let ranges = |low, high| ActivationRanges::from([(onnx::LOGITS.to_owned(), [low, high])]);
        let mut graph = graph(1, &["HardSigmoid"]);
        graph.node[1].output[0] = onnx::LOGITS.into();
        let model = pb::ModelProto { graph: Some(graph), ..Default::default() };
        assert!(ends_in_probabilities(&model, &ranges(0.0, 0.9)));
        let mut relu = super::tests::graph(1, &["Relu"]);
        relu.node[1].output[0] = onnx::LOGITS.into();
        let model = pb::ModelProto { graph: Some(relu), ..Default::default() };
        assert!(ends_in_probabilities(&model, &ranges(0.0, 0.9)));
        assert!(!ends_in_probabilities(&model, &ranges(0.0, 4.0)));
        // Percent of a softmax.
        let mut percent = super::tests::graph(2, &["Softmax", "Mul"]);
        percent.node[2].input.push("hundred".into());
        percent.node[2].output[0] = onnx::LOGITS.into();
        percent.initializer.push(crate::canonical::float_tensor("hundred", &[], &[100.0]));
        let model = pb::ModelProto { graph: Some(percent), ..Default::default() };
        assert!(ends_in_probabilities(&model, &ranges(0.0, 100.0)));
        // Fine classes to coarse ones: shares, unless weights were trained and give other numbers.
        let mut coarse = super::tests::graph(2, &["Softmax", "MatMul"]);
        coarse.node[2].input.push("merge".into());
        coarse.node[2].output[0] = onnx::LOGITS.into();
        coarse.initializer.push(crate::canonical::float_tensor("merge", &[2, 2], &[1.0, 0.0, 0.0, 1.0]));
        let model = pb::ModelProto { graph: Some(coarse), ..Default::default() };
        assert!(ends_in_probabilities(&model, &ranges(0.0, 1.0)));
        assert!(!ends_in_probabilities(&model, &ranges(-2.0, 3.0)));
        let mut linear = super::tests::graph(1, &[]);
        linear.node[0].output[0] = onnx::LOGITS.into();
        let model = pb::ModelProto { graph: Some(linear), ..Default::default() };
        assert!(!ends_in_probabilities(&model, &ranges(0.0, 0.9)));
    }
}
