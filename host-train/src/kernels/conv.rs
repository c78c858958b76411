//! Convolution and its two gradients. Depthwise: direct. Pointwise with stride 1: one matrix product. Everything else:
//! the windows of some pixels are laid out as rows of a matrix (im2col) and multiplied, block by block so that the rows
//! stay in the cache.

use super::{Activation, Matrix, depthwise, filled, parts, product, sum, vectorised};
use rayon::prelude::*;
use std::cell::Cell;

/// A convolution's sizes. Weights are `[to, from / groups, kernel, kernel]`, as in ONNX `Conv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Input channels.
    pub from: usize,
    /// Output channels.
    pub to: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Rows and columns between outputs.
    pub stride: usize,
    /// Zeros added at top, left, bottom, right.
    pub padding: [usize; 4],
    /// Divides both channel counts.
    pub groups: usize,
}

impl Geometry {
    /// Output rows and columns.
    pub fn output(&self) -> (usize, usize) {
        let [top, left, bottom, right] = self.padding;
        let side = |inner: usize| (inner - self.kernel) / self.stride + 1;
        (side(self.h + top + bottom), side(self.w + left + right))
    }

    /// Output pixels of all images.
    pub fn pixels(&self) -> usize {
        let (h, w) = self.output();
        self.n * h * w
    }

    /// Elements of the output `[n, out_h, out_w, to]`.
    pub fn output_len(&self) -> usize {
        self.pixels() * self.to
    }

    fn input_len(&self) -> usize {
        self.n * self.h * self.w * self.from
    }

    fn weight_len(&self) -> usize {
        self.to * self.from / self.groups * self.kernel * self.kernel
    }

    pub(super) fn is_depthwise(&self) -> bool {
        self.groups == self.from && self.groups == self.to && self.groups > 1
    }

    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1 && self.padding == [0; 4] && self.groups == 1
    }

    /// Elements of one group's window.
    fn window(&self) -> usize {
        self.kernel * self.kernel * self.from / self.groups
    }

    /// Pixels whose windows are laid out at a time: about a megabyte, but enough rows to be worth packing the weights
    /// for.
    fn block(&self) -> usize {
        ((1 << 18) / self.window()).clamp(192, 4096)
    }

    /// The convolution that takes the output's gradient to the input's, for stride 1: windows of the gradient, weights
    /// mirrored and transposed.
    fn adjoint(&self) -> Option<Geometry> {
        let (h, w) = self.output();
        let far = self.kernel - 1;
        if self.stride != 1 || self.padding.iter().any(|p| *p > far) {
            return None;
        }
        Some(Geometry { h, w, from: self.to, to: self.from, padding: self.padding.map(|p| far - p), ..*self })
    }
}

/// y = activation(x ∗ weight + bias): `x` `[n, h, w, from]`, gives `[n, out_h, out_w, to]`.
pub fn forward(g: &Geometry, x: &[f32], weight: &[f32], bias: Option<&[f32]>, activation: Activation) -> Vec<f32> {
    assert_eq!((x.len(), weight.len()), (g.input_len(), g.weight_len()), "{g:?}");
    let (low, high) = activation.bounds();
    let finish = |y: &mut [f32]| {
        if let Some(bias) = bias {
            vectorised(|| {
                for row in y.chunks_exact_mut(bias.len()) {
                    row.iter_mut().zip(bias).for_each(|(y, b)| *y = (*y + b).clamp(low, high));
                }
            });
        }
    };
    if g.is_depthwise() {
        return depthwise::forward(g, x, weight, finish);
    }
    windows_times(g, x, &packed(g, weight), finish)
}

/// Gradient of the input, `[n, h, w, from]`, from that of the output.
pub fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!((dy.len(), weight.len()), (g.output_len(), g.weight_len()), "{g:?}");
    match (g.is_depthwise(), g.adjoint()) {
        // Taps mirrored; there is nothing to transpose in a depthwise convolution.
        (true, Some(adjoint)) => {
            let taps = g.kernel * g.kernel;
            let mirrored: Vec<f32> = weight.chunks_exact(taps).flat_map(|w| w.iter().rev().copied()).collect();
            depthwise::forward(&adjoint, dy, &mirrored, |_| {})
        }
        (true, None) => depthwise::strided_input_gradient(g, weight, dy),
        (false, Some(adjoint)) => windows_times(&adjoint, dy, &mirrored(g, weight), |_| {}),
        (false, None) => scatter_windows(g, &packed(g, weight), dy),
    }
}

