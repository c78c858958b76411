//! The training kernels as differentiable operators on burn tensors of the CPU backend, channels-last: what
//! [`crate::network`] trains with on a CPU. Registered through burn's backend extensions; on another device a network
//! uses burn's own operators.

use crate::kernels::conv::{self, Geometry};
use crate::kernels::{Activation, norm, pool};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::{Tensor, TensorData};

/// A tensor that may be left out.
#[derive(ExtensionType)]
pub enum Maybe<B: Backend> {
    /// There is none.
    Absent,
    /// There is one.
    Present(FloatTensor<B>),
}

/// The operators, on primitives.
#[backend_extension(Flex, Autodiff)]
pub trait TrainingOps: Backend {
    /// See [`convolve`].
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        #[extension_type] bias: Maybe<Self>,
        geometry: Geometry,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// See [`normalise`].
    fn normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        #[extension_type] residual: Maybe<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// See [`max_pool`].
    fn max_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self>;

    /// See [`average_pool`].
    fn average_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self>;
}

/// activation(`x` ∗ `weight` + `bias`): `[n, h, w, from]` by `[to, from / groups, k, k]` to `[n, out_h, out_w, to]`.
/// Without a bias there is no activation either.
pub fn convolve(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    stride: usize,
    padding: [usize; 4],
    groups: usize,
    activation: Activation,
) -> Tensor<4> {
    let [n, h, w, from] = x.dims();
    let [to, _, kernel, _] = weight.dims();
    assert!(bias.is_some() || activation == Activation::None, "an activation needs a bias");
    let geometry = Geometry { n, h, w, from, to, kernel, stride, padding, groups };
    let bias = bias.map_or(Maybe::Absent, |b| Maybe::Present(b.into_dispatch()));
    Tensor::from_dispatch(Dispatch::convolution(x.into_dispatch(), weight.into_dispatch(), bias, geometry, activation))
}

/// activation(γ·x̂ + β (+ residual)) with the statistics of this batch over all but the last axis; also the mean and
/// the (biased) variance of each channel, which no gradient flows through.
pub fn normalise(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    epsilon: f64,
    activation: Activation,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let residual = residual.map_or(Maybe::Absent, |r| Maybe::Present(r.into_dispatch()));
    let gamma = gamma.into_dispatch();
    let beta = beta.into_dispatch();
    let (y, mean, variance) =
        Dispatch::normalisation(x.into_dispatch(), gamma, beta, residual, epsilon as f32, activation);
    (Tensor::from_dispatch(y), Tensor::from_dispatch(mean), Tensor::from_dispatch(variance))
}

fn pool_geometry(x: &Tensor<4>, kernel: usize, stride: usize, padding: usize) -> pool::Geometry {
    let [n, h, w, c] = x.dims();
    pool::Geometry { n, h, w, c, kernel, stride, padding }
}

/// Largest value of each window of `[n, h, w, c]`.
pub fn max_pool(x: Tensor<4>, kernel: usize, stride: usize, padding: usize) -> Tensor<4> {
    let geometry = pool_geometry(&x, kernel, stride, padding);
    Tensor::from_dispatch(Dispatch::max_pooling(x.into_dispatch(), geometry))
}

/// Mean of each window of `[n, h, w, c]`, without padding.
pub fn average_pool(x: Tensor<4>, kernel: usize, stride: usize) -> Tensor<4> {
    let geometry = pool_geometry(&x, kernel, stride, 0);
    Tensor::from_dispatch(Dispatch::average_pooling(x.into_dispatch(), geometry))
}

/// The same values side by side in memory.
fn contiguous(x: FlexTensor) -> FlexTensor {
    if x.as_slice::<f32>().is_some() { x } else { x.to_contiguous() }
}

/// As [`contiguous`], with a storage that holds nothing else: what may be written in place.
pub(crate) fn whole(x: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    if floats(&x).len() == x.storage::<f32>().len() { x } else { tensor(floats(&x).to_vec(), x.layout().shape()) }
}

/// All values of a tensor that [`whole`] gave, copied first if somebody else holds them too.
pub(crate) fn tensor_mut(x: &mut FlexTensor) -> &mut [f32] {
    x.storage_mut()
}

fn floats(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("operators get contiguous float32 tensors")
}

