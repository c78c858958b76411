//! What the layers of a float network read on calibration images.

use super::equalise::Maxima;
use super::layers::{Layer, layers};
use super::rounding::{Factor, Inputs, Rounding};
use edge_runtime::engine::{EngineError, FloatPlan, floats};
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;
use edge_runtime::onnx::pb;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Most images whose layers are sampled.
pub const IMAGES: usize = 64;
/// Most weights of a row: the work grows with their cube. Longer rows are rounded plainly.
const LONGEST_ROW: usize = 1536;
/// Windows that are taken from each image for each layer.
const WINDOWS: usize = 96;

/// A tensor of one image: `[channels, height, width]`.
struct Activation<'a> {
    values: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
}

/// Calls `see` with the tensors `names` of each of `frames`.
fn run(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    names: &[String],
    mut see: impl FnMut(usize, &HashMap<&str, Activation>),
) -> Result<(), EngineError> {
    let image = model.graph.as_ref().and_then(|g| g.input.first()).map_or(String::new(), |i| i.name.clone());
    let inner: Vec<String> = names.iter().filter(|name| **name != image).cloned().collect();
    // A network of one layer has no tensor but its image.
    let plan = if inner.is_empty() { None } else { Some(FloatPlan::new(model, Some(&inner))?) };
    let side = input.size as usize;
    for (i, frame) in frames.iter().enumerate() {
        let values = normalise(frame, input);
        let shape = [1, input.channels as usize, side, side];
        let outputs = match &plan {
            Some(plan) => plan.run(&shape, &values)?,
            None => vec![],
        };
        let mut seen = HashMap::new();
        seen.insert(image.as_str(), activation(&values, &shape));
        for (name, output) in inner.iter().zip(&outputs) {
            if let Ok(values) = floats(output) {
                seen.insert(name.as_str(), activation(values, output.shape()));
            }
        }
        see(i, &seen.into_iter().filter_map(|(name, activation)| activation.map(|a| (name, a))).collect());
    }
    Ok(())
}

fn activation<'a>(values: &'a [f32], shape: &[usize]) -> Option<Activation<'a>> {
    match *shape {
        [1, channels, height, width] => Some(Activation { values, channels, height, width }),
        [1, channels] => Some(Activation { values, channels, height: 1, width: 1 }),
        _ => None,
    }
}

