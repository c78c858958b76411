//! What `quantize` did, for people and machines.

use crate::analysis::Analysis;
use crate::calibration::Method;
use crate::foreign::{ActivationSource, ContractSource};
use data::metrics::{Metrics, printed};
use edge_runtime::keys::PublicKey;
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
    /// False after a dry run.
    pub written: bool,
    /// How the ranges of activations follow from what was seen, in training or now.
    pub ranges_by: Method,
    /// What it was calibrated with, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationImages>,
    /// The board that was asked for.
    #[serde(skip)]
    pub board: Option<String>,
    /// How the loss was held, if a bound was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What int8 does to each layer, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
    /// What is predicted for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// The rule that chose the threshold, in words.
    pub operating_point_rule: String,
    /// The threshold.
    pub threshold: f32,
    /// Layers that stay float.
    pub float_layers: Vec<FloatLayer>,
    /// True if the threshold was chosen anew on validation images.
    pub threshold_retuned: bool,
    /// Where the contract is from.
    pub contract: ContractSource,
    /// How the logits become a probability.
    pub activation: Activation,
    /// Whether that was said or assumed.
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
    /// The key that it is signed with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signer: Option<PublicKey>,
}

/// Images that activation ranges were recorded on.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CalibrationImages {
    /// How many.
    pub used: usize,
    /// Those that cannot be read, and why.
    pub left_out: Vec<String>,
    /// What is doubtful about them.
    pub warnings: Vec<String>,
    /// How ranges follow from what was seen.
    pub method: Option<Method>,
    /// What each method came to, where the best one was chosen.
    pub methods: Vec<MethodError>,
    /// Activations with channels that are 0 wherever an image was looked at: weights that are carried for nothing.
    pub silent: Vec<SilentChannels>,
}

/// How close the int8 network comes to the float one with ranges by one method.
#[derive(Debug, Clone, Serialize)]
pub struct MethodError {
    /// The method.
    pub method: Method,
    /// Of the logits over calibration images, in decibels; infinite (`null`) where nothing is lost.
    pub sqnr_db: f64,
}

/// Channels of an activation that are 0 everywhere.
#[derive(Debug, Clone, Serialize)]
pub struct SilentChannels {
    /// The activation.
    pub tensor: String,
    /// How many.
    pub silent: usize,
    /// Of how many.
    pub channels: usize,
}

impl CalibrationImages {
    fn lines(&self) -> Vec<String> {
        let by = self.method.map_or(String::new(), |method| format!(", ranges by {}", method.name()));
        let of = |m: &MethodError| format!("{} {:.1} dB", m.method.name(), m.sqnr_db);
        let methods: Vec<String> = self.methods.iter().map(of).collect();
        let compared = if methods.is_empty() { String::new() } else { format!(" (logits: {})", methods.join(", ")) };
        let mut lines = vec![format!("calibrated with {} images{by}{compared}", self.used)];
        let silent: usize = self.silent.iter().map(|activation| activation.silent).sum();
        if silent > 0 {
            lines.push(format!(
                "{silent} channels of {} activations are 0 in all images (--json: which)",
                self.silent.len()
            ));
        }
        lines.extend(self.left_out.iter().map(|image| format!("left out: {image}")));
        lines.extend(self.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines
    }
}

/// How the loss of AUROC was held.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Most that may be lost.
    pub bound: f64,
    /// Images that it was measured on.
    pub images: usize,
    /// Layers that stay float for it, in the order in which they were taken out of int8.
    pub layers: Vec<HeldLayer>,
    /// What is lost.
    pub drop: f64,
}

/// A layer that stays float.
#[derive(Debug, Clone, Serialize)]
pub struct HeldLayer {
    /// The tensor that it gives.
    pub layer: String,
    /// What was lost with it and those that had been taken out before it in float.
    pub drop: f64,
}

impl Held {
    fn line(&self) -> String {
        let layers: Vec<&str> = self.layers.iter().map(|l| l.layer.as_str()).collect();
        let float = match layers.as_slice() {
            [] => "no layer stays float for it".to_owned(),
            layers => format!("in float for it: {}", layers.join(", ")),
        };
        format!("AUROC held within {} over {} images: {:+.4}; {float}", self.bound, self.images, 0.0 - self.drop)
    }
}

/// What a board is predicted to take.
#[derive(Serialize)]
pub struct Expected {
    /// Its title.
    pub board: String,
    /// Milliseconds for the network on one thread.
    pub network_ms: f64,
    /// Its kernels.
    pub kernel: &'static str,
}

/// A float island.
#[derive(Serialize)]
pub struct FloatLayer {
    /// The tensor that it gives.
    pub layer: String,
    /// Its ONNX operators.
    pub operators: Vec<String>,
}

/// A difference, and its 95 % interval over samples of patients.
#[derive(Serialize)]
pub struct Change {
    /// int8 less float.
    pub value: f64,
    /// From the 2.5th to the 97.5th percentile.
    pub interval: Option<[f64; 2]>,
}

