//! Pools.

use super::{Form, OnnxOperator, Operator, PreparedOperator};
use crate::engine::{EngineError, Layer};
use crate::lower::{LowerError, Lowered, Lowering, OnnxNode, unsupported};
use crate::network::{Value, Window};
use crate::onnx;
use serde::{Deserialize, Serialize};

/// Channels that are summed together.
const LANES: usize = 16;

/// Largest code in each window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaxPool {
    /// Geometry, without dilation.
    pub window: Window,
}

/// Mean over all rows and columns, `[1, 1, channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GlobalAveragePool;

/// Mean of the codes in each window (ONNX `AveragePool`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AveragePool {
    /// Geometry, without dilation.
    pub window: Window,
    /// True if padding counts as real zeros, false if only what lies inside is averaged.
    pub count_padding: bool,
}

fn fits(window: &Window, input: &Value, output: Option<&Value>) -> bool {
    output.is_some_and(|o| o.channels() == input.channels() && window.fits_pool(input.size(), o.size()))
}

/// The window of a pool; those with dilation have no integer form.
fn undilated(l: &Lowering, node: &OnnxNode) -> Result<Window, LowerError> {
    let window = l.window(node, None)?;
    match window.dilation {
        [1, 1] => Ok(window),
        _ => Err(unsupported(&node.name, "a pool with dilation has no integer form")),
    }
}

fn describe(kind: &str, window: &Window) -> String {
    format!("{kind} {}×{}", window.kernel[0], window.kernel[1])
}

impl MaxPool {
    pub(super) const ONNX: &'static [OnnxOperator] =
        &[OnnxOperator { name: "MaxPool", form: Form::Picked, lower: MaxPool::lower }];

    fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
        let input = l.value(node, node.input(0))?;
        let shape = l.shape(input);
        let mut window = undilated(l, node)?;
        if onnx::int_or(node.proto, "ceil_mode", 0) != 0 {
            window = window.covering([shape[0], shape[1]]);
        }
        let out = l.output_shape(node, &window, shape, shape[2])?;
        Ok(Lowered::operator(MaxPool { window }.into(), vec![input], out))
    }
}

impl Operator for MaxPool {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        fits(&self.window, inputs[0], output)
    }

    fn describe(&self) -> String {
        describe("max pool", &self.window)
    }

    fn prepare(&mut self, _: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for MaxPool {
    fn name(&self) -> &'static str {
        "HilumMaxPool"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let pool = kernels::MaxPool {
            window: layer.sliding_window(&self.window, inputs.codes(0)),
            low: layer.low,
            high: layer.high,
        };
        let taps = pool.window.kernel[0] * pool.window.kernel[1];
        layer.each_line(taps, out, |first, out| (layer.compute.kernel.max_pool)(&pool, first, out));
        Ok(())
    }
}

impl GlobalAveragePool {
    pub(super) const ONNX: &'static [OnnxOperator] =
        &[OnnxOperator { name: "GlobalAveragePool", form: Form::Computed, lower: GlobalAveragePool::lower }];

    fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
        let input = l.value(node, node.input(0))?;
        let [_, _, channels] = l.shape(input);
        Ok(Lowered::operator(GlobalAveragePool.into(), vec![input], [1, 1, channels]))
    }
}

impl Operator for GlobalAveragePool {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        output.is_some_and(|o| o.shape == [1, 1, inputs[0].channels()])
    }

    fn describe(&self) -> String {
        "global average pool".into()
    }

    fn prepare(&mut self, _: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for GlobalAveragePool {
    fn name(&self) -> &'static str {
        "HilumGlobalAveragePool"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let view = &layer.inputs[0].view;
        let count = view.pixels();
        let mean = Mean::new(layer, count, count);
        mean.write(layer, inputs.codes(0), (0..count).map(|p| p * view.pixel_stride), out);
        Ok(())
    }
}

impl AveragePool {
    pub(super) const ONNX: &'static [OnnxOperator] =
        &[OnnxOperator { name: "AveragePool", form: Form::Computed, lower: AveragePool::lower }];

    fn lower(l: &Lowering, node: &OnnxNode) -> Result<Lowered, LowerError> {
        let input = l.value(node, node.input(0))?;
        let shape = l.shape(input);
        let window = undilated(l, node)?;
        let out = l.output_shape(node, &window, shape, shape[2])?;
        let count_padding = onnx::int_or(node.proto, "count_include_pad", 0) != 0;
        Ok(Lowered::operator(AveragePool { window, count_padding }.into(), vec![input], out))
    }
}

impl Operator for AveragePool {
    fn fits(&self, inputs: &[&Value], output: Option<&Value>) -> bool {
        fits(&self.window, inputs[0], output)
    }

    fn describe(&self) -> String {
        describe("average pool", &self.window)
    }

    fn prepare(&mut self, _: &Layer) -> Result<Box<dyn PreparedOperator>, EngineError> {
        Ok(Box::new(self.clone()))
    }
}

impl PreparedOperator for AveragePool {
    fn name(&self) -> &'static str {
        "HilumAveragePool"
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let input = inputs.codes(0);
        let view = &layer.inputs[0].view;
        let out_view = &layer.output.view;
        let width = view.shape[1];
        let taps = (self.window.kernel[0] * self.window.kernel[1]) as usize;
        for (i, pixel) in out.chunks_mut(out_view.pixel_stride).enumerate() {
            let rows = valid(&self.window, 0, i / out_view.shape[1], view.shape[0]);
            let columns = valid(&self.window, 1, i % out_view.shape[1], width);
            let seen = rows.len() * columns.len();
            let mean = Mean::new(layer, seen, if self.count_padding { taps } else { seen });
            let pixels = rows.flat_map(|y| columns.clone().map(move |x| (y * width + x) * view.pixel_stride));
            mean.write(layer, input, pixels, pixel);
        }
        Ok(())
    }
}

/// Rows (`axis` 0) or columns under window `at` that lie inside the image, `side` long; the window has no holes.
fn valid(window: &Window, axis: usize, at: usize, side: usize) -> std::ops::Range<usize> {
    let start = at * window.stride[axis] as usize;
    let padding = window.padding[axis] as usize;
    let end = (start + window.kernel[axis] as usize).saturating_sub(padding).min(side);
    start.saturating_sub(padding)..end
}

/// From sums of codes to the code of their mean.
struct Mean {
    /// Zero points in the sum.
    zero: i32,
    /// Steps of the output for each step of the sum.
    scale: f32,
}

impl Mean {
    /// Of `seen` pixels, as a share of `count`.
    fn new(layer: &Layer, seen: usize, count: usize) -> Mean {
        let value = &layer.inputs[0].value;
        let scale = value.scale / (layer.output.value.scale * count as f32);
        Mean { zero: seen as i32 * i32::from(value.zero_point), scale }
    }

    /// The mean of the pixels that begin at `pixels`, channel by channel.
    fn write(&self, layer: &Layer, codes: &[u8], pixels: impl Iterator<Item = usize> + Clone, out: &mut [u8]) {
        let channels = layer.output.view.shape[2];
        for (c, out) in out[..channels].chunks_mut(LANES).enumerate() {
            let mut sums = [-self.zero; LANES];
            for pixel in pixels.clone() {
                let from = &codes[pixel + c * LANES..][..out.len()];
                sums.iter_mut().zip(from).for_each(|(s, f)| *s += i32::from(*f));
            }
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = layer.code(s as f32 * self.scale));
        }
    }
}
