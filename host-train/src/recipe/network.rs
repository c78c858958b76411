//! `[network]` and `[head]`: which convolutions, and what follows them.

use serde::{Deserialize, Serialize};

/// Which network.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// Convolution, (batch norm), ReLU and 2×2 max pooling, once for each entry of `channels`.
    Cnn {
        /// Output channels of each block.
        channels: Vec<usize>,
        /// Batch normalisation after each convolution.
        batch_norm: bool,
    },
    /// MobileNetV2 1.0 (Sandler et al. 2018) with TensorFlow's padding.
    MobilenetV2 {
        /// Inverted-residual blocks that are kept, 1 to 17.
        #[serde(default = "seventeen")]
        blocks: usize,
        /// Channels of the 1×1 convolution behind the blocks; 0 leaves it out. 1280 takes the ImageNet weights.
        #[serde(default)]
        last: usize,
    },
    /// EfficientNet-Lite0 (Google 2020): EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excite, with ReLU6 and
    /// TensorFlow's padding; made for int8.
    EfficientnetLite0 {},
    /// ResNet50 (He et al. 2016) as torchvision builds it.
    Resnet50 {},
    /// DenseNet121 (Huang et al. 2017) as torchvision builds it.
    Densenet121 {},
}

fn seventeen() -> usize {
    17
}

impl NetworkSpec {
    /// True for networks that ImageNet weights exist for.
    pub fn takes_weights(&self) -> bool {
        !matches!(self, NetworkSpec::Cnn { .. })
    }

    /// Says which value makes no sense for images of `size`, and what is possible.
    pub(super) fn check(&self, size: u32) -> Result<(), String> {
        match self {
            NetworkSpec::Cnn { channels, .. } => {
                if channels.iter().any(|count| !(1..=4096).contains(count)) {
                    return Err("network.channels must be 1 to 4096 each".into());
                }
                if channels.is_empty() || size >> channels.len() < 2 {
                    return Err(
                        "network.channels must leave at least 2×2 pixels after halving once for each entry".into()
                    );
                }
            }
            _ if size < 32 => {
                return Err("input.size must be at least 32 for a network that shrinks its input 32 times".into());
            }
            NetworkSpec::MobilenetV2 { blocks, .. } if !(1..=17).contains(blocks) => {
                return Err("network.blocks must be 1 to 17".into());
            }
            _ => {}
        }
        Ok(())
    }
}

/// From the last feature map to logits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HeadSpec {
    /// How the feature map becomes a row of numbers.
    pub pooling: Pooling,
    /// Units of a dense layer with ReLU behind it; 0 leaves it out. With global average pooling and none, the network
    /// has a class activation map.
    pub dense: usize,
    /// Dropout before the last linear layer.
    pub dropout: f64,
    /// Times the sum of the squared weights of the dense layer (of the linear one, where there is none) is added to the
    /// loss: Keras' `kernel_regularizer=l2(…)`.
    pub l2: f64,
    /// What the logits are.
    pub output: Output,
}

impl Default for HeadSpec {
    fn default() -> HeadSpec {
        HeadSpec { pooling: Pooling::Average, dense: 0, dropout: 0.0, l2: 0.0, output: Output::Softmax }
    }
}

impl HeadSpec {
    /// Says which value makes no sense, and what is possible.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.dropout) || !(0.0..=1.0).contains(&self.l2) {
            return Err("head.dropout must be 0 to below 1, head.l2 0 to 1".into());
        }
        if self.dense > 8192 {
            return Err("head.dense must be at most 8192".into());
        }
        Ok(())
    }
}

/// How a feature map becomes a row of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean of each channel.
    Average,
    /// All of its pixels, one after the other.
    Flatten,
}

/// What the logits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// One for each class, of which one is true.
    Softmax,
    /// One, that of the second of two classes.
    Sigmoid,
}

impl Output {
    /// How many there are for `classes` classes.
    pub fn logits(self, classes: usize) -> usize {
        match self {
            Output::Softmax => classes,
            Output::Sigmoid => 1,
        }
    }
}
