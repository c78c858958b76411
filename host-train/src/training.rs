//! Training: data and recipe in, `model.onnx` with its contract out. Every epoch leaves a checkpoint; a resumed run draws
//! the same random numbers as an unbroken one.

use crate::augment::{augment, rng};
use crate::export;
use crate::network::{Network, Operators, WeightsError, values};
use crate::optimizer::adamw;
use crate::recipe::{OperatingPointRule, Recipe, Schedule};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::{Device, Tensor, TensorData, activation};
use edge_runtime::contract::{Activation, Contract, InputContract, OperatingPoint, Provenance, ranges_to_metadata};
use edge_runtime::engine::{EngineError, Plan, floats};
use edge_runtime::files::write_atomically;
use edge_runtime::onnx;
use edge_runtime::preprocess::{Frame, preprocess};
use edge_runtime::radiograph::{Radiograph, RadiographError, read_file};
use half::f16;
use quantize::dataset::{Dataset, DatasetError, Item, LABELS, Split};
use quantize::metrics::{Metrics, threshold_for_sensitivity, youden_threshold};
use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

/// What a run needs besides its recipe.
pub struct Options<'a> {
    /// The recipe and its text.
    pub recipe: (Recipe, String),
    /// The data.
    pub dataset: &'a Dataset,
    /// The run's folder; made if it is not there.
    pub out: PathBuf,
    /// ImageNet weights, for recipes that start from them.
    pub weights: Option<PathBuf>,
    /// Go on from the checkpoint in `out`.
    pub resume: bool,
    /// Where the steps run.
    pub device: Device,
    /// Whose operators they run on.
    pub operators: Operators,
}

/// Where a run tells what it does.
pub trait Progress: Sync {
    /// A stage of `of` steps is at step `done`; `note` holds the figures of the moment.
    fn step(&self, stage: &str, done: usize, of: usize, note: &str);
    /// A line for the log.
    fn line(&self, text: &str);
}

