//! ResNet50 (He et al. 2016) as torchvision builds it (version 1.5: the 3×3 convolution carries a block's stride).

use super::{Activation, Bias, Conv, ConvShape, Join, Pool, Stage};
use burn::tensor::Device;

/// Blocks, inner channels and first stride of layers 1 to 4.
const LAYERS: [(usize, usize, usize); 4] = [(3, 64, 1), (4, 128, 2), (6, 256, 2), (3, 512, 2)];

/// Stem and sixteen bottleneck blocks, and the channels they end with.
pub(super) fn stages(channels: usize, device: &Device) -> (Vec<Stage>, usize) {
    let conv = |from, to, kernel: usize, stride, activation, conv: String, norm: String| {
        let shape = ConvShape { stride, padding: [kernel / 2; 4], groups: 1, activation };
        Conv::new([to, from, kernel, kernel], Bias::BatchNorm, shape, [conv, norm], device)
    };
    let stem = conv(channels, 64, 7, 2, Activation::Relu, "conv1".into(), "bn1".into());
    let mut stages = vec![Stage::of(vec![stem], Join::None, Pool::Max { kernel: 3, stride: 2, padding: 1 })];
    let mut from = 64;
    for (layer, (blocks, inner, first_stride)) in LAYERS.into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if block == 0 { first_stride } else { 1 };
            let to = inner * 4;
            let name = format!("layer{}.{block}", layer + 1);
            let names = |i: usize| (format!("{name}.conv{i}"), format!("{name}.bn{i}"));
            let one = |i, from, to, kernel, stride| {
                let (c, n) = names(i);
                conv(from, to, kernel, stride, Activation::Relu, c, n)
            };
            let convs = vec![one(1, from, inner, 1, 1), one(2, inner, inner, 3, stride), one(3, inner, to, 1, 1)];
            let mut stage = Stage::of(convs, Join::Add, Pool::None);
            if block == 0 {
                let names = [format!("{name}.downsample.0"), format!("{name}.downsample.1")];
                let [c, n] = names;
                stage.shortcut = Some(conv(from, to, 1, stride, Activation::None, c, n));
            }
            stages.push(stage);
            from = to;
        }
    }
    (stages, from)
}
