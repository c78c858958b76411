//! The networks, as one burn module: stages of convolutions, then a head.
//!
//! A plain CNN and MobileNetV2 differ only in how many convolutions a stage holds and whether its input is added to its
//! output, so both are a [`Network`]; export and feature caching follow the same structure.

use crate::recipe::{HeadSpec, NetworkSpec, Recipe};
use burn::module::{Initializer, Module, Param};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Tensor, TensorData, activation, module, s};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// What follows a convolution and its normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing (a linear bottleneck).
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// Shape of a convolution besides its weights.
#[derive(Debug, Clone)]
pub struct ConvShape {
    /// Rows and columns between outputs.
    pub stride: usize,
    /// Zeros added at top, left, bottom, right.
    pub padding: [usize; 4],
    /// 1, or the number of channels (depthwise).
    pub groups: usize,
    /// What follows.
    pub activation: Activation,
}

/// Convolution, batch norm, activation.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in / groups, k, k]`.
    pub weight: Param<Tensor<4>>,
    /// `[out]`, where no batch norm follows.
    pub bias: Option<Param<Tensor<1>>>,
    /// Batch normalisation over `out`.
    pub norm: Option<BatchNorm>,
    /// The rest.
    #[module(skip)]
    pub shape: ConvShape,
}