fn tensor(values: Vec<f32>, dims: &[usize]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, dims.to_vec()))
}

impl TrainingOps for Flex {
    fn convolution(
        x: FlexTensor,
        weight: FlexTensor,
        bias: Maybe<Self>,
        g: Geometry,
        activation: Activation,
    ) -> FlexTensor {
        let bias = match bias {
            Maybe::Present(b) => Some(contiguous(b)),
            Maybe::Absent => None,
        };
        let x = contiguous(x);
        let weight = contiguous(weight);
        let y = conv::forward(&g, floats(&x), floats(&weight), bias.as_ref().map(floats), activation);
        let (h, w) = g.output();
        tensor(y, &[g.n, h, w, g.to])
    }

    fn normalisation(
        x: FlexTensor,
        gamma: FlexTensor,
        beta: FlexTensor,
        residual: Maybe<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let x = contiguous(x);
        let gamma = contiguous(gamma);
        let beta = contiguous(beta);
        let residual = match residual {
            Maybe::Present(r) => Some(contiguous(r)),
            Maybe::Absent => None,
        };
        let channels = floats(&gamma).len();
        let statistics = norm::statistics(channels, floats(&x));
        let affine = (floats(&gamma), floats(&beta));
        let y = norm::apply(floats(&x), &statistics, affine, epsilon, residual.as_ref().map(floats), activation);
        let y = tensor(y, x.layout().shape());
        (y, tensor(statistics.mean, &[channels]), tensor(statistics.variance, &[channels]))
    }

    fn max_pooling(x: FlexTensor, g: pool::Geometry) -> FlexTensor {
        let (h, w) = g.output();
        tensor(pool::max(&g, floats(&contiguous(x))), &[g.n, h, w, g.c])
    }

    fn average_pooling(x: FlexTensor, g: pool::Geometry) -> FlexTensor {
        let (h, w) = g.output();
        tensor(pool::average(&g, floats(&contiguous(x))), &[g.n, h, w, g.c])
    }
}

/// The parents of a recorded operator that want a gradient, by position.
fn parents<S, const N: usize>(ops: &Ops<S, N>) -> impl Fn(usize) -> Option<NodeId> + use<S, N> {
    let ids = ops.parents.each_ref().map(|parent| parent.as_ref().map(|node| node.id));
    move |i| ids.get(i).copied().flatten()
}

/// Enters an operator with output `y` into the graph, with its `state` if one of its `parents` wants a gradient.
fn record<C: CheckpointStrategy, O: Backward<Flex, N>, const N: usize>(
    operator: O,
    parents: [NodeGuard; N],
    state: O::State,
    y: FlexTensor,
) -> FloatTensor<Autodiff<Flex, C>> {
    match operator.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, y),
        OpsKind::UnTracked(prep) => prep.finish(y),
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

#[derive(Debug, Clone)]
struct ConvolutionState {
    x: FlexTensor,
    weight: FlexTensor,
    /// With an activation: what the operator gave.
    y: Option<FlexTensor>,
    geometry: Geometry,
    activation: Activation,
}

/// Parents: input, weight, and the bias if there is one.
impl<const N: usize> Backward<Flex, N> for ConvolutionBackward {
    type State = ConvolutionState;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let parent = parents(&ops);
        let x = parent(0);
        let weight = parent(1);
        let bias = parent(2);
        let state = ops.state;
        let g = &state.geometry;
        let mut dy = whole(grads.consume::<Flex>(&ops.node));
        if let Some(y) = &state.y {
            norm::gate(state.activation, floats(y), tensor_mut(&mut dy));
        }
        if let Some(node) = bias {
            grads.register::<Flex>(node, tensor(conv::bias_gradient(g.to, floats(&dy)), &[g.to]));
        }
        if let Some(node) = weight {
            let dw = conv::weight_gradient(g, floats(&state.x), floats(&dy));
            grads.register::<Flex>(node, tensor(dw, state.weight.layout().shape()));
        }
        // No node: the images themselves, or frozen stages; nothing is computed for them.
        if let Some(node) = x {
            let dx = conv::input_gradient(g, floats(&state.weight), floats(&dy));
            grads.register::<Flex>(node, tensor(dx, &[g.n, g.h, g.w, g.from]));
        }
    }
}

#[derive(Debug)]
struct NormalisationBackward;

