//! What a scan says: one record, which text, JSON, display and log all read.

use crate::image::Origin;
use crate::model::Model;
use crate::site::SiteId;
use crate::stages::{Stage, StageTimes};
use crate::suitability::Policy;
use serde::{Deserialize, Serialize};

/// The version of [`Record`]; another one means that a key changed its meaning or is gone.
pub const SCHEMA: u32 = 1;

/// The day before which no clock is right (seconds since 1970): 2026-11-01.
pub const FIRST_DAY: i64 = 1_793_491_200;

/// What every report and every help says at its end.
pub const STATEMENT: &str = "For research and screening support, not a diagnosis: a clinician decides.";

/// The same for the foot of a finding, where there is little room.
pub const DISCLAIMER: &str = "Screening support, not a diagnosis";

/// One radiograph: what was found, or why nothing can be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`SCHEMA`] of the program that wrote it.
    pub schema: u32,
    /// The image file as it was given.
    pub file: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a radiograph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// The network's answer.
    Finding(Box<Finding>),
    /// There is none.
    Refusal(Refusal),
}

/// Why there is no finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of trouble it is.
    pub cause: Cause,
    /// What speaks against the radiograph; `None` where it could not be read.
    pub unsuitable: Option<Warning>,
    /// What is wrong and what to do, for a person.
    pub sentence: String,
}

/// What kind of trouble leaves a radiograph without a finding; screens say it in the language of their readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The file could not be read.
    Unreadable,
    /// The file is damaged or truncated.
    Damaged,
    /// The file holds nothing.
    Empty,
    /// The file is of no known format.
    NoImage,
    /// The file is of a kind that is not read.
    Unsupported,
    /// The file has too many bytes or pixels.
    TooLarge,
    /// The picture shows nothing.
    NoStructure,
    /// Decoding took more memory or time than it may.
    BeyondLimits,
    /// The decoder did not survive the file.
    DecoderFailed,
    /// The network failed.
    EngineFailed,
    /// The policy refuses what speaks against the radiograph.
    Unsuitable,
}

/// What the network says of a radiograph, and how it came to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// When the file was scanned, in seconds since 1970 (UTC).
    pub time: i64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// The label that is looked for.
    pub looked_for: String,
    /// The label that the decision gives: `looked_for`, or the negative one.
    pub label: String,
    /// Probability of `looked_for`.
    pub probability: f32,
    /// Probability at or above the operating point.
    pub positive: bool,
    /// What a person is told.
    pub answer: Answer,
    /// The operating point.
    pub operating_point: Decision,
    /// Probabilities, both included, that a reader has to decide.
    pub uncertain: Option<[f32; 2]>,
    /// The model.
    pub model: ModelId,
    /// The image.
    pub image: ImageInfo,
    /// What makes the finding doubtful.
    pub warnings: Vec<Warning>,
    /// Distance from the model's training images as a share of the limit, if the model knows them.
    pub domain_distance: Option<f32>,
    /// What was done with doubts.
    pub policy: Policy,
    /// Milliseconds that each stage took; 0 for those that did not run.
    pub latency_ms: StageTimes,
    /// Milliseconds that the board has for each stage.
    pub budget_ms: StageTimes,
    /// The board, by the name of its file.
    pub board: String,
    /// The site profile that decided, if any. The last field: the log has entries without it.
    pub site: Option<SiteId>,
}

/// What a person is told of a radiograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// What is looked for is suspected.
    Positive,
    /// There is no sign of it.
    Negative,
    /// Too close to call: a reader has to decide.
    Uncertain,
}

macro_rules! warnings {
    ($($(#[$doc:meta])* $variant:ident, $words:literal, $sentence:literal;)*) => {
        /// A reason to doubt a finding.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum Warning {
            $($(#[$doc])* $variant,)*
        }

        impl Warning {
            /// All of them.
            pub const ALL: &[Warning] = &[$(Warning::$variant,)*];

            /// What is wrong and what to do, for a person.
            pub fn sentence(self) -> &'static str {
                match self {
                    $(Warning::$variant => $sentence,)*
                }
            }

            /// The same in a few words.
            pub fn in_words(self) -> &'static str {
                match self {
                    $(Warning::$variant => $words,)*
                }
            }
        }
    };
}

warnings! {
    /// The picture looks like the negative of a radiograph.
    Inverted, "inverted image",
    "the image looks like a negative (bone dark, air bright), which the model was not trained on: invert it and scan \
     it again";
    /// The file says that it is no radiograph, or of another part of the body.
    NotAChest, "not a chest",
    "the file says that it is no radiograph of a chest, and the model knows nothing else: the finding means nothing \
     unless the file is wrong";
    /// The file says that the rays went from side to side.
    Lateral, "lateral view",
    "the file says that it is a lateral view, and the model was trained on frontal ones: scan the frontal view";
    /// The picture turned by quarters looks more like the training images.
    Rotated, "lies on its side",
    "the image seems to lie on its side or upside down, as the model's training images do not: turn it and scan it \
     again";
    /// Nearly all of the picture is black.
    UnderExposed, "too dark",
    "the image is nearly all black, so that lungs cannot be seen: expose or export it again";
    /// Nearly all of the picture is white.
    OverExposed, "too bright",
    "the image is nearly all white, so that lungs cannot be seen: expose or export it again";
    /// The picture has fewer pixels than the network looks at.
    TooSmall, "too small",
    "the image is less than half as large as the model's input, so that signs are lost: export it in full size";
    /// The age in the file is not among those that the model was trained on.
    AgeOutsideTraining, "age not trained on",
    "the file says that the person is younger or older than those whose images the model was trained on: a reader has \
     to look at it";
    /// The picture is unlike the training images.
    OutsideTraining, "unlike training",
    "the image is unlike those that the model was trained on (another machine, age, position or cut, or no chest): a \
     reader has to look at it";
}

/// The threshold of a decision, and how it fared on validation images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Positive from this probability on.
    pub threshold: f32,
    /// Sensitivity on the validation images.
    pub sensitivity: f32,
    /// Specificity on the validation images.
    pub specificity: f32,
    /// Validation images; 0 where it was not tuned.
    pub images: u32,
}