/// Largest absolute value of each channel of what layers read.
pub fn maxima(model: &pb::ModelProto, input: &InputContract, frames: &[&GreyPlane]) -> Result<Maxima, EngineError> {
    let names = inputs(&sampled(model));
    let mut maxima = Maxima::new();
    run(model, input, frames, &names, |_, seen| {
        for name in &names {
            let Some(a) = seen.get(name.as_str()) else { continue };
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

/// How the weights of each layer of `model` are rounded best for `frames`.
pub fn rounding(
    model: &pb::ModelProto,
    input: &InputContract,
    frames: &[&GreyPlane],
    mut progress: impl FnMut(usize),
) -> Result<Rounding, EngineError> {
    let layers: Vec<Layer> = sampled(model).into_iter().filter(|layer| row(layer) <= LONGEST_ROW).collect();
    let names = inputs(&layers);
    let mut moments: Vec<Moments> = layers.iter().map(Moments::of).collect();
    run(model, input, frames, &names, |image, seen| {
        moments.par_iter_mut().zip(&layers).enumerate().for_each(|(k, (moments, layer))| {
            if let Some(activation) = seen.get(layer.input.as_str()) {
                moments.add(layer, activation, (image * 8191 + k * 127) as u64);
            }
        });
        progress(image + 1);
    })?;
    let factors = layers
        .par_iter()
        .zip(moments)
        .filter_map(|(layer, moments)| moments.factor().map(|factor| (layer.weight.clone(), factor)));
    Ok(factors.collect())
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

/// Sums over the windows that a layer reads.
struct Moments {
    /// Of products, the lower triangle; one for each channel of a depthwise layer.
    products: Vec<Vec<Vec<f64>>>,
    sums: Vec<Vec<f64>>,
    count: usize,
}

impl Moments {
    fn of(layer: &Layer) -> Moments {
        let n = row(layer);
        let parts = if layer.is_depthwise() { layer.dims[0] } else { 1 };
        let triangle: Vec<Vec<f64>> = (0..n).map(|i| vec![0.0; i + 1]).collect();
        Moments { products: vec![triangle; parts], sums: vec![vec![0.0; n]; parts], count: 0 }
    }

    /// Adds some windows of `activation`, which follow from `seed`.
    fn add(&mut self, layer: &Layer, activation: &Activation, seed: u64) {
        let [_, depth, kh, kw] = layer.dims;
        let [top, left, bottom, right] = layer.pads;
        let read = if layer.is_depthwise() { layer.dims[0] } else { depth };
        let reach = |kernel: usize, dilation: usize| (kernel - 1) * dilation + 1;
        let [high, wide] = [reach(kh, layer.dilations[0]), reach(kw, layer.dilations[1])];
        let padded = [activation.height + top + bottom, activation.width + left + right];
        if activation.channels != read || padded[0] < high || padded[1] < wide {
            return;
        }
        let rows = (padded[0] - high) / layer.strides[0] + 1;
        let columns = (padded[1] - wide) / layer.strides[1] + 1;
        let windows = (rows * columns).min(WINDOWS);
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let mut draw = |below: usize| {
            // SplitMix64.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) % below as u64) as usize
        };
        let mut window = vec![0f32; read * kh * kw];
        for k in 0..windows {
            let at = if windows == rows * columns { k } else { draw(rows * columns) };
            let row = at / columns * layer.strides[0];
            let column = at % columns * layer.strides[1];
            let mut values = window.iter_mut();
            for channel in 0..read {
                let plane = &activation.values[channel * activation.height * activation.width..];
                for y in 0..kh {
                    let y = (row + y * layer.dilations[0]).checked_sub(top).filter(|y| *y < activation.height);
                    for x in 0..kw {
                        let x = (column + x * layer.dilations[1]).checked_sub(left).filter(|x| *x < activation.width);
                        if let (Some(value), place) = (values.next(), y.zip(x)) {
                            *value = place.map_or(0.0, |(y, x)| plane[y * activation.width + x]);
                        }
                    }
                }
            }
            let part = window.len() / self.products.len();
            for ((products, sums), values) in
                self.products.iter_mut().zip(&mut self.sums).zip(window.chunks_exact(part))
            {
                accumulate(products, sums, values);
            }
            self.count += 1;
        }
    }

    fn factor(self) -> Option<Factor> {
        let Moments { products, sums, count } = self;
        let mut inputs: Vec<Option<Inputs>> =
            products.iter().zip(&sums).map(|(products, sums)| Inputs::new(products, sums, count)).collect();
        match inputs.len() {
            1 => inputs.pop().flatten().map(Factor::Shared),
            // A channel that is silent keeps its plain rounding.
            _ => Some(Factor::EachRow(inputs.into_iter().map(|i| i.unwrap_or(Inputs::NOTHING)).collect())),
        }
    }
}

fn accumulate(products: &mut [Vec<f64>], sums: &mut [f64], values: &[f32]) {
    for (i, value) in values.iter().enumerate() {
        let value = f64::from(*value);
        sums[i] += value;
        if value != 0.0 {
            products[i].iter_mut().zip(values).for_each(|(sum, other)| *sum += value * f64::from(*other));
        }
    }
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
        let rounding = rounding(&model, &input(), &frames(8), |_| ()).unwrap();
        let mut names: Vec<&String> = rounding.names().collect();
        names.sort();
        assert_eq!(names, ["deep.w", "hidden.w", "point.w"]);
        assert!(matches!(rounding.factor("deep.w").unwrap(), Factor::EachRow(rows) if rows.len() == 4));
        let hidden = rounding.factor("hidden.w").unwrap();
        let (codes, _) = hidden.round(0, &[0.31, -0.22, 0.17, 0.05, 0.4, -0.1, 0.02, 0.3, -0.35], 0.1).unwrap();
        assert_eq!(codes.len(), 9);
    }
}
