//! The stages of a run, and the loop over the epochs of each.

use super::batches::{Frames, Images, ahead, order};
use super::checkpoint::{Checkpoint, EpochMetrics, RunFolder};
use super::features::{FreshFeatures, FrozenStages};
use super::finish::{Finish, finish};
use super::material::{self, Material};
use super::mixup::Mixup;
use super::objective::{CrossEntropy, Judged, Objective, TrainedOn};
use super::targets::Targets;
use super::{Options, Progress, TrainError};
use crate::network::{Network, WeightsError, values};
use crate::recipe::{Monitor, Train, Trainable};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use data::manifest;
use data::metrics::Metrics;
use edge_runtime::model::contract::InputContract;
use std::time::{Duration, Instant};

/// Images of a validation step.
const VALIDATION_BATCH: usize = 32;

/// Trains, writes `model.onnx` and its record into `options.out`, and gives the validation metrics.
pub fn train(mut options: Options, progress: &impl Progress) -> Result<Metrics, TrainError> {
    if !options.resume && RunFolder::is_occupied(&options.out) {
        return Err(TrainError::Occupied(options.out));
    }
    let input = options.recipe.input.contract();
    RunFolder::create(&options.out)?;
    let network = initial_network(&options, progress)?;
    let material = material::load(&mut options, &input, progress)?;
    let identity = options.identity()?;
    let folder = RunFolder::new(&options.out, identity);
    folder.write("recipe.toml", &options.recipe_text)?;
    folder.write("manifest.csv", &manifest::write(&options.dataset))?;
    progress.line(&format!(
        "{}: {} training and {} validation images, split by patient",
        options.recipe.name,
        material.train.frames.len(),
        material.val.frames.len()
    ));
    let run = Run { options: &options, material: &material, input: &input, folder: &folder };
    let network = run.stages(network, progress)?;
    let finishing = Finish { options: &options, folder: &folder, material: &material, input: &input };
    finish(&network.valid(), finishing, progress)
}

/// The network before its first step.
fn initial_network(options: &Options, progress: &impl Progress) -> Result<Network, TrainError> {
    let recipe = &options.recipe;
    let device = options.device.clone().autodiff();
    device.seed(recipe.seed);
    // Initial weights are drawn on the CPU, so that they are the same wherever they are trained.
    let cpu = Device::flex().autodiff();
    cpu.seed(recipe.seed);
    let mut network = Network::new(recipe, options.dataset.labels.len(), options.operators, &cpu);
    let freezes = recipe.train.iter().any(|stage| stage.trainable != Trainable::All);
    match &options.weights {
        Some(_) if !recipe.network.takes_weights() => return Err(WeightsError::Unused(recipe.name.clone()).into()),
        Some(weights) => {
            let unused;
            (network, unused) = network.load_weights(weights, recipe.input.weights_scale().as_deref(), &cpu)?;
            if !unused.is_empty() {
                progress.line(&format!("{}: not used: {}", weights.display(), unused.join(", ")));
            }
        }
        None if freezes => return Err(WeightsError::Missing(recipe.name.clone()).into()),
        None => {}
    }
    progress.line(&format!("{} parameters", network.parameters()));
    Ok(if device == cpu { network } else { network.fork(&device) })
}

/// A run.
struct Run<'a> {
    options: &'a Options,
    material: &'a Material,
    input: &'a InputContract,
    folder: &'a RunFolder,
}

