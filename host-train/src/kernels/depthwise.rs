//! Depthwise convolution, direct: for each pixel and tap a vector of channels.

use super::conv::Geometry;
use super::{filled, parts, sum, vectorised};
use rayon::prelude::*;
use std::ops::Range;

/// Weights `[c, 1, k, k]` as `[k, k, c]`.
fn by_tap(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let taps = g.kernel * g.kernel;
    let mut out = vec![0.0; weight.len()];
    for (c, weight) in weight.chunks_exact(taps).enumerate() {
        weight.iter().enumerate().for_each(|(tap, w)| out[tap * g.to + c] = *w);
    }
    out
}

/// Output positions `o` of `0..outputs` for which `o · stride + tap − pad` lies in `0..inputs`.
fn covered(outputs: usize, inputs: usize, stride: usize, tap: usize, pad: usize) -> Range<usize> {
    let start = pad.saturating_sub(tap).div_ceil(stride);
    let end = (inputs + pad).saturating_sub(tap).div_ceil(stride).min(outputs);
    start..end.max(start)
}

/// `out[c] += a[c] · b[c]`
#[inline(always)]
fn accumulate(out: &mut [f32], a: &[f32], b: &[f32]) {
    out.iter_mut().zip(a).zip(b).for_each(|((o, a), b)| *o += a * b);
}

/// `[n, out_h, out_w, c]`; `finish` sees whole rows while they are in the cache.
pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], finish: impl Fn(&mut [f32]) + Sync) -> Vec<f32> {
    let weight = by_tap(g, weight);
    let c = g.to;
    let (out_h, out_w) = g.output();
    filled(g.output_len(), out_w * c, |row, y| {
        let n = row / out_h;
        let oy = row % out_h;
        // The kernel rows that lie inside the image, with the input's row for each.
        let inside = covered(g.kernel, g.h, 1, oy * g.stride, g.padding[0]);
        if inside.is_empty() {
            return finish(y);
        }
        let first = oy * g.stride + inside.start - g.padding[0];
        let x = &x[(n * g.h + first) * g.w * c..][..inside.len() * g.w * c];
        let weight = &weight[inside.start * g.kernel * c..][..inside.len() * g.kernel * c];
        vectorised(|| match (g.kernel, inside.len()) {
            (3, 3) => row_3x3(g, x, weight, y),
            _ => row_of_any_size(g, 0..out_w, x, weight, y),
        });
        finish(y);
    })
}

/// One row of outputs from some input rows and the kernel rows that meet them.
#[inline(always)]
fn row_of_any_size(g: &Geometry, columns: Range<usize>, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let c = g.to;
    for (x, weight) in x.chunks_exact(g.w * c).zip(weight.chunks_exact(g.kernel * c)) {
        for ox in columns.clone() {
            for kx in 0..g.kernel {
                let ix = (ox * g.stride + kx).wrapping_sub(g.padding[1]);
                if ix < g.w {
                    accumulate(&mut y[ox * c..][..c], &x[ix * c..], &weight[kx * c..][..c]);
                }
            }
        }
    }
}

/// As [`row_of_any_size`] for three whole input rows: the nine weights of a block of channels stay in registers.
#[inline(always)]
fn row_3x3(g: &Geometry, x: &[f32], weight: &[f32], y: &mut [f32]) {
    const BLOCK: usize = 16;
    let c = g.to;
    let (_, out_w) = g.output();
    let left = covered(out_w, g.w, g.stride, 0, g.padding[1]).start;
    let right = covered(out_w, g.w, g.stride, 2, g.padding[1]).end.max(left);
    row_of_any_size(g, 0..left.min(out_w), x, weight, y);
    row_of_any_size(g, right..out_w, x, weight, y);
    let rows: [&[f32]; 3] = std::array::from_fn(|r| &x[r * g.w * c..][..g.w * c]);
    let mut start = 0;
    while start + BLOCK <= c {
        let w: [[f32; BLOCK]; 9] =
            std::array::from_fn(|t| weight[t * c + start..][..BLOCK].try_into().expect("a whole block"));
        for ox in left..right {
            let at = (ox * g.stride - g.padding[1]) * c + start;
            let mut sum = [0.0; BLOCK];
            for ky in 0..3 {
                for kx in 0..3 {
                    let x: &[f32; BLOCK] = rows[ky][at + kx * c..][..BLOCK].try_into().expect("a whole block");
                    for i in 0..BLOCK {
                        sum[i] += x[i] * w[ky * 3 + kx][i];
                    }
                }
            }
            y[ox * c + start..][..BLOCK].copy_from_slice(&sum);
        }
        start += BLOCK;
    }
    if start < c {
        for ox in left..right {
            let at = (ox * g.stride - g.padding[1]) * c;
            let y = &mut y[ox * c + start..][..c - start];
            for (tap, weight) in weight.chunks_exact(c).enumerate() {
                accumulate(y, &rows[tap / 3][at + tap % 3 * c + start..], &weight[start..]);
            }
        }
    }
}

