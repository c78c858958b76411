//! Plain loops that the compiler vectorises for whatever the target has: the reference for every other kernel.

use super::{Depthwise, Gemm, Kernel, PANEL, Requantise};

/// The table entry.
pub static KERNEL: Kernel = Kernel { name: "portable", gemm, depthwise };

fn gemm(g: &Gemm, out: &mut [u8]) {
    gemm_loops(g, out);
}

fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    depthwise_loops(d, first_row, out);
}

/// One sum to its code; see [`Requantise`].
#[inline(always)]
pub fn requantise(r: &Requantise, channel: usize, sum: i32) -> u8 {
    let scaled = (sum.wrapping_add(r.bias[channel]) as f32 * r.multiplier[channel]).round_ties_even();
    // The cast saturates, so a sum of any size ends at a bound.
    let code = (scaled as i32).saturating_add(i32::from(r.zero_point));
    code.clamp(i32::from(r.low), i32::from(r.high)) as u8
}

#[inline(always)]
fn gemm_loops(g: &Gemm, out: &mut [u8]) {
    for (panel, b) in g.b.chunks_exact(g.pairs * PANEL * 2).enumerate() {
        let first = panel * PANEL;
        let width = PANEL.min(g.columns.saturating_sub(first));
        for (row, a) in g.a.chunks_exact(g.pairs * 2).take(g.rows).enumerate() {
            let mut sums = [0i32; PANEL];
            for (a, b) in a.as_chunks::<2>().0.iter().zip(b.as_chunks::<{ PANEL * 2 }>().0) {
                for (sum, b) in sums.iter_mut().zip(b.as_chunks::<2>().0) {
                    *sum += i32::from(a[0]) * i32::from(b[0]) + i32::from(a[1]) * i32::from(b[1]);
                }
            }
            let to = &mut out[row * g.columns + first..][..width];
            for (j, (code, sum)) in to.iter_mut().zip(sums).enumerate() {
                *code = requantise(&g.requantise, first + j, sum);
            }
        }
    }
}

/// Channels that are summed together: 64 bytes of `i32` sums stay in registers on every target.
const LANES: usize = 16;

/// The depthwise loops, also compiled for wider vectors by the other kernels.
#[inline(always)]
pub fn depthwise_loops(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    let channels = d.channels;
    for (y, row) in out.chunks_exact_mut(d.out_width * channels).enumerate() {
        let top = (first_row + y) * d.stride[0] * d.width;
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let corner = (top + x * d.stride[1]) * channels;
            for c in (0..channels).step_by(LANES) {
                let lanes = LANES.min(channels - c);
                let mut sums = [0i32; LANES];
                for i in 0..d.kernel[0] {
                    for j in 0..d.kernel[1] {
                        let from = &d.input[corner + (i * d.width + j) * channels + c..][..lanes];
                        let weights = &d.weights[(i * d.kernel[1] + j) * channels + c..][..lanes];
                        if let (Ok(from), Ok(weights)) =
                            (<&[u8; LANES]>::try_from(from), <&[i16; LANES]>::try_from(weights))
                        {
                            for l in 0..LANES {
                                sums[l] += i32::from(from[l]) * i32::from(weights[l]);
                            }
                        } else {
                            for l in 0..lanes {
                                sums[l] += i32::from(from[l]) * i32::from(weights[l]);
                            }
                        }
                    }
                }
                for l in 0..lanes {
                    pixel[c + l] = requantise(&d.requantise, c + l, sums[l]);
                }
            }
        }
    }
}
