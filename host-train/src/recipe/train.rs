//! `[train]`, or several `[[train]]`: the optimisation, a stage each.

use super::NetworkSpec;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::ops::Deref;

/// Stages of training, one after the other; each goes on from the kept weights of the one before it, with a fresh
/// optimiser.
#[derive(Debug, Clone, Serialize)]
pub struct Stages(Vec<Train>);

impl Deref for Stages {
    type Target = [Train];

    fn deref(&self) -> &[Train] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Stages {
    /// One table, or a list of them. Not an untagged enum: that would forget which key of which line was wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stages, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Stages;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a table [train], or tables [[train]]")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Stages, A::Error> {
                Train::deserialize(MapAccessDeserializer::new(map)).map(|train| Stages(vec![train]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Stages, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Stages)
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

/// A stage of training: AdamW (Adam, where nothing decays) with cross-entropy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Most epochs.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// Which layers learn.
    #[serde(default)]
    pub trainable: Trainable,
    /// Augmented copies of each image whose features behind the frozen blocks are kept; 0 draws and computes fresh ones
    /// in each epoch. Only for stages that freeze whole blocks.
    #[serde(default)]
    pub variants: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course.
    #[serde(default)]
    pub schedule: Schedule,
    /// Factor on the learning rate from each block to the one before it, towards the image (discriminative rates,
    /// Howard and Ruder 2018).
    #[serde(default = "unchanged")]
    pub layer_decay: f64,
    /// Decoupled weight decay (Loshchilov and Hutter 2019); with 0, AdamW is Adam (Kingma and Ba 2015).
    #[serde(default)]
    pub weight_decay: f32,
    /// Label smoothing: share of the target given to all classes alike.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Exponent of the focal loss (Lin et al. 2017); 0 is plain cross-entropy.
    #[serde(default)]
    pub focal: f32,
    /// Weigh classes by inverse frequency.
    #[serde(default)]
    pub class_weights: bool,
    /// In which proportion classes are drawn.
    #[serde(default)]
    pub sampling: Sampling,
    /// Share of the old in the running mean of the weights that is judged and kept instead of the weights (exponential
    /// moving average, Polyak and Juditsky 1992); 0 keeps the weights themselves.
    #[serde(default)]
    pub ema: f64,
    /// Stop after this many epochs without a better validation figure; the best weights are exported either way.
    pub patience: usize,
    /// Which figure that is.
    #[serde(default)]
    pub monitor: Monitor,
    /// Which epoch's weights are exported.
    #[serde(default)]
    pub keep: Keep,
}

fn unchanged() -> f64 {
    1.0
}

/// Which layers learn. Those in front of them stay as they are, their batch norms with the statistics that they have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trainable {
    /// All.
    #[default]
    All,
    /// The head alone.
    Head,
    /// All from this block on; the stem is block 0. Blocks are the network's: an inverted residual, a bottleneck, a
    /// dense layer or a transition.
    FromBlock(usize),
    /// The last so many layers of the base, counted as Keras lists them in `Model.layers` without the top:
    /// convolutions, batch norms, activations, paddings, additions, concatenations and poolings each count one.
    LastLayers(usize),
}

/// Course of the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// The same in every step.
    #[default]
    Constant,
    /// A linear warm-up over the first 5 % of the steps, then half a cosine down to 1 %.
    Cosine,
    /// Up to the peak over the first 30 % of the steps and down to nothing, both along half a cosine (Smith and Topin
    /// 2018).
    OneCycle,
    /// Up and down between two rates along straight lines (Smith 2017, "triangular").
    #[serde(rename_all = "kebab-case")]
    Triangular {
        /// The lower one; the peak is the upper one.
        lowest: f64,
        /// Steps up, and as many down.
        step_size: usize,
    },
    /// Lower after epochs without a better validation figure.
    Plateau {
        /// The new rate as a share of the old.
        factor: f64,
        /// How many such epochs.
        patience: usize,
    },
}

/// In which proportion classes are drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// As they are: each image once an epoch.
    #[default]
    Shuffled,
    /// All classes alike: as many images an epoch, those of rare classes more than once.
    Balanced,
}

/// What tells a better epoch from a worse one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Monitor {
    /// The validation loss.
    #[default]
    Loss,
    /// The area under the curve on the validation images.
    Auroc,
    /// The share of the validation images whose likeliest class is the right one.
    Accuracy,
}

