//! The integer network as a graph of operators of our own in tract: `u8` in, `u8` out, one pass each.
//!
//! tract plans the order, holds the activations and frees them; what happens inside a step is [`super::kernels`].

use super::kernels::{self, Depthwise, Gemm, Kernel, PANEL, Requantise};
use super::{EngineError, Plan};
use crate::network::{Network, Node, Op as LayerOp, Value, Weights, Window};
use rayon::prelude::*;
use std::cell::RefCell;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;

/// Name of the plan's output that holds the logits; the map, if any, comes second.
pub const LOGITS: &str = crate::onnx::LOGITS;
/// Name of the plan's output that holds the codes of the class activation map.
pub const MAP: &str = crate::onnx::MAP;

/// Wires `network` (checked by [`Network::check`]) and lets tract plan it. The plan takes `u8` codes `[h, w, c]`.
pub fn plan(network: &Network) -> Result<Plan, EngineError> {
    let kernel = kernels::selected();
    let mut model = TypedModel::default();
    let fact = |v: &Value| u8::fact(v.shape.map(|d| d as usize));
    let mut outlets: Vec<Option<OutletId>> = vec![None; network.values.len()];
    outlets[0] = Some(model.add_source("image", fact(&network.values[0]))?);
    let mut logits = None;
    for node in &network.nodes {
        let inputs: TVec<OutletId> = node.inputs.iter().filter_map(|i| outlets[*i as usize]).collect();
        let layer = Layer(Arc::new(Prepared::new(network, node, kernel)));
        let wired = model.wire_node(&node.name, layer, &inputs)?[0];
        match node.output {
            Some(out) => outlets[out as usize] = Some(wired),
            None => logits = Some(wired),
        }
    }
    let mut outputs = vec![logits.ok_or_else(|| EngineError("the network gives no logits".into()))?];
    let mut names = vec![LOGITS.to_owned()];
    if let Some(map) = network.map {
        outputs.extend(outlets[map as usize]);
        names.push(MAP.to_owned());
    }
    model.select_output_outlets(&outputs)?;
    Plan::of_model(model, names)
}

/// One node of the network as a tract operator.
#[derive(Clone)]
struct Layer(Arc<Prepared>);

/// A node with its weights packed and its constants folded.
struct Prepared {
    name: &'static str,
    inputs: Vec<Value>,
    /// What it gives; `None` for logits.
    output: Option<Value>,
    low: u8,
    high: u8,
    work: Work,
    kernel: &'static Kernel,
}

enum Work {
    Gemm {
        window: Window,
        packed: Packed,
    },
    Grouped {
        window: Window,
        groups: usize,
        weights: Weights,
        bias: Vec<i32>,
        multiplier: Vec<f32>,
    },
    Depthwise {
        window: Window,
        weights: Vec<i16>,
        bias: Vec<i32>,
        multiplier: Vec<f32>,
    },
    Logits {
        weights: Weights,
        bias: Vec<i32>,
    },
    MaxPool {
        window: Window,
    },
    GlobalAveragePool,
    /// Real value of each code of either input, in steps of the output.
    Add {
        terms: [Vec<f32>; 2],
    },
}

/// Weights for [`Gemm`], filled up to whole panels.
struct Packed {
    pairs: usize,
    columns: usize,
    b: Vec<i16>,
    bias: Vec<i32>,
    multiplier: Vec<f32>,
}

impl Packed {
    fn new(weights: &Weights, bias: Vec<i32>, multiplier: Vec<f32>) -> Packed {
        let columns = weights.bias.len();
        let depth = weights.codes.len() / columns;
        let pairs = depth.div_ceil(2);
        let padded = columns.next_multiple_of(PANEL);
        let mut b = vec![0i16; padded * pairs * 2];
        for (column, codes) in weights.codes.chunks_exact(depth).enumerate() {
            let panel = &mut b[column / PANEL * pairs * PANEL * 2..];
            for (k, code) in codes.iter().enumerate() {
                panel[(k / 2 * PANEL + column % PANEL) * 2 + k % 2] = i16::from(*code);
            }
        }
        let fill = |mut v: Vec<f32>| {
            v.resize(padded, 0.0);
            v
        };
        let mut filled_bias = bias;
        filled_bias.resize(padded, 0);
        Packed { pairs, columns, b, bias: filled_bias, multiplier: fill(multiplier) }
    }
}

