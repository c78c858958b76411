//! A model ready to read radiographs: the embedded default, a bundle, or an ONNX file.

use crate::bundle::{Bundle, BundleError};
use crate::contract::{Contract, ContractError};
use crate::engine::operators::IntegerPlan;
use crate::engine::{EngineError, Plan, floats, kernels};
use crate::files::sha256_hex;
use crate::lower::{LowerError, input_shape, is_qdq, lower};
use crate::network::{Network, Value};
use crate::onnx::{self, LOGITS, MAP, OnnxError};
use crate::preprocess::Frame;
use std::path::{Path, PathBuf};

/// The model that ships with the program.
pub const DEFAULT: &[u8] = include_bytes!("../models/default.hilum");

/// What a model file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A device bundle.
    Bundle,
    /// QDQ ONNX, run by the integer engine.
    OnnxInt8,
    /// Float ONNX, run by tract as it is.
    OnnxF32,
}

impl Format {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Format::Bundle => "hilum",
            Format::OnnxInt8 => "onnx-int8",
            Format::OnnxF32 => "onnx-fp32",
        }
    }
}

/// Why a model is refused.
#[derive(Debug, thiserror::Error)]
#[error("model {path}: {reason}")]
pub struct ModelError {
    /// The model file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub reason: ModelErrorReason,
}

/// The reason in a [`ModelError`].
#[derive(Debug, thiserror::Error)]
pub enum ModelErrorReason {
    /// The file cannot be read.
    #[error("cannot be read ({0}); check the path and its permissions")]
    Io(std::io::Error),
    /// The bundle is refused.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Neither a bundle nor ONNX.
    #[error(transparent)]
    Onnx(#[from] OnnxError),
    /// No contract, or a contradictory one.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The quantised graph is not one of ours.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The engine refuses.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Contract and network do not belong together.
    #[error("its network does not fit its contract: {0}")]
    Mismatch(String),
}

/// A model with its plan.
pub struct Model {
    /// What it promises.
    pub contract: Contract,
    /// SHA-256 that binds weights and threshold: of the bundle's payload, or of the ONNX file.
    pub digest: String,
    /// What the file was.
    pub format: Format,
    /// Bytes of the file.
    pub size: usize,
    /// The integer network, unless the model is float; the codes of its weights have moved into the engine.
    pub network: Option<Network>,
    engine: Engine,
}

enum Engine {
    Float(Plan),
    Integer {
        plan: Box<IntegerPlan>,
        /// The input code of each pixel value in each channel.
        codes: Vec<[u8; 256]>,
        /// The map's step.
        map: Option<Value>,
    },
}

/// The class activation map: evidence for each label at each place, in units of logits.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Evidence for the positive label less the mean evidence for the others, row by row.
    pub evidence: Vec<f32>,
}

/// What a network gives for one radiograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Inference {
    /// The logits.
    pub logits: Vec<f32>,
    /// Probability of the positive label.
    pub probability: f32,
    /// The class activation map of networks that have one.
    pub map: Option<ActivationMap>,
}

impl Model {
    /// The embedded default model.
    pub fn embedded() -> Result<Model, ModelError> {
        Model::from_bytes(DEFAULT, Path::new("(embedded)"))
    }

    /// Reads a `.hilum` or `.onnx` file; which of the two it is, its first bytes tell.
    pub fn load(path: &Path) -> Result<Model, ModelError> {
        let bytes =
            std::fs::read(path).map_err(|e| ModelError { path: path.to_owned(), reason: ModelErrorReason::Io(e) })?;
        Model::from_bytes(&bytes, path)
    }

