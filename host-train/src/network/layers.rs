//! The layers of a network as Keras lists them, and which of them learn.

use super::{Conv, Join, Network, Pool, Stage};
use crate::kernels::Activation;
use crate::recipe::Trainable;
use burn::module::Module;

/// A layer as `keras.Model.layers` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    /// The norm that a stage begins with.
    Entry,
    /// The weights of a convolution.
    Conv(usize),
    /// Its norm.
    Norm(usize),
    /// The weights of the convolution beside the others.
    Shortcut,
    /// Its norm.
    ShortcutNorm,
    /// One without weights: activation, padding, addition, concatenation, pooling.
    Plain,
}

/// Whether Keras pads in a layer of its own before `conv`: the 7×7 stems, and depthwise convolutions that stride.
fn is_padded_apart(conv: &Conv) -> bool {
    let [_, _, kernel, _] = conv.weight.dims();
    kernel == 7 || (conv.shape.groups > 1 && conv.shape.stride > 1)
}

/// Layers of `stage` in Keras' order (`keras.applications`: ResNet50, DenseNet121, MobileNetV2).
fn layers(stage: &Stage) -> Vec<Layer> {
    let mut list = Vec::new();
    if stage.entry.is_some() {
        list.extend([Layer::Entry, Layer::Plain]);
    }
    for (i, conv) in stage.convs.iter().enumerate() {
        let is_last = i + 1 == stage.convs.len();
        let beside = stage.shortcut.as_ref().filter(|_| is_last);
        list.extend(is_padded_apart(conv).then_some(Layer::Plain));
        list.extend(beside.map(|_| Layer::Shortcut));
        list.push(Layer::Conv(i));
        list.extend(beside.map(|_| Layer::ShortcutNorm));
        list.extend(conv.norm.as_ref().map(|_| Layer::Norm(i)));
        // An addition comes before the last activation.
        list.extend((is_last && stage.join == Join::Add).then_some(Layer::Plain));
        list.extend((conv.shape.activation != Activation::None).then_some(Layer::Plain));
    }
    if stage.join == Join::Concat {
        list.push(Layer::Plain);
    }
    match stage.pool {
        Pool::None => {}
        Pool::Max { padding: 1.., .. } => list.extend([Layer::Plain, Layer::Plain]),
        Pool::Max { .. } | Pool::Average { .. } => list.push(Layer::Plain),
    }
    list
}

impl Network {
    /// Layers of the base as Keras counts them, the input included.
    pub fn keras_layers(&self) -> usize {
        1 + self.stages.iter().map(|stage| layers(stage).len()).sum::<usize>()
    }

    /// Lets `trainable` learn, and nothing in front of it: weights there have no gradient, norms keep their statistics.
    /// Gives the number of stages at the start that do not change at all.
    pub fn freeze_all_but(self, trainable: Trainable) -> (Network, usize) {
        let mut network = self.unfreeze();
        let total = network.keras_layers();
        let count = |stages: &[Stage]| 1 + stages.iter().map(|stage| layers(stage).len()).sum::<usize>();
        let first = match trainable {
            Trainable::All => return (network, 0),
            Trainable::Head => total,
            Trainable::FromBlock(block) => count(&network.stages[..block.min(network.stages.len())]),
            Trainable::LastLayers(last) => total.saturating_sub(last),
        };
        let mut at = 1;
        let mut frozen = 0;
        let stages = std::mem::take(&mut network.stages);
        for (i, mut stage) in stages.into_iter().enumerate() {
            let list = layers(&stage);
            let kept = first.saturating_sub(at).min(list.len());
            at += list.len();
            if list[kept..].iter().all(|layer| *layer == Layer::Plain) {
                stage = stage.freeze();
                frozen += usize::from(frozen == i);
            } else {
                list[..kept].iter().for_each(|layer| freeze(&mut stage, *layer));
            }
            network.stages.push(stage);
        }
        (network, frozen)
    }
}