impl Prepared {
    fn new(network: &Network, node: &Node, kernel: &'static Kernel) -> Prepared {
        let inputs: Vec<Value> = node.inputs.iter().map(|i| network.values[*i as usize].clone()).collect();
        let output = node.output.map(|o| network.values[o as usize].clone());
        let x = &inputs[0];
        let multiplier = |w: &Weights| -> Vec<f32> {
            let y = output.as_ref().map_or(1.0, |v| v.scale);
            w.scales.iter().map(|s| x.scale * s / y).collect()
        };
        let (name, work) = match &node.op {
            LayerOp::Conv { window, groups, weights } => {
                let bias = folded_bias(weights, x.zero_point);
                let groups = *groups as usize;
                let channels = x.shape[2] as usize;
                let out = weights.bias.len();
                if groups == 1 {
                    let packed = Packed::new(weights, bias, multiplier(weights));
                    ("HilumConv", Work::Gemm { window: *window, packed })
                } else if groups == channels && out == channels {
                    let taps = weights.codes.len() / out;
                    let by_tap =
                        (0..taps).flat_map(|t| (0..out).map(move |c| i16::from(weights.codes[c * taps + t]))).collect();
                    (
                        "HilumDepthwise",
                        Work::Depthwise { window: *window, weights: by_tap, bias, multiplier: multiplier(weights) },
                    )
                } else {
                    let multiplier = multiplier(weights);
                    (
                        "HilumGroupedConv",
                        Work::Grouped { window: *window, groups, weights: weights.clone(), bias, multiplier },
                    )
                }
            }
            LayerOp::Dense { weights } => {
                let packed = Packed::new(weights, folded_bias(weights, x.zero_point), multiplier(weights));
                // A dense layer is a 1×1 convolution of one pixel.
                let window = Window { kernel: [x.shape[0], x.shape[1]], stride: [1, 1], padding: [0; 4] };
                ("HilumDense", Work::Gemm { window, packed })
            }
            LayerOp::Logits { weights } => {
                ("HilumLogits", Work::Logits { weights: weights.clone(), bias: folded_bias(weights, x.zero_point) })
            }
            LayerOp::MaxPool { window } => ("HilumMaxPool", Work::MaxPool { window: *window }),
            LayerOp::GlobalAveragePool => ("HilumGlobalAveragePool", Work::GlobalAveragePool),
            LayerOp::Add => {
                let to = output.as_ref().map_or(1.0, |v| v.scale);
                let term = |v: &Value| {
                    (0..=255u8).map(|c| (f32::from(c) - f32::from(v.zero_point)) * (v.scale / to)).collect()
                };
                ("HilumAdd", Work::Add { terms: [term(&inputs[0]), term(&inputs[1])] })
            }
        };
        Prepared { name, inputs, output, low: node.low, high: node.high, work, kernel }
    }

    fn requantise<'a>(&self, bias: &'a [i32], multiplier: &'a [f32]) -> Requantise<'a> {
        let zero_point = self.output.as_ref().map_or(0, |v| v.zero_point);
        Requantise { bias, multiplier, zero_point, low: self.low, high: self.high }
    }

    /// Real values to a code of the output.
    fn code(&self, real: f32) -> u8 {
        let zero = self.output.as_ref().map_or(0, |v| v.zero_point);
        let code = (real.round_ties_even() as i32).saturating_add(i32::from(zero));
        code.clamp(i32::from(self.low), i32::from(self.high)) as u8
    }