    /// Reads a model from memory; `path` is only named in errors.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Model, ModelError> {
        Model::read(bytes, path).map_err(|reason| ModelError { path: path.to_owned(), reason })
    }

    fn read(bytes: &[u8], path: &Path) -> Result<Model, ModelErrorReason> {
        if bytes.starts_with(&crate::bundle::MAGIC[..5]) || path.extension().is_some_and(|e| e == "hilum") {
            let (bundle, digest) = Bundle::decode(bytes)?;
            return Model::of_network(bundle.contract, bundle.network, digest, Format::Bundle, bytes.len());
        }
        let proto = onnx::decode(bytes, path)?;
        let contract = onnx::contract(&proto)?;
        let digest = sha256_hex(bytes);
        if is_qdq(&proto) {
            return Model::of_network(contract, lower(&proto)?, digest, Format::OnnxInt8, bytes.len());
        }
        let input = proto.graph.iter().flat_map(|g| &g.input).next();
        let (side, channels) = (contract.input.size, contract.input.channels);
        if input.and_then(input_shape) != Some([side, side, channels]) {
            return Err(ModelErrorReason::Mismatch(format!("the input is not [1, {channels}, {side}, {side}]")));
        }
        let has_map = proto.graph.iter().flat_map(|g| &g.output).any(|o| o.name == MAP);
        let outputs: Vec<String> =
            [Some(LOGITS), has_map.then_some(MAP)].into_iter().flatten().map(Into::into).collect();
        let engine = Engine::Float(Plan::of_onnx(&proto, Some(&outputs))?);
        Ok(Model { contract, digest, format: Format::OnnxF32, size: bytes.len(), network: None, engine })
    }

    fn of_network(
        contract: Contract,
        mut network: Network,
        digest: String,
        format: Format,
        size: usize,
    ) -> Result<Model, ModelErrorReason> {
        let input = &network.values[0];
        let (side, channels) = (contract.input.size, contract.input.channels);
        if input.shape != [side, side, channels] {
            return Err(ModelErrorReason::Mismatch(format!("the input is not [{side}, {side}, {channels}]")));
        }
        let code = |pixel: u8, channel: usize| {
            let steps = (contract.input.normalise(pixel, channel) / input.scale).round_ties_even();
            (steps + f32::from(input.zero_point)).clamp(0.0, 255.0) as u8
        };
        let codes = (0..channels as usize).map(|c| std::array::from_fn(|p| code(p as u8, c))).collect();
        let map = network.map.and_then(|m| network.values.get(m as usize).cloned());
        if map.as_ref().is_some_and(|m| m.shape[2] as usize != contract.logits()) {
            return Err(ModelErrorReason::Mismatch("its class activation map has another number of labels".into()));
        }
        let plan = Box::new(IntegerPlan::new(&mut network)?);
        if plan.logits() != contract.logits() {
            let reason = format!("{} logits for {} labels", plan.logits(), contract.labels.len());
            return Err(ModelErrorReason::Mismatch(reason));
        }
        let engine = Engine::Integer { plan, codes, map };
        Ok(Model { contract, digest, format, size, network: Some(network), engine })
    }

    /// Reads one frame of the contract's size.
    pub fn infer(&self, frame: &Frame) -> Result<Inference, EngineError> {
        let input = &self.contract.input;
        let (side, channels) = (input.size as usize, input.channels as usize);
        let (logits, map) = match &self.engine {
            Engine::Float(plan) => {
                let outputs = plan.run_f32(&[1, channels, side, side], &frame.to_f32(input))?;
                let map = match outputs.get(1).map(|m| (m, m.shape())) {
                    None => None,
                    Some((m, [1, _, h, w])) => {
                        let values = floats(m)?;
                        Some(self.activation_map(*h, *w, |pixel, label| values[label * h * w + pixel]))
                    }
                    Some((_, shape)) => {
                        return Err(EngineError(format!("a class activation map of shape {shape:?}")));
                    }
                };
                (floats(&outputs[0])?.to_vec(), map)
            }
            Engine::Integer { plan, codes, map } => plan.run(
                |to| fill_codes(codes, &frame.pixels, to),
                |logits, seen| {
                    let map = map.as_ref().zip(seen).map(|(value, seen)| {
                        let [h, w, labels] = value.shape.map(|d| d as usize);
                        let zero = f32::from(value.zero_point);
                        let real =
                            |pixel: usize, label: usize| (f32::from(seen[pixel * labels + label]) - zero) * value.scale;
                        self.activation_map(h, w, real)
                    });
                    (logits, map)
                },
            )?,
        };
        if logits.len() != self.contract.logits() || logits.iter().any(|l| !l.is_finite()) {
            return Err(EngineError(format!("logits {logits:?} where {} numbers are due", self.contract.logits())));
        }
        let probability = self.contract.probability(&logits);
        Ok(Inference { logits, probability, map })
    }

    /// The map from its value `at(pixel, label)`.
    fn activation_map(&self, height: usize, width: usize, at: impl Fn(usize, usize) -> f32) -> ActivationMap {
        let labels = self.contract.logits();
        let positive = self.contract.positive as usize;
        let evidence = (0..height * width).map(|pixel| {
            if labels == 1 {
                return at(pixel, 0);
            }
            let others: f32 = (0..labels).filter(|l| *l != positive).map(|l| at(pixel, l)).sum();
            at(pixel, positive) - others / (labels - 1) as f32
        });
        ActivationMap { width, height, evidence: evidence.collect() }
    }

    /// True if the network gives a class activation map.
    pub fn has_map(&self) -> bool {
        match &self.engine {
            Engine::Float(plan) => plan.outputs().iter().any(|o| o == MAP),
            Engine::Integer { map, .. } => map.is_some(),
        }
    }

    /// Which inner loops run: a kernel's name for integer networks, `tract-f32` for float ones.
    pub fn kernel(&self) -> &'static str {
        if self.network.is_some() { kernels::selected().name } else { "tract-f32" }
    }
}