/// Why a run ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data do not serve.
    #[error(transparent)]
    Data(#[from] DatasetError),
    /// An image does not serve.
    #[error("{path}: {source}")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: RadiographError,
    },
    /// The weights do not serve.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of the run cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is something in the folder already.
    #[error("{0} holds a run already: give --resume to go on with it, or another --out")]
    Occupied(PathBuf),
    /// The checkpoint belongs to another run.
    #[error("{0}: the checkpoint was made with another {1}; start again in another --out")]
    OtherRun(PathBuf, &'static str),
    /// The checkpoint cannot be used.
    #[error("{path}: the checkpoint cannot be used ({reason})")]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The loss is no number any more.
    #[error("the loss became {0} in epoch {1}: lower train.learning_rate in the recipe")]
    Diverged(f32, usize),
    /// tract refuses the exported network.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The model cannot be written.
    #[error(transparent)]
    Onnx(#[from] onnx::OnnxError),
}

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Mean loss over the training images, as trained on (augmented, smoothed, weighted).
    pub train_loss: f64,
    /// Plain cross-entropy on the validation images.
    pub val_loss: f64,
    /// AUROC on the validation images.
    pub val_auroc: f64,
    /// Seconds of training.
    pub seconds: f64,
    /// True if these are the best weights so far.
    pub best: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct State {
    recipe: String,
    data: String,
    epoch: usize,
    best_epoch: usize,
    best_loss: f64,
}

/// Images ready for the network: network input, or cached features of its frozen stages.
enum Images {
    Frames(Vec<Frame>),
    Features { values: Vec<Vec<f16>>, dims: [usize; 4], variants: usize },
}

/// Trains, writes `model.onnx` and its record into `options.out`, and gives the validation metrics.
pub fn train(options: &Options, progress: &impl Progress) -> Result<Metrics, TrainError> {
    let (recipe, recipe_text) = &options.recipe;
    let out = &options.out;
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| TrainError::Io { path, source }
    };
    let state_file = out.join("state.json");
    if !options.resume && (state_file.exists() || out.join("model.onnx").exists()) {
        return Err(TrainError::Occupied(out.clone()));
    }
    std::fs::create_dir_all(out).map_err(io(out))?;
    let data_digest = options.dataset.digest();
    let train_items = options.dataset.require(Split::Train)?;
    let val_items = options.dataset.require(Split::Val)?;
    let contract = recipe.input.contract();
    for (file, text) in [("recipe.toml", recipe_text.clone()), ("manifest.csv", options.dataset.manifest())] {
        write_atomically(&out.join(file), text.as_bytes()).map_err(io(&out.join(file)))?;
    }
    progress.line(&format!(
        "{}: {} training and {} validation images, split by patient",
        recipe.name,
        train_items.len(),
        val_items.len()
    ));

    let inference = options.device.clone();
    let device = inference.clone().autodiff();
    device.seed(recipe.seed);
    // Initial weights are drawn on the CPU, so that they are the same wherever they are trained.
    let cpu = Device::flex().autodiff();
    cpu.seed(recipe.seed);
    let mut network = Network::new(recipe, LABELS.len(), options.operators, &cpu);
    let frozen = match (recipe.network.frozen(), &options.weights) {
        (Some(frozen), Some(weights)) => {
            network = network.load_torchvision(weights, &cpu)?;
            if frozen > 0 { frozen + 1 } else { 0 }
        }
        (Some(1..), None) => return Err(WeightsError::Missing(recipe.name.clone()).into()),
        (None, Some(_)) => return Err(WeightsError::Unused(recipe.name.clone()).into()),
        (_, None) => 0,
    };
    progress.line(&format!(
        "{} parameters, {} of {} stages frozen",
        network.parameters(),
        frozen,
        network.stages.len()
    ));
    if device != cpu {
        network = network.fork(&device);
    }

    let train_frames = load_frames(options.dataset, &train_items, &contract, progress)?;
    let val_frames = load_frames(options.dataset, &val_items, &contract, progress)?;
    let labels = |items: &[&Item]| -> Vec<bool> { items.iter().map(|i| i.label == 1).collect() };
    let (train_labels, val_labels) = (labels(&train_items), labels(&val_items));
    let (train_images, val_images) = if frozen > 0 {
        let cache = FeatureCache::new(&network, frozen, &contract)?;
        let variants = recipe.train.variants;
        let a =
            cache.features("features of augmented training images", &train_frames, variants, Some(recipe), progress)?;
        (a, cache.features("features of validation images", &val_frames, 1, None, progress)?)
    } else {
        (Images::Frames(train_frames.clone()), Images::Frames(val_frames.clone()))
    };

    let positives = train_labels.iter().filter(|l| **l).count() as f32 / train_labels.len() as f32;
    let class_weight = match recipe.train.class_weights {
        true => [0.5 / (1.0 - positives), 0.5 / positives],
        false => [1.0, 1.0],
    };
    let t = &recipe.train;
    let mut optimizer = adamw(t.weight_decay, options.operators);
    let mut state = State {
        recipe: recipe_text.clone(),
        data: data_digest.clone(),
        epoch: 0,
        best_epoch: 0,
        best_loss: f64::INFINITY,
    };
    let record_error = |path: &Path| {
        let path = path.to_owned();
        move |e: RecordError| TrainError::Checkpoint { path, reason: e.to_string() }
    };
    if options.resume && state_file.exists() {
        let text = std::fs::read_to_string(&state_file).map_err(io(&state_file))?;
        state = serde_json::from_str(&text)
            .map_err(|e| TrainError::Checkpoint { path: state_file.clone(), reason: e.to_string() })?;
        if state.recipe != *recipe_text {
            return Err(TrainError::OtherRun(state_file, "recipe"));
        }
        if state.data != data_digest {
            return Err(TrainError::OtherRun(state_file, "data set"));
        }
        let folder = checkpoint(out, state.epoch);
        let path = folder.join("network.bpk");
        network = network.load_record(ModuleRecord::load(&path).map_err(record_error(&path))?);
        let path = folder.join("optimizer.bpk");
        optimizer = optimizer.load(&path).map_err(record_error(&path))?;
        progress.line(&format!("resumed after epoch {}", state.epoch));
    }

    let n = train_labels.len();
    let steps_per_epoch = n.div_ceil(t.batch);
    for epoch in state.epoch + 1..=t.epochs {
        if epoch > state.best_epoch + t.patience && state.best_epoch > 0 {
            progress.line(&format!("no better validation loss for {} epochs: stopped", t.patience));
            break;
        }
        let clock = std::time::Instant::now();
        device.seed(recipe.seed ^ ((epoch as u64) << 20));
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut rng(recipe.seed, epoch, usize::MAX >> 32));
        let (mut sum, mut seen, mut rate) = (0.0, 0, 0.0);
        network = std::thread::scope(|scope| {
            let mut network = network;
            // The next batch is read and augmented beside the step on this one.
            let (send, batches) = mpsc::sync_channel(1);
            let (images, input) = (&train_images, &contract);
            let order = &order;
            scope.spawn(move || {
                // A batch norm has no variance over one image.
                for indices in order.chunks(t.batch).filter(|indices| indices.len() > 1) {
                    let batch = images.batch(indices, epoch, Some(recipe), input);
                    if send.send((indices, batch)).is_err() {
                        return; // the loss diverged
                    }
                }
            });
            for (step, (indices, batch)) in batches.into_iter().enumerate() {
                let x = Tensor::from_data(batch, &device);
                let target = smoothed_targets(indices, &train_labels, t.label_smoothing, class_weight);
                let target = Tensor::<2>::from_data(TensorData::new(target, [indices.len(), 2]), &device);
                let logits = network.forward_from(frozen, x);
                let loss = (activation::log_softmax(logits, 1) * target).sum().neg() / indices.len() as f32;
                let value = values(loss.clone())[0];
                if !value.is_finite() {
                    return Err(TrainError::Diverged(value, epoch));
                }
                let grads = GradientsParams::from_grads(loss.backward(), &network);
                let at = (epoch - 1) * steps_per_epoch + step;
                rate = learning_rate(t.learning_rate, t.schedule, at, t.epochs * steps_per_epoch);
                network = optimizer.step(rate, network, grads);
                sum += f64::from(value) * indices.len() as f64;
                seen += indices.len();
                let note =
                    format!("loss {:.4}, {:.1} img/s", sum / seen as f64, seen as f64 / clock.elapsed().as_secs_f64());
                progress.step(&format!("epoch {epoch}/{}", t.epochs), step + 1, steps_per_epoch, &note);
            }
            Ok(network)
        })?;
        let seconds = clock.elapsed().as_secs_f64();
        let (probabilities, val_loss) =
            validate(&network.valid(), frozen, &val_images, &val_labels, &contract, &inference);
        let val = Metrics::new(&probabilities, &val_labels, 0.5);
        let best = val_loss < state.best_loss;
        state.epoch = epoch;
        if best {
            (state.best_epoch, state.best_loss) = (epoch, val_loss);
        }
        let metrics = EpochMetrics {
            epoch,
            learning_rate: rate,
            train_loss: sum / seen as f64,
            val_loss,
            val_auroc: val.auroc,
            seconds,
            best,
        };
        progress.line(&format!(
            "epoch {epoch}: train loss {:.4}, val loss {val_loss:.4}, val AUROC {:.4}, {seconds:.0} s{}",
            metrics.train_loss,
            val.auroc,
            if best { ", best" } else { "" }
        ));
        append_metrics(&out.join("metrics.jsonl"), &metrics).map_err(io(&out.join("metrics.jsonl")))?;
        let folder = checkpoint(out, epoch);
        std::fs::create_dir_all(&folder).map_err(io(&folder))?;
        let path = folder.join("network.bpk");
        network.clone().into_record().save(&path).map_err(record_error(&path))?;
        if best {
            std::fs::copy(&path, out.join("best.bpk")).map_err(io(&path))?;
        }
        let path = folder.join("optimizer.bpk");
        optimizer.save(&path).map_err(record_error(&path))?;
        let text = serde_json::to_string(&state).expect("plain data serialises");
        write_atomically(&state_file, text.as_bytes()).map_err(io(&state_file))?;
        let _ = std::fs::remove_dir_all(checkpoint(out, epoch - 1));
    }

    let path = out.join("best.bpk");
    network = network.load_record(ModuleRecord::load(&path).map_err(record_error(&path))?);
    progress.line(&format!("exporting the weights of epoch {}", state.best_epoch));
    let provenance = Provenance {
        name: recipe.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        recipe: recipe_text.clone(),
        data_digest,
        seed: recipe.seed,
        ..Default::default()
    };
    let frames = (&train_frames[..], &val_frames[..]);
    let metrics = export_model(&network.valid(), recipe, contract, provenance, frames, &val_labels, out, progress)?;
    let text = serde_json::to_string_pretty(&metrics).expect("plain data serialises");
    write_atomically(&out.join("evaluation.json"), text.as_bytes()).map_err(io(out))?;
    Ok(metrics)
}