    fn run(&self, inputs: &[&[u8]], out: &mut [u8]) {
        let x = inputs[0];
        let shape = &self.inputs[0].shape.map(|d| d as usize);
        let [height, width, channels] = *shape;
        match &self.work {
            Work::Gemm { window, packed } => self.run_gemm(window, packed, x, out),
            Work::Depthwise { window, weights, bias, multiplier } => {
                with_scratch(|scratch: &mut Vec<u8>| {
                    let padded_width = pad(x, *shape, window, self.inputs[0].zero_point, scratch);
                    let out_width = self.output.as_ref().map_or(0, |v| v.shape[1] as usize);
                    let depthwise = Depthwise {
                        input: scratch,
                        width: padded_width,
                        channels,
                        kernel: window.kernel.map(|k| k as usize),
                        stride: window.stride.map(|s| s as usize),
                        out_width,
                        weights,
                        requantise: self.requantise(bias, multiplier),
                    };
                    let rows = 4;
                    if rayon::current_num_threads() > 1 {
                        out.par_chunks_mut(rows * out_width * channels)
                            .enumerate()
                            .for_each(|(i, o)| (self.kernel.depthwise)(&depthwise, i * rows, o));
                    } else {
                        (self.kernel.depthwise)(&depthwise, 0, out);
                    }
                });
            }
            Work::Grouped { window, groups, weights, bias, multiplier } => {
                self.run_grouped(window, *groups, weights, &self.requantise(bias, multiplier), x, out);
            }
            Work::MaxPool { window } => {
                let out_width = self.output.as_ref().map_or(0, |v| v.shape[1] as usize);
                for (at, pixel) in out.chunks_exact_mut(channels).enumerate() {
                    pixel.fill(self.low);
                    for (iy, ix) in taps(window, at / out_width, at % out_width, height, width) {
                        let from = &x[(iy * width + ix) * channels..][..channels];
                        pixel.iter_mut().zip(from).for_each(|(p, f)| *p = (*p).max(*f));
                    }
                    pixel.iter_mut().for_each(|p| *p = (*p).min(self.high));
                }
            }
            Work::GlobalAveragePool => {
                let (from, to) = (&self.inputs[0], self.output.as_ref().map_or(1.0, |v| v.scale));
                let count = (height * width) as i32;
                let scale = from.scale / (to * count as f32);
                let mut sums = vec![-count * i32::from(from.zero_point); channels];
                for pixel in x.chunks_exact(channels) {
                    sums.iter_mut().zip(pixel).for_each(|(s, p)| *s += i32::from(*p));
                }
                out.iter_mut().zip(sums).for_each(|(o, s)| *o = self.code(s as f32 * scale));
            }
            Work::Add { terms: [a, b] } => {
                for ((o, p), q) in out.iter_mut().zip(x).zip(inputs[1]) {
                    *o = self.code(a[usize::from(*p)] + b[usize::from(*q)]);
                }
            }
            Work::Logits { .. } => {}
        }
    }

