//! A contract for models that carry none: from a file the user writes, or assumed and said aloud.

use crate::canonical::{Canonical, Squashing};
use edge_runtime::domain::Domain;
use edge_runtime::lower::input_shape;
use edge_runtime::model::calibration::Calibration;
use edge_runtime::model::contract::{
    Activation, Contract, ContractError, InputContract, OperatingPoint, Provenance, ResizeRule,
};
use edge_runtime::onnx;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Mean and standard deviation of ImageNet in 8-bit pixels: what torchvision's networks are trained with.
const IMAGENET: [[f32; 3]; 2] = [[123.675, 116.28, 103.53], [58.395, 57.12, 57.375]];

/// `--contract FILE`: what the model expects and what its outputs mean.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContractFile {
    /// Names of the classes in the order of the outputs.
    pub labels: Vec<String>,
    /// The label that is looked for.
    pub positive: String,
    /// The finding is positive from this probability on.
    #[serde(default = "half")]
    pub threshold: f32,
    /// Subtracted from each channel, in pixels as `unit` says; ImageNet's where absent.
    pub mean: Option<Vec<f32>>,
    /// Divides each channel afterwards, in pixels as `unit` says; ImageNet's where absent.
    pub std: Option<Vec<f32>>,
    /// Of which pixels `mean` and `std` are.
    pub unit: Option<Unit>,
    /// How radiographs of any shape are brought to the input's size.
    #[serde(default = "stretch")]
    pub resize: ResizeRule,
    /// How several outputs become probabilities; where absent as the network ends, and softmax where it ends in logits.
    pub activation: Option<Activation>,
}

/// Which range of pixels a normalisation is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Unit {
    /// 8-bit pixels, 0 to 255.
    #[serde(rename = "0 to 255")]
    Bytes,
    /// Pixels divided by 255, 0 to 1.
    #[serde(rename = "0 to 1")]
    Fractions,
}

/// Where a model's contract is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContractSource {
    /// The model carries it.
    Model,
    /// A file that the user gave.
    File,
    /// Nobody said: it was assumed.
    Assumed,
}

fn half() -> f32 {
    0.5
}

fn stretch() -> ResizeRule {
    ResizeRule::Stretch
}

/// Why a model gets no contract.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file cannot be used.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The graph's input is no image.
    #[error("its input is not [1, channels, size, size] with 1 or 3 channels")]
    Input,
    /// The graph's output is no row of logits.
    #[error("its output is not [1, classes]")]
    Output,
    /// Nobody can tell which pixels the normalisation is written for.
    #[error(
        "mean {mean:?} and std {std:?} are not both of pixels from 0 to 255: write them so, or both for pixels from 0 \
         to 1 with unit = \"0 to 1\" in the contract file"
    )]
    Unit {
        /// The mean.
        mean: Vec<f32>,
        /// The standard deviation.
        std: Vec<f32>,
    },
    /// The one output would be that of the other label.
    #[error(
        "its one output is the probability of the second label, and positive is the first: name the label that the \
         output is for last, or alone"
    )]
    Order,
    /// The network makes probabilities in another way than its contract says.
    #[error("the network ends in {network}, where its contract says activation = \"{contract}\": one of them is wrong")]
    Activation {
        /// How the network ends.
        network: &'static str,
        /// What the contract says.
        contract: &'static str,
    },
    /// The parts contradict each other.
    #[error(transparent)]
    Contract(#[from] ContractError),
}

impl ContractFile {
    /// Reads the TOML file at `path`.
    pub fn read(path: &Path) -> Result<ContractFile, ForeignError> {
        let fail = |reason: String| ForeignError::File { path: path.to_owned(), reason };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        toml::from_str(&text).map_err(|e| fail(e.message().to_owned()))
    }
}

/// Where a contract's reading of the outputs is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationSource {
    /// The contract or the network says it.
    Said,
    /// Neither says it, of more than two logits.
    Assumed,
}

