//! The dot-product extension (Armv8.2 `dotprod`; Cortex-A76, A78AE): `sdot` multiplies four pairs of signed bytes and
//! adds them into 32 bits. Activations are taken as `code − 128`.
//!
//! `vdotq_s32` is not stable in Rust 1.95, inline assembly is.

mod depthwise;

use super::neon;
use super::neon::{Bounds, HALF_PANEL, bias, is_unclamped, multipliers, store_row};
use crate::{Gemm, Kernel, NR, portable};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry. Only [`crate::available`] hands it out, and only where `dotprod` is there.
pub static KERNEL: Kernel =
    Kernel { name: "dotprod", kr: 4, signed: true, gemm, depthwise: depthwise::depthwise, dot, ..neon::KERNEL };

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let unclamped = is_unclamped(&g.requantise);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let half = g.weights.columns - panel * NR <= HALF_PANEL;
        // SAFETY: `dotprod` was detected before this table entry was handed out; the panel exists.
        unsafe {
            match (unclamped, half) {
                (true, false) => panel_rows::<true, false>(g, panel, out),
                (false, false) => panel_rows::<false, false>(g, panel, out),
                (true, true) => panel_rows::<true, true>(g, panel, out),
                (false, true) => panel_rows::<false, true>(g, panel, out),
            }
        }
    }
}

/// All rows of a panel. Tiles are called from here alone, so that they are inlined and share what a panel has.
///
/// # Safety
/// `dotprod`; what [`Gemm::check`] checks; the panel exists. With `HALF`, it has 8 columns at most.
#[target_feature(enable = "neon,dotprod")]
unsafe fn panel_rows<const UNCLAMPED: bool, const HALF: bool>(g: &Gemm, panel: usize, out: &mut [u8]) {
    let bounds = Bounds::new(&g.requantise);
    let mut starts = g.windows.starts(g.first);
    let mut row = 0;
    // SAFETY: the rows exist.
    unsafe {
        while row + 6 <= g.rows {
            tile::<6, UNCLAMPED, HALF>(g, bounds, panel, row, starts.take(), out);
            row += 6;
        }
        while row + 2 <= g.rows {
            tile::<2, UNCLAMPED, HALF>(g, bounds, panel, row, starts.take(), out);
            row += 2;
        }
        if row < g.rows {
            tile::<1, UNCLAMPED, HALF>(g, bounds, panel, row, starts.take(), out);
        }
    }
}

/// `sum + Σ weights · a`, four products a lane.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot_codes(mut sum: int32x4_t, weights: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes registers alone; the caller has `dotprod`.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.16b", inout(vreg) sum, in(vreg) weights, in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// `sum + Σ weights · a`, four products a lane, with the first four codes of `a`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sum: int32x4_t, weights: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: reads and writes registers alone; the caller has `dotprod`.
    unsafe {
        asm!("sdot {0:v}.4s, {1:v}.16b, {2:v}.4b[0]", inout(vreg) sum, in(vreg) weights, in(vreg) a,
            options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Makes six registers of codes signed: the constant lies where weights will be.
macro_rules! flip {
    () => {
        concat!(
            "movi {w0:v}.16b, #128\n",
            "eor {a0:v}.16b, {a0:v}.16b, {w0:v}.16b\n",
            "eor {a1:v}.16b, {a1:v}.16b, {w0:v}.16b\n",
            "eor {a2:v}.16b, {a2:v}.16b, {w0:v}.16b\n",
            "eor {a3:v}.16b, {a3:v}.16b, {w0:v}.16b\n",
            "eor {a4:v}.16b, {a4:v}.16b, {w0:v}.16b\n",
            "eor {a5:v}.16b, {a5:v}.16b, {w0:v}.16b\n",
        )
    };
}

/// Weights of eight columns, the two registers of sums `$first` and `$second`, with the codes of lane `$lane`; the next
/// weights lie `$step` bytes on.
macro_rules! eight_columns {
    (step $step:literal, $lane:literal, $first:literal, $second:literal) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{b}], #",
            $step,
            "\n",
            eight_columns!("0", $lane, $first, $second),
            eight_columns!("1", $lane, $first, $second),
            eight_columns!("2", $lane, $first, $second),
            eight_columns!("3", $lane, $first, $second),
            eight_columns!("4", $lane, $first, $second),
            eight_columns!("5", $lane, $first, $second),
        )
    };
    ($row:literal, $lane:literal, $first:literal, $second:literal) => {
        concat!(
            "sdot {s",
            $row,
            $first,
            ":v}.4s, {w0:v}.16b, {a",
            $row,
            ":v}.4b[",
            $lane,
            "]\n",
            "sdot {s",
            $row,
            $second,
            ":v}.4s, {w1:v}.16b, {a",
            $row,
            ":v}.4b[",
            $lane,
            "]\n",
        )
    };
}

