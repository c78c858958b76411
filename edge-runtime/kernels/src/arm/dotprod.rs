//! The dot-product extension (Armv8.2 `dotprod`; Cortex-A76, A78AE): `sdot` multiplies four pairs of signed bytes and
//! adds them into 32 bits. Activations are taken as `code − 128`.
//!
//! `vdotq_s32` is not stable in Rust 1.95, inline assembly is.

use super::neon;
use super::neon::{Codes, store_row};
use crate::{Gemm, Kernel, NR};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry. Only [`crate::available`] hands it out, and only where `dotprod` is there.
pub static KERNEL: Kernel = Kernel { name: "dotprod", kr: 4, signed: true, gemm, ..neon::KERNEL };

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let mut starts = g.windows.starts(g.first);
        let mut row = 0;
        while row < g.rows {
            let count = (g.rows - row).min(4);
            // SAFETY: `dotprod` was detected before this table entry was handed out; the panel and the rows exist, as
            // asserted.
            unsafe {
                match count {
                    4 => tile::<4>(g, panel, row, starts.take(), out),
                    3 => tile::<3>(g, panel, row, starts.take(), out),
                    2 => tile::<2>(g, panel, row, starts.take(), out),
                    _ => tile::<1>(g, panel, row, starts.take(), out),
                }
            }
            row += count;
        }
    }
}

/// `sum + Σ weights · a`, four products a lane, with the four codes of `a` in lane `LANE`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot<const LANE: i32>(mut sum: int32x4_t, weights: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes registers alone; the caller has `dotprod`.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[{lane}]", inout(vreg) sum, in(vreg) weights, in(vreg) a,
            lane = const LANE, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// `$body` for each of four registers. As a loop it is not always unrolled, and sums that are indexed by a variable are
/// kept in memory.
macro_rules! four_times {
    ($v:ident, $body:block) => {{
        {
            const $v: usize = 0;
            $body
        }
        {
            const $v: usize = 1;
            $body
        }
        {
            const $v: usize = 2;
            $body
        }
        {
            const $v: usize = 3;
            $body
        }
    }};
}

/// R rows × 16 columns: 4·R sums, 4 weights and R activations fit the 32 registers. Six rows would need all 32, and the
/// compiler then keeps sums in memory.
///
/// # Safety
/// `dotprod`; what [`Gemm::check`] checks; the panel and rows `row .. row + R` exist, whose windows begin at `starts`.
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const R: usize>(g: &Gemm, panel: usize, row: usize, starts: [usize; R], out: &mut [u8]) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let flip = vdupq_n_s8(i8::MIN);
    let column = panel * NR;
    // SAFETY: bias and multiplier are as long as all panels.
    let codes = unsafe { Codes::new(&g.requantise, column) };
    let mut sums = [codes.bias; R];
    for (i, offset) in g.windows.runs.iter().enumerate() {
        // SAFETY: the panel exists.
        let b = unsafe { g.weights.codes.as_ptr().add(panel * NR * depth + i * run * NR) };
        let mut a = [g.a.as_ptr(); R];
        for (a, start) in a.iter_mut().zip(starts) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        // SAFETY: the panel holds 64 codes for each four along the depth.
        let weights = |k: usize, v: usize| unsafe { vld1q_s8(b.add(k * NR + v * 16)) };
        let mut k = 0;
        while k + 16 <= run {
            let a: [int8x16_t; R] = std::array::from_fn(|r| {
                // SAFETY: 16 codes at `k` of a run.
                veorq_s8(vreinterpretq_s8_u8(unsafe { vld1q_u8(a[r].add(k)) }), flip)
            });
            four_times!(V, {
                let b = [weights(k, V), weights(k + 4, V), weights(k + 8, V), weights(k + 12, V)];
                for (sums, a) in sums.iter_mut().zip(a) {
                    sums[V] = sdot::<0>(sums[V], b[0], a);
                    sums[V] = sdot::<1>(sums[V], b[1], a);
                    sums[V] = sdot::<2>(sums[V], b[2], a);
                    sums[V] = sdot::<3>(sums[V], b[3], a);
                }
            });
            k += 16;
        }
        while k < run {
            let b = [weights(k, 0), weights(k, 1), weights(k, 2), weights(k, 3)];
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: four codes at `k`, a multiple of 4 below the length of a run.
                let four = unsafe { vreinterpretq_s8_u32(vdupq_n_u32(a[r].add(k).cast::<u32>().read_unaligned())) };
                let four = veorq_s8(four, flip);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = sdot::<0>(*sum, b[v], four);
                }
            }
            k += 4;
        }
    }
    let width = NR.min(g.weights.columns - column);
    for (r, sums) in sums.into_iter().enumerate() {
        // SAFETY: the row exists in the output, as asserted.
        unsafe { store_row(codes.of(sums), out, (row + r) * g.out_row_stride + column, width) };
    }
}
