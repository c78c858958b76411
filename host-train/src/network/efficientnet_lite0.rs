//! EfficientNet-Lite0 (Google 2020): EfficientNet-B0 (Tan and Le 2019, table 1) without squeeze-and-excite, with ReLU6,
//! in the names of the PyTorch conversions.

use super::{Activation, Bias, Conv, ConvShape, Join, Pool, Stage};
use burn::tensor::Device;

/// Expansion, output channels, repetitions, first stride and kernel.
const TABLE: [[usize; 5]; 7] = [
    [1, 16, 1, 1, 3],
    [6, 24, 2, 2, 3],
    [6, 40, 2, 2, 5],
    [6, 80, 3, 2, 3],
    [6, 112, 3, 1, 5],
    [6, 192, 4, 2, 5],
    [6, 320, 1, 1, 3],
];
/// Channels of the stem and of the last convolution; Lite networks do not scale them.
const STEM: usize = 32;
const LAST: usize = 1280;
/// Of its batch norms, as TensorFlow has it.
const EPSILON: f64 = 1e-3;

/// Stem, sixteen inverted residuals and the last 1×1 convolution for images of `side` pixels, and the channels they end
/// with.
pub(super) fn stages(channels: usize, side: usize, device: &Device) -> (Vec<Stage>, usize) {
    let conv = |dims: [usize; 4], shape: ConvShape, names: [String; 2]| {
        let mut conv = Conv::new(dims, Bias::BatchNorm, shape, names, device);
        conv.norm.iter_mut().for_each(|norm| norm.epsilon = EPSILON);
        conv
    };
    let pointwise = |from, to, activation, names| {
        conv([to, from, 1, 1], ConvShape { stride: 1, padding: [0; 4], groups: 1, activation }, names)
    };
    let one = |conv| Stage::of(vec![conv], Join::None, Pool::None);
    let names = |conv: &str, norm: &str| [format!("_{conv}"), format!("_{norm}")];
    let stem = ConvShape { stride: 2, padding: same(3, 2, side), groups: 1, activation: Activation::Relu6 };
    let mut stages = vec![one(conv([STEM, channels, 3, 3], stem, names("conv_stem", "bn0")))];
    let mut side = side.div_ceil(2);
    let mut from = STEM;
    for [expand, to, repeat, first_stride, kernel] in TABLE {
        for i in 0..repeat {
            let stride = if i == 0 { first_stride } else { 1 };
            let hidden = from * expand;
            let block = format!("_blocks.{}.", stages.len() - 1);
            let names = |conv: &str, norm: &str| names(conv, norm).map(|name| format!("{block}{name}"));
            let mut convs = Vec::new();
            if expand > 1 {
                convs.push(pointwise(from, hidden, Activation::Relu6, names("expand_conv", "bn0")));
            }
            let padding = same(kernel, stride, side);
            let depthwise = ConvShape { stride, padding, groups: hidden, activation: Activation::Relu6 };
            convs.push(conv([hidden, 1, kernel, kernel], depthwise, names("depthwise_conv", "bn1")));
            convs.push(pointwise(hidden, to, Activation::None, names("project_conv", "bn2")));
            let join = if stride == 1 && from == to { Join::Add } else { Join::None };
            stages.push(Stage::of(convs, join, Pool::None));
            from = to;
            side = side.div_ceil(stride);
        }
    }
    stages.push(one(pointwise(from, LAST, Activation::Relu6, names("conv_head", "bn1"))));
    (stages, LAST)
}

/// TensorFlow's SAME padding (top, left, bottom, right) of a `kernel` window on `side` pixels: what is odd goes to the
/// bottom and the right.
fn same(kernel: usize, stride: usize, side: usize) -> [usize; 4] {
    let outputs = side.div_ceil(stride);
    let padding = ((outputs - 1) * stride + kernel).saturating_sub(side);
    let before = padding / 2;
    [before, before, padding - before, padding - before]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_tensorflows() {
        assert_eq!(same(3, 2, 224), [0, 0, 1, 1]);
        assert_eq!(same(5, 2, 56), [1, 1, 2, 2]);
        assert_eq!(same(3, 2, 225), [1; 4]);
        assert_eq!(same(5, 1, 14), [2; 4]);
    }
}
