//! Float ONNX to QDQ ONNX: uint8 activations, int8 weights for each output channel, int32 bias.
//!
//! The form is the one that ONNX Runtime runs fastest: every operator sits between `DequantizeLinear` and
//! `QuantizeLinear`, and clamps that the codes already express are left out. Layers that have no integer form, or that
//! the user keeps in float, stand between them as they are, several in a row without codes between.

use crate::correction::Rounding;
use crate::pixel_grid;
use edge_runtime::model::contract::ActivationRanges;
use edge_runtime::network::Quantisation;
use edge_runtime::onnx::{self, GraphBuilder, OnnxError, pb};
use edge_runtime::operators::{Form, onnx_names, onnx_operator};
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::tensor_proto::DataType;

/// Why a float model cannot be quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// A tensor is not stored as expected.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// It is quantised already.
    #[error("the model is quantised already: give the float model it came from")]
    AlreadyQuantised,
    /// Weights are infinite or no numbers.
    #[error("tensor `{0}` holds weights that are infinite or no numbers: the model is broken")]
    NotFinite(String),
    /// The operator set is older than any that is read.
    #[error("the model is of operator set {version}; the oldest that is read is {oldest}: export it anew")]
    Opset {
        /// That of the model.
        version: i64,
        /// The oldest that is read.
        oldest: i64,
    },
    /// An operator that may have meant something else then.
    #[error(
        "`{operator}` of operator set {version} is not read: export the model without it, or with set {modern} or newer"
    )]
    OldOperator {
        /// The operator.
        operator: String,
        /// The operator set of the model.
        version: i64,
        /// The one to export with.
        modern: i64,
    },
    /// An operator that the engines read differently, or not at all.
    #[error("node `{node}`: `{operator}` {reason} cannot be read: export the model without it")]
    Operator {
        /// The node.
        node: String,
        /// The operator.
        operator: String,
        /// Which form of it.
        reason: &'static str,
    },
    /// Activations that no 8 bits hold.
    #[error(
        "activation `{tensor}` goes from {low:e} to {high:e}, which 8 bits cannot hold: bound it, or pad with less"
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// Its least value.
        low: f32,
        /// Its largest value.
        high: f32,
    },
    /// The input is no image that radiographs can be given as.
    #[error("the input cannot be read: {0}")]
    Input(String),
    /// The output is a probability that the contract cannot say.
    #[error("the output is a probability of `{operator}`, and {reason}: export the model with its logits as output")]
    Probability {
        /// What gives it.
        operator: String,
        /// Why it cannot be taken off.
        reason: &'static str,
    },
    /// A layer that is to stay in float and is not there.
    #[error("no layer is called `{name}`; those with weights are {known}")]
    NoLayer {
        /// What was asked for.
        name: String,
        /// Names there are.
        known: String,
    },
    /// Nothing is left to quantise.
    #[error("no layer would become int8: these have an integer form: {}", onnx_names())]
    NothingToQuantise,
    /// The graph is not wired as expected.
    #[error("node `{node}`: {reason}")]
    Graph {
        /// The node.
        node: String,
        /// What is wrong.
        reason: String,
    },
    /// The canonical form computes something else.
    #[error(
        "in the form that would be quantised the model gives {canonical} where it gives {own} itself: that is a fault \
         of this program, and nothing is written"
    )]
    Differs {
        /// One of its outputs.
        own: f32,
        /// The same of its canonical form.
        canonical: f32,
    },
    /// No range was recorded.
    #[error("no activation range is known for `{0}`: give images with --calibrate DIR")]
    NoRange(String),
}

/// What the parts of a tensor's int8 form are called, behind its name.
pub const PARTS: [&str; 8] = ["codes", "scale", "zero_point", "dequantised", "float", "clamped", "bounded", "of"];

/// No activation of a sound network is as large.
const LARGEST: f32 = 1e6;

/// The bias of a layer.
struct Bias<'a> {
    name: &'a str,
    values: Vec<f32>,
}

fn fail(node: &pb::NodeProto, reason: String) -> QuantizeError {
    QuantizeError::Graph { node: node.name.clone(), reason }
}