fn checkpoint(out: &Path, epoch: usize) -> PathBuf {
    out.join(format!("checkpoint-{epoch}"))
}

/// Appends a line, first dropping any of the same or a later epoch: a resumed run repeats the epoch it was stopped in.
fn append_metrics(path: &Path, metrics: &EpochMetrics) -> std::io::Result<()> {
    let old = std::fs::read_to_string(path).unwrap_or_default();
    let mut text: String = old
        .lines()
        .filter(|l| serde_json::from_str::<EpochMetrics>(l).is_ok_and(|m| m.epoch < metrics.epoch))
        .map(|l| format!("{l}\n"))
        .collect();
    text.push_str(&serde_json::to_string(metrics).expect("plain data serialises"));
    text.push('\n');
    write_atomically(path, text.as_bytes())
}

fn learning_rate(peak: f64, schedule: Schedule, step: usize, steps: usize) -> f64 {
    match schedule {
        Schedule::Constant => peak,
        Schedule::Cosine => {
            let warm = (steps / 20).max(1);
            if step < warm {
                return peak * (step + 1) as f64 / warm as f64;
            }
            let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
            peak * (0.01 + 0.99 * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0)
        }
    }
}

/// Rows of `[n, 2]`: the smoothed one-hot target times the weight of its class.
fn smoothed_targets(indices: &[usize], labels: &[bool], smoothing: f32, weight: [f32; 2]) -> Vec<f32> {
    indices
        .iter()
        .flat_map(|i| {
            let class = usize::from(labels[*i]);
            let mut row = [smoothing / 2.0; 2];
            row[class] = 1.0 - smoothing / 2.0;
            row.map(|v| v * weight[class])
        })
        .collect()
}