/// Four codes of six rows with four codes of 16 columns.
macro_rules! four_codes {
    ($lane:literal) => {
        concat!(eight_columns!(step "32", $lane, "0", "1"), eight_columns!(step "32", $lane, "2", "3"))
    };
}

/// [`add_run`] of six rows: 24 sums, six registers of codes and two of weights are all 32; a compiler would keep some
/// of them in memory.
///
/// # Safety
/// As [`add_run`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn six_rows(sums: &mut [[int32x4_t; 4]; 6], a: [*const u8; 6], b: *const i8, run: usize) {
    let [s0, s1, s2, s3, s4, s5] = sums;
    // SAFETY: reads `run` codes from each of `a` and `16 · run` from `b`; writes registers alone.
    unsafe {
        asm!(
            "cbz {sixteens}, 3f",
            "2:",
            "ldr {a0:q}, [{p0}], #16", "ldr {a1:q}, [{p1}], #16", "ldr {a2:q}, [{p2}], #16",
            "ldr {a3:q}, [{p3}], #16", "ldr {a4:q}, [{p4}], #16", "ldr {a5:q}, [{p5}], #16",
            flip!(), four_codes!("0"), four_codes!("1"), four_codes!("2"), four_codes!("3"),
            "sub {sixteens}, {sixteens}, #1",
            "cbnz {sixteens}, 2b",
            "3:",
            "tbz {run}, #3, 4f",
            "ldr {a0:d}, [{p0}], #8", "ldr {a1:d}, [{p1}], #8", "ldr {a2:d}, [{p2}], #8",
            "ldr {a3:d}, [{p3}], #8", "ldr {a4:d}, [{p4}], #8", "ldr {a5:d}, [{p5}], #8",
            flip!(), four_codes!("0"), four_codes!("1"),
            "4:",
            "tbz {run}, #2, 5f",
            "ldr {a0:s}, [{p0}]", "ldr {a1:s}, [{p1}]", "ldr {a2:s}, [{p2}]",
            "ldr {a3:s}, [{p3}]", "ldr {a4:s}, [{p4}]", "ldr {a5:s}, [{p5}]",
            flip!(), four_codes!("0"),
            "5:",
            sixteens = inout(reg) run / 16 => _, run = in(reg) run, b = inout(reg) b => _,
            p0 = inout(reg) a[0] => _, p1 = inout(reg) a[1] => _, p2 = inout(reg) a[2] => _,
            p3 = inout(reg) a[3] => _, p4 = inout(reg) a[4] => _, p5 = inout(reg) a[5] => _,
            s00 = inout(vreg) s0[0], s01 = inout(vreg) s0[1], s02 = inout(vreg) s0[2], s03 = inout(vreg) s0[3],
            s10 = inout(vreg) s1[0], s11 = inout(vreg) s1[1], s12 = inout(vreg) s1[2], s13 = inout(vreg) s1[3],
            s20 = inout(vreg) s2[0], s21 = inout(vreg) s2[1], s22 = inout(vreg) s2[2], s23 = inout(vreg) s2[3],
            s30 = inout(vreg) s3[0], s31 = inout(vreg) s3[1], s32 = inout(vreg) s3[2], s33 = inout(vreg) s3[3],
            s40 = inout(vreg) s4[0], s41 = inout(vreg) s4[1], s42 = inout(vreg) s4[2], s43 = inout(vreg) s4[3],
            s50 = inout(vreg) s5[0], s51 = inout(vreg) s5[1], s52 = inout(vreg) s5[2], s53 = inout(vreg) s5[3],
            a0 = out(vreg) _, a1 = out(vreg) _, a2 = out(vreg) _, a3 = out(vreg) _, a4 = out(vreg) _, a5 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// [`add_run`] of few rows.
///
/// # Safety
/// As [`add_run`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn few_rows<const R: usize>(sums: &mut [[int32x4_t; 4]; R], a: [*const u8; R], b: *const i8, run: usize) {
    let flip = vdupq_n_s8(i8::MIN);
    for k in (0..run).step_by(4) {
        // SAFETY: the panel holds 64 codes for each four along the depth.
        let weights: [int8x16_t; 4] = std::array::from_fn(|v| unsafe { vld1q_s8(b.add(k * NR + v * 16)) });
        for (sums, a) in sums.iter_mut().zip(a) {
            // SAFETY: four codes at `k`, a multiple of 4 below the length of a run.
            let four = unsafe { vdupq_n_u32(a.add(k).cast::<u32>().read_unaligned()) };
            let four = veorq_s8(vreinterpretq_s8_u32(four), flip);
            // Written out: sums that a loop indexes are kept in memory where it is not unrolled.
            sums[0] = sdot(sums[0], weights[0], four);
            sums[1] = sdot(sums[1], weights[1], four);
            sums[2] = sdot(sums[2], weights[2], four);
            sums[3] = sdot(sums[3], weights[3], four);
        }
    }
}

/// Adds the products of a run.
///
/// # Safety
/// `dotprod`; `run` codes follow from each of `a`, `16 · run` from `b`; `run` is a multiple of 4.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn add_run<const R: usize, const HALF: bool>(
    sums: &mut [[int32x4_t; 4]; R],
    a: [*const u8; R],
    b: *const i8,
    run: usize,
) {
    // SAFETY: as this function's.
    unsafe {
        match (sums.as_mut_slice().as_mut_array(), a.as_slice().as_array()) {
            (Some(sums), Some(a)) if HALF => six_rows_of_eight_columns(sums, *a, b, run),
            (Some(sums), Some(a)) => six_rows(sums, *a, b, run),
            _ => few_rows(sums, a, b, run),
        }
    }
}