/// What a row of weights, the number `o` of its layer, gives of channels that are all of `errors`: it reads `channels`
/// of them, or one of its own.
fn rise(codes: &[i8], o: usize, channels: usize, errors: &[f32]) -> f32 {
    let errors = if channels == errors.len() { errors } else { errors.get(o..=o).unwrap_or_default() };
    let taps = (codes.len() / errors.len().max(1)).max(1);
    let sum = |codes: &[i8]| codes.iter().map(|code| i32::from(*code)).sum::<i32>() as f32;
    codes.chunks_exact(taps).zip(errors).map(|(codes, error)| sum(codes) * error).sum()
}

struct Quantizer<'a> {
    builder: GraphBuilder,
    constants: HashMap<&'a str, &'a pb::TensorProto>,
    ranges: ActivationRanges,
    /// Quantised activations by their float name: the dequantised tensor to read, and its step.
    steps: HashMap<String, (String, Quantisation)>,
    /// Tensors that are float between float layers.
    floats: HashSet<String>,
    /// How weights are rounded.
    rounding: &'a Rounding,
}

/// True for an average pool whose size is rounded up: those that say the same with padding have been rewritten.
fn is_rounded_up(node: &pb::NodeProto) -> bool {
    node.op_type == "AveragePool" && onnx::int_or(node, "ceil_mode", 0) != 0
}

/// The form of `node`, if it runs in integers and reads activations and constants where it must.
fn integer_form(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Option<Form> {
    let form = onnx_operator(node).filter(|_| !is_rounded_up(node))?.form;
    let is_constant = |i: &String| constants.contains_key(i.as_str());
    let activations = if form.reads_activations_alone() { node.input.len() } else { node.input.len().min(1) };
    let (activations, rest) = node.input.split_at(activations);
    let fits = !activations.iter().any(is_constant) && rest.iter().all(|i| i.is_empty() || is_constant(i));
    fits.then_some(form)
}

/// Quantises `model` with the activation ranges of its tensors, but the layers called `keep`. The graph's inputs,
/// outputs, names and metadata stay. Weights that `rounding` knows are rounded by it, the others each by itself.
pub fn quantize(
    model: &pb::ModelProto,
    ranges: &ActivationRanges,
    keep: &[String],
    rounding: &Rounding,
) -> Result<pb::ModelProto, QuantizeError> {
    if edge_runtime::lower::is_qdq(model) {
        return Err(QuantizeError::AlreadyQuantised);
    }
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| QuantizeError::Graph { node: "graph".into(), reason: "it is empty".into() })?;
    let mut q = Quantizer {
        builder: GraphBuilder::default(),
        constants: graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
        ranges: shared(graph, ranges),
        steps: HashMap::new(),
        floats: HashSet::new(),
        rounding,
    };
    check_names(graph, keep)?;
    let constants = q.constants.clone();
    let form = |n: &pb::NodeProto| integer_form(n, &constants).filter(|_| !keep.iter().any(|k| is_called(n, k)));
    if graph.node.iter().all(|n| form(n).is_none()) {
        return Err(QuantizeError::NothingToQuantise);
    }
    let inputs: Vec<_> = graph.input.iter().filter(|i| !q.constants.contains_key(i.name.as_str())).cloned().collect();
    let mut fused = HashSet::new();
    for input in &inputs {
        let shift = pixel_grid::shift(graph, &input.name);
        let name = shift.map_or(&input.name, |node| &node.output[0]);
        if let Some(node) = shift {
            q.builder.graph.initializer.extend(q.constants.get(node.input[1].as_str()).map(|by| (*by).clone()));
            q.builder.graph.node.push(node.clone());
            fused.insert(name.clone());
        }
        let step = q.step(name)?;
        q.quantised(name, name, step);
    }
    q.builder.graph.input = inputs;
    q.builder.graph.output = graph.output.clone();
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    for node in &graph.node {
        if fused.contains(&node.output[0]) {
            continue;
        }
        let Some(node_form) = form(node).filter(|f| !q.is_cheap_in_float(node, *f)) else {
            q.float(node, &outputs)?;
            continue;
        };
        for input in &node.input {
            q.quantise_float(input)?;
        }
        let clamp = clamp_behind(graph, node, node_form, &outputs).filter(|c| form(c).is_some());
        let result = clamp.map_or(&node.output[0], |c| &c.output[0]);
        q.node(node, node_form, result, clamp, &outputs)?;
        if clamp.is_some() {
            fused.insert(result.clone());
        }
    }
    let mut out = q.builder.finish(&graph.name, vec![]);
    out.metadata_props = model.metadata_props.clone();
    let opset = |m: &pb::ModelProto| m.opset_import.iter().find(|o| o.domain.is_empty()).map_or(0, |o| o.version);
    let newest = opset(model).max(onnx::OPSET);
    out.opset_import.iter_mut().for_each(|o| o.version = newest);
    Ok(out)
}

