//! Activation ranges: what every tensor between two operators takes on, over real images, and which part of it the 256
//! codes of the integer network cover.

mod histogram;
mod method;

pub use histogram::Histogram;
pub use method::Method;

use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::{ActivationRanges, InputContract};
use edge_runtime::onnx::{INPUT, pb};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Most images whose activations are recorded. A round number, not a measured optimum.
pub const IMAGES: usize = 256;

/// How often each value of each activation was seen.
pub struct Activations {
    input: String,
    tensors: BTreeMap<String, Histogram>,
}

impl Activations {
    /// Runs `frames` through the float network `model` and counts the values of every activation.
    pub fn observe(
        model: &pb::ModelProto,
        input: &InputContract,
        frames: &[&GreyPlane],
        progress: impl FnMut(usize),
    ) -> Result<Activations, EngineError> {
        let mut tensors = BTreeMap::<String, Histogram>::new();
        run(model, input, frames, progress, |seen| {
            let known = seen.iter().filter(|(name, _)| !tensors.contains_key(*name));
            let new: Vec<String> = known.map(|(name, _)| (*name).to_owned()).collect();
            tensors.extend(new.into_iter().map(|name| (name, Histogram::default())));
            let seen: BTreeMap<&str, &[f32]> = seen.iter().copied().collect();
            tensors.par_iter_mut().for_each(|(name, histogram)| {
                histogram.add(seen.get(name.as_str()).copied().unwrap_or_default());
            });
        })?;
        let input = model.graph.as_ref().and_then(|g| g.input.first()).map_or(INPUT, |i| &i.name);
        Ok(Activations { input: input.to_owned(), tensors })
    }

    /// What each activation's codes are to cover by `method`. Pixels are whole numbers already: the input keeps all.
    pub fn ranges(&self, method: Method) -> ActivationRanges {
        let range = |(name, histogram): (&String, &Histogram)| {
            let method = if *name == self.input { Method::MinMax } else { method };
            (name.clone(), method.range(histogram))
        };
        self.tensors.par_iter().map(range).collect()
    }

    /// The values of the activation `tensor`.
    pub fn of(&self, tensor: &str) -> Option<&Histogram> {
        self.tensors.get(tensor)
    }
}

/// Runs `frames` through the float network `model` and records the smallest and largest value of every activation,
/// always including 0 so that padding and clamps are exact (ONNX `QuantizeLinear` has an integer zero point).
pub fn record(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    progress: impl FnMut(usize),
) -> Result<ActivationRanges, EngineError> {
    let mut ranges = ActivationRanges::new();
    run(model, input, frames, progress, |seen| {
        for (name, values) in seen {
            let range = ranges.entry((*name).to_owned()).or_insert([0.0, 0.0]);
            for v in *values {
                *range = [range[0].min(*v), range[1].max(*v)];
            }
        }
    })?;
    Ok(ranges)
}

/// Calls `see` with the name and the values of every activation of each of `frames`.
fn run(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    mut progress: impl FnMut(usize),
    mut see: impl FnMut(&[(&str, &[f32])]),
) -> Result<(), EngineError> {
    let graph = model.graph.as_ref().ok_or_else(|| EngineError("the model holds no graph".into()))?;
    let input_name = graph.input.first().map_or(INPUT, |i| &i.name);
    let read = |name: &String| graph.node.iter().any(|n| n.input.contains(name));
    let given = graph.node.iter().filter(|n| n.op_type != "Constant").flat_map(|n| n.output.iter().enumerate());
    // Of several outputs those that somebody reads.
    let names: Vec<String> = given.filter(|(i, o)| *i == 0 || read(o)).map(|(_, o)| o.clone()).collect();
    let plan = FloatPlan::new(model, Some(&names))?;
    let side = input.size as usize;
    for (i, frame) in frames.iter().enumerate() {
        let values = normalise(frame, input);
        let outputs = plan.run(&[1, input.channels as usize, side, side], &values)?;
        // Shapes and indices are no activations.
        let inner = names.iter().zip(&outputs).filter_map(|(name, output)| Some((name.as_str(), floats(output).ok()?)));
        let seen: Vec<(&str, &[f32])> = [(input_name, values.as_slice())].into_iter().chain(inner).collect();
        see(&seen);
        progress(i + 1);
    }
    Ok(())
}
