//! Recipes: one TOML file says everything that shapes a training run.

use data::operating_point::OperatingPointRule;
use edge_runtime::model::contract::{InputContract, ResizeRule};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A training recipe. Every field that is not given has the default stated here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of the split, the initial weights, the order of images, augmentation and dropout.
    #[serde(default = "one")]
    pub seed: u64,
    /// The network's input.
    pub input: Input,
    /// The network.
    pub network: NetworkSpec,
    /// Random changes to training images.
    #[serde(default)]
    pub augment: Augment,
    /// The optimisation.
    pub train: Train,
    /// How the threshold is chosen on the validation split.
    pub operating_point: OperatingPointRule,
    /// What the model is judged on.
    #[serde(default)]
    pub validation: Validation,
    /// Whose images it is trained on.
    #[serde(default)]
    pub population: Population,
}

/// What a model is judged on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Temperature and operating points are chosen on shifted validation images too: those of other hospitals are
    /// shifted, and a threshold from images like the training images promises too much.
    pub shifted: bool,
}

/// Whose images a model is trained on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Population {
    /// Youngest and oldest, in years.
    pub ages: Option<[f32; 2]>,
}

fn one() -> u64 {
    1
}

/// The input of the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Side in pixels.
    pub size: u32,
    /// 1 or 3.
    pub channels: u32,
    /// How radiographs are resized.
    pub resize: ResizeRule,
    /// Subtracted from each 8-bit pixel, in all channels.
    pub mean: f32,
    /// Divides each pixel afterwards.
    pub std: f32,
}

impl Input {
    /// The input contract that the exported model carries.
    pub fn contract(&self) -> InputContract {
        let n = self.channels as usize;
        InputContract {
            size: self.size,
            channels: self.channels,
            resize: self.resize,
            mean: vec![self.mean; n],
            std: vec![self.std; n],
        }
    }
}

/// Which network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// Convolution, (batch norm), ReLU and 2×2 max pooling, once for each entry of `channels`; then the head.
    Cnn {
        /// Output channels of each block.
        channels: Vec<usize>,
        /// Batch normalisation after each convolution.
        batch_norm: bool,
        /// What follows the blocks.
        head: HeadSpec,
        /// Dropout before the last linear layer.
        dropout: f64,
    },
    /// MobileNetV2 1.0 (Sandler et al. 2018), TensorFlow padding, grey input.
    MobilenetV2 {
        /// Inverted-residual blocks that are kept, 1 to 17.
        #[serde(default = "seventeen")]
        blocks: usize,
        /// Channels of the 1×1 convolution behind the blocks; 0 leaves it out. 1280 takes the ImageNet weights.
        #[serde(default)]
        last: usize,
        /// The first stem-and-blocks that keep their ImageNet weights, `last` counted as one more; their features are
        /// computed once.
        frozen: usize,
        /// Dropout before the linear layer.
        dropout: f64,
    },
    /// ResNet50 (He et al. 2016) as torchvision builds it.
    Resnet50 {
        /// The first stem-and-blocks that keep their ImageNet weights, up to 16; 0 trains all.
        #[serde(default)]
        frozen: usize,
        /// Dropout before the linear layer.
        dropout: f64,
    },
    /// DenseNet121 (Huang et al. 2017) as torchvision builds it.
    Densenet121 {
        /// The first stem-and-layers (58 dense layers, 3 transitions, the last norm) that keep their ImageNet weights;
        /// 0 trains all.
        #[serde(default)]
        frozen: usize,
        /// Dropout before the linear layer.
        dropout: f64,
    },
}

impl NetworkSpec {
    /// Blocks after the stem that keep their ImageNet weights; none for networks that only start from random weights.
    pub fn frozen(&self) -> Option<usize> {
        match self {
            NetworkSpec::Cnn { .. } => None,
            NetworkSpec::MobilenetV2 { frozen, .. }
            | NetworkSpec::Resnet50 { frozen, .. }
            | NetworkSpec::Densenet121 { frozen, .. } => Some(*frozen),
        }
    }
}

fn seventeen() -> usize {
    17
}

/// What follows the convolutions of a CNN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeadSpec {
    /// Global average pooling and a linear layer: has a class activation map.
    GlobalAverage,
    /// Flatten, a dense layer of 128 with ReLU, and a linear layer.
    FlattenDense,
}

/// Random changes to training images; each is drawn evenly from its range. All zero: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Mirror left and right half of the time.
    pub flip: bool,
    /// Rotation by up to this many degrees either way.
    pub rotation: f32,
    /// Zoom in or out by up to this share.
    pub zoom: f32,
    /// Shift by up to this share of the side.
    pub shift: f32,
    /// Independent stretch of width and height by up to this share: undoes what the loss of aspect ratio gives away.
    pub stretch: f32,
    /// Brightness by up to this share of the full scale.
    pub brightness: f32,
    /// Contrast factor from 1 − this to 1 + this.
    pub contrast: f32,
    /// Gamma from 1/(1 + this) to 1 + this.
    pub gamma: f32,
    /// Half of the time, blur by shrinking to no less than 1/(1 + this) of the side and back: hides which scanner it
    /// was.
    pub blur: f32,
    /// Noise of up to this many grey levels (standard deviation).
    pub noise: f32,
    /// Smallest share of the area of a random part that is brought to full size; its sides are as 3 : 4 to 4 : 3. 0
    /// leaves images whole.
    pub crop: f32,
    /// This share of the images get the grey-level histogram of a random training image of any class: hides what
    /// exposure and processing give away of the label.
    pub histogram_exchange: f32,
}

