//! Activation ranges: what every tensor between two operators takes on, over real images, and which part of it the 256
//! codes of the integer network cover.

mod histogram;
mod kept;
mod method;

pub use histogram::Histogram;
pub use kept::{KEY as HISTOGRAMS, KeptError};
pub use method::Method;

use crate::activations::{self, Seen};
use edge_runtime::engine::EngineError;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::contract::{ActivationRanges, InputContract};
use edge_runtime::onnx::pb;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Most images whose activations are recorded. A round number, not a measured optimum.
pub const IMAGES: usize = 300;

/// How often each value of each activation was seen.
pub struct Activations {
    tensors: BTreeMap<String, Histogram>,
    /// What the codes of some are to cover, whatever was seen.
    known: ActivationRanges,
}

impl Activations {
    /// Runs `frames` through the float network `model`, looks at the values of every activation and shows them to
    /// `also`. For [`Method::MinMax`] alone they need not be counted, which takes longer.
    pub fn observe(
        model: &pb::ModelProto,
        input: &InputContract,
        frames: &[&GreyPlane],
        method: Option<Method>,
        mut also: impl FnMut(usize, &Seen),
    ) -> Result<Activations, EngineError> {
        let mut tensors = BTreeMap::<String, Histogram>::new();
        run(model, input, frames, |i, seen| {
            let new: Vec<&str> = seen.keys().copied().filter(|name| !tensors.contains_key(*name)).collect();
            tensors.extend(new.into_iter().map(|name| (name.to_owned(), Histogram::default())));
            tensors.par_iter_mut().for_each(|(name, histogram)| {
                let values = seen.get(name.as_str()).map_or(&[][..], |activation| activation.values);
                match method {
                    Some(Method::MinMax) => histogram.reach_to(values),
                    _ => histogram.add(values),
                }
            });
            also(i, seen);
        })?;
        Ok(Activations::new(tensors, activations::image(model)))
    }

    /// What was seen of `tensors`. The one called `image` keeps all, since values of pixels are steps already.
    fn new(tensors: BTreeMap<String, Histogram>, image: &str) -> Activations {
        let seen = tensors.get(image).map(|histogram| (image.to_owned(), histogram.range()));
        Activations { known: seen.into_iter().collect(), tensors }
    }

    /// Lets the codes of `tensor` cover `range`, whatever was seen.
    pub fn cover(&mut self, tensor: String, range: [f32; 2]) {
        self.known.insert(tensor, range);
    }

    /// What each activation's codes are to cover by `method`.
    pub fn ranges(&self, method: Method) -> ActivationRanges {
        let range = |(name, histogram): (&String, &Histogram)| {
            let known = self.known.get(name).copied();
            (name.clone(), known.unwrap_or_else(|| method.range(histogram)))
        };
        self.tensors.par_iter().map(range).collect()
    }

    /// The values of the activation `tensor`.
    pub fn of(&self, tensor: &str) -> Option<&Histogram> {
        self.tensors.get(tensor)
    }
}

/// Calls `see` with every activation of each of `frames`.
fn run(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    see: impl FnMut(usize, &Seen),
) -> Result<(), EngineError> {
    let graph = model.graph.as_ref().ok_or_else(|| EngineError("the model holds no graph".into()))?;
    let read = |name: &String| graph.node.iter().any(|n| n.input.contains(name));
    let given = graph.node.iter().filter(|n| n.op_type != "Constant").flat_map(|n| n.output.iter().enumerate());
    // Of several outputs those that somebody reads.
    let names: Vec<String> = given.filter(|(i, o)| *i == 0 || read(o)).map(|(_, o)| o.clone()).collect();
    activations::run(model, input, frames, &names, see)
}