impl Conv {
    fn new(dims: [usize; 4], batch_norm: bool, shape: ConvShape, device: &Device) -> Conv {
        let fan_in = dims[1] * dims[2] * dims[3];
        let init = Initializer::KaimingNormal { gain: std::f64::consts::SQRT_2, fan_out_only: false };
        Conv {
            weight: init.init_with(dims, Some(fan_in), None, device),
            bias: (!batch_norm).then(|| Initializer::Zeros.init([dims[0]], device)),
            norm: batch_norm.then(|| BatchNormConfig::new(dims[0]).init(device)),
            shape,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.convolve(x);
        let x = match &self.norm {
            Some(norm) => norm.forward(x),
            None => x,
        };
        match self.shape.activation {
            Activation::None => x,
            Activation::Relu => activation::relu(x),
            Activation::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    fn convolve(&self, x: Tensor<4>) -> Tensor<4> {
        let [top, left, bottom, right] = self.shape.padding;
        let stride = self.shape.stride;
        let [channels, per_group, kernel, _] = self.weight.dims();
        if self.shape.groups == channels && per_group == 1 && channels > 1 {
            // burn's flex has no backward kernel for grouped convolution and loops over the channels; a sum of shifted,
            // scaled planes has the same value and a vectorised gradient.
            let x = x.pad((left, right, top, bottom), PadMode::Constant(0.0));
            let [_, _, h, w] = x.dims();
            let (out_h, out_w) = ((h - kernel) / stride + 1, (w - kernel) / stride + 1);
            let weight = self.weight.val();
            let mut sum: Option<Tensor<4>> = None;
            for i in 0..kernel {
                for j in 0..kernel {
                    let (end_i, end_j) = (i + (out_h - 1) * stride + 1, j + (out_w - 1) * stride + 1);
                    let step = stride as isize;
                    let plane = x.clone().slice(s![.., .., i..end_i;step, j..end_j;step]);
                    let scale = weight.clone().slice(s![.., .., i..i + 1, j..j + 1]).reshape([1, channels, 1, 1]);
                    let term = plane * scale;
                    sum = Some(match sum {
                        Some(sum) => sum + term,
                        None => term,
                    });
                }
            }
            return sum.expect("a kernel has at least one tap");
        }
        if kernel == 1 && stride == 1 && self.shape.groups == 1 && self.bias.is_none() {
            // A 1×1 convolution is one matrix product over all pixels of the batch; training ran 1.6 times faster
            // with it than with burn's convolution (24 against 15 images a second, 2026-11-21).
            let [n, from, h, w] = x.dims();
            let pixels = x.swap_dims(0, 1).reshape([from, n * h * w]);
            let product = self.weight.val().reshape([channels, from]).matmul(pixels);
            return product.reshape([channels, n, h, w]).swap_dims(0, 1);
        }
        let (x, padding) = if (top, left) == (bottom, right) {
            (x, [top, left])
        } else {
            (x.pad((left, right, top, bottom), PadMode::Constant(0.0)), [0, 0])
        };
        let options = ConvOptions::new([stride; 2], padding, [1, 1], self.shape.groups);
        module::conv2d(x, self.weight.val(), self.bias.as_ref().map(|b| b.val()), options)
    }

    /// Weights and bias with the batch norm folded in: what is exported. `[out, in / groups, k, k]` and `[out]`.
    pub fn folded(&self) -> ([usize; 4], Vec<f32>, Vec<f32>) {
        let dims = self.weight.dims();
        let mut weight = values(self.weight.val());
        let mut bias = self.bias.as_ref().map_or(vec![0.0; dims[0]], |b| values(b.val()));
        if let Some(n) = &self.norm {
            let (gamma, beta) = (values(n.gamma.val()), values(n.beta.val()));
            let (mean, var) = (values(n.running_mean.value()), values(n.running_var.value()));
            let per_channel = weight.len() / dims[0];
            for c in 0..dims[0] {
                let scale = gamma[c] / (var[c] + n.epsilon as f32).sqrt();
                weight[c * per_channel..][..per_channel].iter_mut().for_each(|w| *w *= scale);
                bias[c] = beta[c] + (bias[c] - mean[c]) * scale;
            }
        }
        (dims, weight, bias)
    }
}

/// Convolutions in a row, perhaps with the input added, perhaps pooled.
#[derive(Module, Debug)]
pub struct Stage {
    /// The convolutions.
    pub convs: Vec<Conv>,
    /// 2×2 max pooling, stride 2.
    pub pool: Option<MaxPool2d>,
    /// Add the stage's input to its output.
    #[module(skip)]
    pub residual: bool,
}

impl Stage {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.convs.iter().fold(x.clone(), |y, c| c.forward(y));
        let y = if self.residual { y + x } else { y };
        match &self.pool {
            Some(pool) => pool.forward(y),
            None => y,
        }
    }
}

/// From the last feature map to logits.
#[derive(Module, Debug)]
pub struct Head {
    /// With it: flatten, dense, ReLU. Without: global average pooling.
    pub dense: Option<Linear>,
    /// Dropout before the linear layer.
    pub dropout: Dropout,
    /// To one logit a label; weight `[features, labels]`.
    pub linear: Linear,
}

/// A network from input `[n, channels, size, size]` to logits `[n, labels]`.
#[derive(Module, Debug)]
pub struct Network {
    /// The stages.
    pub stages: Vec<Stage>,
    /// The head.
    pub head: Head,
}

/// Why ImageNet weights cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The weights file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The recipe starts from ImageNet weights, and none were given.
    #[error("recipe `{0}` freezes ImageNet blocks: give their weights with --weights mobilenet_v2.safetensors")]
    Missing(String),
    /// A recipe that needs no weights was given some.
    #[error("recipe `{0}` trains from scratch: leave --weights out")]
    Unused(String),
}

impl Network {
    /// The network of `recipe` with random weights drawn from the device's seed.
    pub fn new(recipe: &Recipe, labels: usize, device: &Device) -> Network {
        let input = &recipe.input;
        match &recipe.network {
            NetworkSpec::Cnn { channels, batch_norm, head, dropout } => {
                let mut stages = Vec::new();
                let mut from = input.channels as usize;
                let mut side = input.size as usize;
                for &to in channels {
                    let shape = ConvShape { stride: 1, padding: [1; 4], groups: 1, activation: Activation::Relu };
                    stages.push(Stage {
                        convs: vec![Conv::new([to, from, 3, 3], *batch_norm, shape, device)],
                        pool: Some(MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()),
                        residual: false,
                    });
                    (from, side) = (to, side / 2);
                }
                let dense =
                    (*head == HeadSpec::FlattenDense).then(|| LinearConfig::new(from * side * side, 128).init(device));
                let features = if dense.is_some() { 128 } else { from };
                Network { stages, head: Head::new(dense, features, labels, *dropout, device) }
            }
            NetworkSpec::MobilenetV2 { blocks, last, dropout, .. } => {
                let (mut stages, features) = mobilenet_v2(*blocks, device);
                let mut from = features;
                if *last > 0 {
                    stages.push(Stage {
                        convs: vec![pointwise(from, *last, Activation::Relu6, device)],
                        pool: None,
                        residual: false,
                    });
                    from = *last;
                }
                Network { stages, head: Head::new(None, from, labels, *dropout, device) }
            }
        }
    }

