//! What quantisation does to each layer of a network, measured by running it: how far its weights and what it gives are
//! from their float form, and what the logits lose by it.

mod page;

pub use page::{Changed, Contents, FloatPart, Part, page};

use crate::correction::Rounding;
use crate::qdq::{self, IntegerLayer, QuantizeError};
use crate::sqnr::Noise;
use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::{ActivationRanges, InputContract};
use edge_runtime::network::{Network, Quantisation};
use edge_runtime::onnx::{self, pb};
use edge_runtime::operators::Form;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most images that layers are compared on.
pub const IMAGES: usize = 32;
/// Most images that a layer alone is tried on: each layer is a network of its own, twice.
const TRIAL_IMAGES: usize = 8;

/// What quantisation does to a network.
#[derive(Debug, Clone, Serialize)]
pub struct Analysis {
    /// Images that it was measured on.
    pub images: usize,
    /// Images that each layer alone was tried on.
    pub trial_images: usize,
    /// Of the logits: all of the network int8.
    pub logits_db: f64,
    /// Of the logits: weights rounded, activations as they are.
    pub weights_only_db: f64,
    /// Of the logits: activations in codes, weights as they are.
    pub activations_only_db: f64,
    /// The layers, in the order of the network.
    pub layers: Vec<LayerAnalysis>,
    /// What follows from it, in words.
    pub recommendation: Vec<String>,
}

/// What quantisation does to a layer. Ratios are signal to quantisation noise in decibels; infinite (`null` in JSON)
/// where nothing is lost.
#[derive(Debug, Clone, Serialize)]
pub struct LayerAnalysis {
    /// The tensor that it gives, before a clamp: what `--float` takes.
    pub layer: String,
    /// Its ONNX operator.
    pub operator: String,
    /// What its codes cover; `None` for the logits, which have no step.
    pub covered: Option<[f32; 2]>,
    /// Share of its float values beyond that.
    pub beyond: f64,
    /// Of its weights, if it has any.
    pub weights_db: Option<f64>,
    /// Of what it gives, with all that was lost before it.
    pub output_db: f64,
    /// Of the logits, if only this layer is int8; measured for layers with weights.
    pub only_int8_db: Option<f64>,
    /// Of the logits, if only this layer is float.
    pub only_float_db: Option<f64>,
    /// Its weights.
    pub weights: u64,
    /// Share of the network's multiplications.
    pub work: f64,
}

/// A network in both forms, and what led from one to the other.
pub struct Forms<'a> {
    /// The float network.
    pub float: &'a pb::ModelProto,
    /// What codes cover.
    pub ranges: &'a ActivationRanges,
    /// How weights are rounded.
    pub rounding: &'a Rounding,
    /// Layers that stay float.
    pub keep: &'a [String],
    /// The QDQ form.
    pub int8: &'a pb::ModelProto,
    /// The form of the device.
    pub network: &'a Network,
    /// What it reads.
    pub input: &'a InputContract,
}

/// Why a network cannot be analysed.
#[derive(Debug, thiserror::Error)]
pub enum AnalysisError {
    /// A form of it cannot be made.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// A form of it cannot run.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// There is nothing to measure on.
    #[error("there are no images to measure on")]
    NoImages,
}