/// Gradient of the input where windows lie more than a pixel apart.
pub(super) fn strided_input_gradient(g: &Geometry, weight: &[f32], dy: &[f32]) -> Vec<f32> {
    let weight = by_tap(g, weight);
    let c = g.to;
    let (out_h, out_w) = g.output();
    let [top, left, ..] = g.padding;
    filled(g.n * g.h * g.w * c, g.w * c, |row, dx| {
        let n = row / g.h;
        let iy = row % g.h;
        vectorised(|| {
            for ky in 0..g.kernel {
                let far = (iy + top).wrapping_sub(ky);
                if far % g.stride != 0 || far / g.stride >= out_h {
                    continue;
                }
                let dy = &dy[(n * out_h + far / g.stride) * out_w * c..][..out_w * c];
                let w = &weight[ky * g.kernel * c..][..g.kernel * c];
                for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                    for kx in 0..g.kernel {
                        let far = (ix + left).wrapping_sub(kx);
                        if far % g.stride == 0 && far / g.stride < out_w {
                            accumulate(dx, &dy[far / g.stride * c..], &w[kx * c..][..c]);
                        }
                    }
                }
            }
        });
    })
}

pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let c = g.to;
    let (out_h, out_w) = g.output();
    let taps = g.kernel * g.kernel;
    let sums = parts(g.n * out_h).into_par_iter().map(|rows| {
        let mut dw = vec![0.0; taps * c];
        for row in rows {
            let n = row / out_h;
            let oy = row % out_h;
            let dy = &dy[row * out_w * c..][..out_w * c];
            for ky in 0..g.kernel {
                let iy = (oy * g.stride + ky).wrapping_sub(g.padding[0]);
                if iy >= g.h {
                    continue;
                }
                let x = &x[(n * g.h + iy) * g.w * c..][..g.w * c];
                let dw = &mut dw[ky * g.kernel * c..][..g.kernel * c];
                vectorised(|| row_weight_gradient(g, x, dy, dw));
            }
        }
        dw
    });
    let dw = sum(sums.collect());
    let mut out = vec![0.0; dw.len()];
    for (channel, out) in out.chunks_exact_mut(taps).enumerate() {
        out.iter_mut().enumerate().for_each(|(tap, o)| *o = dw[tap * c + channel]);
    }
    out
}

/// Adds to `dw` `[kernel, c]` what one row of the output and one of the input give. Blocks of channels: their sums stay
/// in registers over the row.
#[inline(always)]
fn row_weight_gradient(g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    const BLOCK: usize = 32;
    let c = g.to;
    let (_, out_w) = g.output();
    for kx in 0..g.kernel {
        let columns = covered(out_w, g.w, g.stride, kx, g.padding[1]);
        let dw = &mut dw[kx * c..][..c];
        let mut start = 0;
        while start + BLOCK <= c {
            let mut sums = [0.0; BLOCK];
            for ox in columns.clone() {
                let ix = ox * g.stride + kx - g.padding[1];
                let x = &x[ix * c + start..][..BLOCK];
                let dy = &dy[ox * c + start..][..BLOCK];
                for i in 0..BLOCK {
                    sums[i] += x[i] * dy[i];
                }
            }
            dw[start..start + BLOCK].iter_mut().zip(sums).for_each(|(w, s)| *w += s);
            start += BLOCK;
        }
        for ox in columns {
            let ix = ox * g.stride + kx - g.padding[1];
            accumulate(&mut dw[start..], &x[ix * c + start..], &dy[ox * c + start..]);
        }
    }
}