/// Float and int8 on the same images.
#[derive(Serialize)]
pub struct Comparison {
    /// Which images.
    pub split: &'static str,
    /// How many.
    pub images: usize,
    /// Images that are not among them, and why, in words.
    pub left_out: Vec<String>,
    /// What int8 changes in the area under the curve.
    pub auroc_change: Option<Change>,
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
    /// The report for a person, without the end of its last line: what is to be known of the images and layers, a table
    /// where there were labelled images, and six lines.
    pub fn text(&self) -> String {
        let mut lines: Vec<String> = self.calibration.iter().flat_map(CalibrationImages::lines).collect();
        if self.contract == ContractSource::Assumed {
            lines.push(
                "assumed: mean and deviation of ImageNet, labels by number; --contract FILE says what is true".into(),
            );
        }
        lines.extend(self.assumed_activation());
        lines.extend(self.held.iter().map(Held::line));
        let islands = self.float_layers.iter();
        lines.extend(islands.map(|l| format!("in float: {} ({})", l.layer, l.operators.join(", "))));
        lines.extend(self.comparison.iter().flat_map(Comparison::lines));
        lines.extend(self.summary());
        lines.join("\n")
    }

    /// Six lines, a name and what it is each.
    pub fn summary(&self) -> [String; 6] {
        let size = |file: &File| format!("{:.1} KiB", file.bytes as f64 / 1024.0);
        let sizes = format!(
            "float {}, int8 ONNX {}, bundle {}",
            size(&self.float),
            size(&self.int8_onnx),
            size(&self.bundle.file)
        );
        let unjudged = || "not judged: give labelled images with --data".to_owned();
        let agreement = self.comparison.as_ref().map_or_else(unjudged, Comparison::agreement);
        let change = self.comparison.as_ref().map_or_else(unjudged, Comparison::change);
        let expected = match (&self.expected, &self.board) {
            (Some(Expected { board, network_ms, kernel }), _) => {
                format!("{network_ms:.1} ms for the network on one thread of {board} (kernel {kernel})")
            }
            (None, Some(board)) => {
                format!("nothing: {board} has no assumed rate of instructions, or layers are in float")
            }
            (None, None) => "nothing: give a board with --board".to_owned(),
        };
        let signed = self.bundle.signer.as_ref().map_or(String::new(), |key| format!(", signed by {}", key.name));
        let verb = if self.written { "wrote" } else { "would write" };
        let [onnx, bundle] = [&self.int8_onnx, &self.bundle.file].map(|file| file.file.display());
        [
            format!("{:<14} {sizes}", "sizes"),
            format!("{:<14} {agreement}", "same finding"),
            format!("{:<14} {change}", "AUROC"),
            format!("{:<14} threshold {:.4} ({})", "operates at", self.threshold, self.threshold_basis()),
            format!("{:<14} {expected}", "predicted"),
            format!("{verb:<14} {onnx} and {bundle} (digest {}{signed})", self.bundle.digest),
        ]
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
        match (self.threshold_retuned, self.contract, &self.comparison) {
            (true, _, _) => "re-tuned on validation images",
            (false, ContractSource::Assumed, _) => &self.operating_point_rule,
            (false, ContractSource::File, _) => "as in the contract file",
            (false, ContractSource::Model, None) => "as in the float model; give --data to re-tune it",
            (false, ContractSource::Model, Some(_)) => "as in the float model: there are no validation images",
        }
    }
}

impl Comparison {
    fn lines(&self) -> Vec<String> {
        let row = |name: &str, of: fn(&Metrics) -> Option<f64>| {
            let [float, int8] = [&self.float_metrics, &self.int8_metrics].map(|m| printed(of(m), 4));
            format!("{name:<14} {float:>9} {int8:>9}")
        };
        let left_out = self.left_out.iter().map(|line| format!("left out: {line}"));
        let table = [
            format!("{:<14} {:>9} {:>9}", "", "float", "int8"),
            row("auroc", |m| m.auroc),
            row("accuracy", |m| m.accuracy),
            row("sensitivity", |m| m.sensitivity),
            row("specificity", |m| m.specificity),
            row("macro_f1", |m| m.macro_f1),
            row("brier", |m| m.brier),
            row("ece", |m| m.ece),
        ];
        left_out.chain(table).collect()
    }

    fn agreement(&self) -> String {
        format!(
            "for {:.2} % of {} {} images; largest difference in probability {:.3}",
            self.agreement * 100.0,
            self.images,
            self.split,
            self.largest_probability_difference
        )
    }

    fn change(&self) -> String {
        let Some(Change { value, interval }) = &self.auroc_change else {
            return "undefined: the images are all of one label".to_owned();
        };
        let interval = match interval {
            Some([low, high]) => format!("95 % interval {low:+.4} to {high:+.4}, patients resampled"),
            None => "too few images for an interval".to_owned(),
        };
        format!("changed by {value:+.4} ({interval})")
    }
}