impl Run<'_> {
    /// Trains all stages of the recipe; gives the kept weights of the last.
    fn stages(&self, network: Network, progress: &impl Progress) -> Result<Network, TrainError> {
        let stages = &self.options.recipe.train;
        let operators = self.options.operators;
        let mut now = Checkpoint::first(network, &stages[0], operators);
        if self.options.resume {
            now = self.folder.resume(now, stages, operators)?;
            if now.epoch > 0 {
                progress.line(&format!("resumed after epoch {}", now.epoch));
            }
        }
        for (number, stage) in stages.iter().enumerate().skip(now.stage) {
            if number > now.stage {
                let network = self.folder.best(now.network, now.stopping.best_epoch)?;
                now = Checkpoint {
                    stage: number,
                    epoch: now.epoch,
                    started: now.epoch,
                    ..Checkpoint::first(network, stage, operators)
                };
            }
            now = self.stage(now, stage, progress)?;
            progress.line(&format!("keeping the weights of epoch {}", now.stopping.best_epoch));
        }
        self.folder.best(now.network, now.stopping.best_epoch)
    }

    /// Trains one stage to its end.
    fn stage(&self, mut now: Checkpoint, stage: &Train, progress: &impl Progress) -> Result<Checkpoint, TrainError> {
        let recipe = &self.options.recipe;
        let frozen;
        (now.network, frozen) = now.network.freeze_all_but(stage.trainable);
        let number = now.stage + 1;
        let layers = now.network.stages.len();
        progress.line(&format!("stage {number} of {}: {frozen} of {layers} blocks frozen", recipe.train.len()));
        let prefix = match frozen {
            0 => None,
            _ => Some(FrozenStages::new(&now.network, frozen, self.input)?),
        };
        let material = self.material;
        let mixup = Mixup { alpha: recipe.augment.mixup, seed: recipe.seed, images: material.train.frames.len() };
        let objective = CrossEntropy {
            targets: Targets::new(material.train.labels.clone(), self.options.dataset.labels.len(), stage),
            focal: stage.focal,
            taught_share: recipe.distillation.share,
            mixup,
            truth: &material.val.labels,
            labels: &self.options.dataset.labels,
        };
        let images = self.images(stage, prefix.as_ref(), progress)?;
        let trainer = Trainer {
            options: self.options,
            stage,
            labels: &material.train.labels,
            images,
            objective: &objective,
            frozen,
        };
        trainer.run(now, self.folder, progress)
    }

    /// Training and validation images as the blocks behind `prefix` read them.
    fn images<'b>(
        &'b self,
        stage: &Train,
        prefix: Option<&'b FrozenStages>,
        progress: &impl Progress,
    ) -> Result<ImageSets<'b>, TrainError> {
        let frames = |split: &'b material::SplitFrames, augmenting| Frames {
            frames: &split.frames,
            input: self.input,
            augmenting,
            teachers: Some(&self.options.teachers).filter(|teachers| augmenting.is_some() && !teachers.is_empty()),
        };
        let train = frames(&self.material.train, Some(&self.options.recipe));
        let val = frames(&self.material.val, None);
        let Some(prefix) = prefix else {
            return Ok(ImageSets { train: Box::new(train), val: Box::new(val) });
        };
        let val = Box::new(prefix.keep("features of validation images", &val, 1, progress)?);
        let train: Box<dyn Images + 'b> = match stage.variants {
            0 => Box::new(FreshFeatures { frames: train, stages: prefix }),
            variants => Box::new(prefix.keep("features of augmented training images", &train, variants, progress)?),
        };
        Ok(ImageSets { train, val })
    }
}

/// Training and validation images as the trained blocks read them.
struct ImageSets<'a> {
    train: Box<dyn Images + 'a>,
    val: Box<dyn Images + 'a>,
}

/// What a stage trains on, and how.
struct Trainer<'a> {
    options: &'a Options,
    stage: &'a Train,
    /// Labels of the training images.
    labels: &'a [usize],
    images: ImageSets<'a>,
    objective: &'a dyn Objective,
    /// Blocks at the start that do not change.
    frozen: usize,
}

