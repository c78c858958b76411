//! What the layers of a float network read on calibration images.

use super::equalise::Maxima;
use super::layers::{Layer, layers};
use super::rounding::{Channels, Factor, Inputs, Rounding};
use crate::activations::{Activation, Seen, run};
use edge_runtime::engine::EngineError;
use edge_runtime::image::GreyPlane;
use edge_runtime::model::contract::InputContract;
use edge_runtime::onnx::pb;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tract_onnx::prelude::tract_ndarray::linalg::general_mat_mul;
use tract_onnx::prelude::tract_ndarray::{Array1, Array2, ArrayView1, Axis, Slice};

/// Most images whose layers are sampled.
pub const IMAGES: usize = 64;
/// Most weights of a row: the work grows with their cube. Longer rows are rounded plainly.
const LONGEST_ROW: usize = 1536;
/// Windows that are taken from each image for each layer.
const WINDOWS: usize = 96;
/// Values that are taken of each channel in each image.
const VALUES: usize = 32;

/// A tensor of one image: `[channels, height, width]`.
struct Picture<'a> {
    values: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a> Picture<'a> {
    fn of(activation: &Activation<'a>) -> Option<Picture<'a>> {
        let values = activation.values;
        match *activation.shape {
            [1, channels, height, width] => Some(Picture { values, channels, height, width }),
            [1, channels] => Some(Picture { values, channels, height: 1, width: 1 }),
            _ => None,
        }
    }

    /// Adds values at places that follow from `seed`, the same of all channels, to those of each.
    fn sample(&self, channels: &mut Channels, seed: u64) {
        let size = self.height * self.width;
        channels.resize(self.channels, Vec::new());
        let places = drawn(size, VALUES, seed);
        for (values, plane) in channels.iter_mut().zip(self.values.chunks_exact(size.max(1))) {
            values.extend(places.iter().map(|at| plane[*at]));
        }
    }
}

/// Largest absolute value of each channel of what layers read.
pub fn maxima(model: &pb::ModelProto, input: &InputContract, frames: &[&GreyPlane]) -> Result<Maxima, EngineError> {
    let names = inputs(&sampled(model));
    let mut maxima = Maxima::new();
    run(model, input, frames, &names, |_, seen| {
        for name in &names {
            let Some(a) = seen.get(name.as_str()).and_then(Picture::of) else { continue };
            let channels = maxima.entry(name.clone()).or_default();
            channels.values.resize(a.channels, 0.0);
            channels.seen += a.height * a.width;
            for (max, plane) in channels.values.iter_mut().zip(a.values.chunks_exact((a.height * a.width).max(1))) {
                *max = plane.iter().fold(*max, |max, value| max.max(value.abs()));
            }
        }
    })?;
    Ok(maxima)
}

/// What the layers of a network read on some images.
pub struct Samples {
    layers: Vec<Layer>,
    moments: Vec<Moments>,
    /// Some values of each tensor that layers read, channel by channel.
    values: BTreeMap<String, Channels>,
}

impl Samples {
    /// Of no image yet.
    pub fn of(model: &pb::ModelProto) -> Samples {
        let layers = sampled(model);
        let moments = layers.iter().filter(|layer| row(layer) <= LONGEST_ROW).map(Moments::of).collect();
        let values = inputs(&layers).into_iter().map(|name| (name, Channels::new())).collect();
        Samples { layers, moments, values }
    }

    /// Adds the image number `image`, of which the layers read what was `seen`.
    pub fn add(&mut self, image: usize, seen: &Seen) {
        let rounded = self.layers.iter().filter(|layer| row(layer) <= LONGEST_ROW).collect::<Vec<_>>();
        self.moments.par_iter_mut().zip(rounded).enumerate().for_each(|(k, (moments, layer))| {
            if let Some(picture) = seen.get(layer.input.as_str()).and_then(Picture::of) {
                moments.add(layer, &picture, (image * 8191 + k * 127) as u64);
            }
        });
        self.values.par_iter_mut().for_each(|(name, channels)| {
            if let Some(picture) = seen.get(name.as_str()).and_then(Picture::of) {
                picture.sample(channels, image as u64);
            }
        });
    }