/// The contract of the model `canonical`, named `name`, and whether its reading of the outputs was assumed. Without a
/// file: ImageNet's normalisation, labels by number, the last one looked for at 0.5.
pub fn contract(
    canonical: &Canonical,
    name: &str,
    file: Option<ContractFile>,
) -> Result<(Contract, ActivationSource), ForeignError> {
    let graph = canonical.model.graph.as_ref().ok_or(ForeignError::Input)?;
    let [height, width, channels] = graph.input.first().and_then(input_shape).ok_or(ForeignError::Input)?;
    if height != width || !matches!(channels, 1 | 3) {
        return Err(ForeignError::Input);
    }
    let outputs = graph.output.first().and_then(onnx::row).ok_or(ForeignError::Output)?;
    let rule = match &file {
        Some(_) => "given with the contract file",
        None => "assumed: the model carries no contract, and no --contract file was given",
    };
    let mut file = file.unwrap_or_else(|| assumed(outputs));
    if let ([only], 1) = (file.labels.as_slice(), outputs) {
        file.labels = vec![format!("not {only}"), only.clone()];
    }
    let [mean, std] = normalisation(&file, channels as usize)?;
    let unknown = || ContractError::Inconsistent(format!("no label is called `{}`", file.positive));
    let positive = file.labels.iter().position(|l| *l == file.positive).ok_or_else(unknown)?;
    if outputs == 1 && positive == 0 {
        return Err(ForeignError::Order);
    }
    let (activation, source) = activation(file.activation, canonical.squashing, outputs);
    let contract = Contract {
        input: InputContract { size: height, channels, resize: file.resize, mean, std },
        labels: file.labels,
        positive: positive as u32,
        activation,
        operating_point: OperatingPoint::unjudged(file.threshold, rule),
        provenance: Provenance { name: name.to_owned(), version: "foreign".into(), ..Provenance::default() },
        calibration: Calibration::default(),
        domain: Domain::default(),
    };
    contract.check()?;
    check_outputs(canonical, &contract)?;
    Ok((contract, source))
}

/// What is assumed of a model that says nothing.
fn assumed(outputs: usize) -> ContractFile {
    let count = outputs.max(2);
    ContractFile {
        labels: (0..count).map(|i| format!("class {i}")).collect(),
        positive: format!("class {}", count - 1),
        threshold: 0.5,
        mean: None,
        std: None,
        unit: None,
        resize: ResizeRule::Stretch,
        activation: None,
    }
}

/// How `outputs` become probabilities: as the file says, as the network ends, or what is usual.
fn activation(file: Option<Activation>, network: Option<Squashing>, outputs: usize) -> (Activation, ActivationSource) {
    let said = file.or(network.map(|squashing| match squashing {
        Squashing::Sigmoid => Activation::Sigmoid,
        Squashing::Sigmoids => Activation::Independent,
        Squashing::Softmax => Activation::Softmax,
    }));
    match said {
        Some(activation) => (activation, ActivationSource::Said),
        None if outputs == 1 => (Activation::Sigmoid, ActivationSource::Said),
        None if outputs == 2 => (Activation::Softmax, ActivationSource::Said),
        None => (Activation::Softmax, ActivationSource::Assumed),
    }
}

/// Refuses a `contract` that reads the outputs of `model` in another way than the network makes them.
pub fn check_outputs(model: &Canonical, contract: &Contract) -> Result<(), ForeignError> {
    let outputs = model.model.graph.iter().flat_map(|g| &g.output).find(|o| o.name == onnx::LOGITS);
    let outputs = outputs.and_then(onnx::row).ok_or(ForeignError::Output)?;
    let (network, agrees) = match (model.squashing, contract.activation) {
        (None, _) => ("logits", true),
        (Some(Squashing::Sigmoid), said) => ("a sigmoid", said == Activation::Sigmoid),
        (Some(Squashing::Sigmoids), said) => ("a sigmoid for each output", said == Activation::Independent),
        (Some(Squashing::Softmax), said) => ("a softmax", said == Activation::Softmax),
    };
    if !agrees {
        return Err(ForeignError::Activation { network, contract: contract.activation.name() });
    }
    if contract.logits() != outputs {
        return Err(
            ContractError::Inconsistent(format!("{outputs} outputs for {} labels", contract.labels.len())).into()
        );
    }
    Ok(())
}

