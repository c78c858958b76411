//! A model ready to read radiographs: the embedded default, a bundle, or an ONNX file.

pub mod bundle;
pub mod calibration;
pub mod contract;
mod input_codes;

use crate::engine::{Compute, EngineError, FloatPlan, IntegerPlan, floats};
use crate::image::GreyPlane;
use crate::image::preprocess::normalise;
use crate::lower::{LowerError, input_shape, is_qdq};
use crate::network::{Network, Value};
use crate::onnx::{self, LOGITS, MAP, OnnxError};
use crate::process::files::sha256_hex;
use crate::site::{SiteError, SiteId};
use bundle::{Bundle, BundleError};
use contract::{Activation, Contract, ContractError};
use input_codes::InputCodes;
use slots::keys::{KeyError, KeyRing};
use std::path::{Path, PathBuf};

/// The model that ships with the program.
pub const DEFAULT: &[u8] = include_bytes!("../../models/default.hilum");

/// What stands for its path.
pub const EMBEDDED: &str = "(embedded)";

/// What a model file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelFormat {
    /// A device bundle.
    Bundle,
    /// QDQ ONNX, run by the integer engine.
    OnnxInt8,
    /// Float ONNX, run by tract as it is.
    OnnxF32,
}

impl ModelFormat {
    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            ModelFormat::Bundle => "hilum",
            ModelFormat::OnnxInt8 => "onnx-int8",
            ModelFormat::OnnxF32 => "onnx-fp32",
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
    /// It is signed with no key that is believed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The keys that it has to be signed with one of cannot be read.
    #[error("the keys that it has to be signed with are not there: {0}")]
    Keys(String),
    /// It is not signed, and has to be.
    #[error(
        "is not signed, and models of unknown origin are not taken here: `quantize --sign` signs a bundle (.hilum)"
    )]
    Unsigned,
    /// The site profile that is to decide does not serve.
    #[error("cannot decide as this site asks: {0}")]
    Site(#[from] SiteError),
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
    pub format: ModelFormat,
    /// The public key that it is signed with, 64 hexadecimal digits.
    pub signer: Option<String>,
    /// The site profile that decides, if one was applied.
    pub site: Option<SiteId>,
    /// Bytes of the file.
    pub size: usize,
    /// The integer network, unless the model is float; the codes of its weights have moved into the engine.
    pub network: Option<Network>,
    engine: Engine,
    kernel: &'static str,
}

enum Engine {
    Float(FloatPlan),
    Integer {
        plan: Box<IntegerPlan>,
        input: InputCodes,
        /// The map's step.
        map: Option<Value>,
    },
}

/// The class activation map: evidence for each label at each place, in units of logits after the temperature.
#[derive(Debug, Clone, PartialEq)]
pub struct ActivationMap {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Evidence for the positive label less the mean evidence for the others, if they exclude it, row by row.
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
    pub fn embedded(compute: &Compute) -> Result<Model, ModelError> {
        Model::from_bytes(DEFAULT, Path::new(EMBEDDED), compute)
    }

    /// Reads a `.hilum` or `.onnx` file; which of the two it is, its first bytes tell.
    pub fn load(path: &Path, compute: &Compute) -> Result<Model, ModelError> {
        let io = |e| ModelError { path: path.to_owned(), reason: ModelErrorReason::Io(e) };
        Model::from_bytes(&std::fs::read(path).map_err(io)?, path, compute)
    }

    /// Reads a bundle that one of `keys` has signed. Nothing of another one is read.
    pub fn load_signed(path: &Path, keys: &KeyRing, compute: &Compute) -> Result<Model, ModelError> {
        let refused = |reason| ModelError { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| refused(ModelErrorReason::Io(e)))?;
        let signer = match bundle::signer(&bytes) {
            // Of an ONNX file there is no signed form.
            Err(BundleError::NotABundle) => None,
            signer => signer.map_err(|e| refused(e.into()))?,
        };
        let signer = signer.ok_or_else(|| refused(ModelErrorReason::Unsigned))?;
        keys.known(&signer).map_err(|e| refused(e.into()))?;
        Model::from_bytes(&bytes, path, compute)
    }