    /// Dense convolution as products of gathered rows and packed weights, some rows at a time.
    fn run_gemm(&self, window: &Window, packed: &Packed, x: &[u8], out: &mut [u8]) {
        let shape = self.inputs[0].shape.map(|d| d as usize);
        let [_, width, channels] = shape;
        let [kernel_h, kernel_w] = window.kernel.map(|k| k as usize);
        let [stride_h, stride_w] = window.stride.map(|s| s as usize);
        let depth = packed.pairs * 2;
        let out_width = ((width + (window.padding[1] + window.padding[3]) as usize) - kernel_w) / stride_w + 1;
        let pointwise = (kernel_h, kernel_w, stride_h, stride_w) == (1, 1, 1, 1) && window.padding == [0; 4];
        with_scratch(|padded: &mut Vec<u8>| {
            let (source, source_width) = if window.padding == [0; 4] {
                (x, width)
            } else {
                let w = pad(x, shape, window, self.inputs[0].zero_point, padded);
                (&padded[..], w)
            };
            // About 24 KiB of widened activations: they stay in the first-level cache while all panels pass by.
            let rows = (12288 / depth).clamp(4, 64) / 4 * 4;
            let block = |index: usize, out: &mut [u8]| {
                with_scratch(|a: &mut Vec<i16>| {
                    let count = out.len() / packed.columns;
                    a.clear();
                    a.resize(count * depth, 0);
                    for (r, row) in a.chunks_exact_mut(depth).enumerate() {
                        let at = index * rows + r;
                        if pointwise {
                            widen(&source[at * channels..][..channels], row);
                            continue;
                        }
                        let (y, x) = (at / out_width * stride_h, at % out_width * stride_w);
                        for i in 0..kernel_h {
                            // The taps of one window row lie side by side, as memory is channels-last.
                            let from = &source[((y + i) * source_width + x) * channels..][..kernel_w * channels];
                            widen(from, &mut row[i * kernel_w * channels..]);
                        }
                    }
                    let requantise = self.requantise(&packed.bias, &packed.multiplier);
                    let gemm =
                        Gemm { a, rows: count, pairs: packed.pairs, b: &packed.b, columns: packed.columns, requantise };
                    (self.kernel.gemm)(&gemm, out);
                });
            };
            let chunk = rows * packed.columns;
            if rayon::current_num_threads() > 1 {
                out.par_chunks_mut(chunk).enumerate().for_each(|(i, o)| block(i, o));
            } else {
                out.chunks_mut(chunk).enumerate().for_each(|(i, o)| block(i, o));
            }
        });
    }

    /// Grouped convolution by its definition; no network of ours has one.
    fn run_grouped(&self, window: &Window, groups: usize, weights: &Weights, r: &Requantise, x: &[u8], out: &mut [u8]) {
        let [height, width, channels] = self.inputs[0].shape.map(|d| d as usize);
        let outputs = weights.bias.len();
        let (per_in, per_out) = (channels / groups, outputs / groups);
        let kernel = window.kernel.map(|k| k as usize);
        let out_width = self.output.as_ref().map_or(1, |v| v.shape[1] as usize);
        let zero = i32::from(self.inputs[0].zero_point);
        for (at, pixel) in out.chunks_exact_mut(outputs).enumerate() {
            let top = (at / out_width * window.stride[0] as usize) as i64 - i64::from(window.padding[0]);
            let left = (at % out_width * window.stride[1] as usize) as i64 - i64::from(window.padding[1]);
            for (o, code) in pixel.iter_mut().enumerate() {
                let mut sum = 0i32;
                for i in 0..kernel[0] {
                    for j in 0..kernel[1] {
                        let (y, c) = (top + i as i64, left + j as i64);
                        let inside = y >= 0 && c >= 0 && y < height as i64 && c < width as i64;
                        for k in 0..per_in {
                            let code = if inside {
                                let at = (y as usize * width + c as usize) * channels + o / per_out * per_in + k;
                                i32::from(x[at])
                            } else {
                                zero
                            };
                            let w = weights.codes[((o * kernel[0] + i) * kernel[1] + j) * per_in + k];
                            sum += code * i32::from(w);
                        }
                    }
                }
                *code = kernels::portable::requantise(r, o, sum);
            }
        }
    }
}

/// Bias less `zero_point · Σ weights`, so that kernels sum plain codes.
fn folded_bias(weights: &Weights, zero_point: u8) -> Vec<i32> {
    let depth = weights.codes.len() / weights.bias.len();
    let zero = i32::from(zero_point);
    let sums = weights.codes.chunks_exact(depth).map(|c| c.iter().map(|w| i32::from(*w)).sum::<i32>());
    weights.bias.iter().zip(sums).map(|(b, s)| b.wrapping_sub(zero.wrapping_mul(s))).collect()
}

fn widen(from: &[u8], to: &mut [i16]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = i16::from(*f));
}

