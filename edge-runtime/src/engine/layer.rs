//! Where a layer stands: its activations in the arena, and what all operators ask of that.

use super::{Compute, View};
use crate::network::{Value, Window};
use kernels::{Requantise, Scaling, SlidingWindow, copy_pixels, scratch};

/// Products below which an operator is not worth a second thread. Anything from 20 000 to 200 000 is equally good with
/// AVX-512 VNNI; ten times more costs MobileNetV2 a tenth of what two threads bring.
const WORTH_A_THREAD: usize = 100_000;

/// Codes that are parted at least where they lie side by side: a cache line.
const CACHE_LINE: usize = 64;

/// An activation: where its codes lie, and what they mean.
#[derive(Debug, Clone)]
pub struct Activation {
    /// Where they lie in the arena.
    pub view: View,
    /// What they mean.
    pub value: Value,
}

/// A layer that gives codes.
pub struct Layer {
    /// What it reads.
    pub inputs: Vec<Activation>,
    /// What it gives.
    pub output: Activation,
    /// Codes below are raised to this.
    pub low: u8,
    /// Codes above are lowered to this.
    pub high: u8,
    /// On what it runs.
    pub compute: Compute,
}

/// The inputs of a layer while its output is written.
pub struct Inputs<'a> {
    layer: &'a Layer,
    before: &'a [u8],
    after: &'a [u8],
    /// First code of `after` in the arena.
    after_start: usize,
}

impl<'a> Inputs<'a> {
    /// The codes of input `i`, which the arena's plan keeps apart from what is written.
    pub fn codes(&self, i: usize) -> &'a [u8] {
        let range = self.layer.inputs[i].view.range();
        match range.start.checked_sub(self.after_start) {
            Some(start) => &self.after[start..start + range.len()],
            None => &self.before[range],
        }
    }
}

impl Layer {
    /// What it reads, and what it writes, of `arena`.
    pub fn split<'a>(&'a self, arena: &'a mut [u8]) -> (Inputs<'a>, &'a mut [u8]) {
        let out = self.output.view.range();
        let (before, rest) = arena.split_at_mut(out.start);
        let (codes, after) = rest.split_at_mut(out.end - out.start);
        (Inputs { layer: self, before, after, after_start: out.end }, codes)
    }

    /// How sums become codes of the output.
    pub fn requantise<'a>(&self, scaling: &'a Scaling) -> Requantise<'a> {
        Requantise {
            bias: &scaling.bias,
            multiplier: &scaling.multiplier,
            zero_point: self.output.value.zero_point,
            low: self.low,
            high: self.high,
            may_overflow: scaling.may_overflow,
            within_16_bits: scaling.within_16_bits,
        }
    }

    /// The code of a real value in steps of the output.
    pub fn code(&self, steps: f32) -> u8 {
        let code = kernels::portable::round(steps) + i32::from(self.output.value.zero_point);
        code.clamp(i32::from(self.low), i32::from(self.high)) as u8
    }

    /// Real values `[channels][height][width]` to the output's codes (ONNX `QuantizeLinear`).
    pub fn quantise(&self, reals: &[f32], out: &mut [u8]) {
        let Activation { view, value } = &self.output;
        let zero = f32::from(value.zero_point);
        for (c, plane) in reals.chunks_exact(view.pixels()).enumerate() {
            for (real, out) in plane.iter().zip(out[c..].iter_mut().step_by(view.pixel_stride)) {
                let code = (real / value.scale).round_ties_even() + zero;
                *out = (code.clamp(0.0, 255.0) as u8).clamp(self.low, self.high);
            }
        }
    }

    /// `window` over the codes of the first input.
    pub fn sliding_window<'a>(&self, window: &Window, input: &'a [u8]) -> SlidingWindow<'a> {
        let view = &self.inputs[0].view;
        let out_view = &self.output.view;
        let [height, width, channels] = view.shape;
        SlidingWindow {
            input,
            height,
            width,
            pixel_stride: view.pixel_stride,
            channels,
            kernel: window.kernel.map(|k| k as usize),
            stride: window.stride.map(|s| s as usize),
            dilation: window.dilation.map(|d| d as usize),
            padding: [window.padding[0] as usize, window.padding[1] as usize],
            out_width: out_view.shape[1],
            out_pixel_stride: out_view.pixel_stride,
        }
    }

    /// Calls `work` with a copy of the first input's codes that has a border, in the order of [`Window::padding`], and
    /// `overread` codes after it.
    pub fn with_border(&self, border: [u32; 4], overread: usize, input: &[u8], work: impl FnOnce(&[u8])) {
        let Activation { view, value } = &self.inputs[0];
        let [height, width, channels] = view.shape;
        let [top, left, bottom, right] = border.map(|p| p as usize);
        let line = (width + left + right) * channels;
        scratch::with::<u8, _>((top + height + bottom) * line + overread, |to| {
            to[..top * line].fill(value.zero_point);
            to[(top + height) * line..].fill(value.zero_point);
            for (y, to) in to.chunks_exact_mut(line).skip(top).take(height).enumerate() {
                to[..left * channels].fill(value.zero_point);
                to[(left + width) * channels..].fill(value.zero_point);
                let image = left * channels..(left + width) * channels;
                copy_pixels(&input[y * width * view.pixel_stride..], view.pixel_stride, &mut to[image], channels);
            }
            work(to);
        });
    }

    /// Shares a loop of `macs` multiply-accumulates among the threads: `body(first line, lines, codes)` for parts of a
    /// multiple of `step` lines of `line` codes.
    pub fn each_part(
        &self,
        macs: usize,
        out: &mut [u8],
        line: usize,
        step: usize,
        body: impl Fn(usize, usize, &mut [u8]) + Sync,
    ) {
        match macs < WORTH_A_THREAD {
            true => body(0, out.len().div_ceil(line), out),
            false => self.compute.team.each_part(out, line, step, body),
        }
    }

    /// Shares the output's lines, on which some kernels work whole: `body(first line, codes)`. A code takes `taps`
    /// multiply-accumulates.
    pub fn each_line(&self, taps: usize, out: &mut [u8], body: impl Fn(usize, &mut [u8]) + Sync) {
        let view = &self.output.view;
        let [height, width, channels] = view.shape;
        let macs = height * width * channels * taps;
        self.each_part(macs, out, width * view.pixel_stride, 1, |first, _, out| body(first, out));
    }

    /// Calls `body` with stretches of the output, and where each begins in the inputs (the last two are the same where
    /// there is one): one stretch where all lie side by side, else a pixel at a time.
    pub fn each_run(&self, out: &mut [u8], body: impl Fn(&mut [u8], [usize; 2]) + Sync) {
        let view = &self.output.view;
        let first = &self.inputs[0].view;
        let second = self.inputs.get(1).map_or(first, |i| &i.view);
        if view.is_contiguous() && first.is_contiguous() && second.is_contiguous() {
            let len = out.len();
            return self.each_part(len, out, 1, CACHE_LINE, |first, _, out| body(out, [first; 2]));
        }
        for (pixel, out) in out.chunks_mut(view.pixel_stride).enumerate() {
            let starts = [pixel * first.pixel_stride, pixel * second.pixel_stride];
            body(&mut out[..view.shape[2]], starts);
        }
    }
}