/// A layer of a float model that becomes int8.
pub struct IntegerLayer<'a> {
    /// The layer.
    pub node: &'a pb::NodeProto,
    /// The clamp that is part of it.
    pub clamp: Option<&'a pb::NodeProto>,
    /// How it is quantised.
    pub form: Form,
}

impl IntegerLayer<'_> {
    /// The tensor that it gives, behind its clamp.
    pub fn result(&self) -> &str {
        &self.clamp.unwrap_or(self.node).output[0]
    }
}

/// The layers of `model` that have an integer form, but those called `keep`, in their order.
pub fn integer_layers<'a>(model: &'a pb::ModelProto, keep: &[String]) -> Vec<IntegerLayer<'a>> {
    let Some(graph) = &model.graph else { return Vec::new() };
    let constants = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
    let form = |n: &pb::NodeProto| integer_form(n, &constants).filter(|_| !keep.iter().any(|k| is_called(n, k)));
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    let mut fused = HashSet::new();
    let mut layers = Vec::new();
    for node in &graph.node {
        let Some(node_form) = form(node).filter(|_| !fused.contains(&node.output[0])) else { continue };
        let clamp = clamp_behind(graph, node, node_form, &outputs).filter(|c| form(c).is_some());
        fused.extend(clamp.map(|c| &c.output[0]));
        layers.push(IntegerLayer { node, clamp, form: node_form });
    }
    layers
}

/// The clamp that is part of `node`.
fn clamp_behind<'a>(
    graph: &'a pb::GraphProto,
    node: &pb::NodeProto,
    form: Form,
    outputs: &[&str],
) -> Option<&'a pb::NodeProto> {
    let reader = following_clamp(graph, node, outputs).filter(|_| !form.moves_codes())?;
    onnx_operator(reader).is_some_and(|o| o.form == Form::Clamp).then_some(reader)
}

fn is_called(node: &pb::NodeProto, name: &String) -> bool {
    node.name == *name || node.output.contains(name)
}

/// Refuses names in `keep` that no layer has.
fn check_names(graph: &pb::GraphProto, keep: &[String]) -> Result<(), QuantizeError> {
    let Some(unknown) = keep.iter().find(|k| !graph.node.iter().any(|n| is_called(n, k))) else { return Ok(()) };
    let form = |n: &&pb::NodeProto| onnx_operator(n).map(|o| o.form);
    let weighted = graph.node.iter().filter(|n| form(n) == Some(Form::Weighted));
    let known: Vec<&str> = weighted.flat_map(|n| n.output.first()).map(String::as_str).collect();
    Err(QuantizeError::NoLayer { name: unknown.clone(), known: known.join(", ") })
}

/// The one reader of what `node` gives, if it has one and the graph does not give it away: a clamp there is part of the
/// range of `node`'s output.
fn following_clamp<'a>(graph: &'a pb::GraphProto, node: &pb::NodeProto, outputs: &[&str]) -> Option<&'a pb::NodeProto> {
    let given = &node.output[0];
    let mut readers = graph.node.iter().filter(|n| n.input.contains(given));
    let first = readers.next()?;
    (readers.next().is_none() && !outputs.contains(&given.as_str())).then_some(first)
}