/// Copies `x` into `to` with a border of `zero`; gives the padded width.
fn pad(x: &[u8], [height, width, channels]: [usize; 3], window: &Window, zero: u8, to: &mut Vec<u8>) -> usize {
    let [top, left, bottom, right] = window.padding.map(|p| p as usize);
    let padded_width = width + left + right;
    to.clear();
    to.resize((height + top + bottom) * padded_width * channels, zero);
    for (y, row) in x.chunks_exact(width * channels).enumerate() {
        let start = ((y + top) * padded_width + left) * channels;
        to[start..start + row.len()].copy_from_slice(row);
    }
    padded_width
}

/// Input positions under the window of output `(y, x)` that lie inside the image.
fn taps(window: &Window, y: usize, x: usize, height: usize, width: usize) -> impl Iterator<Item = (usize, usize)> {
    let range = |at: usize, axis: usize, side: usize| {
        let start = at * window.stride[axis] as usize;
        let (pad, kernel) = (window.padding[axis] as usize, window.kernel[axis] as usize);
        start.saturating_sub(pad)..(start + kernel).saturating_sub(pad).min(side)
    };
    let columns = range(x, 1, width);
    range(y, 0, height).flat_map(move |iy| columns.clone().map(move |ix| (iy, ix)))
}

/// Buffers that outlive a step, so that steady state does not allocate them: one stack of each type a thread.
trait Scratch: Sized {
    fn stack() -> &'static std::thread::LocalKey<RefCell<Vec<Vec<Self>>>>;
}

macro_rules! scratch {
    ($ty:ty) => {
        impl Scratch for $ty {
            fn stack() -> &'static std::thread::LocalKey<RefCell<Vec<Vec<$ty>>>> {
                thread_local!(static STACK: RefCell<Vec<Vec<$ty>>> = const { RefCell::new(Vec::new()) });
                &STACK
            }
        }
    };
}
scratch!(u8);
scratch!(i16);

fn with_scratch<T: Scratch + 'static, R>(work: impl FnOnce(&mut Vec<T>) -> R) -> R {
    let mut buffer = T::stack().with_borrow_mut(|s| s.pop().unwrap_or_default());
    let result = work(&mut buffer);
    T::stack().with_borrow_mut(|s| s.push(buffer));
    result
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?} → {:?}", self.0.name, self.0.inputs, self.0.output)
    }
}

impl PartialEq for Layer {
    fn eq(&self, other: &Layer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Layer {}

impl Op for Layer {
    fn name(&self) -> StaticName {
        self.0.name.into()
    }

    op_as_typed_op!();
}

impl EvalOp for Layer {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let layer = &self.0;
        let views: TractResult<TVec<_>> = inputs.iter().map(|i| i.try_as_plain_ram()).collect();
        let views = views?;
        let slices: TractResult<TVec<&[u8]>> = views.iter().map(|v| v.as_slice::<u8>()).collect();
        let slices = slices?;
        if let Work::Logits { weights, bias } = &layer.work {
            let x = slices[0];
            let scale = layer.inputs[0].scale;
            let logits: Vec<f32> = weights
                .codes
                .chunks_exact(x.len())
                .zip(bias.iter().zip(&weights.scales))
                .map(|(w, (bias, s))| {
                    let sum: i32 = w.iter().zip(x).map(|(w, x)| i32::from(*w) * i32::from(*x)).sum();
                    sum.wrapping_add(*bias) as f32 * (scale * s)
                })
                .collect();
            return Ok(tvec!(Tensor::from_shape(&[logits.len()], &logits)?.into()));
        }
        let Some(output) = &layer.output else { bail!("a layer without an output") };
        let mut tensor = Tensor::zero::<u8>(&output.shape.map(|d| d as usize))?;
        layer.run(&slices, tensor.try_as_plain_ram_mut()?.as_slice_mut::<u8>()?);
        Ok(tvec!(tensor.into()))
    }
}

impl TypedOp for Layer {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(match (&self.0.output, &self.0.work) {
            (Some(v), _) => tvec!(u8::fact(v.shape.map(|d| d as usize))),
            (None, Work::Logits { weights, .. }) => tvec!(f32::fact([weights.bias.len()])),
            (None, _) => bail!("a layer without an output"),
        })
    }

    as_op!();
}