    /// Reads a model from memory; `path` is only named in errors.
    pub fn from_bytes(bytes: &[u8], path: &Path, compute: &Compute) -> Result<Model, ModelError> {
        Model::read(bytes, path, compute).map_err(|reason| ModelError { path: path.to_owned(), reason })
    }

    fn read(bytes: &[u8], path: &Path, compute: &Compute) -> Result<Model, ModelErrorReason> {
        if bytes.starts_with(&bundle::MAGIC[..5]) || path.extension().is_some_and(|e| e == "hilum") {
            let (bundle, digest) = Bundle::decode(bytes)?;
            let signer = bundle::signer_of_decoded(bytes);
            let model = Model::of_bundle(bundle, digest, bytes.len(), compute)?;
            return Ok(Model { signer, ..model });
        }
        let mut proto = onnx::decode(bytes, path)?;
        if let Some(file) = onnx::external_file(&proto) {
            return Err(ModelErrorReason::Mismatch(format!(
                "its weights lie in `{file}`, and a model of the device is one file: run `quantize` on it"
            )));
        }
        let contract = onnx::contract(&proto)?;
        let digest = sha256_hex(bytes);
        if is_qdq(&proto) {
            onnx::write_out(&mut proto)?;
            let bundle = Bundle::of_qdq(contract.clone(), &proto)?;
            let model = Model::of_bundle(bundle, digest, bytes.len(), compute)?;
            // The mean that others give the file's input by, not the one that its pixels are shifted by.
            return Ok(Model { format: ModelFormat::OnnxInt8, contract, ..model });
        }
        Model::of_onnx(&proto, contract, digest, bytes.len())
    }

    /// The float model `proto`, whose file has the digest `digest` and `size` bytes.
    pub fn of_onnx(
        proto: &onnx::pb::ModelProto,
        contract: Contract,
        digest: String,
        size: usize,
    ) -> Result<Model, ModelErrorReason> {
        let input = proto.graph.iter().flat_map(|g| &g.input).next();
        let side = contract.input.size;
        let channels = contract.input.channels;
        if input.and_then(input_shape) != Some([side, side, channels]) {
            return Err(ModelErrorReason::Mismatch(format!("the input is not [1, {channels}, {side}, {side}]")));
        }
        let has_map = proto.graph.iter().flat_map(|g| &g.output).any(|o| o.name == MAP);
        let outputs: Vec<String> =
            [Some(LOGITS), has_map.then_some(MAP)].into_iter().flatten().map(Into::into).collect();
        let engine = Engine::Float(FloatPlan::new(proto, Some(&outputs))?);
        let format = ModelFormat::OnnxF32;
        Ok(Model {
            contract,
            digest,
            format,
            signer: None,
            site: None,
            size,
            network: None,
            engine,
            kernel: "tract-f32",
        })
    }

    /// The model in `bundle`, whose digest is `digest` and whose file has `size` bytes.
    pub fn of_bundle(
        bundle: Bundle,
        digest: String,
        size: usize,
        compute: &Compute,
    ) -> Result<Model, ModelErrorReason> {
        let Bundle { contract, mut network } = bundle;
        let input = &network.values[0];
        let side = contract.input.size;
        let channels = contract.input.channels;
        if input.shape != [side, side, channels] {
            return Err(ModelErrorReason::Mismatch(format!("the input is not [{side}, {side}, {channels}]")));
        }
        let input = InputCodes::new(&contract.input, input);
        let map = network.map.and_then(|m| network.values.get(m as usize).cloned());
        if map.as_ref().is_some_and(|m| m.channels() as usize != contract.logits()) {
            return Err(ModelErrorReason::Mismatch("its class activation map has another number of labels".into()));
        }
        let plan = Box::new(IntegerPlan::new(&mut network, compute)?);
        if plan.logits() != contract.logits() {
            let reason = format!("{} logits for {} labels", plan.logits(), contract.labels.len());
            return Err(ModelErrorReason::Mismatch(reason));
        }
        let engine = Engine::Integer { plan, input, map };
        let format = ModelFormat::Bundle;
        Ok(Model {
            contract,
            digest,
            format,
            signer: None,
            site: None,
            size,
            network: Some(network),
            engine,
            kernel: compute.kernel.name,
        })
    }

