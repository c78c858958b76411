//! AdamW (Loshchilov and Hutter 2019). On the CPU one pass over each parameter, in place and on all threads; burn's
//! own, which takes a pass and a temporary for each of its dozen operations, on other devices. Both keep the same
//! state.

use crate::kernels::vectorised;
use crate::network::Operators;
use crate::operators::{tensor_mut, whole};
use crate::recipe::Train;
use burn::backend::Flex;
use burn::module::ParamGroup;
use burn::optim::{AdamW, AdamWConfig, AdamWState, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

const BETAS: [f32; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

/// AdamW for the networks of `blocks` blocks that `stage` trains on `operators`, with β = (0.9, 0.999) and ε = 10⁻⁸.
pub fn adamw(stage: &Train, blocks: usize, operators: Operators) -> ModuleOptimizer {
    let whole = of_weight_decay(stage.weight_decay, operators);
    if stage.layer_decay == 1.0 {
        return whole;
    }
    let slower = |optimizer: ModuleOptimizer, block: usize| {
        let factor = stage.layer_decay.powi((blocks - block) as i32);
        let paths = ParamGroup::from_regex(format!(r"(^|\.)stages\.{block}\.")).expect("a valid expression");
        let decay = stage.weight_decay;
        match operators {
            Operators::Burn => optimizer.with_group(paths, Slower { inner: config(decay).build(), factor }, None),
            Operators::Own => optimizer.with_group(paths, Slower { inner: Fused::new(decay), factor }, None),
        }
    };
    (0..blocks).fold(whole, slower)
}

/// AdamW with one rate for all parameters.
pub fn of_weight_decay(weight_decay: f32, operators: Operators) -> ModuleOptimizer {
    match operators {
        Operators::Burn => config(weight_decay).init(),
        Operators::Own => Fused::new(weight_decay).into(),
    }
}

fn config(weight_decay: f32) -> AdamWConfig {
    AdamWConfig::new().with_beta_1(BETAS[0]).with_beta_2(BETAS[1]).with_epsilon(EPSILON).with_weight_decay(weight_decay)
}

/// An optimiser at a share of the learning rate.
#[derive(Clone)]
struct Slower<O> {
    inner: O,
    factor: f64,
}

impl<O: Optimizer> Optimizer for Slower<O> {
    type State<const D: usize> = O::State<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<O::State<D>>,
    ) -> (Tensor<D>, Option<O::State<D>>) {
        self.inner.step(rate * self.factor, weight, gradient, state)
    }

    fn to_device<const D: usize>(state: O::State<D>, device: &Device) -> O::State<D> {
        O::to_device(state, device)
    }
}

#[derive(Clone)]
struct Fused {
    burn: AdamW,
    weight_decay: f32,
}

impl Fused {
    fn new(weight_decay: f32) -> Fused {
        Fused { burn: config(weight_decay).build(), weight_decay }
    }
}

impl Optimizer for Fused {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weight: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        // The first step makes the state.
        let Some(mut state) = state else {
            return self.burn.step(rate, weight, gradient, None);
        };
        let momentum = &mut state.momentum;
        momentum.time += 1;
        let correction = BETAS.map(|b| 1.0 - b.powi(momentum.time as i32));
        let primitive =
            |t: Tensor<D>| whole(t.try_into_primitive::<Flex>().expect("own operators run on the CPU backend"));
        let nothing = || Tensor::zeros([0; D], &Device::flex());
        let mut w = primitive(weight);
        let g = primitive(gradient);
        let [mut m, mut v] = [&mut momentum.moment_1, &mut momentum.moment_2]
            .map(|moment| primitive(std::mem::replace(moment, nothing())));
        let step = Step { rate: rate as f32, decay: 1.0 - rate as f32 * self.weight_decay, correction };
        step.run(tensor_mut(&mut w), tensor_mut(&mut m), tensor_mut(&mut v), g.storage());
        momentum.moment_1 = Tensor::from_primitive::<Flex>(m);
        momentum.moment_2 = Tensor::from_primitive::<Flex>(v);
        (Tensor::from_primitive::<Flex>(w), Some(state))
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamW::to_device(state, device)
    }
}

/// What a step has in common for all values.
struct Step {
    rate: f32,
    decay: f32,
    correction: [f32; 2],
}

impl Step {
    fn run(&self, weight: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]) {
        const CHUNK: usize = 1 << 14;
        let chunks = weight.par_chunks_mut(CHUNK).zip(first.par_chunks_mut(CHUNK)).zip(second.par_chunks_mut(CHUNK));
        chunks.zip(gradient.par_chunks(CHUNK)).for_each(|(((w, m), v), g)| {
            vectorised(|| {
                for (((w, m), v), g) in w.iter_mut().zip(m).zip(v).zip(g) {
                    *m = BETAS[0] * *m + (1.0 - BETAS[0]) * g;
                    *v = BETAS[1] * *v + (1.0 - BETAS[1]) * g * g;
                    let delta = (*m / self.correction[0]) / ((*v / self.correction[1]).sqrt() + EPSILON);
                    *w = *w * self.decay - self.rate * delta;
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::Distribution;

    #[test]
    fn ten_steps_equal_burns() {
        let device = Device::flex().autodiff();
        device.seed(7);
        let start: Linear = LinearConfig::new(37, 11).init(&device);
        let inputs: Vec<Tensor<2>> =
            (0..10).map(|_| Tensor::random([5, 37], Distribution::Normal(0.0, 1.0), &device)).collect();
        let end = [Operators::Own, Operators::Burn].map(|operators| {
            let mut layer = start.clone();
            let mut optimizer = of_weight_decay(0.05, operators);
            for x in &inputs {
                let loss = layer.forward(x.clone()).powf_scalar(2.0).mean();
                let grads = GradientsParams::from_grads(loss.backward(), &layer);
                layer = optimizer.step(1e-2, layer, grads);
            }
            layer.weight.val().into_data().try_to_vec::<f32>().unwrap()
        });
        for (own, burn) in end[0].iter().zip(&end[1]) {
            assert!((own - burn).abs() < 1e-5, "{own} {burn}");
        }
    }
}