fn load_frames(
    dataset: &Dataset,
    items: &[&Item],
    input: &InputContract,
    progress: &impl Progress,
) -> Result<Vec<Frame>, TrainError> {
    let done = AtomicUsize::new(0);
    items
        .par_iter()
        .map(|item| {
            let path = dataset.root.join(&item.file);
            let image = |source| TrainError::Image { path: path.clone(), source };
            let source = read_file(&path).map_err(image)?;
            let frame = preprocess(&Radiograph::decode(&source.bytes).map_err(image)?, input);
            progress.step("reading images", done.fetch_add(1, Ordering::Relaxed) + 1, items.len(), "");
            Ok(frame)
        })
        .collect()
}

impl Images {
    /// Images `indices` as a batch `[n, c, h, w]`; `augmenting` draws a fresh variant for `epoch`.
    fn batch(&self, indices: &[usize], epoch: usize, augmenting: Option<&Recipe>, input: &InputContract) -> TensorData {
        match self {
            Images::Frames(frames) => {
                let side = input.size as usize;
                let values: Vec<f32> = indices
                    .par_iter()
                    .flat_map_iter(|i| match augmenting {
                        Some(r) => augment(&frames[*i], &r.augment, &mut rng(r.seed, epoch, *i)).to_f32(input),
                        None => frames[*i].to_f32(input),
                    })
                    .collect();
                TensorData::new(values, [indices.len(), input.channels as usize, side, side])
            }
            Images::Features { values, dims, variants } => {
                let batch: Vec<f32> = indices
                    .par_iter()
                    // Another variant of each image in each epoch, all of them before any comes again.
                    .flat_map_iter(|i| values[i * variants + (i + epoch) % variants].iter().map(|v| v.to_f32()))
                    .collect();
                TensorData::new(batch, [indices.len(), dims[1], dims[2], dims[3]])
            }
        }
    }
}