/// `ranges`, where all parts of a concatenation share one: then it moves codes without changing them, and the device
/// need not move them at all.
fn shared(graph: &pb::GraphProto, ranges: &ActivationRanges) -> ActivationRanges {
    let mut ranges = ranges.clone();
    loop {
        let before = ranges.clone();
        for node in &graph.node {
            // A pool takes the step of its input, so both count as one part.
            let form = onnx_operator(node).map(|o| o.form);
            if !matches!(form, Some(Form::Joined | Form::Picked)) {
                continue;
            }
            let names = || node.input.iter().chain(&node.output);
            let known = names().filter_map(|n| ranges.get(n));
            let all = known.fold([0f32, 0f32], |all, r| [all[0].min(r[0]), all[1].max(r[1])]);
            if form == Some(Form::Joined) || concatenated(graph, &node.output[0]) {
                for name in names() {
                    if let Some(range) = ranges.get_mut(name) {
                        *range = all;
                    }
                }
            }
        }
        if ranges == before {
            return ranges;
        }
    }
}

fn concatenated(graph: &pb::GraphProto, tensor: &str) -> bool {
    let is_joined = |n: &pb::NodeProto| onnx_operator(n).is_some_and(|o| o.form == Form::Joined);
    graph.node.iter().any(|n| is_joined(n) && n.input.iter().any(|i| i == tensor))
}

