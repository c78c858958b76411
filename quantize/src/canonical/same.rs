//! A model and its canonical form on the same images: what is quantised has to be what was trained.

use super::{Canonical, Squashing};
use crate::qdq::QuantizeError;
use edge_runtime::engine::{FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;
use edge_runtime::onnx::{LOGITS, pb};

/// Largest difference that is one of rounding, as a share of what outputs go over.
const ROUNDING: f32 = 0.01;

/// Runs both forms of `canonical` on `frames`. A model that tract cannot run as it came says nothing.
pub fn check_same(canonical: &Canonical, input: &InputContract, frames: &[GreyPlane]) -> Result<(), QuantizeError> {
    let side = input.size as usize;
    let shape = [1, input.channels as usize, side, side];
    let Some(own) = plan(&canonical.reference, &[]) else { return Ok(()) };
    let Some(plan) = plan(&canonical.model, &[LOGITS.to_owned()]) else { return Ok(()) };
    let output = canonical.reference.graph.iter().flat_map(|graph| &graph.output).position(|o| o.name == LOGITS);
    let mut pairs = Vec::new();
    for frame in frames {
        let values = normalise(frame, input);
        let run = |plan: &FloatPlan, output: usize| -> Option<Vec<f32>> {
            floats(plan.run(&shape, &values).ok()?.get(output)?).ok().map(<[f32]>::to_vec)
        };
        let (Some(own), Some(logits)) = (run(&own, output.unwrap_or(0)), run(&plan, 0)) else { return Ok(()) };
        pairs.push((own, logits));
    }
    let readings = readings(canonical.squashing).into_iter().map(|reading| differing(&pairs, reading));
    // One reading that fits is enough: of a softmax the graph does not say whether its logarithm was taken.
    let differing: Option<Vec<(f32, f32)>> = readings.collect();
    match differing.as_deref() {
        Some([(own, canonical), ..]) => Err(QuantizeError::Differs { own: *own, canonical: *canonical }),
        _ => Ok(()),
    }
}

fn plan(model: &pb::ModelProto, outputs: &[String]) -> Option<FloatPlan> {
    FloatPlan::new(model, (!outputs.is_empty()).then_some(outputs)).ok()
}

/// Outputs of the model of its logits.
type Reading = fn(&[f32]) -> Vec<f32>;

/// What the model may give of the logits of its canonical form.
fn readings(squashing: Option<Squashing>) -> Vec<Reading> {
    match squashing {
        None => vec![<[f32]>::to_vec],
        Some(Squashing::Sigmoid | Squashing::Sigmoids) => {
            vec![|logits| logits.iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect()]
        }
        Some(Squashing::Softmax) => vec![softmax, |logits| softmax(logits).iter().map(|p| p.ln()).collect()],
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The outputs that differ most, if that is more than rounding.
fn differing(pairs: &[(Vec<f32>, Vec<f32>)], reading: Reading) -> Option<(f32, f32)> {
    let mut both = Vec::new();
    for (own, logits) in pairs {
        let canonical = reading(logits);
        if own.len() != canonical.len() {
            return Some((own.len() as f32, canonical.len() as f32));
        }
        // Logarithms of nothing are far apart and mean the same.
        let is_meant = |(own, canonical): &(f32, f32)| own.is_finite() && canonical.is_finite() && *own > -30.0;
        both.extend(own.iter().copied().zip(canonical).filter(is_meant));
    }
    let low = both.iter().map(|(own, _)| *own).fold(f32::MAX, f32::min);
    let high = both.iter().map(|(own, _)| *own).fold(f32::MIN, f32::max);
    let largest = both.iter().map(|(own, _)| own.abs()).fold(0f32, f32::max);
    let bound = ROUNDING * (high - low).max(0.01 * largest).max(1e-4);
    let apart = |(own, canonical): &(f32, f32)| (own - canonical).abs();
    both.into_iter().filter(|pair| apart(pair) > bound).max_by(|a, b| apart(a).total_cmp(&apart(b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::{canonical, float_tensor};
    use edge_runtime::model::contract::ResizeRule;
    use edge_runtime::onnx::{self, GraphBuilder, int};

    fn linear(squashing: &str) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 1, 4, 4]);
        b.node("Flatten", &["x"], "row", vec![int("axis", 1)]);
        b.floats("w", &[3, 16], &(0..48).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>());
        b.node("Gemm", &["row", "w"], "y", vec![int("transB", 1)]);
        b.node(squashing, &["y"], "z", vec![]);
        b.output("z", &[1, 3]);
        b.finish("m", vec![])
    }

    fn frames() -> Vec<GreyPlane> {
        (0..3u32).map(|k| GreyPlane::square(4, (0..16u32).map(|i| (i * (37 + k) % 256) as u8).collect())).collect()
    }

    #[test]
    fn forms_that_compute_the_same_are_told_from_those_that_do_not() {
        let input =
            InputContract { size: 4, channels: 1, resize: ResizeRule::Stretch, mean: vec![128.0], std: vec![64.0] };
        for squashing in ["Softmax", "LogSoftmax", "Sigmoid", "Identity"] {
            let sound = canonical(&linear(squashing), None).unwrap();
            check_same(&sound, &input, &frames()).unwrap();
            let mut broken = sound;
            let weights = broken.model.graph.as_mut().unwrap().initializer.iter_mut().find(|t| t.dims.len() == 2);
            let weights = weights.unwrap();
            let scaled: Vec<f32> = onnx::f32s(weights).unwrap().iter().map(|w| -w).collect();
            *weights = float_tensor(&weights.name, &[3, 16], &scaled);
            let error = check_same(&broken, &input, &frames()).unwrap_err();
            assert!(matches!(error, QuantizeError::Differs { .. }), "{squashing}: {error}");
        }
    }
}
