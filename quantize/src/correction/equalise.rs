//! Cross-layer equalisation (Nagel et al. 2019, section 4.1): where one layer alone reads another's output, channels
//! that stay small are scaled up there and down here, so that the common step of eight bits is not far too coarse for
//! them. Channels are scaled up alone, and no further than to the clamp between the layers, which therefore stays as it
//! is.

use super::layers::{Layer, layers, readers};
use edge_runtime::onnx::{self, OnnxError, pb};
use std::collections::{BTreeMap, HashMap};

/// Largest absolute value of each channel of a tensor, by its name.
pub type Maxima = BTreeMap<String, ChannelMaxima>;

/// Largest absolute value of each channel of a tensor.
#[derive(Debug, Clone, Default)]
pub struct ChannelMaxima {
    /// One for each channel.
    pub values: Vec<f32>,
    /// How many values of a channel were seen.
    pub seen: usize,
}

/// A maximum over fewer values is not believed: others will exceed it.
const FEWEST: usize = 1000;

/// How much more than on the calibration images a channel may take on, before it reaches its clamp.
const HEADROOM: f32 = 1.1;
/// Largest factor: a channel that was silent on all calibration images may speak on others.
const LARGEST: f32 = 16.0;

/// What lies between two layers.
enum Between {
    /// Nothing.
    Nothing,
    /// Negative values become 0.
    Relu,
    /// And larger ones this.
    Clip(f32),
}

/// A layer, what follows, and the layer that alone reads that.
struct Pair<'a> {
    first: &'a Layer,
    second: &'a Layer,
    between: Between,
    /// The tensor that the second one reads.
    tensor: String,
}

/// Equalises all pairs of layers of `model`; gives how many there were. `maxima` are of the tensors between them.
pub fn equalise(model: &mut pb::ModelProto, maxima: &Maxima) -> Result<usize, OnnxError> {
    let Some(graph) = &mut model.graph else { return Ok(0) };
    let layers = layers(graph);
    let pairs = pairs(graph, &layers);
    let mut count = 0;
    for pair in &pairs {
        let is_sound = |m: &&ChannelMaxima| m.values.len() == pair.first.dims[0] && m.seen >= FEWEST;
        let Some(maxima) = maxima.get(&pair.tensor).filter(is_sound) else { continue };
        scale(graph, pair, &factors(&pair.between, &maxima.values))?;
        count += 1;
    }
    Ok(count)
}

fn factors(between: &Between, maxima: &[f32]) -> Vec<f32> {
    let most = maxima.iter().copied().fold(0.0, f32::max);
    let top = match between {
        Between::Clip(top) => *top,
        Between::Nothing | Between::Relu => most * HEADROOM,
    };
    maxima.iter().map(|max| (top / (max * HEADROOM).max(f32::MIN_POSITIVE)).clamp(1.0, LARGEST)).collect()
}

fn pairs<'a>(graph: &pb::GraphProto, layers: &'a [Layer]) -> Vec<Pair<'a>> {
    let readers = readers(graph);
    let is_read_once = |name: &str| readers.get(name) == Some(&1);
    let reader = |name: &str| graph.node.iter().find(|node| node.input.iter().any(|input| input == name));
    let constants: HashMap<&str, &pb::TensorProto> =
        graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let mut pairs = Vec::new();
    for first in layers.iter().filter(|layer| is_read_once(&layer.output)) {
        let Some(node) = reader(&first.output) else { continue };
        let (between, tensor) = match between(node, &constants) {
            Some(between) if is_read_once(&node.output[0]) => (between, node.output[0].clone()),
            Some(_) => continue,
            None => (Between::Nothing, first.output.clone()),
        };
        let Some(second) = layers.iter().find(|layer| layer.input == tensor) else { continue };
        let read = if second.is_depthwise() { second.dims[0] } else { second.dims[1] };
        if read == first.dims[0] {
            pairs.push(Pair { first, second, between, tensor });
        }
    }
    pairs
}

