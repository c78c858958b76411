//! Plain loops that the compiler vectorises for whatever the target has: the reference for every other kernel.

use crate::depthwise::Interior;
use crate::{Depthwise, Gemm, Kernel, MaxPool, NR, Product, Requantise, Sum};

/// The table entry.
pub static KERNEL: Kernel = Kernel {
    name: "portable",
    kr: 2,
    signed: false,
    gemm,
    winograd: None,
    depthwise,
    max_pool: max_pool_loops,
    add: add_loop,
    multiply: multiply_loop,
    dot: dot_loop,
};

/// 1.5 · 2²³: adding it rounds a float below 2²² half to even and leaves the integer in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// `value` rounded half to even; beyond ±2²¹, which is beyond every code, some integer as far out.
#[inline(always)]
pub fn round(value: f32) -> i32 {
    let bounded = value.clamp(-2_097_152.0, 2_097_152.0);
    (bounded + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32
}

/// One sum to its code; see [`Requantise`].
#[inline(always)]
pub fn requantise(r: &Requantise, channel: usize, sum: i32) -> u8 {
    let scaled = sum.wrapping_add(r.bias[channel]) as f32 * r.multiplier[channel];
    (round(scaled) + i32::from(r.zero_point)).clamp(i32::from(r.low), i32::from(r.high)) as u8
}

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let w = g.weights;
    for (panel, b) in w.codes.chunks_exact(NR * w.depth).enumerate() {
        let first = panel * NR;
        let width = NR.min(w.columns - first);
        let mut starts = g.windows.starts(g.first);
        for row in 0..g.rows {
            let [start] = starts.take();
            let mut sums = [0i32; NR];
            for (run, b) in g.windows.runs.iter().zip(b.chunks_exact(NR * w.run)) {
                let a = &g.a[start + run..][..w.run];
                for (a, b) in a.as_chunks::<2>().0.iter().zip(b.as_chunks::<{ NR * 2 }>().0) {
                    let [a0, a1] = a.map(i32::from);
                    for (sum, b) in sums.iter_mut().zip(b.as_chunks::<2>().0) {
                        *sum += a0 * i32::from(b[0]) + a1 * i32::from(b[1]);
                    }
                }
            }
            let to = &mut out[row * g.out_row_stride + first..][..width];
            for (j, (code, sum)) in to.iter_mut().zip(sums).enumerate() {
                *code = requantise(&g.requantise, first + j, sum);
            }
        }
    }
}

fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    d.over_interior(first_row, out, |d, out| depthwise_loops(d, 0..d.rows, 0, out));
}

/// Codes that are compared together.
const COMPARED: usize = 16;

/// [`Kernel::max_pool`], also compiled for wider vectors by the other kernels.
#[inline(always)]
pub fn max_pool_loops(p: &MaxPool, first_row: usize, out: &mut [u8]) {
    let a = &p.window;
    let rows = a.check(out);
    for (row, y) in (first_row..first_row + rows).enumerate() {
        let lines = a.valid(y, 0, a.height);
        for x in 0..a.out_width {
            let columns = a.valid(x, 1, a.width);
            let to = &mut out[(row * a.out_width + x) * a.out_pixel_stride..][..a.channels];
            let (wide, rest) = to.as_chunks_mut::<COMPARED>();
            for (c, to) in wide.iter_mut().enumerate() {
                let mut most = [p.low; COMPARED];
                for y in lines.clone() {
                    for x in columns.clone() {
                        let at = (y * a.width + x) * a.pixel_stride + c * COMPARED;
                        let Some(from) = a.input[at..].first_chunk::<COMPARED>() else { continue };
                        for i in 0..COMPARED {
                            most[i] = most[i].max(from[i]);
                        }
                    }
                }
                for i in 0..COMPARED {
                    to[i] = most[i].min(p.high);
                }
            }
            let done = a.channels - rest.len();
            for (c, to) in rest.iter_mut().enumerate() {
                let mut most = p.low;
                for y in lines.clone() {
                    for x in columns.clone() {
                        most = most.max(a.input[(y * a.width + x) * a.pixel_stride + done + c]);
                    }
                }
                *to = most.min(p.high);
            }
        }
    }
}

/// Channels that are summed together: 64 bytes of `i32` sums stay in registers on every target.
const LANES: usize = 16;

/// The depthwise loops over channels `from ..`, also compiled for wider vectors by the other kernels.
#[inline(always)]
pub(crate) fn depthwise_loops(d: &Interior, rows: std::ops::Range<usize>, from: usize, out: &mut [u8]) {
    for (y, row) in rows.enumerate() {
        for x in 0..d.out_width {
            let corner = row * d.row_stride + x * d.column_stride;
            let to = (y * d.out_width + x) * d.out_pixel_stride;
            for c in (from..d.channels).step_by(LANES) {
                let lanes = LANES.min(d.channels - c);
                let mut sums = [0i32; LANES];
                for (tap, weights) in d.taps.iter().zip(d.weights.chunks_exact(d.channels)) {
                    let codes = &d.input[corner + tap + c..][..lanes];
                    let weights = &weights[c..][..lanes];
                    if let (Ok(codes), Ok(weights)) =
                        (<&[u8; LANES]>::try_from(codes), <&[i8; LANES]>::try_from(weights))
                    {
                        for l in 0..LANES {
                            sums[l] += i32::from(codes[l]) * i32::from(weights[l]);
                        }
                    } else {
                        for l in 0..lanes {
                            sums[l] += i32::from(codes[l]) * i32::from(weights[l]);
                        }
                    }
                }
                for (l, code) in out[to + c..][..lanes].iter_mut().enumerate() {
                    *code = requantise(&d.requantise, c + l, sums[l]);
                }
            }
        }
    }
}

/// [`Kernel::add`], also compiled for wider vectors by the other kernels.
#[inline(always)]
pub fn add_loop(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        let code = f32::from(*a).mul_add(p.scale[0], f32::from(*b).mul_add(p.scale[1], p.offset));
        *o = round(code).clamp(i32::from(p.low), i32::from(p.high)) as u8;
    }
}

/// [`Kernel::multiply`], also compiled for wider vectors by the other kernels.
#[inline(always)]
pub fn multiply_loop(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
    for ((o, a), b) in out.iter_mut().zip(a).zip(b) {
        let steps = (f32::from(*a) - p.zero[0]) * (f32::from(*b) - p.zero[1]) * p.scale;
        *o = (round(steps) + i32::from(p.zero_point)).clamp(i32::from(p.low), i32::from(p.high)) as u8;
    }
}

/// [`Kernel::dot`], also compiled for wider vectors by the other kernels.
#[inline(always)]
pub fn dot_loop(codes: &[u8], weights: &[i8]) -> i32 {
    codes.iter().zip(weights).map(|(c, w)| i32::from(*c) * i32::from(*w)).sum()
}