/// [`six_rows`] without the last eight columns.
///
/// # Safety
/// As [`add_run`].
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn six_rows_of_eight_columns(sums: &mut [[int32x4_t; 4]; 6], a: [*const u8; 6], b: *const i8, run: usize) {
    let [s0, s1, s2, s3, s4, s5] = sums;
    // SAFETY: reads `run` codes from each of `a` and `16 · run` from `b`; writes registers alone.
    unsafe {
        asm!(
            "cbz {sixteens}, 3f",
            "2:",
            "ldr {a0:q}, [{p0}], #16", "ldr {a1:q}, [{p1}], #16", "ldr {a2:q}, [{p2}], #16",
            "ldr {a3:q}, [{p3}], #16", "ldr {a4:q}, [{p4}], #16", "ldr {a5:q}, [{p5}], #16",
            flip!(),
            eight_columns!(step "64", "0", "0", "1"), eight_columns!(step "64", "1", "0", "1"),
            eight_columns!(step "64", "2", "0", "1"), eight_columns!(step "64", "3", "0", "1"),
            "sub {sixteens}, {sixteens}, #1",
            "cbnz {sixteens}, 2b",
            "3:",
            "tbz {run}, #3, 4f",
            "ldr {a0:d}, [{p0}], #8", "ldr {a1:d}, [{p1}], #8", "ldr {a2:d}, [{p2}], #8",
            "ldr {a3:d}, [{p3}], #8", "ldr {a4:d}, [{p4}], #8", "ldr {a5:d}, [{p5}], #8",
            flip!(), eight_columns!(step "64", "0", "0", "1"), eight_columns!(step "64", "1", "0", "1"),
            "4:",
            "tbz {run}, #2, 5f",
            "ldr {a0:s}, [{p0}]", "ldr {a1:s}, [{p1}]", "ldr {a2:s}, [{p2}]",
            "ldr {a3:s}, [{p3}]", "ldr {a4:s}, [{p4}]", "ldr {a5:s}, [{p5}]",
            flip!(), eight_columns!(step "64", "0", "0", "1"),
            "5:",
            sixteens = inout(reg) run / 16 => _, run = in(reg) run, b = inout(reg) b => _,
            p0 = inout(reg) a[0] => _, p1 = inout(reg) a[1] => _, p2 = inout(reg) a[2] => _,
            p3 = inout(reg) a[3] => _, p4 = inout(reg) a[4] => _, p5 = inout(reg) a[5] => _,
            s00 = inout(vreg) s0[0], s01 = inout(vreg) s0[1],
            s10 = inout(vreg) s1[0], s11 = inout(vreg) s1[1],
            s20 = inout(vreg) s2[0], s21 = inout(vreg) s2[1],
            s30 = inout(vreg) s3[0], s31 = inout(vreg) s3[1],
            s40 = inout(vreg) s4[0], s41 = inout(vreg) s4[1],
            s50 = inout(vreg) s5[0], s51 = inout(vreg) s5[1],
            a0 = out(vreg) _, a1 = out(vreg) _, a2 = out(vreg) _, a3 = out(vreg) _, a4 = out(vreg) _, a5 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// R rows × 16 columns, of which the last 8 are left out with `HALF`.
///
/// # Safety
/// `dotprod`; what [`Gemm::check`] checks; the panel and rows `row .. row + R` exist, whose windows begin at `starts`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn tile<const R: usize, const UNCLAMPED: bool, const HALF: bool>(
    g: &Gemm,
    bounds: Bounds<UNCLAMPED>,
    panel: usize,
    row: usize,
    starts: [usize; R],
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let column = panel * NR;
    // SAFETY: the bias is as long as all panels.
    let mut sums = [unsafe { bias(&g.requantise, column) }; R];
    // SAFETY: the panel exists.
    let mut b = unsafe { g.weights.codes.as_ptr().add(panel * NR * depth) };
    let mut i = 0;
    // Ends at the bottom, as there is a run: else the compiler copies all sums for the way around it.
    loop {
        // SAFETY: below the number of runs.
        let offset = unsafe { *g.windows.runs.get_unchecked(i) };
        let mut a = [g.a.as_ptr(); R];
        for (a, start) in a.iter_mut().zip(starts) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        // SAFETY: `run` codes of R rows, and 64 of the panel for each four of them.
        unsafe { add_run::<R, HALF>(&mut sums, a, b, run) };
        b = b.wrapping_add(run * NR);
        i += 1;
        if i >= g.windows.runs.len() {
            break;
        }
    }
    let width = NR.min(g.weights.columns - column);
    // SAFETY: the multiplier is as long as all panels.
    let multipliers = unsafe { multipliers(&g.requantise, column) };
    for (r, sums) in sums.into_iter().enumerate() {
        let codes = bounds.codes(sums, multipliers);
        // SAFETY: the row exists in the output, as asserted.
        unsafe { store_row::<HALF>(codes, out, (row + r) * g.out_row_stride + column, width) };
    }
}

fn dot(codes: &[u8], weights: &[i8]) -> i32 {
    let some = codes.len().min(weights.len()) / NR * NR;
    // SAFETY: `dotprod` was detected before this table entry was handed out; both hold `some` values.
    let sum = unsafe { dot_some(codes, weights, some) };
    sum.wrapping_add(portable::dot_loop(&codes[some..], &weights[some..]))
}

/// # Safety
/// `dotprod`; `codes` and `weights` hold `some` values, a multiple of 16.
#[target_feature(enable = "neon,dotprod")]
unsafe fn dot_some(codes: &[u8], weights: &[i8], some: usize) -> i32 {
    let flip = vdupq_n_s8(i8::MIN);
    let mut sum = vdupq_n_s32(0);
    // Σ w·a = Σ w·(a − 128) − Σ w·(−128)
    let mut lacking = vdupq_n_s32(0);
    for at in (0..some).step_by(NR) {
        // SAFETY: 16 values at `at`.
        let (a, w) = unsafe { (vld1q_s8(codes.as_ptr().add(at).cast()), vld1q_s8(weights.as_ptr().add(at))) };
        sum = sdot_codes(sum, w, veorq_s8(a, flip));
        lacking = sdot_codes(lacking, w, flip);
    }
    vaddvq_s32(vsubq_s32(sum, lacking))
}