fn between(node: &pb::NodeProto, constants: &HashMap<&str, &pb::TensorProto>) -> Option<Between> {
    let bound = |i: usize| -> Option<f32> {
        let tensor = constants.get(node.input.get(i)?.as_str())?;
        onnx::f32s(tensor).ok()?.first().copied()
    };
    match node.op_type.as_str() {
        "Relu" => Some(Between::Relu),
        "Clip" if bound(1) == Some(0.0) => match bound(2) {
            Some(top) if top > 0.0 && top.is_finite() => Some(Between::Clip(top)),
            _ => None,
        },
        _ => None,
    }
}

/// Multiplies what the first layer of `pair` gives by `factors`, and divides it again in the second.
fn scale(graph: &mut pb::GraphProto, pair: &Pair, factors: &[f32]) -> Result<(), OnnxError> {
    let [outputs, ..] = pair.first.dims;
    let rows = |values: &mut [f32]| {
        let depth = values.len() / outputs;
        for (row, factor) in values.chunks_exact_mut(depth.max(1)).zip(factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
    };
    change(graph, &pair.first.weight, rows)?;
    if let Some(bias) = &pair.first.bias {
        change(graph, bias, rows)?;
    }
    let [_, depth, kh, kw] = pair.second.dims;
    let taps = kh * kw;
    let is_depthwise = pair.second.is_depthwise();
    change(graph, &pair.second.weight, |values| {
        for (i, window) in values.chunks_exact_mut(taps).enumerate() {
            let channel = if is_depthwise { i } else { i % depth };
            window.iter_mut().for_each(|value| *value /= factors[channel]);
        }
    })
}

/// Changes the values of initializer `name`.
fn change(graph: &mut pb::GraphProto, name: &str, change: impl FnOnce(&mut [f32])) -> Result<(), OnnxError> {
    let Some(tensor) = graph.initializer.iter_mut().find(|tensor| tensor.name == name) else { return Ok(()) };
    let mut values = onnx::f32s(tensor)?;
    change(&mut values);
    tensor.float_data = vec![];
    tensor.raw_data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correction::samples::tests::{frames, input, separable};
    use edge_runtime::engine::{FloatPlan, floats};
    use edge_runtime::image::preprocess::normalise;

    #[test]
    fn maxima_over_few_values_are_not_believed() {
        let mut model = separable();
        let mut maxima = crate::correction::samples::maxima(&model, &input(), &frames(8)).unwrap();
        maxima.values_mut().for_each(|channels| channels.seen = FEWEST - 1);
        assert_eq!(equalise(&mut model, &maxima).unwrap(), 0);
        assert_eq!(model, separable());
    }

    #[test]
    fn equalised_networks_give_the_same_and_their_channels_are_alike() {
        let before = separable();
        let frames = frames(8);
        let maxima = crate::correction::samples::maxima(&before, &input(), &frames).unwrap();
        let mut after = before.clone();
        assert_eq!(equalise(&mut after, &maxima).unwrap(), 2);
        let logits = |model: &pb::ModelProto| -> Vec<f32> {
            let plan = FloatPlan::new(model, None).unwrap();
            let run = |frame| plan.run(&[1, 1, 32, 32], &normalise(frame, &input())).unwrap();
            frames.iter().flat_map(|frame| floats(&run(*frame)[0]).unwrap().to_vec()).collect()
        };
        for (a, b) in logits(&before).iter().zip(logits(&after)) {
            assert!((a - b).abs() < 1e-3 * (1.0 + a.abs()), "{a} {b}");
        }
        let spread = |maxima: &Maxima| {
            let channels = &maxima["hidden.relu"].values;
            let most = channels.iter().copied().fold(0.0, f32::max);
            most / channels.iter().copied().fold(f32::INFINITY, f32::min)
        };
        let evened = crate::correction::samples::maxima(&after, &input(), &frames).unwrap();
        assert!(spread(&maxima) > 4.0 * spread(&evened), "{} {}", spread(&maxima), spread(&evened));
    }
}