impl Forms<'_> {
    /// Measures on `frames`; `progress(step, done, of)` is called from any thread.
    pub fn analyse(
        &self,
        frames: &[&GreyPlane],
        progress: impl Fn(&str, usize, usize) + Sync,
    ) -> Result<Analysis, AnalysisError> {
        if frames.is_empty() {
            return Err(AnalysisError::NoImages);
        }
        let layers: Vec<IntegerLayer> = qdq::integer_layers(self.float, self.keep);
        let compared = self.compare_layers(&layers, frames, |i| progress("comparing layers", i, frames.len()))?;
        let trial: Vec<&GreyPlane> = frames.iter().step_by(frames.len().div_ceil(TRIAL_IMAGES)).copied().collect();
        let reference = self.logits(self.float, &trial)?;
        let lost = |form: &pb::ModelProto| -> Result<f64, AnalysisError> {
            Ok(Noise::between(&reference, &self.logits(form, &trial)?).decibels())
        };
        let tried = AtomicUsize::new(0);
        let weighted = layers.iter().filter(|layer| layer.form == Form::Weighted).count();
        let measured = layers.par_iter().zip(compared).map(|(layer, compared)| {
            let mut analysis = self.layer(layer, &compared);
            if layer.form == Form::Weighted {
                analysis.only_int8_db = Some(lost(&self.quantised(&self.all_but(&layers, layer))?)?);
                let kept = [self.keep, &[layer.node.output[0].clone()]].concat();
                // The only layer in int8 cannot be taken out.
                analysis.only_float_db = match self.quantised(&kept) {
                    Err(QuantizeError::NothingToQuantise) => None,
                    form => Some(lost(&form?)?),
                };
                progress("trying layers alone", tried.fetch_add(1, Ordering::Relaxed) + 1, weighted);
            }
            Ok(analysis)
        });
        let layers: Vec<LayerAnalysis> = measured.collect::<Result<_, AnalysisError>>()?;
        let mut analysis = Analysis {
            images: frames.len(),
            trial_images: trial.len(),
            logits_db: lost(self.int8)?,
            weights_only_db: lost(&self.weights_only())?,
            activations_only_db: lost(&self.activations_only())?,
            layers,
            recommendation: Vec::new(),
        };
        analysis.recommendation = analysis.recommend();
        Ok(analysis)
    }

    fn quantised(&self, keep: &[String]) -> Result<pb::ModelProto, QuantizeError> {
        qdq::quantize(self.float, self.ranges, keep, self.rounding)
    }

    /// The names of all layers that have an integer form but `layer`.
    fn all_but(&self, layers: &[IntegerLayer], layer: &IntegerLayer) -> Vec<String> {
        let others = layers.iter().filter(|other| other.result() != layer.result());
        let nodes = others.flat_map(|other| [Some(other.node), other.clamp]).flatten();
        self.keep.iter().cloned().chain(nodes.map(|node| node.output[0].clone())).collect()
    }

    /// How far what `layers` give is from their float form.
    fn compare_layers(
        &self,
        layers: &[IntegerLayer],
        frames: &[&GreyPlane],
        progress: impl Fn(usize) + Sync,
    ) -> Result<Vec<Compared>, EngineError> {
        let names: Vec<String> = layers.iter().map(|layer| layer.result().to_owned()).collect();
        let given: HashSet<&String> =
            self.int8.graph.iter().flat_map(|g| &g.node).flat_map(|n| n.output.iter()).collect();
        let in_int8 = |name: &String| {
            let dequantised = format!("{name}/dequantised");
            if given.contains(&dequantised) { dequantised } else { name.clone() }
        };
        let int8_names: Vec<String> = names.iter().map(in_int8).collect();
        let float = FloatPlan::new(self.float, Some(&names))?;
        let int8 = FloatPlan::new(self.int8, Some(&int8_names))?;
        let covered: Vec<Option<[f32; 2]>> = names.iter().map(|name| self.covered(name)).collect();
        let done = AtomicUsize::new(0);
        let one = |frame: &&GreyPlane| -> Result<Vec<Compared>, EngineError> {
            let outputs = [&float, &int8].map(|plan| self.run(plan, frame));
            let [float, int8] = outputs;
            let pairs = float?.into_iter().zip(int8?).zip(&covered);
            let compared = pairs.map(|((float, int8), covered)| Compared::of(&float, &int8, *covered)).collect();
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(compared)
        };
        let none = || names.iter().map(|_| Compared::default()).collect::<Vec<_>>();
        let both = |a: Vec<Compared>, b: Vec<Compared>| Ok(a.iter().zip(&b).map(|(a, b)| a.with(b)).collect());
        frames.par_iter().map(one).try_reduce(none, both)
    }

    /// All outputs of `plan` for `frame`.
    fn run(&self, plan: &FloatPlan, frame: &GreyPlane) -> Result<Vec<Vec<f32>>, EngineError> {
        let side = self.input.size as usize;
        let outputs = plan.run(&[1, self.input.channels as usize, side, side], &normalise(frame, self.input))?;
        outputs.iter().map(|output| floats(output).map(<[f32]>::to_vec)).collect()
    }

    /// The logits of `model` for all of `frames`.
    fn logits(&self, model: &pb::ModelProto, frames: &[&GreyPlane]) -> Result<Vec<f32>, EngineError> {
        let plan = FloatPlan::new(model, Some(&[onnx::LOGITS.to_owned()]))?;
        let all: Result<Vec<Vec<f32>>, EngineError> =
            frames.par_iter().map(|frame| Ok(self.run(&plan, frame)?.concat())).collect();
        Ok(all?.concat())
    }

    fn initializer<'a>(model: &'a pb::ModelProto, name: &str) -> Option<&'a pb::TensorProto> {
        model.graph.iter().flat_map(|g| &g.initializer).find(|t| t.name == name)
    }

    /// What the codes of the tensor `name` cover.
    fn covered(&self, name: &str) -> Option<[f32; 2]> {
        let scale = Self::initializer(self.int8, &format!("{name}/scale"))?;
        let zero_point = Self::initializer(self.int8, &format!("{name}/zero_point"))?;
        let scale = *onnx::f32s(scale).ok()?.first()?;
        let step = Quantisation { scale, zero_point: *zero_point.raw_data.first()? };
        Some([step.real(0), step.real(255)])
    }

    fn layer(&self, layer: &IntegerLayer, compared: &Compared) -> LayerAnalysis {
        let name = layer.result();
        let cost = |node: &edge_runtime::network::Node| {
            let weights = node.op.weights(self.network.values.get(*node.inputs.first()? as usize)?);
            let output = node.output.and_then(|o| self.network.values.get(o as usize));
            Some([weights, weights.saturating_mul(node.op.places(output))])
        };
        let all: u64 = self.network.nodes.iter().filter_map(cost).map(|[_, work]| work).sum();
        let codes = format!("{name}/codes");
        let own = self.network.nodes.iter().find(|node| node.name == name || node.name == codes).and_then(cost);
        let [weights, work] = own.unwrap_or_default();
        LayerAnalysis {
            layer: layer.node.output[0].clone(),
            operator: layer.node.op_type.clone(),
            covered: self.covered(name),
            beyond: compared.beyond as f64 / compared.values.max(1) as f64,
            weights_db: self.weights_db(layer),
            output_db: compared.noise.decibels(),
            only_int8_db: None,
            only_float_db: None,
            weights,
            work: work as f64 / all.max(1) as f64,
        }
    }

    fn weights_db(&self, layer: &IntegerLayer) -> Option<f64> {
        let name = layer.node.input.get(1).filter(|_| layer.form == Form::Weighted)?;
        let values = onnx::f32s(Self::initializer(self.float, name)?).ok()?;
        let rounded = self.dequantised(name)?;
        Some(Noise::between(&values, &rounded).decibels())
    }

    /// The float network with the weights that int8 has.
    fn weights_only(&self) -> pb::ModelProto {
        let mut model = self.float.clone();
        for tensor in model.graph.iter_mut().flat_map(|g| &mut g.initializer) {
            if let Some(rounded) = self.dequantised(&tensor.name) {
                tensor.float_data.clear();
                tensor.raw_data = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
            }
        }
        model
    }

    /// What int8 has of the constant `name`: weights, or the bias of a layer.
    fn dequantised(&self, name: &str) -> Option<Vec<f32>> {
        use tract_onnx::pb::tensor_proto::DataType;
        let codes = Self::initializer(self.int8, &format!("{name}/codes"))?;
        let scales = onnx::f32s(Self::initializer(self.int8, &format!("{name}/scale"))?).ok()?;
        let codes: Vec<f64> = if codes.data_type == DataType::Int8 as i32 {
            codes.raw_data.iter().map(|code| f64::from(*code as i8)).collect()
        } else {
            let (words, _) = codes.raw_data.as_chunks::<4>();
            words.iter().map(|word| f64::from(i32::from_le_bytes(*word))).collect()
        };
        let depth = (codes.len() / scales.len().max(1)).max(1);
        Some(codes.iter().enumerate().map(|(i, code)| (code * f64::from(scales[i / depth])) as f32).collect())
    }

    /// The int8 network with the weights of the float one.
    fn activations_only(&self) -> pb::ModelProto {
        let mut model = self.int8.clone();
        let Some(graph) = &mut model.graph else { return model };
        let constants = self.float.graph.iter().flat_map(|g| &g.initializer);
        for constant in constants {
            let codes = format!("{}/codes", constant.name);
            let reads = |n: &pb::NodeProto| n.op_type == "DequantizeLinear" && n.input.first() == Some(&codes);
            let Some(at) = graph.node.iter().position(reads) else { continue };
            let name = graph.node.remove(at).output.swap_remove(0);
            graph.initializer.push(pb::TensorProto { name, ..constant.clone() });
        }
        model
    }
}

