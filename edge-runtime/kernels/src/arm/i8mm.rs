//! The matrix extension (Armv8.6 `i8mm`): `usmmla` multiplies two rows of eight unsigned bytes with two columns of
//! eight signed bytes and adds the four sums into 32 bits.
//!
//! `vusmmlaq_s32` is not stable in Rust 1.95, inline assembly is.

use super::neon;
use super::neon::{Codes, store_row};
use crate::{Gemm, Kernel, NR};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry. Only [`crate::available`] hands it out, and only where `i8mm` is there.
pub static KERNEL: Kernel = Kernel { name: "i8mm", kr: 8, signed: false, gemm, ..neon::KERNEL };

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let mut starts = g.windows.starts(g.first);
        let mut row = 0;
        while row < g.rows {
            let count = (g.rows - row).min(4);
            // SAFETY: `i8mm` was detected before this table entry was handed out; the panel and the rows exist, as
            // asserted.
            unsafe {
                match count {
                    4 => tile::<2>(g, panel, row, [starts.take(), starts.take()], count, out),
                    3 => {
                        let [a, b, c] = starts.take();
                        tile::<2>(g, panel, row, [[a, b], [c, c]], count, out);
                    }
                    2 => tile::<1>(g, panel, row, [starts.take()], count, out),
                    _ => tile::<1>(g, panel, row, [[starts.take::<1>()[0]; 2]], count, out),
                }
            }
            row += count;
        }
    }
}

/// `[a₀·b₀, a₀·b₁, a₁·b₀, a₁·b₁]` added to `sum`, each over eight products.
#[inline]
#[target_feature(enable = "neon,i8mm")]
fn usmmla(mut sum: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes registers alone; the caller has `i8mm`.
    unsafe {
        asm!("usmmla {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) a, in(vreg) b,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// P pairs of rows × 16 columns; the last row stands for itself twice where `rows` is odd.
///
/// # Safety
/// `i8mm`; what [`Gemm::check`] checks; the panel and rows `row .. row + rows` exist, `2·P − 1 ≤ rows ≤ 2·P`, whose
/// windows begin at `starts`.
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const P: usize>(
    g: &Gemm,
    panel: usize,
    row: usize,
    starts: [[usize; 2]; P],
    rows: usize,
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let mut sums = [[vdupq_n_s32(0); 8]; P];
    for (i, offset) in g.windows.runs.iter().enumerate() {
        // SAFETY: the panel exists.
        let b = unsafe { g.weights.codes.as_ptr().add(panel * NR * depth + i * run * NR) };
        let mut a = [[g.a.as_ptr(); 2]; P];
        for (a, start) in a.as_flattened_mut().iter_mut().zip(starts.as_flattened()) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        for k in (0..run).step_by(8) {
            let mut codes = [vdupq_n_u8(0); P];
            for (codes, [first, second]) in codes.iter_mut().zip(a) {
                // SAFETY: eight codes at `k`, a multiple of 8 below the length of a run.
                *codes = unsafe { vcombine_u8(vld1_u8(first.add(k)), vld1_u8(second.add(k))) };
            }
            for v in 0..8 {
                // SAFETY: the panel holds 128 codes for each eight along the depth.
                let weights = unsafe { vld1q_s8(b.add(k * NR + v * 16)) };
                for (sums, codes) in sums.iter_mut().zip(codes) {
                    sums[v] = usmmla(sums[v], codes, weights);
                }
            }
        }
    }
    let column = panel * NR;
    // SAFETY: bias and multiplier are as long as all panels.
    let codes = unsafe { Codes::new(&g.requantise, column) };
    let width = NR.min(g.weights.columns - column);
    for (p, s) in sums.iter().enumerate() {
        for lower in [false, true] {
            let at = row + 2 * p + usize::from(lower);
            if at < row + rows {
                // Four columns of the upper or the lower row from two sums of two columns each.
                let four = |i: usize| vaddq_s32(zip(s[2 * i], s[2 * i + 1], lower), codes.bias[i]);
                let sums = [four(0), four(1), four(2), four(3)];
                // SAFETY: the row exists in the output, as asserted.
                unsafe { store_row(codes.of(sums), out, at * g.out_row_stride + column, width) };
            }
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn zip(a: int32x4_t, b: int32x4_t, lower: bool) -> int32x4_t {
    let a = vreinterpretq_s64_s32(a);
    let b = vreinterpretq_s64_s32(b);
    vreinterpretq_s32_s64(if lower { vzip2q_s64(a, b) } else { vzip1q_s64(a, b) })
}