/// The frozen stages, run by the device's own engine.
struct FeatureCache {
    plan: Plan,
    input: InputContract,
    input_dims: [usize; 4],
    dims: [usize; 4],
}

impl FeatureCache {
    fn new(network: &Network, stages: usize, input: &InputContract) -> Result<FeatureCache, TrainError> {
        let side = input.size as usize;
        let input_dims = [1, input.channels as usize, side, side];
        let (model, dims) = export::trunk(network, stages, input_dims);
        Ok(FeatureCache { plan: Plan::of_onnx(&model, None)?, input: input.clone(), input_dims, dims })
    }

    fn features(
        &self,
        stage: &str,
        frames: &[Frame],
        variants: usize,
        augmenting: Option<&Recipe>,
        progress: &impl Progress,
    ) -> Result<Images, TrainError> {
        let total = frames.len() * variants;
        let done = AtomicUsize::new(0);
        let clock = std::time::Instant::now();
        let values: Result<Vec<Vec<f16>>, EngineError> = (0..total)
            .into_par_iter()
            .map(|k| {
                let (image, variant) = (k / variants, k % variants);
                let frame = match augmenting {
                    Some(r) => &augment(&frames[image], &r.augment, &mut rng(r.seed, variant, image)),
                    None => &frames[image],
                };
                let outputs = self.plan.run_f32(&self.input_dims, &frame.to_f32(&self.input))?;
                let features = floats(&outputs[0])?.iter().map(|v| f16::from_f32(*v)).collect();
                let at = done.fetch_add(1, Ordering::Relaxed) + 1;
                progress.step(stage, at, total, &format!("{:.1} img/s", at as f64 / clock.elapsed().as_secs_f64()));
                Ok(features)
            })
            .collect();
        Ok(Images::Features { values: values?, dims: self.dims, variants })
    }
}

/// Probabilities and mean cross-entropy of the validation images.
fn validate(
    network: &Network,
    frozen: usize,
    images: &Images,
    labels: &[bool],
    input: &InputContract,
    device: &Device,
) -> (Vec<f32>, f64) {
    let indices: Vec<usize> = (0..labels.len()).collect();
    let mut probabilities = Vec::with_capacity(labels.len());
    for chunk in indices.chunks(32) {
        let batch = Tensor::from_data(images.batch(chunk, 0, None, input), device);
        let logits = network.forward_from(frozen, batch);
        probabilities.extend(values(activation::softmax(logits, 1)).chunks_exact(2).map(|p| p[1]));
    }
    let loss = probabilities.iter().zip(labels).map(|(p, l)| {
        let right = if *l { *p } else { 1.0 - p };
        -f64::from(right.max(1e-7)).ln()
    });
    let loss = loss.sum::<f64>() / labels.len() as f64;
    (probabilities, loss)
}