#[derive(Debug, Clone)]
struct NormalisationState {
    x: FlexTensor,
    /// With an activation: what the operator gave.
    y: Option<FlexTensor>,
    mean: FlexTensor,
    variance: FlexTensor,
    gamma: FlexTensor,
    epsilon: f32,
    activation: Activation,
}

/// Parents: input, γ, β, and the residual if there is one.
impl<const N: usize> Backward<Flex, N> for NormalisationBackward {
    type State = NormalisationState;

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let parent = parents(&ops);
        let x = parent(0);
        let gamma = parent(1);
        let beta = parent(2);
        let residual = parent(3);
        let s = ops.state;
        let mut dy = whole(grads.consume::<Flex>(&ops.node));
        let statistics = norm::Statistics { mean: floats(&s.mean).to_vec(), variance: floats(&s.variance).to_vec() };
        let shape = s.x.layout().shape();
        // Without an activation the residual's gradient is the output's.
        let mut dr = match (&residual, s.activation) {
            (None, _) => None,
            (Some(_), Activation::None) => Some(dy.clone()),
            (Some(_), _) => Some(FlexTensor::zeros(shape.clone(), dy.dtype())),
        };
        let kept = if s.activation == Activation::None { None } else { dr.as_mut().map(tensor_mut) };
        let tensors = (floats(&s.x), s.y.as_ref().map(floats), tensor_mut(&mut dy));
        let out = norm::gradients(tensors, &statistics, floats(&s.gamma), s.epsilon, s.activation, kept);
        let channels = out.gamma.len();
        if let (Some(node), Some(dr)) = (residual, dr) {
            grads.register::<Flex>(node, dr);
        }
        if let Some(node) = x {
            grads.register::<Flex>(node, dy);
        }
        if let Some(node) = gamma {
            grads.register::<Flex>(node, tensor(out.gamma, &[channels]));
        }
        if let Some(node) = beta {
            grads.register::<Flex>(node, tensor(out.beta, &[channels]));
        }
    }
}

#[derive(Debug)]
struct MaxPoolingBackward;

impl Backward<Flex, 1> for MaxPoolingBackward {
    type State = (FlexTensor, FlexTensor, pool::Geometry);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, y, g) = ops.state;
        if let [Some(node)] = &ops.parents {
            let dx = pool::max_gradient(&g, floats(&x), floats(&y), floats(&dy));
            grads.register::<Flex>(node.id, tensor(dx, &[g.n, g.h, g.w, g.c]));
        }
    }
}

#[derive(Debug)]
struct AveragePoolingBackward;

impl Backward<Flex, 1> for AveragePoolingBackward {
    type State = pool::Geometry;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = contiguous(grads.consume::<Flex>(&ops.node));
        let g = ops.state;
        if let [Some(node)] = &ops.parents {
            grads.register::<Flex>(node.id, tensor(pool::average_gradient(&g, floats(&dy)), &[g.n, g.h, g.w, g.c]));
        }
    }
}