/// Mean and standard deviation of each channel in 8-bit pixels. Numbers that are none of the unit are refused, and
/// numbers of up to one grey level where no unit is given: they are of pixels from 0 to 1, or no normalisation at all.
fn normalisation(file: &ContractFile, channels: usize) -> Result<[Vec<f32>; 2], ForeignError> {
    let mean = file.mean.clone().unwrap_or_default();
    let std = file.std.clone().unwrap_or_default();
    let refuse = || ForeignError::Unit { mean: mean.clone(), std: std.clone() };
    let is_given = !mean.is_empty() || !std.is_empty();
    let are_fractions = mean.iter().all(|m| m.abs() <= 1.0) && std.iter().all(|s| *s <= 1.0);
    let is_grey = |m: f32| m == 0.0 || (1.0..=255.0).contains(&m.abs());
    let are_bytes = mean.iter().all(|m| is_grey(*m)) && std.iter().all(|s| (1.0..=256.0).contains(s));
    let factor = match file.unit {
        Some(Unit::Fractions) if !are_fractions => return Err(refuse()),
        Some(Unit::Bytes) | None if !are_bytes => return Err(refuse()),
        None if is_given && are_fractions => return Err(refuse()),
        Some(Unit::Fractions) if is_given => 255.0,
        _ => 1.0,
    };
    let scaled = |values: &Option<Vec<f32>>, of: usize| match values {
        Some(values) => values.iter().map(|v| v * factor).collect(),
        None => IMAGENET[of][..channels].to_vec(),
    };
    Ok([scaled(&file.mean, 0), scaled(&file.std, 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::onnx::GraphBuilder;

    fn ending_in(squashing: Option<Squashing>, outputs: usize) -> Canonical {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 3, 32, 32]);
        b.node("Flatten", &["x"], onnx::LOGITS, vec![]);
        b.output(onnx::LOGITS, &[1, outputs]);
        let model = b.finish("m", vec![]);
        Canonical { reference: model.clone(), model, squashing }
    }

    fn model(outputs: usize) -> Canonical {
        ending_in(None, outputs)
    }

    #[test]
    fn without_a_file_it_says_that_it_was_assumed() {
        let (c, source) = contract(&model(5), "net", None).unwrap();
        assert_eq!((c.activation, source), (Activation::Softmax, ActivationSource::Assumed));
        assert_eq!((c.labels.len(), c.positive, c.input.size), (5, 4, 32));
        assert!(c.operating_point.rule.starts_with("assumed"));
    }

    #[test]
    fn a_normalisation_of_unit_pixels_is_said_or_refused() {
        let read = |unit: &str| {
            let text = "labels = [\"a\", \"b\"]\npositive = \"b\"\nmean = [0.5, 0.5, 0.5]\nstd = [0.25, 0.25, 0.25]";
            contract(&model(2), "net", Some(toml::from_str(&format!("{text}\n{unit}")).unwrap()))
        };
        let refused = read("").unwrap_err().to_string();
        assert!(refused.contains("0 to 1") && refused.contains("0 to 255"), "{refused}");
        assert_eq!(read("unit = \"0 to 1\"").unwrap().0.input.std, [63.75; 3]);
        assert!(read("unit = \"0 to 255\"").is_err());
        let file = |mean: f32, std: f32, unit: Option<Unit>| ContractFile {
            labels: vec!["a".into(), "b".into()],
            mean: Some(vec![mean; 3]),
            std: Some(vec![std; 3]),
            unit,
            ..assumed(2)
        };
        for (mean, std, unit, taken) in [
            (0.485, 58.4, None, false),
            (123.7, 0.229, None, false),
            (123.7, 58.4, Some(Unit::Fractions), false),
            (32_768.0, 1000.0, None, false),
            (0.0, 1.0, None, false),
            (0.0, 1.0, Some(Unit::Bytes), true),
            (0.0, 1.0, Some(Unit::Fractions), true),
            (127.5, 127.5, None, true),
            (0.0, 255.0, None, true),
        ] {
            assert_eq!(normalisation(&file(mean, std, unit), 3).is_ok(), taken, "{mean} {std} {unit:?}");
        }
    }

    #[test]
    fn a_file_must_fit_the_outputs() {
        let file = |labels: &str, positive: &str| {
            toml::from_str(&format!("labels = {labels}\npositive = \"{positive}\"")).unwrap()
        };
        let (good, _) = contract(&model(2), "net", Some(file(r#"["NORMAL", "PNEUMONIA"]"#, "PNEUMONIA"))).unwrap();
        assert_eq!(good.positive_label(), "PNEUMONIA");
        assert!(contract(&model(3), "net", Some(file(r#"["NORMAL", "PNEUMONIA"]"#, "PNEUMONIA"))).is_err());
        assert!(contract(&model(2), "net", Some(file(r#"["NORMAL", "PNEUMONIA"]"#, "pneumonia"))).is_err());
    }
    #[test]
    fn outputs_are_read_as_the_network_ends_and_contradictions_are_refused() {
        let labels: Vec<String> = (0..14).map(|i| format!("finding {i}")).collect();
        let file = |activation: &str| {
            let text = format!("labels = {labels:?}\npositive = \"finding 6\"\n{activation}");
            Some(toml::from_str::<ContractFile>(&text).unwrap())
        };
        let sigmoids = ending_in(Some(Squashing::Sigmoids), 14);
        for said in ["", "activation = \"independent\""] {
            let (c, source) = contract(&sigmoids, "net", file(said)).unwrap();
            assert_eq!((c.activation, source), (Activation::Independent, ActivationSource::Said));
        }
        let softmax = ending_in(Some(Squashing::Softmax), 14);
        assert_eq!(contract(&softmax, "net", file("")).unwrap().0.activation, Activation::Softmax);
        let logits = contract(&model(14), "net", file("activation = \"independent\"")).unwrap();
        assert_eq!(logits.0.activation, Activation::Independent);
        for (model, said) in [(&sigmoids, "softmax"), (&softmax, "independent")] {
            let error = contract(model, "net", file(&format!("activation = \"{said}\""))).unwrap_err().to_string();
            assert!(error.contains(said) && error.contains("one of them is wrong"), "{error}");
        }
    }
}
