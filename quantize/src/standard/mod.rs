//! Whether a model that is about to be written is one that other programs load (ONNX IR specification, *Graphs* and
//! *Nodes*; `operators.txt` is the standard's own list of operators).

use edge_runtime::onnx::pb;
use std::collections::HashSet;

/// See `operators.py`.
const OPERATORS: &str = include_str!("operators.txt");

/// What is wrong with a model.
#[derive(Debug, thiserror::Error)]
#[error("node `{node}`: {reason}")]
pub struct StandardError {
    /// The node.
    pub node: String,
    /// What the standard does not allow.
    pub reason: String,
}

/// The form of an operator in one operator set.
struct Form {
    inputs: Count,
    outputs: Count,
    attributes: Vec<Attribute>,
}

struct Attribute {
    name: &'static str,
    required: bool,
}

struct Count {
    least: usize,
    most: usize,
}

impl Count {
    fn parse(text: &str) -> Option<Count> {
        let (least, most) = text.split_once("..")?;
        let most = if most == "*" { usize::MAX } else { most.parse().ok()? };
        Some(Count { least: least.parse().ok()?, most })
    }

    fn holds(&self, count: usize) -> bool {
        (self.least..=self.most).contains(&count)
    }
}

/// The form of `operator` in the operator set `version`; `None` where it has none.
fn form(operator: &str, version: i64) -> Option<Form> {
    let lines = OPERATORS.lines().filter_map(|line| line.split_once(' ').filter(|(name, _)| *name == operator));
    let since = |text: &'static str| text.split_once(' ').and_then(|(v, rest)| Some((v.parse::<i64>().ok()?, rest)));
    let (_, form) = lines.filter_map(|(_, rest)| since(rest)).take_while(|(first, _)| *first <= version).last()?;
    let mut parts = form.split(' ');
    let inputs = Count::parse(parts.next()?)?;
    let outputs = Count::parse(parts.next()?)?;
    let names = parts.next()?.split(',').filter(|name| *name != "-");
    let attribute = |name: &'static str| Attribute { name: name.trim_end_matches('!'), required: name.ends_with('!') };
    Some(Form { inputs, outputs, attributes: names.map(attribute).collect() })
}

/// Checks that every node of `model` is an operator of the standard, with the inputs, outputs and attributes that it
/// has there, and that every tensor is given once, before it is read.
pub fn check(model: &pb::ModelProto) -> Result<(), StandardError> {
    let version = model.opset_import.iter().find(|o| o.domain.is_empty()).map_or(1, |o| o.version);
    let graph = model.graph.iter();
    let mut given: HashSet<&str> = HashSet::new();
    for name in graph.clone().flat_map(|g| g.input.iter().map(|i| &i.name).chain(g.initializer.iter().map(|t| &t.name)))
    {
        given.insert(name);
    }
    for node in graph.clone().flat_map(|g| &g.node) {
        let fail = |reason: String| StandardError { node: node.name.clone(), reason };
        check_node(node, version).map_err(fail)?;
        let unknown = node.input.iter().find(|name| !name.is_empty() && !given.contains(name.as_str()));
        if let Some(name) = unknown {
            return Err(fail(format!("it reads `{name}`, which nothing gives before it")));
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !given.insert(name) {
                return Err(fail(format!("it gives `{name}`, which is given already")));
            }
        }
    }
    match graph.flat_map(|g| &g.output).find(|o| !given.contains(o.name.as_str())) {
        Some(output) => Err(StandardError { node: output.name.clone(), reason: "nothing gives this output".into() }),
        None => Ok(()),
    }
}

fn check_node(node: &pb::NodeProto, version: i64) -> Result<(), String> {
    let operator = &node.op_type;
    if !node.domain.is_empty() {
        return Err(format!("`{operator}` of `{}` is no operator of the ONNX standard", node.domain));
    }
    let form = form(operator, version).ok_or_else(|| format!("operator set {version} has no `{operator}`"))?;
    let counted = |names: &[String]| names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    if !form.inputs.holds(counted(&node.input)) || !form.outputs.holds(counted(&node.output)) {
        return Err(format!("`{operator}` of operator set {version} has another number of inputs or outputs"));
    }
    let has = |name: &str| node.attribute.iter().any(|a| a.name == name);
    if let Some(missing) = form.attributes.iter().find(|a| a.required && !has(a.name)) {
        return Err(format!("`{operator}` lacks `{}`", missing.name));
    }
    let is_known = |a: &&pb::AttributeProto| form.attributes.iter().any(|known| known.name == a.name);
    match node.attribute.iter().find(|a| !is_known(a)) {
        Some(unknown) => Err(format!("`{operator}` of operator set {version} has no attribute `{}`", unknown.name)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::{self, GraphBuilder};

    fn model(op: &str, inputs: &[&str], attribute: Vec<pb::AttributeProto>) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2, 4, 4]);
        b.node(op, inputs, "y", attribute);
        b.output("y", &[1, 2, 4, 4]);
        b.finish("m", vec![])
    }

    #[test]
    fn every_line_of_the_list_can_be_read() {
        for line in OPERATORS.lines().filter(|l| !l.starts_with('#') && !l.ends_with("deprecated")) {
            let mut words = line.split(' ');
            let name = words.next().unwrap();
            let version = words.next().unwrap().parse().unwrap();
            assert!(form(name, version).is_some(), "{line}");
        }
    }

    #[test]
    fn what_other_programs_would_refuse_is_refused() {
        check(&model("Relu", &["x"], vec![])).unwrap();
        let axis = || vec![onnx::int("axis", 1)];
        for (op, inputs, attribute, says) in [
            ("Upsample", ["x"].as_slice(), vec![], "has no `Upsample`"),
            ("Frobnicate", &["x"], vec![], "has no `Frobnicate`"),
            ("Relu", &["x", "x"], vec![], "number of inputs"),
            ("Relu", &["x"], axis(), "no attribute `axis`"),
            ("Concat", &["x"], vec![], "lacks `axis`"),
            ("Relu", &["z"], vec![], "`z`, which nothing gives"),
        ] {
            let error = check(&model(op, inputs, attribute)).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut twice = model("Relu", &["x"], vec![]);
        let graph = twice.graph.as_mut().unwrap();
        graph.node.push(graph.node[0].clone());
        assert!(check(&twice).unwrap_err().to_string().contains("given already"));
        let mut newer = model("ReduceMean", &["x"], vec![onnx::ints("axes", &[2])]);
        check(&newer).unwrap();
        newer.opset_import[0].version = 18;
        assert!(check(&newer).unwrap_err().to_string().contains("no attribute `axes`"));
    }
}
