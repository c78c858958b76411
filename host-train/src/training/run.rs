//! The loop over epochs.

use super::batches::{Frames, Images, ahead, order};
use super::checkpoint::{Checkpoint, EpochMetrics, RunFolder};
use super::early_stopping::EarlyStopping;
use super::features::FrozenStages;
use super::finish::{Finish, finish};
use super::material::{self, Material};
use super::objective::{CrossEntropy, Judged, Objective};
use super::targets::Targets;
use super::{Options, Progress, TrainError};
use crate::network::{Network, WeightsError, values};
use crate::optimizer::adamw;
use crate::recipe::Keep;
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use data::manifest;
use data::metrics::Metrics;
use edge_runtime::model::contract::InputContract;
use std::time::Instant;

/// Images of a validation step.
const VALIDATION_BATCH: usize = 32;

/// Trains, writes `model.onnx` and its record into `options.out`, and gives the validation metrics.
pub fn train(mut options: Options, progress: &impl Progress) -> Result<Metrics, TrainError> {
    if !options.resume && RunFolder::is_occupied(&options.out) {
        return Err(TrainError::Occupied(options.out));
    }
    let input = options.recipe.input.contract();
    RunFolder::create(&options.out)?;
    let start = initial_network(&options, progress)?;
    let material = material::load(&mut options.dataset, &input, progress)?;
    let folder = RunFolder::new(&options.out, &options.recipe_text, &options.dataset.digest());
    folder.write("recipe.toml", &options.recipe_text)?;
    folder.write("manifest.csv", &manifest::write(&options.dataset))?;
    progress.line(&format!(
        "{}: {} training and {} validation images, split by patient",
        options.recipe.name,
        material.train.frames.len(),
        material.val.frames.len()
    ));
    let sets = ImageSets::new(&options, &start, &material, &input, progress)?;
    let objective = CrossEntropy {
        targets: Targets::new(material.train.labels.clone(), options.dataset.labels.len(), &options.recipe.train),
        truth: &material.val.labels,
        labels: &options.dataset.labels,
    };
    let trainer = Trainer { options: &options, images: sets, objective: &objective, frozen: start.frozen };
    let end = trainer.run(start.network, &folder, progress)?;
    progress.line(&format!("exporting the weights of epoch {}", end.stopping.best_epoch));
    let network = folder.best(end.network)?;
    let finishing = Finish { options: &options, folder: &folder, material: &material, input: &input };
    finish(&network.valid(), finishing, progress)
}

/// A network before its first step, and how many of its stages stay as they are.
struct Start {
    network: Network,
    frozen: usize,
}

fn initial_network(options: &Options, progress: &impl Progress) -> Result<Start, TrainError> {
    let recipe = &options.recipe;
    let device = options.device.clone().autodiff();
    device.seed(recipe.seed);
    // Initial weights are drawn on the CPU, so that they are the same wherever they are trained.
    let cpu = Device::flex().autodiff();
    cpu.seed(recipe.seed);
    let mut network = Network::new(recipe, options.dataset.labels.len(), options.operators, &cpu);
    let frozen = match (recipe.network.frozen(), &options.weights) {
        (Some(frozen), Some(weights)) => {
            network = network.load_torchvision(weights, &cpu)?;
            if frozen > 0 { frozen + 1 } else { 0 }
        }
        (Some(1..), None) => return Err(WeightsError::Missing(recipe.name.clone()).into()),
        (None, Some(_)) => return Err(WeightsError::Unused(recipe.name.clone()).into()),
        (_, None) => 0,
    };
    progress.line(&format!("{} parameters, {frozen} of {} stages frozen", network.parameters(), network.stages.len()));
    if device != cpu {
        network = network.fork(&device);
    }
    Ok(Start { network, frozen })
}

/// Training and validation images as the trained stages read them.
struct ImageSets<'a> {
    train: Box<dyn Images + 'a>,
    val: Box<dyn Images + 'a>,
}

impl<'a> ImageSets<'a> {
    fn new(
        options: &'a Options,
        start: &Start,
        material: &'a Material,
        input: &'a InputContract,
        progress: &impl Progress,
    ) -> Result<ImageSets<'a>, TrainError> {
        let recipe = &options.recipe;
        let train = &material.train.frames;
        let val = &material.val.frames;
        if start.frozen == 0 {
            return Ok(ImageSets {
                train: Box::new(Frames { frames: train, input, augmenting: Some(recipe) }),
                val: Box::new(Frames { frames: val, input, augmenting: None }),
            });
        }
        let stages = FrozenStages::new(&start.network, start.frozen, input)?;
        let train = Box::new(stages.augmented(train, recipe, progress)?);
        Ok(ImageSets { train, val: Box::new(stages.plain(val, progress)?) })
    }
}

