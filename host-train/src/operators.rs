//! The training kernels as differentiable operators on burn tensors of the CPU backend, channels-last: what
//! [`crate::network`] trains with on a CPU. Registered through burn's backend extensions; on another device a network
//! uses burn's own operators.

use crate::kernels::conv::{self, Geometry};
use crate::kernels::{Activation, norm, pool};
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::autodiff::NodeId;
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

/// activation(`x` ∗ `weight` + `bias`): `[n, h, w, from]` by `[to, from / groups, k, k]` to `[n, out_h, out_w, to]`. Without a
/// bias there is no activation either.
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

/// activation(γ·x̂ + β (+ residual)) with the statistics of this batch over all but the last axis; also the mean and the
/// (biased) variance of each channel, which no gradient flows through.
pub fn normalise(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    residual: Option<Tensor<4>>,
    epsilon: f64,
    activation: Activation,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let residual = residual.map_or(Maybe::Absent, |r| Maybe::Present(r.into_dispatch()));
    let (gamma, beta) = (gamma.into_dispatch(), beta.into_dispatch());
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
fn whole(x: FlexTensor) -> FlexTensor {
    let x = contiguous(x);
    if floats(&x).len() == x.storage::<f32>().len() { x } else { tensor(floats(&x).to_vec(), x.layout().shape()) }
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
        let (x, weight) = (contiguous(x), contiguous(weight));
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
        let (x, gamma, beta) = (contiguous(x), contiguous(gamma), contiguous(beta));
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

fn convolution_backward(
    [x, weight, bias]: [Option<NodeId>; 3],
    state: ConvolutionState,
    dy: FlexTensor,
    grads: &mut Gradients,
) {
    let g = &state.geometry;
    let mut dy = whole(dy);
    if let Some(y) = &state.y {
        norm::gate(state.activation, floats(y), dy.storage_mut());
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

impl Backward<Flex, 2> for ConvolutionBackward {
    type State = ConvolutionState;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let [x, weight] = ops.parents.map(|p| p.map(|node| node.id));
        convolution_backward([x, weight, None], ops.state, dy, grads);
    }
}

impl Backward<Flex, 3> for ConvolutionBackward {
    type State = ConvolutionState;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        convolution_backward(ops.parents.map(|p| p.map(|node| node.id)), ops.state, dy, grads);
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

fn normalisation_backward(
    [x, gamma, beta, residual]: [Option<NodeId>; 4],
    s: NormalisationState,
    dy: FlexTensor,
    grads: &mut Gradients,
) {
    let mut dy = whole(dy);
    let statistics = norm::Statistics { mean: floats(&s.mean).to_vec(), variance: floats(&s.variance).to_vec() };
    let shape = s.x.layout().shape();
    // Without an activation the residual's gradient is the output's.
    let mut dr = match (&residual, s.activation) {
        (None, _) => None,
        (Some(_), Activation::None) => Some(dy.clone()),
        (Some(_), _) => Some(FlexTensor::zeros(shape.clone(), dy.dtype())),
    };
    let kept = if s.activation == Activation::None { None } else { dr.as_mut().map(|dr| dr.storage_mut()) };
    let tensors = (floats(&s.x), s.y.as_ref().map(floats), dy.storage_mut());
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

impl Backward<Flex, 3> for NormalisationBackward {
    type State = NormalisationState;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        let [x, gamma, beta] = ops.parents.map(|p| p.map(|node| node.id));
        normalisation_backward([x, gamma, beta, None], ops.state, dy, grads);
    }
}

impl Backward<Flex, 4> for NormalisationBackward {
    type State = NormalisationState;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<Flex>(&ops.node);
        normalisation_backward(ops.parents.map(|p| p.map(|node| node.id)), ops.state, dy, grads);
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
        let (x, weight) = (contiguous(x), contiguous(weight));
        let state = |y| ConvolutionState { x: x.clone(), weight: weight.clone(), y, geometry, activation };
        match bias {
            Maybe::Absent => {
                let y = Flex::convolution(x.clone(), weight.clone(), Maybe::Absent, geometry, activation);
                match Backward::<Flex, 2>::prepare::<C>(ConvolutionBackward, [x_node, weight_node])
                    .compute_bound()
                    .stateful()
                {
                    OpsKind::Tracked(prep) => prep.finish(state(None), y),
                    OpsKind::UnTracked(prep) => prep.finish(y),
                }
            }
            Maybe::Present(bias) => {
                let (bias, bias_node) = bias.into_parts();
                let y = Flex::convolution(x.clone(), weight.clone(), Maybe::Present(bias), geometry, activation);
                match Backward::<Flex, 3>::prepare::<C>(ConvolutionBackward, [x_node, weight_node, bias_node])
                    .compute_bound()
                    .stateful()
                {
                    OpsKind::Tracked(prep) => {
                        let kept = (activation != Activation::None).then(|| y.clone());
                        prep.finish(state(kept), y)
                    }
                    OpsKind::UnTracked(prep) => prep.finish(y),
                }
            }
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
        let (x, gamma) = (contiguous(x), contiguous(gamma));
        let (residual, residual_node) = match residual {
            Maybe::Absent => (Maybe::Absent, None),
            Maybe::Present(r) => {
                let (r, node) = r.into_parts();
                (Maybe::Present(r), Some(node))
            }
        };
        let (y, mean, variance) =
            Flex::normalisation(x.clone(), gamma.clone(), beta, residual, epsilon, activation);
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
            None => match Backward::<Flex, 3>::prepare::<C>(NormalisationBackward, [x_node, gamma_node, beta_node])
                .compute_bound()
                .stateful()
            {
                OpsKind::Tracked(prep) => prep.finish(state, y),
                OpsKind::UnTracked(prep) => prep.finish(y),
            },
            Some(r_node) => {
                let nodes = [x_node, gamma_node, beta_node, r_node];
                match Backward::<Flex, 4>::prepare::<C>(NormalisationBackward, nodes).compute_bound().stateful() {
                    OpsKind::Tracked(prep) => prep.finish(state, y),
                    OpsKind::UnTracked(prep) => prep.finish(y),
                }
            }
        };
        (y, Self::from_inner(mean), Self::from_inner(variance))
    }

    fn max_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let x = contiguous(x);
        let y = Flex::max_pooling(x.clone(), geometry);
        match MaxPoolingBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, y.clone(), geometry), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn average_pooling(x: FloatTensor<Self>, geometry: pool::Geometry) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let y = Flex::average_pooling(x, geometry);
        match AveragePoolingBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(geometry, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
