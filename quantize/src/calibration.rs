//! Activation ranges: what every tensor between two operators takes on, over real images.

use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::{ActivationRanges, InputContract};
use edge_runtime::onnx::{INPUT, pb};

/// Most images whose activations are recorded. A round number, not a measured optimum.
pub const IMAGES: usize = 256;

/// Runs `frames` through the float network `model` and records the smallest and largest value of every activation,
/// always including 0 so that padding and clamps are exact (ONNX `QuantizeLinear` has an integer zero point).
pub fn record(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    mut progress: impl FnMut(usize),
) -> Result<ActivationRanges, EngineError> {
    let graph = model.graph.as_ref().ok_or_else(|| EngineError("the model holds no graph".into()))?;
    let input_name = graph.input.first().map_or(INPUT, |i| &i.name);
    let read = |name: &String| graph.node.iter().any(|n| n.input.contains(name));
    let given = graph.node.iter().filter(|n| n.op_type != "Constant").flat_map(|n| n.output.iter().enumerate());
    // Of several outputs those that somebody reads.
    let names: Vec<String> = given.filter(|(i, o)| *i == 0 || read(o)).map(|(_, o)| o.clone()).collect();
    let plan = FloatPlan::new(model, Some(&names))?;
    let mut ranges = ActivationRanges::new();
    let mut widen = |name: &str, values: &[f32]| {
        let range = ranges.entry(name.to_owned()).or_insert([0.0, 0.0]);
        for v in values {
            *range = [range[0].min(*v), range[1].max(*v)];
        }
    };
    let side = input.size as usize;
    for (i, frame) in frames.iter().enumerate() {
        let values = normalise(frame, input);
        widen(input_name, &values);
        let outputs = plan.run(&[1, input.channels as usize, side, side], &values)?;
        for (name, output) in names.iter().zip(&outputs) {
            // Shapes and indices are no activations.
            if let Ok(values) = floats(output) {
                widen(name, values);
            }
        }
        progress(i + 1);
    }
    Ok(ranges)
}