/// What two forms of a tensor have between them.
#[derive(Debug, Clone, Copy, Default)]
struct Compared {
    noise: Noise,
    /// Float values beyond what codes cover.
    beyond: u64,
    values: u64,
}

impl Compared {
    fn of(float: &[f32], int8: &[f32], covered: Option<[f32; 2]>) -> Compared {
        let [low, high] = covered.unwrap_or([f32::NEG_INFINITY, f32::INFINITY]);
        // Half a step is rounding, not clipping.
        let slack = (high - low) / 255.0 / 2.0;
        let beyond = float.iter().filter(|v| **v < low - slack || **v > high + slack).count() as u64;
        Compared { noise: Noise::between(float, int8), beyond, values: float.len() as u64 }
    }

    fn with(&self, other: &Compared) -> Compared {
        Compared {
            noise: self.noise.with(other.noise),
            beyond: self.beyond + other.beyond,
            values: self.values + other.values,
        }
    }
}

/// Logits that are as close to the float network's differ by a hundredth: nothing is to be gained.
const CLOSE: f64 = 40.0;
/// A layer is worth its time in float if it brings as much, in decibels.
const WORTH: f64 = 3.0;
/// A layer clips much if as large a share of its values is beyond its codes.
const MUCH: f64 = 0.01;

