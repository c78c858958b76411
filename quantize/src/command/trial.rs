//! Int8 forms of a network, by how close each comes to the float one.

use super::Plan;
use super::report::MethodError;
use crate::calibration::{Activations, Method};
use crate::correction::Rounding;
use crate::qdq;
use crate::sqnr::Noise;
use anyhow::Result;
use data::evaluation::logits;
use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::contract::{ActivationRanges, Contract};
use edge_runtime::model::{Model, ModelError, ModelErrorReason};
use edge_runtime::onnx::pb;
use edge_runtime::process::progress::Reporter;

/// A float network and what its int8 forms are made of.
pub struct Parts<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The float network.
    pub model: &'a pb::ModelProto,
    /// How its weights are rounded.
    pub rounding: &'a Rounding,
    /// What its inputs and outputs mean.
    pub contract: &'a Contract,
    /// The kernels.
    pub compute: &'a Compute,
}

/// Images that int8 forms are tried on.
pub struct Trial<'a> {
    parts: &'a Parts<'a>,
    frames: Vec<&'a GreyPlane>,
    /// The float network's logits.
    reference: Vec<f32>,
}

impl<'a> Trial<'a> {
    /// On `frames`.
    pub fn new(parts: &'a Parts, frames: Vec<&'a GreyPlane>, progress: &Reporter) -> Result<Trial<'a>> {
        let float = Model::of_onnx(parts.model, parts.contract.clone(), String::new(), 0);
        let float = float.map_err(|reason| parts.refused(reason))?;
        let shown = |i| progress.step("float model", i, frames.len(), "");
        let reference = logits(&float, &frames, shown)?.concat();
        Ok(Trial { parts, frames, reference })
    }

    /// The signal-to-noise ratio of the logits in decibels, if the codes of activations cover `ranges`.
    fn decibels(&self, ranges: &ActivationRanges) -> Result<f64> {
        let Parts { plan, model, rounding, contract, compute } = self.parts;
        let int8 = qdq::quantize(model, ranges, &plan.keep_float, rounding)?;
        let bundle = Bundle::of_qdq((*contract).clone(), &int8)?;
        let model = Model::of_bundle(bundle, String::new(), 0, compute);
        let model = model.map_err(|reason| self.parts.refused(reason))?;
        let got = logits(&model, &self.frames, |_| ())?.concat();
        Ok(Noise::between(&self.reference, &got).decibels())
    }

    /// What each method comes to.
    pub fn methods(&self, activations: &Activations, progress: &Reporter) -> Result<Vec<MethodError>> {
        let count = Method::ALL.len();
        let error = |(i, method): (usize, Method)| {
            let sqnr_db = self.decibels(&activations.ranges(method))?;
            progress.step("methods of ranges", i + 1, count, "");
            Ok(MethodError { method, sqnr_db })
        };
        Method::ALL.into_iter().enumerate().map(error).collect()
    }
}

impl Parts<'_> {
    fn refused(&self, reason: ModelErrorReason) -> ModelError {
        ModelError { path: self.plan.model.clone(), reason }
    }
}