/// The model of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// Name of the recipe.
    pub name: String,
    /// Version of the Hilum that trained it.
    pub version: String,
    /// SHA-256 that binds weights and threshold.
    pub digest: String,
    /// `hilum`, `onnx-int8` or `onnx-fp32`.
    pub format: String,
}

/// The image of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// How it was stored.
    pub origin: Origin,
}

impl Record {
    /// The record of `file`.
    pub fn new(file: String, outcome: Outcome) -> Record {
        Record { schema: SCHEMA, file, outcome }
    }

    /// The record of a `file` of which nothing can be said.
    pub fn refused(file: String, sentence: String) -> Record {
        Record::new(file, Outcome::Refusal(Refusal { cause: Cause::Unreadable, unsuitable: None, sentence }))
    }
}

impl Finding {
    /// The finding in words, for a person.
    pub fn in_words(&self) -> String {
        match self.answer {
            Answer::Positive => format!("{} suspected", self.looked_for),
            Answer::Negative => format!("no sign of {}", self.looked_for),
            Answer::Uncertain => "uncertain, send to a reader".into(),
        }
    }

    /// Milliseconds that the board has for the stages that ran.
    pub fn budget(&self) -> f64 {
        let ran = |(stage, budget): (Stage, f64)| if self.latency_ms[stage] > 0.0 { budget } else { 0.0 };
        self.budget_ms.iter().map(ran).sum()
    }

    /// True if the stages that ran took no longer together than the board has for them.
    pub fn within_budget(&self) -> bool {
        self.latency_ms.total() <= self.budget()
    }
}

impl ModelId {
    /// Identity of `model`.
    pub fn of(model: &Model) -> ModelId {
        let provenance = &model.contract.provenance;
        ModelId {
            name: provenance.name.clone(),
            version: provenance.version.clone(),
            digest: model.digest.clone(),
            format: model.format.name().to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::{Basis, Format, Photometric, Windowing};

    pub(crate) fn example(positive: bool) -> Finding {
        Finding {
            time: 1_795_762_800,
            sha256: "00".repeat(32),
            looked_for: "PNEUMONIA".into(),
            label: if positive { "PNEUMONIA" } else { "NORMAL" }.into(),
            probability: if positive { 0.93 } else { 0.08 },
            positive,
            answer: if positive { Answer::Positive } else { Answer::Negative },
            uncertain: Some([0.3, 0.5]),
            operating_point: Decision { threshold: 0.41, sensitivity: 0.95, specificity: 0.9, images: 784 },
            model: ModelId {
                name: "mobilenet-v2".into(),
                version: "0.1.0".into(),
                digest: "0123abcd".repeat(8),
                format: "hilum".into(),
            },
            image: ImageInfo {
                width: 640,
                height: 480,
                origin: Origin {
                    format: Format::Jpeg,
                    bits_used: 8,
                    offset: 0,
                    depth_basis: Basis::Stored,
                    photometric: Photometric::BlackIsZero,
                    windowing: Windowing::FullRange,
                },
            },
            warnings: vec![],
            domain_distance: Some(0.4),
            policy: Policy::Warn,
            latency_ms: StageTimes { read: 2.0, decode: 30.0, infer: 10.0, ..StageTimes::default() },
            budget_ms: StageTimes {
                read: 55.0,
                decode: 200.0,
                preprocess: 50.0,
                infer: 200.0,
                explain: 30.0,
                render: 20.0,
            },
            board: "host".into(),
            site: None,
        }
    }

    #[test]
    fn records_survive_the_log_format() {
        let finding = Record::new("a.png".into(), Outcome::Finding(example(true).into()));
        let unsuitable = Refusal {
            cause: Cause::Unsuitable,
            unsuitable: Some(Warning::Rotated),
            sentence: Warning::Rotated.sentence().into(),
        };
        let unsuitable = Record::new("c.png".into(), Outcome::Refusal(unsuitable));
        for record in [finding, unsuitable, Record::refused("b.png".into(), "the file is empty".into())] {
            let bytes = postcard::to_stdvec(&record).unwrap();
            assert_eq!(postcard::from_bytes::<Record>(&bytes).unwrap(), record);
        }
    }
}