impl Trainer<'_> {
    /// Trains until the epochs or the patience are used up.
    fn run(&self, mut now: Checkpoint, folder: &RunFolder, progress: &impl Progress) -> Result<Checkpoint, TrainError> {
        let stage = self.stage;
        for epoch in now.epoch + 1..=now.started + stage.epochs {
            if now.stopping.stops_before(epoch) {
                progress.line(&format!("nothing better for {} epochs: stopped", stage.patience));
                break;
            }
            let metrics;
            (now, metrics) = self.epoch(now, epoch, progress)?;
            progress.line(&metrics.line(stage.keep));
            folder.keep(&metrics, &now)?;
        }
        Ok(now)
    }

    /// Trains one epoch and judges it.
    fn epoch(
        &self,
        mut now: Checkpoint,
        epoch: usize,
        progress: &impl Progress,
    ) -> Result<(Checkpoint, EpochMetrics), TrainError> {
        let clock = Instant::now();
        let device = self.options.device.clone().autodiff();
        device.seed(self.options.recipe.seed ^ ((epoch as u64) << 20));
        let trained;
        (now, trained) = self.steps(now, epoch, &device, progress)?;
        let seconds = clock.elapsed().as_secs_f64();
        let judged = self.validate(&now.kept_network().valid())?;
        let score = match self.stage.monitor {
            Monitor::Loss => judged.loss,
            Monitor::Auroc => -judged.auroc,
            Monitor::Accuracy => -judged.accuracy,
        };
        now.course.observe(score, self.stage.schedule);
        let metrics = EpochMetrics {
            epoch,
            stage: now.stage + 1,
            learning_rate: trained.rate,
            train_loss: trained.loss,
            val_loss: judged.loss,
            val_auroc: judged.auroc,
            val_accuracy: judged.accuracy,
            seconds,
            waiting: trained.waited.as_secs_f64() / seconds,
            best: now.stopping.observe(epoch, score),
        };
        now.epoch = epoch;
        Ok((now, metrics))
    }

    /// All steps of an epoch.
    fn steps(
        &self,
        now: Checkpoint,
        epoch: usize,
        device: &Device,
        progress: &impl Progress,
    ) -> Result<(Checkpoint, Trained), TrainError> {
        let stage = self.stage;
        let steps = self.labels.len().div_ceil(stage.batch);
        let order = order(self.labels, stage.sampling, self.options.recipe.seed, epoch);
        let clock = Instant::now();
        let images = &*self.images.train;
        std::thread::scope(|scope| {
            // Moved along from step to step: weights that nobody else holds are updated in place.
            let Checkpoint { mut network, mut optimizer, mut average, .. } = now;
            let mut trained = Trained::default();
            let mut sum = 0.0;
            let mut seen = 0;
            let batches = ahead(scope, images, &order, stage.batch, epoch);
            for step in 0.. {
                let asked = Instant::now();
                let Ok(batch) = batches.recv() else { break };
                let batch = batch?;
                trained.waited += asked.elapsed();
                let count = batch.indices.len();
                let x = Tensor::from_data(batch.drawn.images, device);
                let logits = network.forward_from(self.frozen, x);
                let drawn = TrainedOn { indices: batch.indices, epoch, taught: batch.drawn.taught.as_deref() };
                let mut loss = self.objective.loss(logits, drawn, device);
                if let Some(penalty) = network.head.penalty() {
                    loss = loss + penalty;
                }
                let value = values(loss.clone())[0];
                if !value.is_finite() {
                    return Err(TrainError::Diverged { loss: value, epoch, step: step + 1 });
                }
                let grads = GradientsParams::from_grads(loss.backward(), &network);
                let at = (epoch - now.started - 1) * steps + step;
                let rate = stage.schedule.rate(stage.learning_rate, at, stage.epochs * steps);
                trained.rate = rate * now.course.factor;
                network = optimizer.step(trained.rate, network, grads);
                if let Some(average) = &mut average {
                    average.approach(&network, stage.ema);
                }
                sum += f64::from(value) * count as f64;
                seen += count;
                let speed = seen as f64 / clock.elapsed().as_secs_f64();
                let note = format!("loss {:.4}, {speed:.1} img/s", sum / seen as f64);
                progress.step(&format!("epoch {epoch}/{}", now.started + stage.epochs), step + 1, steps, &note);
            }
            trained.loss = sum / seen as f64;
            Ok((Checkpoint { network, optimizer, average, ..now }, trained))
        })
    }

    /// What the objective says of the validation images.
    fn validate(&self, network: &Network) -> Result<Judged, TrainError> {
        let indices: Vec<usize> = (0..self.images.val.len()).collect();
        let mut rows: Vec<f32> = Vec::new();
        for chunk in indices.chunks(VALIDATION_BATCH) {
            let batch = Tensor::from_data(self.images.val.batch(chunk, 0)?.images, &self.options.device);
            rows.extend(values(self.objective.probabilities(network.forward_from(self.frozen, batch))));
        }
        Ok(self.objective.judge(&rows))
    }
}

/// What an epoch's steps gave.
#[derive(Default)]
struct Trained {
    loss: f64,
    /// Learning rate of the last step.
    rate: f64,
    /// How long steps waited for their images.
    waited: Duration,
}