    /// Reads one plane of the contract's size.
    pub fn infer(&self, plane: &GreyPlane) -> Result<Inference, EngineError> {
        let size = self.contract.input.size;
        if (plane.width, plane.height) != (size, size) || plane.pixels.len() != (size * size) as usize {
            let reason = format!("{}×{} pixels where {size}×{size} are due", plane.width, plane.height);
            return Err(EngineError(reason));
        }
        let (logits, map) = match &self.engine {
            Engine::Float(plan) => self.infer_float(plan, plane)?,
            Engine::Integer { plan, input, map } => plan.run(
                |to| input.fill(&plane.pixels, to),
                |logits, codes| (logits, map.as_ref().zip(codes).map(|(value, codes)| self.map_of(value, codes))),
            )?,
        };
        if logits.len() != self.contract.logits() {
            let reason = format!("{} logits for one image where {} are due", logits.len(), self.contract.logits());
            return Err(EngineError(reason));
        }
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(EngineError(format!("logits that are no numbers: {logits:?}")));
        }
        let probability = self.contract.probability(&logits);
        Ok(Inference { logits, probability, map })
    }

    fn infer_float(
        &self,
        plan: &FloatPlan,
        plane: &GreyPlane,
    ) -> Result<(Vec<f32>, Option<ActivationMap>), EngineError> {
        let input = &self.contract.input;
        let side = input.size as usize;
        let outputs = plan.run(&[1, input.channels as usize, side, side], &normalise(plane, input))?;
        let map = match outputs.get(1).map(|m| (m, m.shape())) {
            None => None,
            Some((m, [1, _, h, w])) => {
                let values = floats(m)?;
                Some(self.activation_map(*h, *w, |pixel, label| values[label * h * w + pixel]))
            }
            Some((_, shape)) => return Err(EngineError(format!("a class activation map of shape {shape:?}"))),
        };
        Ok((floats(&outputs[0])?.to_vec(), map))
    }

    /// The map from its codes.
    fn map_of(&self, value: &Value, codes: &[u8]) -> ActivationMap {
        let [h, w, labels] = value.shape.map(|d| d as usize);
        let zero = f32::from(value.zero_point);
        self.activation_map(h, w, |pixel, label| (f32::from(codes[pixel * labels + label]) - zero) * value.scale)
    }

    /// The map from its value `at(pixel, label)`.
    fn activation_map(&self, height: usize, width: usize, at: impl Fn(usize, usize) -> f32) -> ActivationMap {
        let labels = self.contract.logits();
        let positive = self.contract.positive as usize;
        let temperature = self.contract.calibration.temperature;
        let at = |pixel: usize, label: usize| at(pixel, label) / temperature;
        let positives: Vec<usize> = self.contract.positives().collect();
        let others: Vec<usize> = (0..labels).filter(|l| !positives.contains(l)).collect();
        let evidence = (0..height * width).map(|pixel| {
            if labels == 1 {
                return at(pixel, 0);
            }
            if self.contract.activation == Activation::Independent {
                return at(pixel, positive);
            }
            let mean = |labels: &[usize]| labels.iter().map(|l| at(pixel, *l)).sum::<f32>() / labels.len() as f32;
            mean(&positives) - mean(&others)
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
        self.kernel
    }
}
