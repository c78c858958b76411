//! Convolutions and dense layers as matrix products over the windows of the input, where they lie.

use super::scaling;
use crate::engine::{EngineError, Layer, View};
use crate::network::{Weights, Window};
use crate::operators::PreparedOperator;
use kernels::{Gemm, Kernel, Packed, Windows};

/// Rows of the product that are parted at least: whole tiles of the kernels, or nearly so.
const TILE_ROWS: usize = 6;

/// A product for each group.
pub struct Product {
    name: &'static str,
    window: Window,
    groups: Vec<Packed>,
    layout: WindowLayout,
}

impl Product {
    /// Packs `weights`, whose codes move out, for the kernel of `layer`.
    pub fn prepare(name: &'static str, window: Window, groups: usize, weights: &mut Weights, layer: &Layer) -> Product {
        let kernel = layer.compute.kernel;
        let layout = WindowLayout::new(&window, groups, &layer.inputs[0].view, kernel);
        let columns = weights.bias.len() / groups;
        let mut scaling = scaling(weights, layer);
        let mut codes = std::mem::take(&mut weights.codes);
        let len = codes.len() / groups;
        // From the last on, so that the first, which mostly is the only one, keeps its memory.
        let mut packed: Vec<_> = (1..groups)
            .rev()
            .map(|g| {
                let codes = codes.split_off(g * len);
                Packed::new(codes, columns, layout.run, scaling.split_off(g * columns), kernel)
            })
            .collect();
        packed.push(Packed::new(codes, columns, layout.run, scaling, kernel));
        packed.reverse();
        Product { name, window, groups: packed, layout }
    }

    fn multiply(&self, layer: &Layer, input: &[u8], out: &mut [u8]) {
        let out_view = &layer.output.view;
        let rows = out_view.pixels();
        let layout = &self.layout;
        // Lines that follow each other like windows are one line, without ends to look out for.
        let one_line = layout.row_stride == layout.column_stride * out_view.shape[1];
        let windows = Windows {
            width: if one_line { rows } else { out_view.shape[1] },
            column_stride: layout.column_stride,
            row_stride: layout.row_stride,
            runs: &layout.runs,
        };
        let in_group = layer.inputs[0].view.shape[2] / self.groups.len();
        let macs = self.groups.iter().map(|weights| rows * weights.depth * weights.columns).sum();
        layer.each_part(macs, out, out_view.pixel_stride, TILE_ROWS, |first, rows, out| {
            for (group, weights) in self.groups.iter().enumerate() {
                let gemm = Gemm {
                    a: &input[group * in_group..],
                    windows,
                    first,
                    rows,
                    weights,
                    requantise: layer.requantise(&weights.scaling),
                    out_row_stride: out_view.pixel_stride,
                };
                (layer.compute.kernel.gemm)(&gemm, &mut out[group * weights.columns..]);
            }
        });
    }
}

impl PreparedOperator for Product {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, layer: &Layer, arena: &mut [u8]) -> Result<(), EngineError> {
        let (inputs, out) = layer.split(arena);
        let input = inputs.codes(0);
        match self.layout.padded {
            false => self.multiply(layer, input, out),
            true => layer.with_border(self.window.padding, self.layout.overread, input, |padded| {
                self.multiply(layer, padded, out);
            }),
        }
        Ok(())
    }
}

/// How the windows of a convolution lie in its input, or in the copy of it that has a border.
struct WindowLayout {
    /// Codes of a group that lie side by side in a window: all of it, a row or a tap.
    run: usize,
    /// Codes from the first of a window to the first of each run.
    runs: Vec<usize>,
    /// Codes from one window to the next in its line.
    column_stride: usize,
    /// Codes from one line of windows to the next.
    row_stride: usize,
    /// True if the windows lie over a copy that has a border.
    padded: bool,
    /// Codes that the last run is read beyond its end, because kernels take several at a time.
    overread: usize,
}

impl WindowLayout {
    fn new(window: &Window, groups: usize, input: &View, kernel: &Kernel) -> WindowLayout {
        // Without a border the input serves as it is, unless the last run would be read beyond its end.
        let direct = WindowLayout::over(window, groups, input, kernel, false);
        if window.padding == [0; 4] && direct.overread == 0 {
            return direct;
        }
        WindowLayout::over(window, groups, input, kernel, true)
    }

    fn over(window: &Window, groups: usize, input: &View, kernel: &Kernel, padded: bool) -> WindowLayout {
        let [_, width, channels] = input.shape;
        let in_group = channels / groups;
        let [kernel_h, kernel_w] = window.kernel.map(|k| k as usize);
        let [stride_h, stride_w] = window.stride.map(|s| s as usize);
        let [dilation_h, dilation_w] = window.dilation.map(|d| d as usize);
        let pixel_stride = if padded { channels } else { input.pixel_stride };
        let width = width + (window.padding[1] + window.padding[3]) as usize;
        let joined = pixel_stride == in_group;
        let row_joined = kernel_w == 1 || joined && dilation_w == 1;
        let whole_joined = row_joined && (kernel_h == 1 || joined && kernel_w == width && dilation_h == 1);
        let (lines, taps, run) = match (whole_joined, row_joined) {
            (true, _) => (1, 1, kernel_h * kernel_w * in_group),
            (_, true) => (kernel_h, 1, kernel_w * in_group),
            _ => (kernel_h, kernel_w, in_group),
        };
        let start = move |y: usize, x: usize| (y * dilation_h * width + x * dilation_w) * pixel_stride;
        WindowLayout {
            run,
            runs: (0..lines).flat_map(|y| (0..taps).map(move |x| start(y, x))).collect(),
            column_stride: stride_w * pixel_stride,
            row_stride: stride_h * width * pixel_stride,
            padded,
            overread: run.next_multiple_of(kernel.kr) - run,
        }
    }
}