/// Exports, records activation ranges on training images, and chooses the operating point on what the device's engine
/// gives for the validation images.
#[allow(clippy::too_many_arguments)]
fn export_model(
    network: &Network,
    recipe: &Recipe,
    input: InputContract,
    provenance: Provenance,
    (train_frames, val_frames): (&[Frame], &[Frame]),
    val_labels: &[bool],
    out: &Path,
    progress: &impl Progress,
) -> Result<Metrics, TrainError> {
    let side = input.size as usize;
    let dims = [1, input.channels as usize, side, side];
    let operating_point =
        OperatingPoint { threshold: 0.5, sensitivity: 0.0, specificity: 0.0, images: 0, rule: String::new() };
    let mut contract = Contract {
        input,
        labels: LABELS.map(String::from).to_vec(),
        positive: 1,
        activation: Activation::Softmax,
        operating_point,
        provenance,
    };
    let mut model = export::network(network, dims, LABELS.len(), &recipe.name, vec![]);

    let step = (train_frames.len() / quantize::calibration::IMAGES).max(1);
    let sample: Vec<Frame> = train_frames.iter().step_by(step).take(quantize::calibration::IMAGES).cloned().collect();
    let ranges = quantize::calibration::record(&model, &contract.input, &sample, |i| {
        progress.step("recording activation ranges", i, sample.len(), "")
    })?;

    let plan = Plan::of_onnx(&model, Some(&[onnx::LOGITS.to_owned()]))?;
    let done = AtomicUsize::new(0);
    let probabilities: Result<Vec<f32>, EngineError> = val_frames
        .par_iter()
        .map(|f| {
            let outputs = plan.run_f32(&dims, &f.to_f32(&contract.input))?;
            progress.step(
                "validation on the device's engine",
                done.fetch_add(1, Ordering::Relaxed) + 1,
                val_frames.len(),
                "",
            );
            Ok(contract.probability(floats(&outputs[0])?))
        })
        .collect();
    let probabilities = probabilities?;
    let (threshold, rule) = match recipe.operating_point {
        OperatingPointRule::Youden => {
            (youden_threshold(&probabilities, val_labels), "largest sensitivity + specificity".into())
        }
        OperatingPointRule::Sensitivity { at_least } => (
            threshold_for_sensitivity(&probabilities, val_labels, at_least),
            format!("highest threshold with sensitivity of at least {at_least}"),
        ),
    };
    let metrics = Metrics::new(&probabilities, val_labels, threshold);
    contract.operating_point = OperatingPoint {
        threshold,
        sensitivity: metrics.sensitivity as f32,
        specificity: metrics.specificity as f32,
        images: metrics.n as u32,
        rule,
    };
    contract.provenance.metrics = [
        ("val_auroc", metrics.auroc),
        ("val_accuracy", metrics.accuracy),
        ("val_sensitivity", metrics.sensitivity),
        ("val_specificity", metrics.specificity),
    ]
    .map(|(k, v)| (k.to_owned(), v))
    .into();
    for (key, value) in contract.to_metadata().into_iter().chain([ranges_to_metadata(&ranges)]) {
        onnx::set_metadata(&mut model, key, value);
    }
    onnx::save(&model, &out.join("model.onnx"))?;
    Ok(metrics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_warms_up_and_ends_low() {
        let rate = |s| learning_rate(1.0, Schedule::Cosine, s, 1000);
        assert!(rate(0) < 0.03 && rate(49) == 1.0 && rate(999) < 0.02);
        assert!((rate(525) - 0.505).abs() < 0.01);
    }

    #[test]
    fn targets_sum_to_the_class_weight() {
        let t = smoothed_targets(&[0, 1], &[false, true], 0.1, [2.0, 0.5]);
        assert_eq!(t, [1.9, 0.1, 0.025, 0.475]);
    }
}
