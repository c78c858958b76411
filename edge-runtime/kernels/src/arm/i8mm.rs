//! The matrix extension (Armv8.6 `i8mm`): `usmmla` multiplies two rows of eight unsigned bytes with two columns of
//! eight signed bytes and adds the four sums into 32 bits.
//!
//! `vusmmlaq_s32` is not stable in Rust 1.95, inline assembly is.

use super::dotprod;
use super::neon::{Bounds, is_unclamped, store_row};
use crate::{Gemm, Kernel, NR};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry. Only [`crate::available`] hands it out, and only where `i8mm` and `dotprod` are there.
pub static KERNEL: Kernel = Kernel { name: "i8mm", kr: 8, signed: false, gemm, ..dotprod::KERNEL };

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let unclamped = is_unclamped(&g.requantise);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        // SAFETY: `i8mm` was detected before this table entry was handed out; the panel exists.
        unsafe {
            match unclamped {
                true => panel_rows::<true>(g, panel, out),
                false => panel_rows::<false>(g, panel, out),
            }
        }
    }
}

/// All rows of a panel. Tiles are called from here alone, so that they are inlined and share what a panel has.
///
/// # Safety
/// `i8mm`; what [`Gemm::check`] checks; the panel exists.
#[target_feature(enable = "neon,i8mm")]
unsafe fn panel_rows<const UNCLAMPED: bool>(g: &Gemm, panel: usize, out: &mut [u8]) {
    let bounds = Bounds::new(&g.requantise);
    let mut starts = g.windows.starts(g.first);
    let mut row = 0;
    // SAFETY: the rows exist.
    unsafe {
        while row + 6 <= g.rows {
            let [a, b, c, d, e, f] = starts.take();
            tile::<3, UNCLAMPED>(g, bounds, panel, row, [[a, b], [c, d], [e, f]], 6, out);
            row += 6;
        }
        while row + 2 <= g.rows {
            tile::<1, UNCLAMPED>(g, bounds, panel, row, [starts.take()], 2, out);
            row += 2;
        }
        if row < g.rows {
            // The last row stands for itself twice.
            let [last] = starts.take();
            tile::<1, UNCLAMPED>(g, bounds, panel, row, [[last; 2]], 1, out);
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

/// Adds the products of a run.
///
/// # Safety
/// `i8mm`; `run` codes follow from each of `a`, `16 · run` from `b`; `run` is a multiple of 8.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn add_run<const P: usize>(sums: &mut [[int32x4_t; 8]; P], a: [[*const u8; 2]; P], b: *const i8, run: usize) {
    // SAFETY: as this function's.
    unsafe {
        match (sums.as_mut_slice().as_mut_array(), a.as_slice().as_array()) {
            (Some(sums), Some(a)) => three_pairs(sums, *a, b, run),
            _ => few_pairs(sums, a, b, run),
        }
    }
}

/// [`add_run`] of few pairs.
///
/// # Safety
/// As [`add_run`].
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn few_pairs<const P: usize>(sums: &mut [[int32x4_t; 8]; P], a: [[*const u8; 2]; P], b: *const i8, run: usize) {
    for k in (0..run).step_by(8) {
        // SAFETY: the panel holds 128 codes for each eight along the depth.
        let weights: [int8x16_t; 8] = std::array::from_fn(|v| unsafe { vld1q_s8(b.add(k * NR + v * 16)) });
        for (sums, [first, second]) in sums.iter_mut().zip(a) {
            // SAFETY: eight codes at `k`, a multiple of 8 below the length of a run.
            let codes = unsafe { vcombine_u8(vld1_u8(first.add(k)), vld1_u8(second.add(k))) };
            // Written out: sums that a loop indexes are kept in memory where it is not unrolled.
            sums[0] = usmmla(sums[0], codes, weights[0]);
            sums[1] = usmmla(sums[1], codes, weights[1]);
            sums[2] = usmmla(sums[2], codes, weights[2]);
            sums[3] = usmmla(sums[3], codes, weights[3]);
            sums[4] = usmmla(sums[4], codes, weights[4]);
            sums[5] = usmmla(sums[5], codes, weights[5]);
            sums[6] = usmmla(sums[6], codes, weights[6]);
            sums[7] = usmmla(sums[7], codes, weights[7]);
        }
    }
}

/// The next 16 codes of two rows, in two registers: the first eight of both, the last eight of both.
macro_rules! sixteen_codes {
    ($upper:literal, $lower:literal, $first:literal, $last:literal) => {
        concat!(
            "ldr {w0:q}, [{",
            $upper,
            "}], #16\n",
            "ldr {w1:q}, [{",
            $lower,
            "}], #16\n",
            "zip1 {",
            $first,
            ":v}.2d, {w0:v}.2d, {w1:v}.2d\n",
            "zip2 {",
            $last,
            ":v}.2d, {w0:v}.2d, {w1:v}.2d\n",
        )
    };
}

/// Four columns, the sums `$first` and `$second` of three pairs of rows, with the codes of three registers.
macro_rules! four_columns {
    ($a:literal, $b:literal, $c:literal, $first:literal, $second:literal) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{b}], #32\n",
            "usmmla {s0",
            $first,
            ":v}.4s, {",
            $a,
            ":v}.16b, {w0:v}.16b\n",
            "usmmla {s1",
            $first,
            ":v}.4s, {",
            $b,
            ":v}.16b, {w0:v}.16b\n",
            "usmmla {s2",
            $first,
            ":v}.4s, {",
            $c,
            ":v}.16b, {w0:v}.16b\n",
            "usmmla {s0",
            $second,
            ":v}.4s, {",
            $a,
            ":v}.16b, {w1:v}.16b\n",
            "usmmla {s1",
            $second,
            ":v}.4s, {",
            $b,
            ":v}.16b, {w1:v}.16b\n",
            "usmmla {s2",
            $second,
            ":v}.4s, {",
            $c,
            ":v}.16b, {w1:v}.16b\n",
        )
    };
}

