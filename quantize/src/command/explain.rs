//! Why the int8 model is as it is: measured for the report, and written as a page.

use super::Plan;
use super::judge::{Judged, LabelledFrames};
use super::report::Report;
use super::run::FloatModel;
use crate::analysis::{self, Analysis, Changed, Contents, FloatPart, Forms, Part, page};
use anyhow::{Context, Result};
use data::Split;
use edge_runtime::engine::Compute;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::bundle::Bundle;
use edge_runtime::onnx::pb;
use edge_runtime::operators::onnx_operators;
use edge_runtime::process::files::write_atomically;
use edge_runtime::process::progress::Reporter;
use std::path::Path;

/// What is told of a model.
pub struct Explanation {
    /// The measurement.
    pub analysis: Analysis,
    changed: Option<Vec<Changed>>,
    parts: Vec<Part>,
}

/// Both models on labelled images: the judgement, the images, and which of them were judged.
pub type JudgedImages<'a> = (&'a Judged, (&'a LabelledFrames, Split));

/// Measures on labelled images if there are any, else on those that the model was calibrated with.
pub fn explain(
    plan: &Plan,
    float: &FloatModel,
    keep: &[String],
    (int8, bundle): (&pb::ModelProto, &Bundle),
    judged: Option<JudgedImages>,
    compute: &Compute,
    progress: &Reporter,
) -> Result<Explanation> {
    let prepared = &float.prepared;
    let all: Vec<&GreyPlane> = match judged {
        Some((_, (labelled, split))) => labelled.frames(split),
        None => prepared.sample.iter().collect(),
    };
    let step = all.len().div_ceil(analysis::IMAGES).max(1);
    let frames: Vec<&GreyPlane> = all.into_iter().step_by(step).collect();
    let forms = Forms {
        float: &prepared.model,
        ranges: &prepared.ranges,
        rounding: &prepared.rounding,
        keep,
        int8,
        network: &bundle.network,
        input: &float.contract.input,
    };
    let analysis = forms.analyse(&frames, |step, done, of| progress.step(step, done, of, ""))?;
    let (changed, parts) = match judged {
        None => (None, Vec::new()),
        Some((judged, (labelled, split))) => (
            Some(judged.changed(float, bundle, plan, labelled, split, compute)?),
            judged.parts(float, bundle, labelled, split),
        ),
    };
    Ok(Explanation { analysis, changed, parts })
}

/// Why layers with `operators` stay float.
fn reason(operators: &[String]) -> String {
    let runs = |name: &&String| onnx_operators().any(|o| o.name == **name);
    let float: Vec<&str> = operators.iter().filter(|name| !runs(name)).map(String::as_str).collect();
    match float.as_slice() {
        [] => "it was asked for, or it reads constants where the device reads none".into(),
        names => format!("{} has no integer form", names.join(", ")),
    }
}

/// Writes the page of `explanation` to `path`.
pub fn write_page(path: &Path, report: &Report, explanation: Explanation) -> Result<()> {
    let summary = report.summary().map(|line| {
        let (name, words) = line.split_at_checked(14).unwrap_or((&line, ""));
        (name.trim().to_owned(), words.trim().to_owned())
    });
    let float = report.float_layers.iter().map(|part| FloatPart {
        layer: part.layer.clone(),
        operators: part.operators.join(", "),
        reason: reason(&part.operators),
    });
    let model = report.float.file.file_name().unwrap_or_default().to_string_lossy();
    let contents = Contents {
        model: &model,
        summary: summary.to_vec(),
        analysis: &explanation.analysis,
        float: float.collect(),
        changed: explanation.changed,
        parts: explanation.parts,
    };
    write_atomically(path, page(&contents).as_bytes()).with_context(|| format!("{}", path.display()))
}
