//! Depthwise convolution, direct: for each pixel and tap a vector of channels.

use super::conv::Geometry;
use super::{parts, sum, vectorised};
use rayon::prelude::*;

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
fn covered(outputs: usize, inputs: usize, stride: usize, tap: usize, pad: usize) -> std::ops::Range<usize> {
    let start = pad.saturating_sub(tap).div_ceil(stride);
    let end = (inputs + pad).saturating_sub(tap).div_ceil(stride).min(outputs);
    start..end.max(start)
}

/// `out[c] += Σ a[c] · b[c]` over `N` pairs of vectors, `out` read and written once.
#[inline(always)]
fn accumulate<const N: usize>(out: &mut [f32], pairs: [(&[f32], &[f32]); N]) {
    let len = out.len();
    let pairs = pairs.map(|(a, b)| (&a[..len], &b[..len]));
    for c in 0..len {
        let mut sum = out[c];
        for (a, b) in pairs {
            sum += a[c] * b[c];
        }
        out[c] = sum;
    }
}

pub(super) fn forward(g: &Geometry, x: &[f32], weight: &[f32], y: &mut [f32]) {
    let weight = by_tap(g, weight);
    let (c, (out_h, out_w)) = (g.to, g.output());
    let [top, left, ..] = g.padding;
    y.par_chunks_mut(out_w * c).enumerate().for_each(|(row, y)| {
        vectorised(|| {
            let (n, oy) = (row / out_h, row % out_h);
            for ky in 0..g.kernel {
                let iy = (oy * g.stride + ky).wrapping_sub(top);
                if iy >= g.h {
                    continue;
                }
                let x = &x[(n * g.h + iy) * g.w * c..][..g.w * c];
                let w = &weight[ky * g.kernel * c..][..g.kernel * c];
                for (ox, y) in y.chunks_exact_mut(c).enumerate() {
                    let first = (ox * g.stride).wrapping_sub(left);
                    if g.kernel == 3 && first < g.w && first + 3 <= g.w {
                        let x = &x[first * c..][..3 * c];
                        let pair = |k: usize| (&x[k * c..][..c], &w[k * c..][..c]);
                        accumulate(y, [pair(0), pair(1), pair(2)]);
                        continue;
                    }
                    for kx in 0..g.kernel {
                        let ix = (ox * g.stride + kx).wrapping_sub(left);
                        if ix < g.w {
                            accumulate(y, [(&x[ix * c..][..c], &w[kx * c..][..c])]);
                        }
                    }
                }
            }
        })
    });
}

pub(super) fn input_gradient(g: &Geometry, weight: &[f32], dy: &[f32], dx: &mut [f32]) {
    let weight = by_tap(g, weight);
    let (c, (out_h, out_w)) = (g.to, g.output());
    let [top, left, ..] = g.padding;
    dx.par_chunks_mut(g.w * c).enumerate().for_each(|(row, dx)| {
        vectorised(|| {
            let (n, iy) = (row / g.h, row % g.h);
            for ky in 0..g.kernel {
                let far = (iy + top).wrapping_sub(ky);
                if !far.is_multiple_of(g.stride) || far / g.stride >= out_h {
                    continue;
                }
                let dy = &dy[(n * out_h + far / g.stride) * out_w * c..][..out_w * c];
                let w = &weight[ky * g.kernel * c..][..g.kernel * c];
                for (ix, dx) in dx.chunks_exact_mut(c).enumerate() {
                    let first = (ix + left).wrapping_sub(2);
                    if g.kernel == 3 && g.stride == 1 && first < out_w && first + 3 <= out_w {
                        let dy = &dy[first * c..][..3 * c];
                        let pair = |k: usize| (&dy[k * c..][..c], &w[(2 - k) * c..][..c]);
                        accumulate(dx, [pair(0), pair(1), pair(2)]);
                        continue;
                    }
                    for kx in 0..g.kernel {
                        let far = (ix + left).wrapping_sub(kx);
                        if far.is_multiple_of(g.stride) && far / g.stride < out_w {
                            accumulate(dx, [(&dy[far / g.stride * c..][..c], &w[kx * c..][..c])]);
                        }
                    }
                }
            }
        })
    });
}

pub(super) fn weight_gradient(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let (c, (out_h, out_w)) = (g.to, g.output());
    let taps = g.kernel * g.kernel;
    let sums = parts(g.n * out_h).into_par_iter().map(|rows| {
        let mut dw = vec![0.0; taps * c];
        for row in rows {
            let (n, oy) = (row / out_h, row % out_h);
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

/// Adds to `dw` `[kernel, c]` what one row of the output and one of the input give. Blocks of channels: their sums stay in
/// registers over the row.
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
                let (x, dy) = (&x[ix * c + start..][..BLOCK], &dy[ox * c + start..][..BLOCK]);
                for i in 0..BLOCK {
                    sums[i] += x[i] * dy[i];
                }
            }
            dw[start..start + BLOCK].iter_mut().zip(sums).for_each(|(w, s)| *w += s);
            start += BLOCK;
        }
        for ox in columns {
            let ix = ox * g.stride + kx - g.padding[1];
            let pair = (&x[ix * c + start..][..c - start], &dy[ox * c + start..][..c - start]);
            accumulate(&mut dw[start..], [pair]);
        }
    }
}