/// The optimisation: AdamW with cross-entropy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Most epochs.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// Peak learning rate.
    pub learning_rate: f64,
    /// Its course over the epochs.
    #[serde(default)]
    pub schedule: Schedule,
    /// Decoupled weight decay (Loshchilov and Hutter 2019).
    #[serde(default)]
    pub weight_decay: f32,
    /// Label smoothing: share of the target given to the other class.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Weigh classes by inverse frequency.
    #[serde(default)]
    pub class_weights: bool,
    /// Stop after this many epochs without a better validation loss; the best weights are exported either way.
    pub patience: usize,
    /// Which epoch's weights are exported.
    #[serde(default)]
    pub keep: Keep,
    /// Augmented copies of each image whose frozen features are kept; only for networks with frozen blocks.
    #[serde(default = "one_variant")]
    pub variants: usize,
}

fn one_variant() -> usize {
    1
}

/// Which epoch's weights are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// Those with the smallest validation loss.
    #[default]
    Best,
    /// Those of the last epoch: where validation images resemble the training images more than those to come, their
    /// loss tells little, and a schedule that ends near zero has settled. Patience does not end such a run.
    Last,
}

/// Course of the learning rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same in every step.
    #[default]
    Constant,
    /// A linear warm-up over the first 5 % of the steps, then half a cosine down to 1 %.
    Cosine,
}

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The recipe.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the TOML of a recipe.
    #[error("{path}: {reason}")]
    Syntax {
        /// The recipe.
        path: PathBuf,
        /// What the parser said, with the line.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{path}: {reason}")]
    Value {
        /// The recipe.
        path: PathBuf,
        /// Which value, and what is possible.
        reason: String,
    },
}

impl Recipe {
    /// Reads and checks a recipe; also returns its text, which the model carries.
    pub fn load(path: &Path) -> Result<(Recipe, String), RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Io { path: path.into(), source })?;
        Recipe::parse(&text, path)
    }

    /// Reads and checks a recipe's text; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<(Recipe, String), RecipeError> {
        let recipe: Recipe =
            toml::from_str(text).map_err(|e| RecipeError::Syntax { path: path.into(), reason: e.to_string() })?;
        recipe.check().map_err(|reason| RecipeError::Value { path: path.into(), reason })?;
        Ok((recipe, text.to_owned()))
    }

    /// Says which value makes no sense, and what is possible.
    pub fn check(&self) -> Result<(), String> {
        let t = &self.train;
        if t.epochs == 0 || t.batch < 2 || t.variants == 0 {
            return Err("train.epochs and train.variants must be at least 1, train.batch at least 2".into());
        }
        if !(t.learning_rate > 0.0 && t.learning_rate < 1.0) {
            return Err("train.learning_rate must lie between 0 and 1".into());
        }
        let a = &self.augment;
        if !(0.0..=1.0).contains(&a.crop) || !(0.0..=1.0).contains(&a.histogram_exchange) {
            return Err("augment.crop and augment.histogram_exchange must lie between 0 and 1".into());
        }
        if self.population.ages.is_some_and(|[from, to]| !(0.0 <= from && from <= to && to < 200.0)) {
            return Err("population.ages must be the youngest and the oldest age in years".into());
        }
        let size = self.input.size;
        if !(16..=1024).contains(&size)
            || (self.input.channels != 1 && self.input.channels != 3)
            || self.input.std <= 0.0
        {
            return Err("input.size must be 16 to 1024, input.channels 1 or 3, input.std above 0".into());
        }
        if size < 32 && !matches!(self.network, NetworkSpec::Cnn { .. }) {
            return Err("input.size must be at least 32 for a network that shrinks its input 32 times".into());
        }
        match &self.network {
            NetworkSpec::Cnn { channels, .. } => {
                if channels.is_empty() || channels.contains(&0) || size >> channels.len() < 2 {
                    return Err(
                        "network.channels must leave at least 2×2 pixels after halving once for each entry".into()
                    );
                }
            }
            NetworkSpec::MobilenetV2 { blocks, last, frozen, .. } => {
                if !(1..=17).contains(blocks) || *frozen > *blocks + usize::from(*last > 0) {
                    return Err("network.blocks must be 1 to 17, network.frozen at most that, and one more with \
                                network.last"
                        .into());
                }
            }
            NetworkSpec::Resnet50 { frozen, .. } if *frozen > 16 => {
                return Err("network.frozen must be at most 16".into());
            }
            NetworkSpec::Densenet121 { frozen, .. } if *frozen > 62 => {
                return Err("network.frozen must be at most 62".into());
            }
            NetworkSpec::Resnet50 { .. } | NetworkSpec::Densenet121 { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_recipe_loads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut n = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (recipe, _) = Recipe::load(&path).unwrap();
            assert_eq!(Some(recipe.name.as_str()), path.file_stem().unwrap().to_str());
            n += 1;
        }
        assert!(n >= 3);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let e = toml::from_str::<Train>("epochs = 1\nbatch = 2\nlearning_rat = 0.1\npatience = 1").unwrap_err();
        assert!(e.to_string().contains("learning_rat"), "{e}");
    }
}