    /// How the weights of each layer are rounded best for these images.
    pub fn rounding(self) -> Rounding {
        let Samples { layers, moments, values } = self;
        let values: BTreeMap<String, Arc<Channels>> =
            values.into_iter().map(|(name, channels)| (name, Arc::new(channels))).collect();
        let read = layers.iter().filter_map(|layer| Some((layer.weight.clone(), values.get(&layer.input)?.clone())));
        let read = read.collect();
        let rounded: Vec<&Layer> = layers.iter().filter(|layer| row(layer) <= LONGEST_ROW).collect();
        let factors = rounded
            .into_par_iter()
            .zip(moments)
            .filter_map(|(layer, moments)| moments.factor().map(|factor| (layer.weight.clone(), factor)));
        Rounding::from_par_iter(factors).with_inputs(read)
    }
}

fn sampled(model: &pb::ModelProto) -> Vec<Layer> {
    model.graph.as_ref().map(layers).unwrap_or_default()
}

/// Weights of a row of `layer`.
fn row(layer: &Layer) -> usize {
    let [_, depth, kh, kw] = layer.dims;
    depth * kh * kw
}

fn inputs(layers: &[Layer]) -> Vec<String> {
    layers.iter().map(|layer| layer.input.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Sums over the windows that a layer reads; one of each for each channel of a depthwise layer.
struct Moments {
    /// Of products; in single precision, since networks have hundreds of millions of them, and [`Inputs`] believes
    /// none to the last bits.
    products: Vec<Array2<f32>>,
    sums: Vec<Array1<f64>>,
    count: usize,
}

impl Moments {
    fn of(layer: &Layer) -> Moments {
        let n = row(layer);
        let parts = if layer.is_depthwise() { layer.dims[0] } else { 1 };
        Moments { products: vec![Array2::zeros((n, n)); parts], sums: vec![Array1::zeros(n); parts], count: 0 }
    }

    /// Adds some windows of `picture`, which follow from `seed`.
    fn add(&mut self, layer: &Layer, picture: &Picture, seed: u64) {
        let Some(windows) = windows(layer, picture, seed) else { return };
        let n = windows.ncols() / self.products.len();
        for (part, (products, sums)) in self.products.iter_mut().zip(&mut self.sums).enumerate() {
            let values = windows.slice_axis(Axis(1), Slice::from(part * n..(part + 1) * n));
            general_mat_mul(1.0, &values.t(), &values, 1.0, products);
            *sums += &values.map(|v| f64::from(*v)).sum_axis(Axis(0));
        }
        self.count += windows.nrows();
    }

    fn factor(self) -> Option<Factor> {
        let Moments { products, sums, count } = self;
        let lower = |products: &Array2<f32>| -> Vec<Vec<f64>> {
            let row = |(i, row): (usize, ArrayView1<f32>)| row.iter().take(i + 1).map(|v| f64::from(*v)).collect();
            products.outer_iter().enumerate().map(row).collect()
        };
        let mut inputs: Vec<Option<Inputs>> = products
            .iter()
            .zip(&sums)
            .map(|(products, sums)| Inputs::new(&lower(products), &sums.to_vec(), count))
            .collect();
        match inputs.len() {
            1 => inputs.pop().flatten().map(Factor::Shared),
            // A channel that is silent keeps its plain rounding.
            _ => Some(Factor::EachRow(inputs.into_iter().map(|i| i.unwrap_or(Inputs::NOTHING)).collect())),
        }
    }
}

/// Some of the windows that `layer` reads in `picture`, a row each.
fn windows(layer: &Layer, picture: &Picture, seed: u64) -> Option<Array2<f32>> {
    let [_, depth, kh, kw] = layer.dims;
    let [top, left, bottom, right] = layer.pads;
    let read = if layer.is_depthwise() { layer.dims[0] } else { depth };
    let reach = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
    let [high, wide] = [reach(kh, layer.dilations[0]), reach(kw, layer.dilations[1])];
    let padded = [picture.height + top + bottom, picture.width + left + right];
    if picture.channels != read || padded[0] < high || padded[1] < wide {
        return None;
    }
    let rows = (padded[0] - high) / layer.strides[0] + 1;
    let columns = (padded[1] - wide) / layer.strides[1] + 1;
    let places = drawn(rows * columns, WINDOWS, seed);
    let mut windows = Array2::zeros((places.len(), read * kh * kw));
    for (mut window, at) in windows.outer_iter_mut().zip(places) {
        let row = at / columns * layer.strides[0];
        let column = at % columns * layer.strides[1];
        let mut values = window.iter_mut();
        for channel in 0..read {
            let plane = &picture.values[channel * picture.height * picture.width..];
            for y in 0..kh {
                let y = (row + y * layer.dilations[0]).checked_sub(top).filter(|y| *y < picture.height);
                for x in 0..kw {
                    let x = (column + x * layer.dilations[1]).checked_sub(left).filter(|x| *x < picture.width);
                    if let (Some(value), Some((y, x))) = (values.next(), y.zip(x)) {
                        *value = plane[y * picture.width + x];
                    }
                }
            }
        }
    }
    Some(windows)
}

/// All of `count` places where they are few, else `most` that follow from `seed`.
fn drawn(count: usize, most: usize, seed: u64) -> Vec<usize> {
    if count <= most {
        return (0..count).collect();
    }
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let draw = |_| {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % count as u64) as usize
    };
    (0..most).map(draw).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use edge_runtime::model::contract::ResizeRule;
    use edge_runtime::onnx::{GraphBuilder, INPUT, LOGITS, int, ints};

    pub fn input() -> InputContract {
        InputContract { size: 32, channels: 1, resize: ResizeRule::Stretch, mean: vec![0.0], std: vec![255.0] }
    }

    pub fn frames(count: usize) -> Vec<&'static GreyPlane> {
        let frame =
            |seed: usize| GreyPlane::square(32, (0..1024).map(|i| ((i * (seed + 3) / 5) % 256) as u8).collect());
        (0..count).map(|seed| &*Box::leak(Box::new(frame(seed)))).collect()
    }

    /// A convolution of four channels of very different size, ReLU, a depthwise one, ReLU6, and a pointwise one.
    pub fn separable() -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input(INPUT, &[1, 1, 32, 32]);
        let weights = |n: usize, scale: &dyn Fn(usize) -> f32| -> Vec<f32> {
            (0..n).map(|i| scale(i) * (((i * 29 + 11) % 17) as f32 / 8.0 - 0.7)).collect()
        };
        let window =
            |stride: i64| vec![ints("kernel_shape", &[3, 3]), ints("strides", &[stride; 2]), ints("pads", &[1; 4])];
        b.floats("hidden.w", &[4, 1, 3, 3], &weights(36, &|i| [2.0, 0.3, 0.05, 1.0][i / 9]));
        b.floats("hidden.b", &[4], &[0.5, 0.1, 0.02, 0.2]);
        b.node("Conv", &[INPUT, "hidden.w", "hidden.b"], "hidden", window(1));
        b.node("Relu", &["hidden"], "hidden.relu", vec![]);
        b.floats("deep.w", &[4, 1, 3, 3], &weights(36, &|i| [0.02, 0.5, 2.0, 0.1][i / 9]));
        b.floats("deep.b", &[4], &[0.1; 4]);
        let mut depthwise = window(2);
        depthwise.push(int("group", 4));
        b.node("Conv", &["hidden.relu", "deep.w", "deep.b"], "deep", depthwise);
        b.floats("zero", &[], &[0.0]);
        b.floats("six", &[], &[6.0]);
        b.node("Clip", &["deep", "zero", "six"], "deep.relu6", vec![]);
        b.floats("point.w", &[3, 4, 1, 1], &weights(12, &|_| 1.0));
        b.node("Conv", &["deep.relu6", "point.w"], "point", vec![ints("kernel_shape", &[1, 1])]);
        b.node("GlobalAveragePool", &["point"], "pooled", vec![]);
        b.node("Flatten", &["pooled"], LOGITS, vec![int("axis", 1)]);
        b.output(LOGITS, &[1, 3]);
        b.finish("separable", vec![])
    }

    #[test]
    fn every_layer_is_sampled_and_rounds_what_it_reads_better() {
        let model = separable();
        let mut samples = Samples::of(&model);
        let names = inputs(&samples.layers);
        run(&model, &input(), &frames(8), &names, |image, seen| samples.add(image, seen)).unwrap();
        let rounding = samples.rounding();
        let mut names: Vec<&String> = rounding.names().collect();
        names.sort();
        assert_eq!(names, ["deep.w", "hidden.w", "point.w"]);
        assert!(matches!(rounding.factor("deep.w").unwrap(), Factor::EachRow(rows) if rows.len() == 4));
        let hidden = rounding.factor("hidden.w").unwrap();
        let (codes, _) = hidden.round(0, &[0.31, -0.22, 0.17, 0.05, 0.4, -0.1, 0.02, 0.3, -0.35], 0.1).unwrap();
        assert_eq!(codes.len(), 9);
    }
}