    /// Logits of a batch `[n, channels, size, size]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward_from(0, x)
    }

    /// Logits from the input of stage `first`: what training on cached features of the stages before it computes.
    pub fn forward_from(&self, first: usize, x: Tensor<4>) -> Tensor<2> {
        let x = self.stages[first..].iter().fold(x, |x, s| s.forward(x));
        let h = &self.head;
        let x: Tensor<2> = match &h.dense {
            Some(dense) => activation::relu(dense.forward(x.flatten(1, 3))),
            None => {
                let [n, c, _, _] = x.dims();
                x.mean_dims(&[2, 3]).reshape([n, c])
            }
        };
        h.linear.forward(h.dropout.forward(x))
    }

    /// Loads torchvision's MobileNetV2 from `path` into the stages. The three colour planes of the first convolution are
    /// summed: on a grey image repeated three times that is the same function.
    pub fn load_mobilenet_v2(mut self, path: &Path, device: &Device) -> Result<Network, WeightsError> {
        let bad = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let read = |name: String, count: usize| -> Result<Vec<f32>, WeightsError> {
            let t = file.tensor(&name).map_err(|e| bad(e.to_string()))?;
            let values: Vec<f32> = t.data().as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
            match values.len() == count {
                true => Ok(values),
                false => Err(bad(format!("`{name}` has {} values, not {count}", values.len()))),
            }
        };
        for (i, stage) in self.stages.iter_mut().enumerate() {
            let convs = stage.convs.len();
            for (j, conv) in stage.convs.iter_mut().enumerate() {
                let last = i == 18;
                let (weight, norm) = match (convs, j + 1 == convs) {
                    (1, _) if last => ("features.18.0".into(), "features.18.1".into()),
                    (1, _) => ("features.0.0".into(), "features.0.1".into()),
                    (_, false) => (format!("features.{i}.conv.{j}.0"), format!("features.{i}.conv.{j}.1")),
                    (_, true) => (format!("features.{i}.conv.{j}"), format!("features.{i}.conv.{}", j + 1)),
                };
                let dims = conv.weight.dims();
                let count = dims.iter().product::<usize>();
                let mut w = read(format!("{weight}.weight"), if i == 0 { count * 3 } else { count })?;
                if i == 0 {
                    w = w.chunks_exact(27).flat_map(|c| (0..9).map(|k| c[k] + c[9 + k] + c[18 + k])).collect();
                }
                conv.weight = Param::from_tensor(Tensor::from_data(TensorData::new(w, dims), device));
                let n = conv.norm.as_mut().expect("every convolution of MobileNetV2 has a batch norm");
                let vector = |suffix: &str| -> Result<Tensor<1>, WeightsError> {
                    let v = read(format!("{norm}.{suffix}"), dims[0])?;
                    Ok(Tensor::from_data(TensorData::new(v, [dims[0]]), device))
                };
                n.gamma = Param::from_tensor(vector("weight")?);
                n.beta = Param::from_tensor(vector("bias")?);
                n.running_mean = burn::module::RunningState::new(vector("running_mean")?);
                n.running_var = burn::module::RunningState::new(vector("running_var")?);
            }
        }
        Ok(self)
    }
}

