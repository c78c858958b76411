//! What `quantize` did, for people and machines.

use crate::foreign::{ActivationSource, ContractSource};
use data::metrics::{Metrics, printed};
use edge_runtime::model::contract::Activation;
use serde::Serialize;
use std::path::PathBuf;

/// What was written, and what it costs.
#[derive(Serialize)]
pub struct Report {
    /// Float and int8 over labelled images, if there were any.
    #[serde(flatten)]
    pub comparison: Option<Comparison>,
    /// The model that was read.
    pub float: File,
    /// The QDQ model that was written.
    pub int8_onnx: File,
    /// The bundle that was written.
    pub bundle: BundleFile,
    /// The rule that chose the threshold, in words.
    pub operating_point_rule: String,
    /// The threshold.
    pub threshold: f32,
    /// Layers that stay float.
    pub float_layers: Vec<FloatLayer>,
    /// True if the threshold was chosen anew on validation images.
    pub threshold_retuned: bool,
    /// Where the contract is from.
    #[serde(skip)]
    pub contract: ContractSource,
    /// How the logits become a probability.
    pub activation: Activation,
    /// Whether that was said or assumed.
    #[serde(skip)]
    pub activation_source: ActivationSource,
}

/// A file and its size.
#[derive(Serialize)]
pub struct File {
    /// Where it lies.
    pub file: PathBuf,
    /// How large it is.
    pub bytes: u64,
}

/// The device bundle.
#[derive(Serialize)]
pub struct BundleFile {
    /// Where it lies, and how large it is.
    #[serde(flatten)]
    pub file: File,
    /// SHA-256 of its payload.
    pub digest: String,
}

/// A float island.
#[derive(Serialize)]
pub struct FloatLayer {
    /// The tensor that it gives.
    pub layer: String,
    /// Its ONNX operators.
    pub operators: Vec<String>,
}

/// Float and int8 on the same images.
#[derive(Serialize)]
pub struct Comparison {
    /// Which images.
    pub split: &'static str,
    /// Share of them with the same finding.
    pub agreement: f64,
    /// Over all images.
    pub largest_probability_difference: f32,
    /// Of the float model at its own threshold.
    pub float_metrics: Metrics,
    /// Of the int8 model at its own.
    pub int8_metrics: Metrics,
}

impl Report {
    /// The report for a person, without the end of its last line.
    pub fn text(&self) -> String {
        let file = |what: &str, file: &File| {
            format!("{what:<14} {:>9.1} KiB  {}", file.bytes as f64 / 1024.0, file.file.display())
        };
        let mut lines = vec![
            file("float ONNX", &self.float),
            file("int8 ONNX", &self.int8_onnx),
            file("device bundle", &self.bundle.file),
            format!("digest {}", self.bundle.digest),
            format!("threshold {:.4} ({})", self.threshold, self.threshold_basis()),
        ];
        lines.extend(self.assumed_activation());
        let islands = self.float_layers.iter();
        lines.extend(islands.map(|l| format!("in float: {} ({})", l.layer, l.operators.join(", "))));
        lines.extend(self.comparison.iter().flat_map(Comparison::lines));
        lines.join("\n")
    }

    fn assumed_activation(&self) -> Option<String> {
        (self.activation_source == ActivationSource::Assumed).then(|| {
            let name = self.activation.name();
            format!(
                "assumed: one label of several is true ({name}); if not, write activation = \"independent\" in the \
                 contract file"
            )
        })
    }

    fn threshold_basis(&self) -> &str {
        match (self.threshold_retuned, self.contract) {
            (true, _) => "re-tuned on validation images",
            (false, ContractSource::Assumed) => &self.operating_point_rule,
            (false, ContractSource::Model | ContractSource::File) => "as in the float model; give --data to re-tune it",
        }
    }
}

impl Comparison {
    fn lines(&self) -> Vec<String> {
        let row = |name: &str, of: fn(&Metrics) -> Option<f64>| {
            let [float, int8] = [&self.float_metrics, &self.int8_metrics].map(|m| printed(of(m), 4));
            format!("{name:<14} {float:>9} {int8:>9}")
        };
        vec![
            format!(
                "same finding for {:.2} % of the {} images; largest difference in probability {:.3}",
                self.agreement * 100.0,
                self.split,
                self.largest_probability_difference
            ),
            format!("{:<14} {:>9} {:>9}", "", "float", "int8"),
            row("auroc", |m| m.auroc),
            row("accuracy", |m| m.accuracy),
            row("sensitivity", |m| m.sensitivity),
            row("specificity", |m| m.specificity),
            row("macro_f1", |m| m.macro_f1),
            row("brier", |m| m.brier),
            row("ece", |m| m.ece),
        ]
    }
}
