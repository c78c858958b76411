//! MobileNetV2 1.0 (Sandler et al. 2018) with TensorFlow's padding, in torchvision's names.

use super::{Activation, Bias, Conv, ConvShape, Join, Pool, Stage};
use burn::tensor::Device;

/// Expansion, output channels, repetitions and first stride of table 2.
const TABLE: [(usize, usize, usize, usize); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

/// Stem, the first `blocks` inverted residuals, and a last 1×1 convolution of `last` channels (0: none); also the
/// channels they end with.
pub(super) fn stages(channels: usize, blocks: usize, last: usize, device: &Device) -> (Vec<Stage>, usize) {
    let relu6 = |stride, groups| ConvShape { stride, padding: same(stride), groups, activation: Activation::Relu6 };
    let one = |conv| Stage::of(vec![conv], Join::None, Pool::None);
    let names = |feature: usize| [format!("features.{feature}.0"), format!("features.{feature}.1")];
    let mut stages = vec![one(Conv::new([32, channels, 3, 3], Bias::BatchNorm, relu6(2, 1), names(0), device))];
    let mut from = 32;
    let rows = TABLE.iter().flat_map(|&(expand, to, repeat, stride)| {
        (0..repeat).map(move |i| (expand, to, if i == 0 { stride } else { 1 }))
    });
    for (expand, to, stride) in rows.take(blocks) {
        let hidden = from * expand;
        let layer = format!("features.{}.conv", stages.len());
        let names = |i: usize| [format!("{layer}.{i}.0"), format!("{layer}.{i}.1")];
        let mut convs = Vec::new();
        if expand > 1 {
            convs.push(pointwise(from, hidden, Activation::Relu6, names(0), device));
        }
        let n = convs.len();
        convs.push(Conv::new([hidden, 1, 3, 3], Bias::BatchNorm, relu6(stride, hidden), names(n), device));
        let names = [format!("{layer}.{}", n + 1), format!("{layer}.{}", n + 2)];
        convs.push(pointwise(hidden, to, Activation::None, names, device));
        let join = if stride == 1 && from == to { Join::Add } else { Join::None };
        stages.push(Stage::of(convs, join, Pool::None));
        from = to;
    }
    if last > 0 {
        stages.push(one(pointwise(from, last, Activation::Relu6, names(18), device)));
        from = last;
    }
    (stages, from)
}

fn pointwise(from: usize, to: usize, activation: Activation, names: [String; 2], device: &Device) -> Conv {
    let shape = ConvShape { stride: 1, padding: [0; 4], groups: 1, activation };
    Conv::new([to, from, 1, 1], Bias::BatchNorm, shape, names, device)
}

/// Padding of a 3×3 convolution as TensorFlow's SAME on an even side: stride 2 pads right and bottom alone.
fn same(stride: usize) -> [usize; 4] {
    if stride == 2 { [0, 0, 1, 1] } else { [1; 4] }
}