/// What a run trains on, and how.
struct Trainer<'a> {
    options: &'a Options,
    images: ImageSets<'a>,
    objective: &'a dyn Objective,
    frozen: usize,
}

impl Trainer<'_> {
    /// Trains until the epochs or the patience are used up.
    fn run(&self, network: Network, folder: &RunFolder, progress: &impl Progress) -> Result<Checkpoint, TrainError> {
        let train = &self.options.recipe.train;
        let mut now = Checkpoint {
            epoch: 0,
            stopping: EarlyStopping::new(train.patience, train.keep),
            network,
            optimizer: adamw(train.weight_decay, self.options.operators),
        };
        if self.options.resume {
            now = folder.resume(now)?;
            if now.epoch > 0 {
                progress.line(&format!("resumed after epoch {}", now.epoch));
            }
        }
        for epoch in now.epoch + 1..=train.epochs {
            if now.stopping.stops_before(epoch) {
                progress.line(&format!("no better validation loss for {} epochs: stopped", train.patience));
                break;
            }
            let metrics;
            (now, metrics) = self.epoch(now, epoch, progress)?;
            progress.line(&format!(
                "epoch {epoch}: train loss {:.4}, val loss {:.4}, val AUROC {:.4}, {:.0} s{}",
                metrics.train_loss,
                metrics.val_loss,
                metrics.val_auroc,
                metrics.seconds,
                if metrics.best && train.keep == Keep::Best { ", best" } else { "" }
            ));
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
        let recipe = &self.options.recipe;
        let device = self.options.device.clone().autodiff();
        device.seed(recipe.seed ^ ((epoch as u64) << 20));
        let trained;
        (now, trained) = self.steps(now, epoch, &device, progress)?;
        let seconds = clock.elapsed().as_secs_f64();
        let judged = self.validate(&now.network.valid());
        let metrics = EpochMetrics {
            epoch,
            learning_rate: trained.rate,
            train_loss: trained.loss,
            val_loss: judged.loss,
            val_auroc: judged.auroc,
            seconds,
            best: now.stopping.observe(epoch, judged.loss),
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
        let recipe = &self.options.recipe;
        let train = &recipe.train;
        let steps = self.images.train.len().div_ceil(train.batch);
        let order = order(self.images.train.len(), recipe.seed, epoch);
        let clock = Instant::now();
        let images = &*self.images.train;
        std::thread::scope(|scope| {
            // Moved along from step to step: weights that nobody else holds are updated in place.
            let Checkpoint { mut network, mut optimizer, stopping, .. } = now;
            let mut sum = 0.0;
            let mut seen = 0;
            let mut rate = 0.0;
            for (step, batch) in ahead(scope, images, &order, train.batch, epoch).into_iter().enumerate() {
                let count = batch.indices.len();
                let x = Tensor::from_data(batch.images, device);
                let logits = network.forward_from(self.frozen, x);
                let loss = self.objective.loss(logits, batch.indices, device);
                let value = values(loss.clone())[0];
                if !value.is_finite() {
                    return Err(TrainError::Diverged(value, epoch));
                }
                let grads = GradientsParams::from_grads(loss.backward(), &network);
                rate = train.schedule.rate(train.learning_rate, (epoch - 1) * steps + step, train.epochs * steps);
                network = optimizer.step(rate, network, grads);
                sum += f64::from(value) * count as f64;
                seen += count;
                let speed = seen as f64 / clock.elapsed().as_secs_f64();
                let note = format!("loss {:.4}, {speed:.1} img/s", sum / seen as f64);
                progress.step(&format!("epoch {epoch}/{}", train.epochs), step + 1, steps, &note);
            }
            let trained = Trained { loss: sum / seen as f64, rate };
            Ok((Checkpoint { epoch, stopping, network, optimizer }, trained))
        })
    }

    /// What the objective says of the validation images.
    fn validate(&self, network: &Network) -> Judged {
        let indices: Vec<usize> = (0..self.images.val.len()).collect();
        let mut rows: Vec<f32> = Vec::new();
        for chunk in indices.chunks(VALIDATION_BATCH) {
            let batch = Tensor::from_data(self.images.val.batch(chunk, 0), &self.options.device);
            rows.extend(values(self.objective.probabilities(network.forward_from(self.frozen, batch))));
        }
        self.objective.judge(&rows)
    }
}

/// What an epoch's steps gave.
struct Trained {
    loss: f64,
    /// Learning rate of the last step.
    rate: f64,
}