/// The codes of `pixels`, channels last, by a table for each channel.
fn fill_codes(tables: &[[u8; 256]], pixels: &[u8], to: &mut [u8]) {
    match tables {
        [table] => to.iter_mut().zip(pixels).for_each(|(to, p)| *to = table[usize::from(*p)]),
        [a, b, c] => {
            // Four pixels are three words: stores, not look-ups, are what this takes.
            let table: [u32; 256] = std::array::from_fn(|i| u32::from_le_bytes([a[i], b[i], c[i], 0]));
            let (fours, rest) = pixels[..pixels.len().min(to.len() / 3)].as_chunks::<4>();
            let (to, to_rest) = to.split_at_mut(12 * fours.len());
            for (to, pixels) in to.as_chunks_mut::<12>().0.iter_mut().zip(fours) {
                let [p, q, r, s] = pixels.map(|p| table[usize::from(p)]);
                let words = [p | q << 24, q >> 8 | r << 16, r >> 16 | s << 8];
                to.as_chunks_mut::<4>().0.iter_mut().zip(words).for_each(|(to, w)| *to = w.to_le_bytes());
            }
            fill_each(tables, rest, to_rest);
        }
        _ => fill_each(tables, pixels, to),
    }
}

/// [`fill_codes`] for any number of channels.
fn fill_each(tables: &[[u8; 256]], pixels: &[u8], to: &mut [u8]) {
    for (to, pixel) in to.chunks_exact_mut(tables.len()).zip(pixels) {
        to.iter_mut().zip(tables).for_each(|(to, table)| *to = table[usize::from(*pixel)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_number_of_channels_and_pixels_come_from_their_tables() {
        for channels in 1..5 {
            let tables: Vec<[u8; 256]> = (0..channels)
                .map(|c| std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(c * 71)))
                .collect();
            for count in 0..10 {
                let pixels: Vec<u8> = (0..count).map(|i| 250 - 27 * i).collect();
                let want: Vec<u8> = pixels.iter().flat_map(|p| tables.iter().map(|t| t[usize::from(*p)])).collect();
                let mut got = vec![0; want.len()];
                fill_codes(&tables, &pixels, &mut got);
                assert_eq!(got, want, "{channels} channels, {count} pixels");
            }
        }
    }
}
