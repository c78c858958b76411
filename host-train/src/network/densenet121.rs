//! DenseNet121 (Huang et al. 2017) as torchvision builds it: growth 32, bottlenecks of 128 channels.

use super::{Activation, Bias, Conv, ConvShape, Join, Pool, Stage};
use burn::tensor::Device;

/// Layers of the four dense blocks.
const BLOCKS: [usize; 4] = [6, 12, 24, 16];
const GROWTH: usize = 32;
const BOTTLENECK: usize = 4 * GROWTH;

/// Stem, dense layers, transitions and the last norm, and the channels they end with.
pub(super) fn stages(channels: usize, device: &Device) -> (Vec<Stage>, usize) {
    let conv = |from, to, kernel: usize, stride, bias, names: [String; 2]| {
        let activation = if bias == Bias::BatchNorm { Activation::Relu } else { Activation::None };
        let shape = ConvShape { stride, padding: [kernel / 2; 4], groups: 1, activation };
        Conv::new([to, from, kernel, kernel], bias, shape, names, device)
    };
    let stem = conv(channels, 64, 7, 2, Bias::BatchNorm, ["features.conv0".into(), "features.norm0".into()]);
    let mut stages = vec![Stage::of(vec![stem], Join::None, Pool::Max { kernel: 3, stride: 2, padding: 1 })];
    let mut from = 64;
    for (block, layers) in BLOCKS.into_iter().enumerate() {
        for layer in 0..layers {
            let name = format!("features.denseblock{}.denselayer{}", block + 1, layer + 1);
            let inner = [format!("{name}.conv1"), format!("{name}.norm2")];
            let outer = [format!("{name}.conv2"), String::new()];
            let convs = vec![
                conv(from, BOTTLENECK, 1, 1, Bias::BatchNorm, inner),
                conv(BOTTLENECK, GROWTH, 3, 1, Bias::None, outer),
            ];
            let stage = Stage::of(convs, Join::Concat, Pool::None);
            stages.push(stage.with_entry(from, format!("{name}.norm1"), device));
            from += GROWTH;
        }
        if block + 1 < BLOCKS.len() {
            let name = format!("features.transition{}", block + 1);
            let halve = conv(from, from / 2, 1, 1, Bias::None, [format!("{name}.conv"), String::new()]);
            let stage = Stage::of(vec![halve], Join::None, Pool::Average { kernel: 2 });
            stages.push(stage.with_entry(from, format!("{name}.norm"), device));
            from /= 2;
        }
    }
    let last = Stage::of(vec![], Join::None, Pool::None);
    stages.push(last.with_entry(from, "features.norm5".into(), device));
    (stages, from)
}