impl Head {
    fn new(dense: Option<Linear>, features: usize, labels: usize, dropout: f64, device: &Device) -> Head {
        Head {
            dense,
            dropout: DropoutConfig::new(dropout).init(),
            linear: LinearConfig::new(features, labels).init(device),
        }
    }
}

fn pointwise(from: usize, to: usize, activation: Activation, device: &Device) -> Conv {
    let shape = ConvShape { stride: 1, padding: [0; 4], groups: 1, activation };
    Conv::new([to, from, 1, 1], true, shape, device)
}

/// Padding of a 3×3 convolution as TensorFlow's SAME on an even side: stride 2 pads right and bottom alone.
fn same(stride: usize) -> [usize; 4] {
    if stride == 2 { [0, 0, 1, 1] } else { [1; 4] }
}

/// Stem and the first `blocks` inverted residuals of table 2 in Sandler et al. 2018, and the channels they end with.
fn mobilenet_v2(blocks: usize, device: &Device) -> (Vec<Stage>, usize) {
    const TABLE: [(usize, usize, usize, usize); 7] =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    let relu6 = |stride, groups| ConvShape { stride, padding: same(stride), groups, activation: Activation::Relu6 };
    let mut stages =
        vec![Stage { convs: vec![Conv::new([32, 1, 3, 3], true, relu6(2, 1), device)], pool: None, residual: false }];
    let mut from = 32;
    for (expand, to, repeat, first_stride) in TABLE {
        for i in 0..repeat {
            if stages.len() > blocks {
                return (stages, from);
            }
            let stride = if i == 0 { first_stride } else { 1 };
            let hidden = from * expand;
            let mut convs = Vec::new();
            if expand > 1 {
                convs.push(pointwise(from, hidden, Activation::Relu6, device));
            }
            convs.push(Conv::new([hidden, 1, 3, 3], true, relu6(stride, hidden), device));
            convs.push(pointwise(hidden, to, Activation::None, device));
            stages.push(Stage { convs, pool: None, residual: stride == 1 && from == to });
            from = to;
        }
    }
    (stages, from)
}

/// The values of a tensor in memory order.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec::<f32>().expect("networks are float32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Distribution;

    #[test]
    fn the_depthwise_sum_of_shifts_equals_a_grouped_convolution() {
        let device = Device::flex();
        device.seed(3);
        for stride in [1, 2] {
            let shape = ConvShape { stride, padding: same(stride), groups: 6, activation: Activation::None };
            let conv = Conv::new([6, 1, 3, 3], false, shape, &device);
            let x = Tensor::<4>::random([2, 6, 8, 8], Distribution::Default, &device);
            let [t, l, b, r] = conv.shape.padding;
            let padded = x.clone().pad((l, r, t, b), PadMode::Constant(0.0));
            let want =
                module::conv2d(padded, conv.weight.val(), None, ConvOptions::new([stride; 2], [0, 0], [1, 1], 6));
            let difference = values((conv.convolve(x) - want).abs().max());
            assert!(difference[0] < 1e-5, "stride {stride}: {difference:?}");
        }
    }

    #[test]
    fn the_pointwise_product_equals_a_convolution() {
        let device = Device::flex();
        device.seed(4);
        let conv = pointwise(5, 7, Activation::None, &device);
        let x = Tensor::<4>::random([2, 5, 4, 3], Distribution::Default, &device);
        let want = module::conv2d(x.clone(), conv.weight.val(), None, ConvOptions::new([1, 1], [0, 0], [1, 1], 1));
        assert!(values((conv.convolve(x) - want).abs().max())[0] < 1e-5);
    }

    #[test]
    fn mobilenet_v2_has_the_published_shape() {
        let device = Device::flex();
        let (stages, features) = mobilenet_v2(17, &device);
        assert_eq!((stages.len(), features), (18, 320));
        let x = stages.iter().fold(Tensor::<4>::zeros([1, 1, 64, 64], &device), |x, s| s.forward(x));
        assert_eq!(x.dims(), [1, 320, 2, 2]);
        assert_eq!(stages.iter().filter(|s| s.residual).count(), 10);
    }
}
