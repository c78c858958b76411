//! The running mean of a network's weights over its steps.

use super::{Conv, Network};
use burn::module::{Param, RunningState};
use burn::nn::{BatchNorm, Linear};
use burn::tensor::Tensor;

impl Network {
    /// Moves every weight towards that of `now`, which has the same shape, keeping the share `kept` of its own
    /// (exponential moving average). Statistics of norms are those of `now`: they are running means already.
    pub fn approach(&mut self, now: &Network, kept: f64) {
        for (stage, other) in self.stages.iter_mut().zip(&now.stages) {
            norms(&mut stage.entry, &other.entry, kept);
            stage.convs.iter_mut().zip(&other.convs).for_each(|(conv, other)| conv_towards(conv, other, kept));
            if let (Some(conv), Some(other)) = (&mut stage.shortcut, &other.shortcut) {
                conv_towards(conv, other, kept);
            }
        }
        if let (Some(dense), Some(other)) = (&mut self.head.dense, &now.head.dense) {
            linear_towards(dense, other, kept);
        }
        linear_towards(&mut self.head.linear, &now.head.linear, kept);
    }
}

fn towards<const D: usize>(mean: &mut Param<Tensor<D>>, now: &Param<Tensor<D>>, kept: f64) {
    let value = mean.val() * kept + now.val() * (1.0 - kept);
    *mean = Param::from_tensor(value.detach());
}

fn conv_towards(conv: &mut Conv, now: &Conv, kept: f64) {
    towards(&mut conv.weight, &now.weight, kept);
    if let (Some(bias), Some(now)) = (&mut conv.bias, &now.bias) {
        towards(bias, now, kept);
    }
    norms(&mut conv.norm, &now.norm, kept);
}

fn norms(mean: &mut Option<BatchNorm>, now: &Option<BatchNorm>, kept: f64) {
    let (Some(norm), Some(now)) = (mean, now) else { return };
    towards(&mut norm.gamma, &now.gamma, kept);
    towards(&mut norm.beta, &now.beta, kept);
    norm.running_mean = RunningState::new(now.running_mean.value_sync());
    norm.running_var = RunningState::new(now.running_var.value_sync());
}

fn linear_towards(linear: &mut Linear, now: &Linear, kept: f64) {
    towards(&mut linear.weight, &now.weight, kept);
    if let (Some(bias), Some(now)) = (&mut linear.bias, &now.bias) {
        towards(bias, now, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{Operators, values};
    use crate::recipe::{HeadSpec, NetworkSpec};
    use burn::tensor::Device;

    #[test]
    fn weights_go_the_stated_share_of_the_way() {
        let device = Device::flex();
        let spec = NetworkSpec::Cnn { channels: vec![2, 3], batch_norm: true };
        let network =
            || Network::of(&spec, &HeadSpec { dense: 4, ..HeadSpec::default() }, [16, 1], 2, Operators::Own, &device);
        let start = network();
        let now = network();
        let mut mean = start.clone();
        mean.approach(&now, 0.75);
        let weights =
            |n: &Network| [values(n.stages[1].convs[0].weight.val()), values(n.head.linear.weight.val())].concat();
        for ((mean, start), now) in weights(&mean).iter().zip(weights(&start)).zip(weights(&now)) {
            assert!((mean - (0.75 * start + 0.25 * now)).abs() < 1e-6);
        }
    }
}