fn freeze(stage: &mut Stage, layer: Layer) {
    let weight = |conv: &mut Conv| conv.weight = conv.weight.clone().freeze();
    let norm = |conv: &mut Conv| conv.norm = conv.norm.take().map(Module::freeze);
    match layer {
        Layer::Entry => stage.entry = stage.entry.take().map(Module::freeze),
        Layer::Conv(i) => weight(&mut stage.convs[i]),
        Layer::Norm(i) => norm(&mut stage.convs[i]),
        Layer::Shortcut => stage.shortcut.iter_mut().for_each(weight),
        Layer::ShortcutNorm => stage.shortcut.iter_mut().for_each(norm),
        Layer::Plain => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Operators, values};
    use crate::recipe::{HeadSpec, NetworkSpec};
    use burn::tensor::{Device, Distribution, Tensor};

    fn network(spec: &NetworkSpec) -> Network {
        let device = Device::flex().autodiff();
        device.seed(3);
        Network::of(spec, &HeadSpec::default(), [32, 3], 2, Operators::Own, &device)
    }

    const MOBILENET: NetworkSpec = NetworkSpec::MobilenetV2 { blocks: 17, last: 1280 };

    #[test]
    fn layers_are_counted_as_keras_counts_them() {
        // len(keras.applications.X(include_top=False).layers)
        for (spec, layers) in [(NetworkSpec::Resnet50 {}, 175), (NetworkSpec::Densenet121 {}, 427), (MOBILENET, 154)] {
            assert_eq!(network(&spec).keras_layers(), layers, "{spec:?}");
        }
    }

    /// Names of what learns first behind the frozen layers: stage, and the first layer of it with weights.
    fn first_trainable(spec: &NetworkSpec, last: usize) -> (usize, Layer) {
        let network = network(spec);
        let mut left = network.keras_layers() - last - 1;
        for (i, stage) in network.stages.iter().enumerate() {
            for layer in layers(stage) {
                if left == 0 && layer != Layer::Plain {
                    return (i, layer);
                }
                left = left.saturating_sub(1);
            }
        }
        unreachable!("some layer has weights")
    }

    #[test]
    fn the_last_layers_are_those_that_keras_unfreezes() {
        // Keras: [layer.name for layer in model.layers[-n:] if layer.weights][0]
        let resnet = NetworkSpec::Resnet50 {};
        assert_eq!(first_trainable(&resnet, 20), (15, Layer::Conv(0))); // conv5_block2_1_conv
        assert_eq!(first_trainable(&resnet, 40), (13, Layer::Conv(1))); // conv4_block6_2_conv
        assert_eq!(first_trainable(&resnet, 50), (12, Layer::Conv(1))); // conv4_block5_2_conv
        assert_eq!(first_trainable(&resnet, 100), (7, Layer::Norm(1))); // conv3_block4_2_bn
        let densenet = NetworkSpec::Densenet121 {};
        assert_eq!(first_trainable(&densenet, 20), (59, Layer::Norm(0))); // conv5_block14_1_bn
        assert_eq!(first_trainable(&densenet, 50), (55, Layer::Conv(0))); // conv5_block10_1_conv
    }

    #[test]
    fn what_is_frozen_has_no_gradient_and_keeps_its_statistics() {
        let spec = NetworkSpec::Resnet50 {};
        for (trainable, stages) in [
            (Trainable::Head, 17),
            (Trainable::LastLayers(40), 13),
            (Trainable::FromBlock(16), 16),
            (Trainable::All, 0),
        ] {
            let (network, frozen) = network(&spec).freeze_all_but(trainable);
            assert_eq!(frozen, stages, "{trainable:?}");
            let device = Device::flex().autodiff();
            let x = Tensor::<4>::random([2, 3, 32, 32], Distribution::Normal(0.0, 1.0), &device);
            let statistics = |n: &Network, stage: usize, conv: usize| {
                values(n.stages[stage].convs[conv].norm.as_ref().unwrap().running_mean.value_sync())
            };
            let before = statistics(&network, 13, 0);
            let grads = network.forward(x).powf_scalar(2.0).sum().backward();
            let has_gradient =
                |stage: usize, conv: usize| network.stages[stage].convs[conv].weight.val().grad(&grads).is_some();
            assert_eq!(has_gradient(13, 0), trainable == Trainable::All);
            assert_eq!(has_gradient(13, 1), matches!(trainable, Trainable::All | Trainable::LastLayers(40)));
            assert_eq!(has_gradient(16, 2), trainable != Trainable::Head);
            assert_eq!(before == statistics(&network, 13, 0), trainable != Trainable::All);
            assert!(network.head.linear.weight.val().grad(&grads).is_some());
        }
    }
}
