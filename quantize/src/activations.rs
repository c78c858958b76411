//! What a float network computes on images, tensor by tensor.

use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;
use edge_runtime::onnx::{INPUT, pb};
use rayon::prelude::*;
use std::collections::BTreeMap;
use tract_onnx::prelude::Tensor;

/// Most images that run at once: their tensors are all in memory, 50 to 200 MB an image.
const AT_ONCE: usize = 8;

/// A tensor of one image.
#[derive(Debug, Clone, Copy)]
pub struct Activation<'a> {
    /// Its values.
    pub values: &'a [f32],
    /// Its dimensions.
    pub shape: &'a [usize],
}

/// The tensors of one image, by their names.
pub type Seen<'a> = BTreeMap<&'a str, Activation<'a>>;

/// The name of the image in `model`.
pub fn image(model: &pb::ModelProto) -> &str {
    model.graph.as_ref().and_then(|graph| graph.input.first()).map_or(INPUT, |input| &input.name)
}

/// Runs `frames` through the float network `model`, some at once, and calls `see` in their order with the number of
/// each and those of its tensors `names` that hold numbers (shapes and indices are no activations).
pub fn run(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    names: &[String],
    mut see: impl FnMut(usize, &Seen),
) -> Result<(), EngineError> {
    let image = image(model);
    let inner: Vec<String> = names.iter().filter(|name| *name != image).cloned().collect();
    // A network of one layer has no tensor but its image.
    let plan = if inner.is_empty() { None } else { Some(FloatPlan::new(model, Some(&inner))?) };
    let side = input.size as usize;
    let shape = [1, input.channels as usize, side, side];
    let one = |frame: &&GreyPlane| -> Result<(Vec<f32>, Vec<Tensor>), EngineError> {
        let values = normalise(frame, input);
        let outputs = plan.as_ref().map_or(Ok(vec![]), |plan| plan.run(&shape, &values))?;
        Ok((values, outputs))
    };
    let at_once = rayon::current_num_threads().clamp(1, AT_ONCE);
    for (k, batch) in frames.chunks(at_once).enumerate() {
        let ran: Result<Vec<_>, EngineError> = batch.par_iter().map(one).collect();
        for (i, (values, outputs)) in ran?.iter().enumerate() {
            let mut seen = Seen::from([(image, Activation { values, shape: &shape })]);
            let given = inner.iter().zip(outputs).filter_map(|(name, output)| {
                let activation = Activation { values: floats(output).ok()?, shape: output.shape() };
                Some((name.as_str(), activation))
            });
            seen.extend(given);
            see(k * at_once + i, &seen);
        }
    }
    Ok(())
}