impl Analysis {
    fn recommend(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let gain = |layer: &LayerAnalysis| layer.only_float_db.map(|db| db - self.logits_db).filter(|g| !g.is_nan());
        let best = self.layers.iter().filter_map(|l| Some((l, gain(l)?))).max_by(|a, b| a.1.total_cmp(&b.1));
        let is_close = self.logits_db >= CLOSE;
        match best.filter(|(_, gain)| *gain >= WORTH) {
            _ if is_close => sentences.push(
                "Int8 throughout is the right form: its logits differ from the float model's by a hundredth or less."
                    .to_owned(),
            ),
            Some((layer, gain)) => sentences.push(format!(
                "`--float {}` would bring the logits {gain:.1} dB closer to the float model. The layer has {:.1} % of \
                 the multiplications, and they take longer in float.",
                layer.layer,
                layer.work * 100.0
            )),
            None => sentences.push(format!(
                "Int8 throughout is the right form: no layer by itself brings {WORTH:.0} dB when it stays float; the \
                 loss is spread over the network."
            )),
        }
        let [weights, activations] = [self.weights_only_db, self.activations_only_db];
        sentences.push(if weights + WORTH < activations {
            "Most is lost by rounding weights: calibrate with more radiographs of the kind that the device will see, \
             which rounding follows."
                .to_owned()
        } else if activations + WORTH < weights {
            "Most is lost by the codes of activations: ranges decide, so calibrate with radiographs of all kinds that \
             the device will see."
                .to_owned()
        } else {
            "Weights and activations lose about as much.".to_owned()
        });
        for layer in self.layers.iter().filter(|layer| layer.beyond > MUCH) {
            let share = layer.beyond * 100.0;
            sentences.push(format!(
                "`{}` gives {share:.1} % of its values beyond its codes: the images that it was calibrated with are \
                 unlike these.",
                layer.layer
            ));
        }
        for layer in self.layers.iter().filter(|layer| layer.output_db.is_nan()) {
            sentences.push(format!("`{}` gives nothing but zeros on these images.", layer.layer));
        }
        sentences
    }
}