impl Quantizer<'_> {
    /// A function of one number behind a float layer is not worth a step of its own.
    fn is_cheap_in_float(&self, node: &pb::NodeProto, form: Form) -> bool {
        let behind_float = node.input.first().is_some_and(|i| self.floats.contains(i));
        behind_float && matches!(form, Form::Clamp | Form::Passed)
    }

    /// Writes `node`, whose quantised output is called `result`, with the `clamp` behind it.
    fn node(
        &mut self,
        node: &pb::NodeProto,
        form: Form,
        result: &str,
        clamp: Option<&pb::NodeProto>,
        outputs: &[&str],
    ) -> Result<(), QuantizeError> {
        let float_result = format!("{result}/float");
        match form {
            Form::Weighted => self.weighted(node, result, clamp, outputs)?,
            Form::Computed | Form::Joined => {
                let names: Result<Vec<String>, _> =
                    (0..node.input.len()).map(|i| self.activation(node, i).map(|(name, _)| name)).collect();
                let names = names?;
                let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
                self.builder.node(&node.op_type, &inputs, &float_result, node.attribute.clone());
                self.clamped(&float_result, result, clamp)?;
            }
            Form::Clamp => {
                let (input, _) = self.activation(node, 0)?;
                self.clamp(node, &input, &float_result)?;
                self.clamped(&float_result, result, clamp)?;
            }
            // These move codes without changing them, so the step stays.
            Form::Picked | Form::Passed => {
                let (input, step) = self.activation(node, 0)?;
                self.builder.node(&node.op_type, &[&input], &float_result, node.attribute.clone());
                self.quantised(&float_result, result, step);
            }
        }
        if outputs.contains(&result) {
            self.write_output(result);
        }
        Ok(())
    }

    /// The dequantised tensor that input `i` of `node` reads, and its step.
    fn activation(&self, node: &pb::NodeProto, i: usize) -> Result<(String, Quantisation), QuantizeError> {
        let name = node.input.get(i).ok_or_else(|| fail(node, format!("input {i} is missing")))?;
        let known = self.steps.get(name).cloned();
        known.ok_or_else(|| fail(node, format!("its input `{name}` is no activation")))
    }

    /// A layer with weights.
    fn weighted(
        &mut self,
        node: &pb::NodeProto,
        result: &str,
        clamp: Option<&pb::NodeProto>,
        outputs: &[&str],
    ) -> Result<(), QuantizeError> {
        let missing = |name: &str| fail(node, format!("`{name}` is no initializer"));
        let (input, step) = self.activation(node, 0)?;
        let weight_name = node.input.get(1).ok_or_else(|| fail(node, "it has no weights".into()))?;
        let weight = *self.constants.get(weight_name.as_str()).ok_or_else(|| missing(weight_name))?;
        if node.op_type == "Gemm" && onnx::int_or(node, "transB", 0) != 1 {
            return Err(fail(node, "Gemm must have transB = 1".into()));
        }
        let bias = match node.input.get(2).filter(|n| !n.is_empty()) {
            Some(name) => {
                let tensor = self.constants.get(name.as_str()).ok_or_else(|| missing(name))?;
                Some(Bias { name, values: onnx::f32s(tensor)? })
            }
            None => None,
        };
        let (weight, bias) = self.weights(result, weight, bias.as_ref(), step)?;
        let mut inputs = vec![input.as_str(), weight.as_str()];
        inputs.extend(bias.as_deref());
        // The sums of the last linear layer leave the graph without a step: the probability stays fine-grained.
        if node.op_type == "Gemm" && outputs.contains(&result) && clamp.is_none() {
            self.builder.node(&node.op_type, &inputs, result, node.attribute.clone());
            return Ok(());
        }
        let float_result = format!("{result}/float");
        self.builder.node(&node.op_type, &inputs, &float_result, node.attribute.clone());
        self.clamped(&float_result, result, clamp)
    }

    /// A graph output keeps its name: the last `DequantizeLinear` writes it directly.
    fn write_output(&mut self, result: &str) {
        let Some((dequantised, _)) = self.steps.get(result).cloned() else { return };
        for node in &mut self.builder.graph.node {
            let names = node.output.iter_mut().chain(&mut node.input);
            names.filter(|name| **name == dequantised).for_each(|name| *name = result.to_owned());
        }
        self.steps.entry(result.to_owned()).and_modify(|s| s.0 = result.to_owned());
    }

    /// Leaves `node` as it is; its inputs are real values, of codes or of another float layer.
    fn float(&mut self, node: &pb::NodeProto, outputs: &[&str]) -> Result<(), QuantizeError> {
        let mut node = node.clone();
        let is_weighted = onnx_operator(&node).is_some_and(|o| o.form == Form::Weighted);
        // ONNX Runtime would make one operator of codes, pool and codes, which counts padding differently.
        let stays_apart = is_weighted || is_rounded_up(&node) || node.op_type == "ConvTranspose";
        for input in node.input.iter_mut().filter(|i| !i.is_empty()) {
            if let Some((dequantised, step)) = self.steps.get(input).cloned() {
                *input = if stays_apart { self.bounded(input, &dequantised, step) } else { dequantised };
            } else if let Some(constant) = self.constants.get(input.as_str()) {
                if !self.builder.graph.initializer.iter().any(|t| t.name == *input) {
                    self.builder.graph.initializer.push((*constant).clone());
                }
            } else if !self.floats.contains(input) {
                let reason = format!("its input `{input}` is no activation");
                return Err(QuantizeError::Graph { node: node.name, reason });
            }
        }
        self.floats.extend(node.output.iter().filter(|o| !outputs.contains(&o.as_str())).cloned());
        self.builder.graph.node.push(node);
        Ok(())
    }

    /// A clamp of the activation `name` that changes nothing, since its codes reach no further. ONNX Runtime makes int8
    /// of float weights that read codes directly (its optimiser `WeightBiasQuantization`), by one scale for a tensor; a
    /// layer that is to stay float would lose more than in int8.
    fn bounded(&mut self, name: &str, dequantised: &str, step: Quantisation) -> String {
        let bounded = format!("{name}/bounded");
        if self.floats.insert(bounded.clone()) {
            let [low, high] = ["low", "high"].map(|end| format!("{bounded}/{end}"));
            self.builder.floats(&low, &[], &[step.real(0)]);
            self.builder.floats(&high, &[], &[step.real(255)]);
            self.builder.node("Clip", &[dequantised, &low, &high], &bounded, vec![]);
        }
        bounded
    }

    /// Gives the float tensor `name`, if it is one, a step: an integer layer reads it.
    fn quantise_float(&mut self, name: &str) -> Result<(), QuantizeError> {
        if self.floats.contains(name) && !self.steps.contains_key(name) {
            let step = self.step(name)?;
            self.quantised(name, name, step);
        }
        Ok(())
    }

    /// Quantises `from` as `result`; behind `clamp`, if the codes of `result` reach beyond it.
    fn clamped(&mut self, from: &str, result: &str, clamp: Option<&pb::NodeProto>) -> Result<(), QuantizeError> {
        let step = self.step(result)?;
        let Some(clamp) = clamp else {
            self.quantised(from, result, step);
            return Ok(());
        };
        let bound = |i: usize, default: f32| -> Result<f32, QuantizeError> {
            let tensor = clamp.input.get(i).and_then(|n| self.constants.get(n.as_str()));
            Ok(tensor.map(|t| onnx::f32s(t)).transpose()?.and_then(|v| v.first().copied()).unwrap_or(default))
        };
        let [low, high] = match clamp.op_type.as_str() {
            "Relu" => [0.0, f32::INFINITY],
            _ => [bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?],
        };
        let slack = 0.01 * step.scale;
        if step.real(0) >= low - slack && step.real(255) <= high + slack {
            self.quantised(from, result, step);
            return Ok(());
        }
        let clamped = format!("{result}/clamped");
        self.clamp(clamp, from, &clamped)?;
        self.quantised(&clamped, result, step);
        Ok(())
    }

    /// A copy of the node `clamp` that reads `from`.
    fn clamp(&mut self, clamp: &pb::NodeProto, from: &str, to: &str) -> Result<(), QuantizeError> {
        let mut inputs = vec![from.to_owned()];
        for name in clamp.input.iter().skip(1) {
            if let Some(bound) = self.constants.get(name.as_str()) {
                // Nodes that share a bound must not declare it twice.
                let own = format!("{to}/{name}");
                self.builder.floats(&own, &[], &onnx::f32s(bound)?);
                inputs.push(own);
            } else {
                inputs.push(name.clone());
            }
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        self.builder.node(&clamp.op_type, &inputs, to, clamp.attribute.clone());
        Ok(())
    }

    fn step(&self, tensor: &str) -> Result<Quantisation, QuantizeError> {
        let range = self.ranges.get(tensor).ok_or_else(|| QuantizeError::NoRange(tensor.to_owned()))?;
        let [low, high] = *range;
        if low < -LARGEST || high > LARGEST || !low.is_finite() || !high.is_finite() {
            return Err(QuantizeError::Range { tensor: tensor.to_owned(), low, high });
        }
        Ok(Quantisation::covering(*range))
    }

    /// `QuantizeLinear` and `DequantizeLinear` behind the float tensor `from`; readers of `name` get the latter.
    fn quantised(&mut self, from: &str, name: &str, step: Quantisation) {
        let scale = format!("{name}/scale");
        let zero = format!("{name}/zero_point");
        let codes = format!("{name}/codes");
        let dequantised = format!("{name}/dequantised");
        self.builder.floats(&scale, &[], &[step.scale]);
        self.builder.raw(&zero, &[], DataType::Uint8, vec![step.zero_point]);
        self.builder.node("QuantizeLinear", &[from, &scale, &zero], &codes, vec![]);
        self.builder.node("DequantizeLinear", &[&codes, &scale, &zero], &dequantised, vec![]);
        self.steps.insert(name.to_owned(), (dequantised, step));
    }

    /// Names for the parts of the quantised constant `name`: with `reader`, if another layer that shares it came first.
    fn names(&self, name: &str, reader: &str) -> [String; 4] {
        let taken = self.builder.graph.initializer.iter().any(|t| t.name == format!("{name}/codes"));
        let name = if taken { format!("{name}/of/{reader}") } else { name.to_owned() };
        ["codes", "scale", "zero_point", "dequantised"].map(|part| format!("{name}/{part}"))
    }

    /// Weights and bias of the layer that gives `result` as dequantised initializers; gives the names to read.
    fn weights(
        &mut self,
        result: &str,
        weight: &pb::TensorProto,
        bias: Option<&Bias>,
        input: Quantisation,
    ) -> Result<(String, Option<String>), QuantizeError> {
        let name = &weight.name;
        let dims = onnx::dims(weight)?;
        let values = onnx::f32s(weight)?;
        let outputs = dims.first().copied().unwrap_or(0).max(1);
        let depth = values.len() / outputs;
        // A channel of (nearly) zero weights must still leave its bias room in 32 bits.
        let bias_floor = |o: usize| {
            bias.map_or(0.0, |b| b.values.get(o).map_or(0.0, |b| b.abs()) / (input.scale * (1 << 30) as f32))
        };
        let scale = |(o, row): (usize, &[f32])| {
            let top = row.iter().fold(0f32, |m, v| m.max(v.abs()));
            (top / 127.0).max(bias_floor(o)).max(f32::MIN_POSITIVE * 1e6)
        };
        let scales: Vec<f32> = values.chunks_exact(depth.max(1)).enumerate().map(scale).collect();
        let rounded = self.rounding.round(name, &values, &scales);
        let mut falls = rounded.falls.clone();
        if let Some(errors) = self.rounding.input_error(name, input) {
            for (o, ((fall, codes), scale)) in
                falls.iter_mut().zip(rounded.codes.chunks_exact(depth.max(1))).zip(&scales).enumerate()
            {
                *fall -= scale * rise(codes, o, dims.get(1).copied().unwrap_or(1), &errors);
            }
        }
        let codes = rounded.codes.iter().map(|code| *code as u8).collect();
        let axis = || vec![onnx::int("axis", 0)];
        let [codes_name, scale_name, zero_name, weight_out] = self.names(name, result);
        self.builder.raw(&codes_name, &dims, DataType::Int8, codes);
        self.builder.floats(&scale_name, &[outputs], &scales);
        self.builder.raw(&zero_name, &[outputs], DataType::Int8, vec![0; outputs]);
        self.builder.node("DequantizeLinear", &[&codes_name, &scale_name, &zero_name], &weight_out, axis());
        let Some(bias) = bias else { return Ok((weight_out, None)) };
        let bias_scales: Vec<f32> = scales.iter().map(|s| s * input.scale).collect();
        let bias_codes: Vec<u8> = bias
            .values
            .iter()
            .zip(&falls)
            .zip(&bias_scales)
            .flat_map(|((b, fall), s)| ((f64::from(b + fall) / f64::from(*s)).round_ties_even() as i32).to_le_bytes())
            .collect();
        let [codes_name, scale_name, zero_name, bias_out] = self.names(bias.name, result);
        self.builder.raw(&codes_name, &[outputs], DataType::Int32, bias_codes);
        self.builder.floats(&scale_name, &[outputs], &bias_scales);
        self.builder.raw(&zero_name, &[outputs], DataType::Int32, vec![0; 4 * outputs]);
        self.builder.node("DequantizeLinear", &[&codes_name, &scale_name, &zero_name], &bias_out, axis());
        Ok((weight_out, Some(bias_out)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::engine::{Compute, FloatPlan, IntegerPlan, floats};
    use edge_runtime::lower::lower;
    use edge_runtime::operators::{Float, Op};

    #[test]
    fn the_symmetric_input_of_our_networks_quantises_to_the_pixel_itself() {
        let s = Quantisation::covering([-1.0, 127.0 / 128.0]);
        assert_eq!((s.scale, s.zero_point), (1.0 / 128.0, 128));
    }

    #[test]
    fn what_inputs_are_off_by_rises_through_the_weights() {
        // Two channels of two taps each, then a depthwise layer's second row.
        assert_eq!(rise(&[1, 2, -3, 4], 0, 2, &[0.5, -0.25]), 3.0 * 0.5 - 0.25);
        assert_eq!(rise(&[1, 2], 1, 1, &[0.5, -0.25]), 3.0 * -0.25);
        assert_eq!(rise(&[1, 2], 7, 1, &[0.5, -0.25]), 0.0);
    }

    /// Convolution, softplus and its root (no integer form), convolution, a row, softplus again, two linear layers.
    fn with_float_layers() -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        let numbers = |n: usize, by: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * by).sin()).collect() };
        let conv = || vec![onnx::ints("pads", &[1; 4]), onnx::ints("kernel_shape", &[3, 3])];
        b.input("image", &[1, 1, 6, 6]);
        b.floats("w0", &[4, 1, 3, 3], &numbers(36, 0.7));
        b.node("Conv", &["image", "w0"], "c0", conv());
        b.node("Softplus", &["c0"], "s", vec![]);
        b.node("Sqrt", &["s"], "root", vec![]);
        b.floats("w1", &[3, 4, 3, 3], &numbers(108, 1.3));
        b.node("Conv", &["root", "w1"], "c1", conv());
        b.node("Relu", &["c1"], "r1", vec![]);
        // Exporters share what is equal.
        b.floats("w", &[3, 3, 3, 3], &numbers(81, 1.9));
        b.floats("b", &[3], &[0.1, -0.2, 0.3]);
        b.node("Conv", &["r1", "w", "b"], "c2", conv());
        b.node("Conv", &["c2", "w", "b"], "c3", conv());
        b.node("Flatten", &["c3"], "row", vec![]);
        b.node("Softplus", &["row"], "soft", vec![]);
        b.floats("w2", &[5, 108], &numbers(540, 0.9));
        b.node("Gemm", &["soft", "w2"], "hidden", vec![onnx::int("transB", 1)]);
        b.floats("w3", &[2, 5], &numbers(10, 2.9));
        b.node("Gemm", &["hidden", "w3"], "logits", vec![onnx::int("transB", 1)]);
        b.output("logits", &[1, 2]);
        b.finish("islands", vec![])
    }

    /// Quantises, lowers and runs one image; gives the operators of the islands and the logits of both engines.
    fn on_both_engines(keep: &[&str]) -> (Vec<Vec<String>>, Vec<f32>, Vec<f32>) {
        let model = with_float_layers();
        let names: Vec<String> = model.graph.iter().flat_map(|g| &g.node).map(|n| n.output[0].clone()).collect();
        let codes: Vec<u8> = (0..36u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let pixels: Vec<f32> = codes.iter().map(|c| (f32::from(*c) - 128.0) / 128.0).collect();
        let mut ranges = ActivationRanges::from([("image".to_owned(), [-1.0, 127.0 / 128.0])]);
        let outputs = FloatPlan::new(&model, Some(&names)).unwrap().run(&[1, 1, 6, 6], &pixels).unwrap();
        for (name, output) in names.iter().zip(&outputs) {
            let values = floats(output).unwrap().iter();
            let range = values.fold([0f32, 0f32], |r, v| [r[0].min(*v), r[1].max(*v)]);
            ranges.insert(name.clone(), range);
        }
        let keep: Vec<String> = keep.iter().map(ToString::to_string).collect();
        let int8 = quantize(&model, &ranges, &keep, &Rounding::plain()).unwrap();
        let mut network = lower(&int8).unwrap().network;
        let islands = network.nodes.iter().filter_map(|n| match &n.op {
            Op::Float(Float { model }) => Some(onnx::operators(model)),
            _ => None,
        });
        let islands = islands.collect();
        let reference = FloatPlan::new(&int8, None).unwrap().run(&[1, 1, 6, 6], &pixels).unwrap();
        let plan = IntegerPlan::new(&mut network, &Compute::default()).unwrap();
        let ours = plan.run(|to| to.copy_from_slice(&codes), |logits, _| logits).unwrap();
        (islands, ours, floats(&reference[0]).unwrap().to_vec())
    }

    #[test]
    fn layers_without_an_integer_form_stay_float() {
        let (islands, ours, reference) = on_both_engines(&[]);
        let of = |ops: &[&str]| ops.iter().map(ToString::to_string).collect::<Vec<_>>();
        // Two in a row are one island, without codes between them.
        assert_eq!(islands, [of(&["Softplus", "Sqrt"]), of(&["Softplus"])]);
        for (a, b) in ours.iter().zip(&reference) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(1.0), "{ours:?} {reference:?}");
        }
    }

    #[test]
    fn a_layer_can_be_kept_in_float_also_the_last() {
        let (islands, ours, reference) = on_both_engines(&["c1", "logits"]);
        let operators = islands.concat();
        assert!(operators.contains(&"Conv".to_owned()) && operators.contains(&"Gemm".to_owned()), "{islands:?}");
        for (a, b) in ours.iter().zip(&reference) {
            assert!((a - b).abs() < 1e-3 * b.abs().max(1.0), "{ours:?} {reference:?}");
        }
        let nobody = quantize(&with_float_layers(), &ActivationRanges::new(), &["c9".to_owned()], &Rounding::plain());
        assert!(matches!(nobody, Err(QuantizeError::NoLayer { name, .. }) if name == "c9"));
    }
}