/// Gradient of the weights, `[to, from / groups, kernel, kernel]`, from the input and the gradient of the output.
pub fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    assert_eq!((x.len(), dy.len()), (g.input_len(), g.output_len()), "{g:?}");
    if g.is_depthwise() {
        return depthwise::weight_gradient(g, x, dy);
    }
    let window = g.window();
    let to = g.to / g.groups;
    let gradients = parts(g.pixels()).into_par_iter().map(|part| {
        let mut dw = vec![0.0; g.to * window];
        if g.is_pointwise() {
            let dy = Matrix::new(&dy[part.start * g.to..part.end * g.to], part.len(), g.to);
            let x = Matrix::new(&x[part.start * g.from..part.end * g.from], part.len(), g.from);
            product(&mut dw, window, false, dy.transposed(), x);
            return dw;
        }
        with_scratch(g.block() * window, |rows| {
            for start in part.clone().step_by(g.block()) {
                let count = g.block().min(part.end - start);
                for group in 0..g.groups {
                    gather(g, x, group, start, &mut rows[..count * window]);
                    let dy = Matrix {
                        values: &dy[start * g.to + group * to..],
                        rows: count,
                        columns: to,
                        strides: (g.to, 1),
                    };
                    let rows = Matrix::new(rows, count, window);
                    product(&mut dw[group * to * window..], window, true, dy.transposed(), rows);
                }
            }
        });
        dw
    });
    let dw = sum(gradients.collect());
    // From [to, ky, kx, from] back to [to, from, ky, kx].
    let from = g.from / g.groups;
    let taps = g.kernel * g.kernel;
    let mut out = vec![0.0; dw.len()];
    for (to, dw) in dw.chunks_exact(window).enumerate() {
        for c in 0..from {
            for tap in 0..taps {
                out[to * window + c * taps + tap] = dw[tap * from + c];
            }
        }
    }
    out
}

/// Gradient of a bias: the sum over all pixels, for each of `channels`.
pub fn bias_gradient(channels: usize, dy: &[f32]) -> Vec<f32> {
    let sums = parts(dy.len() / channels).into_par_iter().map(|part| {
        let mut total = vec![0.0; channels];
        vectorised(|| {
            for row in dy[part.start * channels..part.end * channels].chunks_exact(channels) {
                total.iter_mut().zip(row).for_each(|(t, v)| *t += v);
            }
        });
        total
    });
    sum(sums.collect())
}

/// Weights as `[to, ky, kx, from]`: in the order of a window's row.
fn packed(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let from = g.from / g.groups;
    let taps = g.kernel * g.kernel;
    if taps == 1 {
        return weight.to_vec();
    }
    let mut out = vec![0.0; weight.len()];
    for (out, weight) in out.chunks_exact_mut(from * taps).zip(weight.chunks_exact(from * taps)) {
        for c in 0..from {
            for tap in 0..taps {
                out[tap * from + c] = weight[c * taps + tap];
            }
        }
    }
    out
}

/// Weights of the adjoint convolution: `[from, ky, kx, to]`, taps mirrored; groups stay in their order.
fn mirrored(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let from = g.from / g.groups;
    let to = g.to / g.groups;
    let taps = g.kernel * g.kernel;
    let mut out = vec![0.0; weight.len()];
    for group in 0..g.groups {
        let base = group * from * to * taps;
        for t in 0..to {
            for f in 0..from {
                for tap in 0..taps {
                    out[base + (f * taps + taps - 1 - tap) * to + t] = weight[base + (t * from + f) * taps + tap];
                }
            }
        }
    }
    out
}