impl<C: CheckpointStrategy> TrainingOps for Autodiff<Flex, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: Maybe<Self>,
        geometry: Geometry,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (weight, weight_node) = weight.into_parts();
        let x = contiguous(x);
        let weight = contiguous(weight);
        let (bias, bias_node) = match bias {
            Maybe::Absent => (Maybe::Absent, None),
            Maybe::Present(bias) => {
                let (bias, node) = bias.into_parts();
                (Maybe::Present(bias), Some(node))
            }
        };
        let y = Flex::convolution(x.clone(), weight.clone(), bias, geometry, activation);
        let kept = (activation != Activation::None).then(|| y.clone());
        let state = ConvolutionState { x, weight, y: kept, geometry, activation };
        match bias_node {
            None => record::<C, _, 2>(ConvolutionBackward, [x_node, weight_node], state, y),
            Some(bias_node) => record::<C, _, 3>(ConvolutionBackward, [x_node, weight_node, bias_node], state, y),
        }
    }

    fn normalisation(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        residual: Maybe<Self>,
        epsilon: f32,
        activation: Activation,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, x_node) = x.into_parts();
        let (gamma, gamma_node) = gamma.into_parts();
        let (beta, beta_node) = beta.into_parts();
        let x = contiguous(x);
        let gamma = contiguous(gamma);
        let (residual, residual_node) = match residual {
            Maybe::Absent => (Maybe::Absent, None),
            Maybe::Present(r) => {
                let (r, node) = r.into_parts();
                (Maybe::Present(r), Some(node))
            }
        };
        let (y, mean, variance) = Flex::normalisation(x.clone(), gamma.clone(), beta, residual, epsilon, activation);
        let state = NormalisationState {
            x,
            y: (activation != Activation::None).then(|| y.clone()),
            mean: mean.clone(),
            variance: variance.clone(),
            gamma,
            epsilon,
            activation,
        };
        let y = match residual_node {
            None => record::<C, _, 3>(NormalisationBackward, [x_node, gamma_node, beta_node], state, y),
            Some(node) => record::<C, _, 4>(NormalisationBackward, [x_node, gamma_node, beta_node, node], state, y),
        };
        (y, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn max_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = contiguous(x);
        let y = Flex::max_pooling(x.clone(), geometry);
        record::<C, _, 1>(MaxPoolingBackward, [node], (x, y.clone(), geometry), y)
    }

    fn average_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = Flex::average_pooling(x, geometry);
        record::<C, _, 1>(AveragePoolingBackward, [node], geometry, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode};
    use burn::tensor::{Device, Distribution, activation, module};
    use proptest::prelude::*;

    fn values<const D: usize>(t: Tensor<D>) -> Vec<f32> {
        t.into_data().try_to_vec().expect("float32")
    }

    fn device(seed: u64) -> Device {
        let device = Device::flex().autodiff();
        device.seed(seed);
        device
    }

    fn random<const D: usize>(dims: [usize; D], device: &Device) -> Tensor<D> {
        Tensor::random(dims, Distribution::Normal(0.0, 1.0), device).require_grad()
    }

    /// Largest difference against the largest value.
    fn apart(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let largest = b.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
    }

    fn activate(x: Tensor<4>, activation: Activation) -> Tensor<4> {
        match activation {
            Activation::None => x,
            Activation::Relu => activation::relu(x),
            Activation::Relu6 => x.clamp(0.0, 6.0),
        }
    }

    /// Kernel, stride, padding, groups, channels of a group in and out, rows, columns.
    fn convolutions() -> impl Strategy<Value = (usize, usize, [usize; 4], usize, usize, usize, usize, usize)> {
        (1usize..=5, 1usize..=3, prop::array::uniform4(0usize..=3), 1usize..=3, 1usize..=9, 1usize..=9)
            .prop_flat_map(|(k, s, p, g, f, t)| {
                // Depthwise for a third of them, with channels beyond a block of vectors.
                let depthwise = (Just(0usize), 2usize..=40).prop_map(|(_, c)| (c, 1, 1));
                let shape = prop_oneof![2 => Just((g, f, t)), 1 => depthwise];
                (Just((k, s, p)), shape, k..k + 8, k..k + 8)
            })
            .prop_map(|((k, s, p), (g, f, t), h, w)| (k, s, p, g, f, t, h, w))
    }

    fn activations() -> impl Strategy<Value = Activation> {
        prop_oneof![Just(Activation::None), Just(Activation::Relu), Just(Activation::Relu6)]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..Default::default() })]

        #[test]
        fn convolution_and_its_gradients_equal_burns(
            (kernel, stride, padding, groups, from, to, h, w) in convolutions(),
            act in activations(), biased: bool, n in 1usize..=3, seed: u64,
        ) {
            let device = device(seed);
            let act = if biased { act } else { Activation::None };
            let x = random([n, groups * from, h, w], &device);
            let weight = random([groups * to, from, kernel, kernel], &device);
            let bias = biased.then(|| random([groups * to], &device));

            let [top, left, bottom, right] = padding;
            let padded = x.clone().pad((left, right, top, bottom), PadMode::Constant(0.0));
            let options = ConvOptions::new([stride; 2], [0, 0], [1, 1], groups);
            let want = activate(module::conv2d(padded, weight.clone(), bias.clone(), options), act);
            let last = x.clone().permute([0, 2, 3, 1]);
            let got = convolve(last, weight.clone(), bias.clone(), stride, padding, groups, act).permute([0, 3, 1, 2]);
            prop_assert!(apart(&values(got.clone()), &values(want.clone())) < 1e-4);

            let pull = Tensor::<4>::random(want.dims(), Distribution::Normal(0.0, 1.0), &device);
            let got = (got * pull.clone()).sum().backward();
            let want = (want * pull).sum().backward();
            for (what, got, want) in [
                ("input", x.grad(&got), x.grad(&want)),
                ("weight", weight.grad(&got), weight.grad(&want)),
            ] {
                let got = values(got.expect("own gradient"));
                let want = values(want.expect("burn's gradient"));
                prop_assert!(apart(&got, &want) < 1e-4, "{what}");
            }
            if let Some(bias) = bias {
                let got = bias.grad(&got).expect("own");
                let want = bias.grad(&want).expect("burn's");
                prop_assert!(apart(&values(got), &values(want)) < 1e-4, "bias");
            }
        }

        #[test]
        fn normalisation_and_its_gradients_equal_burns(
            channels in 1usize..=90, n in 2usize..=4, side in 2usize..=5, act in activations(), joined: bool, seed: u64,
        ) {
            let device = device(seed);
            let x = random([n, side, side, channels], &device);
            let gamma = random([channels], &device);
            let beta = random([channels], &device);
            let residual = joined.then(|| random([n, side, side, channels], &device));
            let (got, mean, variance) =
                normalise(x.clone(), gamma.clone(), beta.clone(), residual.clone(), 1e-5, act);

            let first = x.clone().permute([0, 3, 1, 2]);
            let result = module::batch_norm_train(first, gamma.clone(), beta.clone(), 1e-5);
            prop_assert!(apart(&values(mean), &values(result.mean)) < 1e-4);
            prop_assert!(apart(&values(variance), &values(result.variance)) < 1e-4);
            let want = result.output.permute([0, 2, 3, 1]);
            let want = activate(residual.clone().map_or(want.clone(), |r| want + r), act);
            prop_assert!(apart(&values(got.clone()), &values(want.clone())) < 1e-4);

            let pull = Tensor::<4>::random(want.dims(), Distribution::Normal(0.0, 1.0), &device);
            let got = (got * pull.clone()).sum().backward();
            let want = (want * pull).sum().backward();
            let both = |got: Option<Tensor<4>>, want: Option<Tensor<4>>| {
                apart(&values(got.expect("own gradient")), &values(want.expect("burn's gradient")))
            };
            prop_assert!(both(x.grad(&got), x.grad(&want)) < 1e-3, "input");
            if let Some(r) = residual {
                prop_assert!(both(r.grad(&got), r.grad(&want)) < 1e-4, "residual");
            }
            for (what, p) in [("gamma", gamma), ("beta", beta)] {
                let got = p.grad(&got).expect("own");
                let want = p.grad(&want).expect("burn's");
                prop_assert!(apart(&values(got), &values(want)) < 1e-3, "{what}");
            }
        }

        #[test]
        fn pools_and_their_gradients_equal_burns(
            c in 1usize..=20, n in 1usize..=3, h in 4usize..=9, w in 4usize..=9,
            kernel in 1usize..=4, stride in 1usize..=3, padding in 0usize..=1, largest: bool, seed: u64,
        ) {
            let device = device(seed);
            let padding = if largest && kernel > 1 { padding } else { 0 };
            let x = random([n, h, w, c], &device);
            let first = x.clone().permute([0, 3, 1, 2]);
            let (got, want) = if largest {
                let options = MaxPoolOptions::new([kernel; 2]).with_stride([stride; 2]).with_padding([padding; 2]);
                (max_pool(x.clone(), kernel, stride, padding), module::max_pool2d(first, options))
            } else {
                let options = AvgPoolOptions::new([kernel; 2]).with_stride([stride; 2]);
                (average_pool(x.clone(), kernel, stride), module::avg_pool2d(first, options))
            };
            let want = want.permute([0, 2, 3, 1]);
            prop_assert!(apart(&values(got.clone()), &values(want.clone())) < 1e-5);
            let pull = Tensor::<4>::random(want.dims(), Distribution::Normal(0.0, 1.0), &device);
            let got = (got * pull.clone()).sum().backward();
            let want = (want * pull).sum().backward();
            let got = x.grad(&got).expect("own");
            let want = x.grad(&want).expect("burn's");
            prop_assert!(apart(&values(got), &values(want)) < 1e-5);
        }

        #[test]
        fn gradients_of_a_convolution_are_its_slopes(
            (kernel, stride, padding, groups, from, to, h, w) in convolutions(), act in activations(), seed: u64,
        ) {
            let device = device(seed);
            let inputs = vec![
                random([2, h, w, groups * from], &device),
                random([groups * to, from, kernel, kernel], &device),
                random([1, 1, 1, groups * to], &device),
            ];
            slopes_agree(inputs, &device, |i| {
                let bias = i[2].clone().reshape([groups * to]);
                convolve(i[0].clone(), i[1].clone(), Some(bias), stride, padding, groups, act)
            })?;
        }

        #[test]
        fn gradients_of_a_normalisation_are_its_slopes(
            channels in 1usize..=20, n in 2usize..=4, side in 2usize..=4, act in activations(), joined: bool, seed: u64,
        ) {
            let device = device(seed);
            let dims = [n, side, side, channels];
            let inputs = vec![
                random(dims, &device),
                random([1, 1, 1, channels], &device),
                random([1, 1, 1, channels], &device),
                random(dims, &device),
            ];
            slopes_agree(inputs, &device, |i| {
                let [gamma, beta] = [1, 2].map(|k: usize| i[k].clone().reshape([channels]));
                // A residual that is left out still has a gradient, of zero.
                let residual = if joined { i[3].clone() } else { i[3].clone() * 0.0 };
                normalise(i[0].clone(), gamma, beta, Some(residual), 1e-3, act).0
            })?;
        }

        #[test]
        fn gradients_of_pools_are_their_slopes(
            side in 4usize..=9, kernel in 1usize..=4, stride in 1usize..=3, seed: u64,
        ) {
            let device = device(seed);
            let x = || vec![random([2, side, side, 3], &device)];
            slopes_agree(x(), &device, |i| max_pool(i[0].clone(), kernel, stride, kernel / 2))?;
            slopes_agree(x(), &device, |i| average_pool(i[0].clone(), kernel, stride))?;
        }
    }

    /// Finite differences: along a random direction through all inputs, the gradients' share is the slope of a random
    /// weighing of the output.
    fn slopes_agree(
        inputs: Vec<Tensor<4>>,
        device: &Device,
        f: impl Fn(&[Tensor<4>]) -> Tensor<4>,
    ) -> Result<(), TestCaseError> {
        const H: f32 = 1e-3;
        let normal = Distribution::Normal(0.0, 1.0);
        let y = f(&inputs);
        let pull = Tensor::<4>::random(y.dims(), normal, device);
        let grads = (y * pull.clone()).sum().backward();
        let directions: Vec<Tensor<4>> = inputs.iter().map(|t| Tensor::random(t.dims(), normal, device)).collect();
        let mut want = 0.0;
        let mut squares = 0.0;
        for (input, direction) in inputs.iter().zip(&directions) {
            let gradient = values(input.grad(&grads).expect("every input has a gradient"));
            for (g, d) in gradient.iter().zip(values(direction.clone())) {
                want += f64::from(*g) * f64::from(d);
                squares += f64::from(*g).powi(2);
            }
        }
        let outputs = |step: f32| {
            let moved: Vec<_> =
                inputs.iter().zip(&directions).map(|(t, d)| t.clone().detach() + d.clone() * step).collect();
            values(f(&moved))
        };
        let before = outputs(-H);
        let here = outputs(0.0);
        let after = outputs(H);
        let mut slope = 0.0;
        let mut kink = 0.0;
        for (i, pull) in values(pull).into_iter().enumerate() {
            // In float64, so that differences keep their digits.
            let [before, here, after, pull] = [before[i], here[i], after[i], pull].map(f64::from);
            slope += pull * (after - before) / f64::from(2.0 * H);
            // Where a value crosses the kink of an activation or of a maximum within the step, its slopes before and
            // after differ; the gradient is one of them, or lies between.
            kink += (pull * (after - 2.0 * here + before) / f64::from(H)).abs();
        }
        let off = (slope - want).abs();
        prop_assert!(off < 0.01 * squares.sqrt() + 0.03 + kink, "slope {slope}, gradients give {want}; kinks {kink}");
        Ok(())
    }
}