/// Eight codes of three pairs of rows with eight codes of 16 columns.
macro_rules! eight_codes {
    ($a:literal, $b:literal, $c:literal) => {
        concat!(
            four_columns!($a, $b, $c, "0", "1"),
            four_columns!($a, $b, $c, "2", "3"),
            four_columns!($a, $b, $c, "4", "5"),
            four_columns!($a, $b, $c, "6", "7"),
        )
    };
}

/// [`add_run`] of three pairs: 24 sums, six registers of codes and two of weights are all 32, so that a compiler would
/// keep some of them in memory.
///
/// # Safety
/// As [`add_run`].
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn three_pairs(sums: &mut [[int32x4_t; 8]; 3], a: [[*const u8; 2]; 3], b: *const i8, run: usize) {
    let [s0, s1, s2] = sums;
    // SAFETY: reads `run` codes from each of `a` and `16 · run` from `b`; writes registers alone.
    unsafe {
        asm!(
            "cbz {sixteens}, 3f",
            "2:",
            sixteen_codes!("p0", "p1", "a0", "b0"),
            sixteen_codes!("p2", "p3", "a1", "b1"),
            sixteen_codes!("p4", "p5", "a2", "b2"),
            eight_codes!("a0", "a1", "a2"),
            eight_codes!("b0", "b1", "b2"),
            "sub {sixteens}, {sixteens}, #1",
            "cbnz {sixteens}, 2b",
            "3:",
            "tbz {run}, #3, 4f",
            "ldr {a0:d}, [{p0}]", "ldr {a1:d}, [{p2}]", "ldr {a2:d}, [{p4}]",
            "ld1 {{{a0:v}.d}}[1], [{p1}]", "ld1 {{{a1:v}.d}}[1], [{p3}]", "ld1 {{{a2:v}.d}}[1], [{p5}]",
            eight_codes!("a0", "a1", "a2"),
            "4:",
            sixteens = inout(reg) run / 16 => _, run = in(reg) run, b = inout(reg) b => _,
            p0 = inout(reg) a[0][0] => _, p1 = inout(reg) a[0][1] => _, p2 = inout(reg) a[1][0] => _,
            p3 = inout(reg) a[1][1] => _, p4 = inout(reg) a[2][0] => _, p5 = inout(reg) a[2][1] => _,
            s00 = inout(vreg) s0[0], s01 = inout(vreg) s0[1], s02 = inout(vreg) s0[2], s03 = inout(vreg) s0[3],
            s04 = inout(vreg) s0[4], s05 = inout(vreg) s0[5], s06 = inout(vreg) s0[6], s07 = inout(vreg) s0[7],
            s10 = inout(vreg) s1[0], s11 = inout(vreg) s1[1], s12 = inout(vreg) s1[2], s13 = inout(vreg) s1[3],
            s14 = inout(vreg) s1[4], s15 = inout(vreg) s1[5], s16 = inout(vreg) s1[6], s17 = inout(vreg) s1[7],
            s20 = inout(vreg) s2[0], s21 = inout(vreg) s2[1], s22 = inout(vreg) s2[2], s23 = inout(vreg) s2[3],
            s24 = inout(vreg) s2[4], s25 = inout(vreg) s2[5], s26 = inout(vreg) s2[6], s27 = inout(vreg) s2[7],
            a0 = out(vreg) _, a1 = out(vreg) _, a2 = out(vreg) _, b0 = out(vreg) _, b1 = out(vreg) _, b2 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// P pairs of rows × 16 columns: 8·P sums. Of the last pair, only the first row is written where `rows` is odd.
///
/// # Safety
/// `i8mm`; what [`Gemm::check`] checks; the panel and rows `row .. row + rows` exist, `2·P − 1 ≤ rows ≤ 2·P`, whose
/// windows begin at `starts`.
#[inline]
#[target_feature(enable = "neon,i8mm")]
unsafe fn tile<const P: usize, const UNCLAMPED: bool>(
    g: &Gemm,
    bounds: Bounds<UNCLAMPED>,
    panel: usize,
    row: usize,
    starts: [[usize; 2]; P],
    rows: usize,
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let column = panel * NR;
    // SAFETY: the bias is as long as all panels.
    let mut sums = [unsafe { pairs_twice(g.requantise.bias.as_ptr().add(column).cast()) }; P];
    // SAFETY: the panel exists.
    let mut b = unsafe { g.weights.codes.as_ptr().add(panel * NR * depth) };
    let mut i = 0;
    // Ends at the bottom, as there is a run: else the compiler copies all sums for the way around it.
    loop {
        // SAFETY: below the number of runs.
        let offset = unsafe { *g.windows.runs.get_unchecked(i) };
        let mut a = [[g.a.as_ptr(); 2]; P];
        for (a, start) in a.as_flattened_mut().iter_mut().zip(starts.as_flattened()) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        // SAFETY: `run` codes of each row, and 128 of the panel for each eight of them.
        unsafe { add_run(&mut sums, a, b, run) };
        b = b.wrapping_add(run * NR);
        i += 1;
        if i >= g.windows.runs.len() {
            break;
        }
    }
    // SAFETY: the multiplier is as long as all panels.
    let multipliers = unsafe { pairs_twice(g.requantise.multiplier.as_ptr().add(column).cast()) };
    let multipliers: [float32x4_t; 8] = multipliers.map(|m| vreinterpretq_f32_s32(m));
    let width = NR.min(g.weights.columns - column);
    for (p, s) in sums.iter().enumerate() {
        let m = &multipliers;
        // Two columns of the upper row, the same two of the lower, and so on.
        let first = vreinterpretq_u16_u8(bounds.codes([s[0], s[1], s[2], s[3]], [m[0], m[1], m[2], m[3]]));
        let second = vreinterpretq_u16_u8(bounds.codes([s[4], s[5], s[6], s[7]], [m[4], m[5], m[6], m[7]]));
        let upper = vreinterpretq_u8_u16(vuzp1q_u16(first, second));
        let lower = vreinterpretq_u8_u16(vuzp2q_u16(first, second));
        let at = (row + 2 * p) * g.out_row_stride + column;
        // SAFETY: the rows exist in the output, as asserted.
        unsafe {
            store_row::<false>(upper, out, at, width);
            if 2 * p + 1 < rows {
                store_row::<false>(lower, out, at + g.out_row_stride, width);
            }
        }
    }
}

/// 16 values of 32 bits, two in each register, `[v₀, v₁, v₀, v₁]`: as [`usmmla`] orders its sums.
///
/// # Safety
/// `values` are 16.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn pairs_twice(values: *const i64) -> [int32x4_t; 8] {
    // SAFETY: the caller vouches for 16 values, which are eight pairs.
    std::array::from_fn(|i| vreinterpretq_s32_s64(unsafe { vld1q_dup_s64(values.add(i)) }))
}
