//! From the best weights to `model.onnx`: activation ranges, the operating point, the contract.

use super::checkpoint::RunFolder;
use super::material::Material;
use super::{Options, Progress, TrainError};
use crate::export;
use crate::network::Network;
use data::metrics::Metrics;
use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::{
    Activation, ActivationRanges, Contract, InputContract, OperatingPoint, Provenance, ranges_to_metadata,
};
use edge_runtime::onnx::{self, pb};
use quantize::calibration;
use rayon::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What finishing a run needs besides the network.
pub struct Finish<'a> {
    /// The run.
    pub options: &'a Options,
    /// Its folder.
    pub folder: &'a RunFolder,
    /// Its images.
    pub material: &'a Material,
    /// The network's input.
    pub input: &'a InputContract,
}

/// Exports `network`, records activation ranges on training images, and chooses the operating point on what the
/// device's engine gives for the validation images. Gives the metrics there.
pub fn finish(network: &Network, run: Finish, progress: &impl Progress) -> Result<Metrics, TrainError> {
    let recipe = &run.options.recipe;
    let labels = &run.options.dataset.labels;
    let side = run.input.size as usize;
    let dims = [1, run.input.channels as usize, side, side];
    let mut model = export::network(network, dims, labels.len(), &recipe.name, vec![]);
    let ranges = record_ranges(&model, &run, progress)?;
    let mut contract = contract(&run);
    let probabilities = probabilities(&model, &contract, dims, &run.material.val.frames, progress)?;
    let rule = &recipe.operating_point;
    let truths = labels.truths(run.material.val.labels.iter().copied());
    let chosen = rule.choose(&probabilities, &truths, rule.in_words());
    contract.provenance.metrics = chosen.kept_metrics("").into_iter().collect();
    contract.operating_point = chosen.point;
    for (key, value) in contract.to_metadata().into_iter().chain([ranges_to_metadata(&ranges)]) {
        onnx::set_metadata(&mut model, key, value);
    }
    onnx::save(&model, &run.folder.path().join("model.onnx"))?;
    let text = serde_json::to_string_pretty(&chosen.metrics).expect("plain data serialises");
    run.folder.write("evaluation.json", &text)?;
    Ok(chosen.metrics)
}

/// The contract of the model, its operating point still to be chosen.
fn contract(run: &Finish) -> Contract {
    let options = run.options;
    let labels = &options.dataset.labels;
    Contract {
        input: run.input.clone(),
        labels: labels.names().to_vec(),
        positive: labels.positive() as u32,
        activation: Activation::Softmax,
        operating_point: OperatingPoint {
            threshold: 0.5,
            sensitivity: 0.0,
            specificity: 0.0,
            images: 0,
            rule: String::new(),
        },
        provenance: Provenance {
            name: options.recipe.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            recipe: options.recipe_text.clone(),
            data_digest: options.dataset.digest(),
            seed: options.recipe.seed,
            ..Default::default()
        },
    }
}

fn record_ranges(
    model: &pb::ModelProto,
    run: &Finish,
    progress: &impl Progress,
) -> Result<ActivationRanges, TrainError> {
    let frames = &run.material.train.frames;
    let step = (frames.len() / calibration::IMAGES).max(1);
    let sample: Vec<&GreyPlane> = frames.iter().step_by(step).take(calibration::IMAGES).collect();
    let done = |i: usize| progress.step("recording activation ranges", i, sample.len(), "");
    Ok(calibration::record(model, run.input, &sample, done)?)
}

fn probabilities(
    model: &pb::ModelProto,
    contract: &Contract,
    dims: [usize; 4],
    frames: &[GreyPlane],
    progress: &impl Progress,
) -> Result<Vec<f32>, TrainError> {
    let plan = FloatPlan::new(model, Some(&[onnx::LOGITS.to_owned()]))?;
    let done = AtomicUsize::new(0);
    let one = |frame: &GreyPlane| {
        let outputs = plan.run(&dims, &normalise(frame, &contract.input))?;
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        progress.step("validation on the device's engine", done, frames.len(), "");
        Ok(contract.probability(floats(&outputs[0])?))
    };
    let probabilities: Result<Vec<f32>, EngineError> = frames.par_iter().map(one).collect();
    Ok(probabilities?)
}
