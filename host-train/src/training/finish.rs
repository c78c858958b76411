//! From the best weights to `model.onnx`: activation ranges, the operating point, the contract.

use super::checkpoint::RunFolder;
use super::material::Material;
use super::scores::{self, Scores};
use super::{Options, Progress, TrainError};
use crate::export;
use crate::network::Network;
use crate::recipe::Output;
use data::calibration::{calibrate, intervals};
use data::evaluation::answers;
use data::metrics::Metrics;
use data::{domain, frames};
use edge_runtime::domain::Domain;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::calibration::Calibration;
use edge_runtime::model::contract::{
    Activation, Contract, InputContract, OperatingPoint, Provenance, ranges_to_metadata,
};
use edge_runtime::model::{Model, ModelError};
use edge_runtime::onnx::{self, pb};
use quantize::activations::Seen;
use quantize::calibration::{self, Activations, Method};

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

/// Exports `network`, records activation ranges on training images and what they look like, and chooses temperature and
/// operating points on what the device's engine gives for the validation images. Gives the metrics there.
pub fn finish(network: &Network, run: Finish, progress: &impl Progress) -> Result<Metrics, TrainError> {
    let recipe = &run.options.recipe;
    let labels = &run.options.dataset.labels;
    let side = run.input.size as usize;
    let dims = [1, run.input.channels as usize, side, side];
    let mut model = export::network(network, dims, recipe.head.output.logits(labels.len()), &recipe.name, vec![]);
    let activations = observe(&model, &run, progress)?;
    let mut contract = contract(&run);
    contract.domain = domain(&run, progress)?;
    let Judgement { metrics, scores } = judge(&model, &mut contract, &run, progress)?;
    let ranges = ranges_to_metadata(&activations.ranges(Method::MinMax));
    for (key, value) in contract.to_metadata().into_iter().chain([ranges, activations.to_metadata()]) {
        onnx::set_metadata(&mut model, key, value);
    }
    onnx::save(&model, &run.folder.path().join("model.onnx"))?;
    let text = serde_json::to_string_pretty(&metrics).expect("plain data serialises");
    run.folder.write("evaluation.json", &text)?;
    // Last: where it is, the run has ended.
    run.folder.write(scores::FILE, &serde_json::to_string(&scores).expect("plain data serialises"))?;
    Ok(metrics)
}

/// What the model was trained on.
fn domain(run: &Finish, progress: &impl Progress) -> Result<Domain, TrainError> {
    let files = &run.options.others;
    let mut others = Vec::new();
    for (i, file) in files.iter().enumerate() {
        match frames::frame(file, run.input) {
            Ok(frame) => others.push(frame),
            Err(e) => progress.line(&format!("left out: {}: {e}", file.display())),
        }
        progress.step("reading images of others", i + 1, files.len(), "");
    }
    let fitted = domain::fit(&run.material.train.frames, &run.material.val.frames, &others);
    let fitted = fitted.map_err(TrainError::Frames)?;
    if fitted.images.is_none() {
        progress.line("too few images to tell which others are unlike them: the model will not mark those");
    }
    Ok(Domain { ages: run.options.recipe.population.ages, ..fitted })
}

/// What the validation images say.
struct Judgement {
    /// As they are.
    metrics: Metrics,
    scores: Scores,
}

/// Chooses temperature and operating points on the validation images.
fn judge(
    model: &pb::ModelProto,
    contract: &mut Contract,
    run: &Finish,
    progress: &impl Progress,
) -> Result<Judgement, TrainError> {
    let recipe = &run.options.recipe;
    let val = &run.material.val;
    let frames = val.frames.take(0..val.frames.len()).map_err(TrainError::Frames)?;
    let frames: Vec<&GreyPlane> = frames.iter().collect();
    let truths = run.options.dataset.labels.truths(val.labels.iter().copied());
    let float = Model::of_onnx(model, contract.clone(), String::new(), 0).map_err(|reason| {
        let path = run.folder.path().join("model.onnx");
        ModelError { path, reason }
    })?;
    let shown = |done, of| progress.step("validation on the device's engine", done, of, "");
    let answers = answers(&float, &frames, &truths, recipe.validation.shifted, shown)?;
    let rule = &recipe.operating_point;
    contract.calibration.shifted = recipe.validation.shifted;
    let judged = calibrate(contract, &answers, rule, rule.in_words());
    let items = &run.options.dataset.items;
    let patients: Vec<&str> = val.items.iter().map(|i| items[*i].patient.as_str()).collect();
    progress.line("how sure temperature and threshold are: resampling patients");
    contract.provenance.metrics.extend(intervals(contract, &answers, rule, &patients, ""));
    let scores = Scores::new(contract, &answers, &run.options.dataset, &val.items);
    Ok(Judgement { metrics: judged.keep(contract, ""), scores })
}

/// The contract of the model, its operating point still to be chosen.
fn contract(run: &Finish) -> Contract {
    let options = run.options;
    let labels = &options.dataset.labels;
    Contract {
        input: run.input.clone(),
        labels: labels.names().to_vec(),
        positive: labels.positive() as u32,
        activation: match options.recipe.head.output {
            Output::Softmax if labels.is_grouped() => Activation::GroupedSoftmax,
            Output::Softmax => Activation::Softmax,
            Output::Sigmoid => Activation::Sigmoid,
        },
        operating_point: OperatingPoint::unjudged(0.5, ""),
        provenance: Provenance {
            name: options.recipe.name.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            recipe: options.recipe_text.clone(),
            data_digest: options.dataset.digest(),
            seed: options.recipe.seed,
            history: options.teachers.names().iter().map(|name| format!("taught by {name}")).collect(),
            ..Default::default()
        },
        calibration: Calibration::default(),
        domain: Domain::default(),
    }
}

/// What every activation takes on, over some of the training images.
fn observe(model: &pb::ModelProto, run: &Finish, progress: &impl Progress) -> Result<Activations, TrainError> {
    let frames = &run.material.train.frames;
    let step = (frames.len() / calibration::IMAGES).max(1);
    let sample = frames.take((0..frames.len()).step_by(step).take(calibration::IMAGES)).map_err(TrainError::Frames)?;
    let sample: Vec<&GreyPlane> = sample.iter().collect();
    let done = |i: usize, _: &Seen| progress.step("recording activations", i + 1, sample.len(), "");
    Ok(Activations::observe(model, run.input, &sample, None, done)?)
}