/// Which epoch's weights are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those that the monitored figure calls best.
    #[default]
    Best,
    /// Those of the last epoch: where validation images resemble the training images more than those to come, their
    /// loss tells little, and a schedule that ends near zero has settled. Patience does not end such a run.
    Last,
}

impl Train {
    /// True if features of augmented copies are kept.
    pub fn is_cached(&self) -> bool {
        self.variants > 0
    }

    /// Says which value makes no sense for `network`, and what is possible.
    pub(super) fn check(&self, network: &NetworkSpec) -> Result<(), String> {
        if self.epochs == 0 || self.batch < 2 {
            return Err("train.epochs must be at least 1, train.batch at least 2".into());
        }
        if !(self.learning_rate > 0.0 && self.learning_rate < 1.0) {
            return Err("train.learning_rate must lie between 0 and 1".into());
        }
        if !(self.layer_decay > 0.0 && self.layer_decay <= 1.0) {
            return Err("train.layer_decay must be above 0 and at most 1".into());
        }
        if !(0.0..1.0).contains(&self.label_smoothing) || !(0.0..=10.0).contains(&self.focal) {
            return Err("train.label_smoothing must be 0 to below 1, train.focal 0 to 10".into());
        }
        if !(0.0..1.0).contains(&self.ema) || !(0.0..1.0).contains(&self.weight_decay) {
            return Err("train.ema and train.weight_decay must be 0 to below 1".into());
        }
        if self.class_weights && self.sampling == Sampling::Balanced {
            return Err(
                "train.class_weights and train.sampling = \"balanced\" both even out the classes: choose one".into()
            );
        }
        let freezes = self.trainable != Trainable::All;
        if freezes && !network.takes_weights() {
            return Err("train.trainable freezes layers of a network that starts from random weights".into());
        }
        if self.is_cached() && !freezes {
            return Err("train.variants keeps features of frozen blocks, and train.trainable freezes none".into());
        }
        self.schedule.check()
    }
}

impl Schedule {
    fn check(&self) -> Result<(), String> {
        match self {
            Schedule::Triangular { lowest, step_size } if !(*lowest > 0.0 && *lowest < 1.0) || *step_size == 0 => {
                Err("train.schedule: lowest must lie between 0 and 1, step-size be at least 1".into())
            }
            Schedule::Plateau { factor, patience } if !(*factor > 0.0 && *factor < 1.0) || *patience == 0 => {
                Err("train.schedule: factor must lie between 0 and 1, patience be at least 1".into())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Stages, String> {
        #[derive(Deserialize)]
        struct Part {
            train: Stages,
        }
        toml::from_str::<Part>(text).map(|part| part.train).map_err(|e| e.to_string())
    }

    const ONE: &str = "epochs = 1\nbatch = 2\nlearning_rate = 0.1\npatience = 1\n";

    #[test]
    fn a_recipe_has_one_stage_or_several() {
        assert_eq!(parse(&format!("[train]\n{ONE}")).unwrap().len(), 1);
        let two = parse(&format!("[[train]]\n{ONE}[[train]]\n{ONE}trainable = {{ last-layers = 100 }}\n")).unwrap();
        assert_eq!(two[1].trainable, Trainable::LastLayers(100));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        for head in ["[train]", "[[train]]"] {
            let e = parse(&format!("{head}\n{ONE}learning_rat = 0.1")).unwrap_err();
            assert!(e.contains("learning_rat") && e.contains("line 6"), "{e}");
        }
    }

    #[test]
    fn impossible_pairs_are_refused() {
        let check =
            |more: &str, network: &NetworkSpec| parse(&format!("[train]\n{ONE}{more}")).unwrap()[0].check(network);
        let resnet = NetworkSpec::Resnet50 {};
        let cnn = NetworkSpec::Cnn { channels: vec![8], batch_norm: true };
        check("trainable = \"head\"\nvariants = 2", &resnet).unwrap();
        for (more, network, word) in [
            ("variants = 2", &resnet, "variants"),
            ("trainable = \"head\"", &cnn, "random weights"),
            ("class_weights = true\nsampling = \"balanced\"", &cnn, "choose one"),
            ("schedule = { plateau = { factor = 2.0, patience = 1 } }", &cnn, "factor"),
        ] {
            let e = check(more, network).unwrap_err();
            assert!(e.contains(word), "{e}");
        }
    }
}