/// Windows of `x` times `weight` `[to, ky, kx, from / groups]`; `finish` sees whole pixels while they are in the cache.
fn windows_times(g: &Geometry, x: &[f32], weight: &[f32], finish: impl Fn(&mut [f32]) + Sync) -> Vec<f32> {
    let window = g.window();
    let to = g.to / g.groups;
    let block = g.block();
    if g.is_pointwise() {
        let weight = Matrix::new(weight, to, window).transposed();
        let rows = ((1 << 19) / (window + to)).clamp(256, 1 << 13);
        return filled(g.output_len(), rows * to, |i, y| {
            let count = y.len() / to;
            product(y, to, false, Matrix::new(&x[i * rows * window..], count, window), weight);
            finish(y);
        });
    }
    filled(g.output_len(), block * g.to, |i, y| {
        let count = y.len() / g.to;
        with_scratch(count * window, |rows| {
            for group in 0..g.groups {
                gather(g, x, group, i * block, rows);
                let weight = Matrix::new(&weight[group * to * window..][..to * window], to, window).transposed();
                product(&mut y[group * to..], g.to, false, Matrix::new(rows, count, window), weight);
            }
        });
        finish(y);
    })
}

/// The gradient of the input as the sum of each window's gradient at its place.
fn scatter_windows(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let window = g.window();
    let to = g.to / g.groups;
    let (out_h, out_w) = g.output();
    let images = g.n.div_ceil(parts(g.n).len()).max(1);
    filled(g.input_len(), images * g.h * g.w * g.from, |i, dx| {
        let first = i * images * out_h * out_w;
        let end = (first + images * out_h * out_w).min(g.pixels());
        with_scratch(g.block() * window, |rows| {
            for start in (first..end).step_by(g.block()) {
                let count = g.block().min(end - start);
                let rows = &mut rows[..count * window];
                for group in 0..g.groups {
                    let dy = Matrix {
                        values: &dy[start * g.to + group * to..],
                        rows: count,
                        columns: to,
                        strides: (g.to, 1),
                    };
                    let weight = Matrix::new(&weight[group * to * window..][..to * window], to, window);
                    product(rows, window, false, dy, weight);
                    vectorised(|| {
                        each_run(g, group, start - first, count, |at, run| {
                            if let Some(place) = run {
                                let len = at.len();
                                dx[place..place + len].iter_mut().zip(&rows[at]).for_each(|(x, r)| *x += r);
                            }
                        })
                    });
                }
            }
        })
    })
}

/// Lays the windows of `rows.len() / window` pixels from `first` on side by side; zeros outside the image.
fn gather(g: &Geometry, x: &[f32], group: usize, first: usize, rows: &mut [f32]) {
    let count = rows.len() / g.window();
    vectorised(|| {
        each_run(g, group, first, count, |at, place| match place {
            Some(place) => {
                let len = at.len();
                rows[at].copy_from_slice(&x[place..place + len]);
            }
            None => rows[at].fill(0.0),
        })
    })
}

/// Walks through the windows of `count` pixels from `first` on: for each run of neighbouring elements, where it lies in
/// the rows of windows, and where its first element lies in the images (none: in the padding).
#[inline(always)]
fn each_run(
    g: &Geometry,
    group: usize,
    first: usize,
    count: usize,
    mut run: impl FnMut(std::ops::Range<usize>, Option<usize>),
) {
    let (out_h, out_w) = g.output();
    let from = g.from / g.groups;
    let [top, left, ..] = g.padding;
    let mut at = 0;
    for pixel in first..first + count {
        let n = pixel / (out_h * out_w);
        let oy = pixel / out_w % out_h;
        let ox = pixel % out_w;
        for ky in 0..g.kernel {
            let y = (oy * g.stride + ky).wrapping_sub(top);
            if y >= g.h {
                run(at..at + g.kernel * from, None);
                at += g.kernel * from;
                continue;
            }
            let row = (n * g.h + y) * g.w;
            let x = (ox * g.stride).wrapping_sub(left);
            if g.groups == 1 && x < g.w && x + g.kernel <= g.w {
                run(at..at + g.kernel * from, Some((row + x) * g.from));
                at += g.kernel * from;
                continue;
            }
            for kx in 0..g.kernel {
                let x = (ox * g.stride + kx).wrapping_sub(left);
                run(at..at + from, (x < g.w).then(|| (row + x) * g.from + group * from));
                at += from;
            }
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A buffer of `len` elements that this thread keeps; its contents are what was left there.
fn with_scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SCRATCH.take();
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    let result = f(&mut buffer[..len]);
    SCRATCH.set(buffer);
    result
}
