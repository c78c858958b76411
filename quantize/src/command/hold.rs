//! Mixed precision: layers stay float until int8 costs no more than is allowed.

use super::judge::LabelledFrames;
use super::report::{Held, HeldLayer};
use super::run::FloatModel;
use super::{LabelledImages, Plan};
use crate::analysis::{self, Forms, LayerAnalysis};
use crate::qdq;
use anyhow::{Context, Result, bail};
use data::evaluation::probabilities;
use data::metrics::Metrics;
use edge_runtime::engine::Compute;
use edge_runtime::lower::lower;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::model::{Model, ModelError};
use edge_runtime::onnx::pb;
use edge_runtime::process::progress::Reporter;

/// A float model and the images that its int8 form is held to.
pub struct Holding<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// The model.
    pub float: &'a FloatModel,
    /// The images.
    pub labelled: &'a LabelledFrames,
    /// Which of them count.
    pub images: &'a LabelledImages,
    /// The kernels.
    pub compute: &'a Compute,
    /// Tells how far it is.
    pub progress: &'a Reporter,
}

impl Holding<'_> {
    /// Keeps the layers in float that lose most by themselves, one after the other, until the area under the curve is
    /// at most `bound` below that of the float model.
    pub fn hold(&self, bound: f64) -> Result<Held> {
        let images = self.labelled.frames(self.images.split).len();
        let mut held = Held { bound, images, layers: Vec::new(), drop: 0.0 };
        let float = self.float.model().map_err(|reason| self.refused(reason))?;
        let reference = self.auroc(&float)?;
        let mut keep = self.plan.keep_float.clone();
        let mut int8 = self.quantised(&keep)?;
        held.drop = reference - self.auroc(&self.device_model(&int8)?)?;
        if held.drop <= bound {
            return Ok(held);
        }
        for layer in self.ranked(&int8)? {
            keep.push(layer.clone());
            int8 = match self.quantised(&keep) {
                Err(qdq::QuantizeError::NothingToQuantise) => break,
                int8 => int8?,
            };
            held.drop = reference - self.auroc(&self.device_model(&int8)?)?;
            self.progress.line(&format!("`{layer}` stays float: AUROC {:+.4}", 0.0 - held.drop));
            held.layers.push(HeldLayer { layer, drop: held.drop });
            if held.drop <= bound {
                return self.without_needless(held, reference);
            }
        }
        bail!(
            "--max-drop {bound} cannot be held: with {} layers in float the AUROC is still {:.4} lower: try another \
             --method, calibrate with more and other radiographs, or allow more",
            held.layers.len(),
            held.drop
        )
    }

    /// Gives back to int8 what need not stay float: layers that were taken out before the one that made the difference.
    fn without_needless(&self, mut held: Held, reference: f64) -> Result<Held> {
        let earlier: Vec<String> = held.layers.iter().rev().skip(1).map(|layer| layer.layer.clone()).collect();
        for candidate in earlier {
            let others = held.layers.iter().map(|l| &l.layer).filter(|layer| **layer != candidate);
            let keep: Vec<String> = self.plan.keep_float.iter().chain(others).cloned().collect();
            let drop = reference - self.auroc(&self.device_model(&self.quantised(&keep)?)?)?;
            if drop <= held.bound {
                held.layers.retain(|layer| layer.layer != candidate);
                held.drop = drop;
                self.progress.line(&format!("`{}` need not stay float", candidate));
            }
        }
        Ok(held)
    }

    fn refused(&self, reason: edge_runtime::model::ModelErrorReason) -> ModelError {
        ModelError { path: self.plan.model.clone(), reason }
    }

    fn quantised(&self, keep: &[String]) -> Result<pb::ModelProto, qdq::QuantizeError> {
        let prepared = &self.float.prepared;
        qdq::quantize(&prepared.model, &prepared.ranges, keep, &prepared.rounding)
    }

    fn device_model(&self, int8: &pb::ModelProto) -> Result<Model> {
        let bundle = Bundle::of_qdq(self.float.contract.clone(), int8)?;
        let model = Model::of_bundle(bundle, String::new(), 0, self.compute);
        Ok(model.map_err(|reason| self.refused(reason))?)
    }

    fn auroc(&self, model: &Model) -> Result<f64> {
        let frames = self.labelled.frames(self.images.split);
        let shown = |i: usize| self.progress.step("area under the curve", i, frames.len(), "");
        let scores = probabilities(model, &frames, shown)?;
        let truths = self.labelled.truths(self.images.split);
        let auroc = Metrics::new(&scores, &truths, 0.5).auroc;
        auroc.context("--max-drop is of the area under the curve, and the images of --data are all of one label")
    }

    /// Layers that the logits depend on, from the one that brings them closest to the float model when it alone stays
    /// float.
    fn ranked(&self, int8: &pb::ModelProto) -> Result<Vec<String>> {
        let prepared = &self.float.prepared;
        let frames = self.labelled.frames(self.images.split);
        let step = frames.len().div_ceil(analysis::IMAGES).max(1);
        let frames: Vec<_> = frames.into_iter().step_by(step).collect();
        let network = lower(int8)?.network;
        let forms = Forms {
            float: &prepared.model,
            ranges: &prepared.ranges,
            rounding: &prepared.rounding,
            keep: &self.plan.keep_float,
            int8,
            network: &network,
            input: &self.float.contract.input,
        };
        let analysis = forms.analyse(&frames, |step, done, of| self.progress.step(step, done, of, ""))?;
        let counts = |layer: &LayerAnalysis| layer.only_int8_db.is_some_and(f64::is_finite);
        let layers = analysis.layers.into_iter().filter(counts);
        let mut layers: Vec<(String, f64)> =
            layers.filter_map(|layer| Some((layer.layer, layer.only_float_db?))).collect();
        layers.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(layers.into_iter().map(|(layer, _)| layer).collect())
    }
}
