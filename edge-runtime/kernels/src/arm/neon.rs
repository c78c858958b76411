//! Baseline NEON, for Cortex-A53, A57 and A72: signed products of 8 bits, two of them added in 16 bits (`smull`,
//! `smlal`), then pairwise into 32 bits (`sadalp`).
//!
//! Activations are taken as `code − 128`. |−128 · −127 · 2| < 2¹⁵, so two products never leave 16 bits unless a weight
//! is −128; layers that have one take the products singly.

pub(super) mod depthwise;
mod elementwise;

use crate::{Gemm, Kernel, NR, Requantise, portable};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry.
pub static KERNEL: Kernel = Kernel {
    name: "neon",
    kr: 4,
    signed: true,
    gemm,
    winograd: None,
    depthwise: depthwise::depthwise,
    max_pool: portable::max_pool_loops,
    add: elementwise::add,
    multiply: elementwise::multiply,
    dot: elementwise::dot,
};

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let paired = !g.weights.has_min_weight;
    let unclamped = is_unclamped(&g.requantise);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let half = g.weights.columns - panel * NR <= HALF_PANEL;
        // SAFETY: NEON is there on every aarch64; the panel exists.
        unsafe {
            match (paired, unclamped, half) {
                (true, true, false) => panel_rows::<true, true, false>(g, panel, out),
                (true, false, false) => panel_rows::<true, false, false>(g, panel, out),
                (true, true, true) => panel_rows::<true, true, true>(g, panel, out),
                (true, false, true) => panel_rows::<true, false, true>(g, panel, out),
                (false, true, _) => panel_rows::<false, true, false>(g, panel, out),
                (false, false, _) => panel_rows::<false, false, false>(g, panel, out),
            }
        }
    }
}

/// All rows of a panel. Tiles are called from here alone, so that they are inlined and share what a panel has.
///
/// # Safety
/// What [`Gemm::check`] checks; the panel exists. With `PAIRED`, no weight is −128; with `HALF`, the panel has 8
/// columns at most.
#[target_feature(enable = "neon")]
unsafe fn panel_rows<const PAIRED: bool, const UNCLAMPED: bool, const HALF: bool>(
    g: &Gemm,
    panel: usize,
    out: &mut [u8],
) {
    let bounds = Bounds::new(&g.requantise);
    // SAFETY: the bias is as long as all panels.
    let bias = unsafe { bias(&g.requantise, panel * NR) };
    let zero = vdupq_n_s32(0);
    let bias: [int32x4_t; 8] =
        std::array::from_fn(|i| if i % 2 == 0 { vzip1q_s32(bias[i / 2], zero) } else { vzip2q_s32(bias[i / 2], zero) });
    let mut starts = g.windows.starts(g.first);
    let mut row = 0;
    // SAFETY: the rows exist.
    unsafe {
        while row + 2 <= g.rows {
            tile::<2, PAIRED, UNCLAMPED, HALF>(g, bounds, &bias, panel, row, starts.take(), out);
            row += 2;
        }
        if row < g.rows {
            tile::<1, PAIRED, UNCLAMPED, HALF>(g, bounds, &bias, panel, row, starts.take(), out);
        }
    }
}

/// R rows × 16 columns. Each register of sums holds two partial sums of two columns, so 2 rows take 16 of 32 registers;
/// they begin with `bias`. With `HALF`, the last 8 columns are left out.
///
/// # Safety
/// What [`Gemm::check`] checks; the panel and rows `row .. row + R` exist, whose windows begin at `starts`. With
/// `PAIRED`, no weight is −128.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize, const PAIRED: bool, const UNCLAMPED: bool, const HALF: bool>(
    g: &Gemm,
    bounds: Bounds<UNCLAMPED>,
    bias: &[int32x4_t; 8],
    panel: usize,
    row: usize,
    starts: [usize; R],
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let column = panel * NR;
    let mut sums = [*bias; R];
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
        // SAFETY: `run` codes of each row, and 64 of the panel for each four of them.
        unsafe {
            match (PAIRED, sums.as_mut_slice().as_mut_array(), a.as_slice().as_array()) {
                (true, Some(sums), Some(a)) if HALF => two_rows_of_eight_columns(sums, *a, b, run),
                (true, Some(sums), Some(a)) => two_rows(sums, *a, b, run),
                _ => single_products(&mut sums, a, b, run),
            }
        }
        b = b.wrapping_add(run * NR);
        i += 1;
        if i >= g.windows.runs.len() {
            break;
        }
    }
    // SAFETY: the multiplier is as long as all panels.
    let multipliers = unsafe { multipliers(&g.requantise, column) };
    let width = NR.min(g.weights.columns - column);
    for (r, s) in sums.iter().enumerate() {
        let four = |i: usize| vpaddq_s32(s[2 * i], s[2 * i + 1]);
        let codes = bounds.codes([four(0), four(1), four(2), four(3)], multipliers);
        // SAFETY: the row exists in the output, as asserted.
        unsafe { store_row::<HALF>(codes, out, (row + r) * g.out_row_stride + column, width) };
    }
}

/// Adds the products of a run, whatever the weights are.
///
/// # Safety
/// `run` codes follow from each of `a`, `16 · run` from `b`; `run` is a multiple of 4.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn single_products<const R: usize>(sums: &mut [[int32x4_t; 8]; R], a: [*const u8; R], b: *const i8, run: usize) {
    let flip = vdupq_n_s8(i8::MIN);
    for k in (0..run).step_by(4) {
        // SAFETY: the panel holds 64 codes for each four along the depth.
        let weights: [int8x16_t; 4] = std::array::from_fn(|v| unsafe { vld1q_s8(b.add(k * NR + v * 16)) });
        for (sums, a) in sums.iter_mut().zip(a) {
            // SAFETY: four codes at `k`, a multiple of 4 below the length of a run.
            let four = unsafe { vdupq_n_u32(a.add(k).cast::<u32>().read_unaligned()) };
            let a = veorq_s8(vreinterpretq_s8_u32(four), flip);
            for (sums, w) in sums.as_chunks_mut::<2>().0.iter_mut().zip(weights) {
                sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), vget_low_s8(w)));
                sums[1] = vpadalq_s16(sums[1], vmull_high_s8(a, w));
            }
        }
    }
}

/// Eight columns, the four registers of sums from `$s` on, with eight codes that are repeated by fours in `c0` and `c1`
/// of both rows; the weights lie from `$near` and, of the last four codes, from `$far` on.
macro_rules! eight_columns {
    ($near:literal, $far:literal, $s0:literal, $s1:literal, $s2:literal, $s3:literal) => {
        concat!(
            "ldp {w0:q}, {w1:q}, [{b}, #",
            $near,
            "]\n",
            "ldp {w2:q}, {w3:q}, [{b}, #",
            $far,
            "]\n",
            eight_columns!("w0", "w2", $s0, $s1),
            eight_columns!("w1", "w3", $s2, $s3),
        )
    };
    ($first:literal, $last:literal, $s0:literal, $s1:literal) => {
        concat!(
            "smull {t0:v}.8h, {c00:v}.8b, {",
            $first,
            ":v}.8b\n",
            "smull {t2:v}.8h, {c10:v}.8b, {",
            $first,
            ":v}.8b\n",
            "smull2 {t1:v}.8h, {c00:v}.16b, {",
            $first,
            ":v}.16b\n",
            "smull2 {t3:v}.8h, {c10:v}.16b, {",
            $first,
            ":v}.16b\n",
            "smlal {t0:v}.8h, {c01:v}.8b, {",
            $last,
            ":v}.8b\n",
            "smlal {t2:v}.8h, {c11:v}.8b, {",
            $last,
            ":v}.8b\n",
            "smlal2 {t1:v}.8h, {c01:v}.16b, {",
            $last,
            ":v}.16b\n",
            "smlal2 {t3:v}.8h, {c11:v}.16b, {",
            $last,
            ":v}.16b\n",
            "sadalp {s0",
            $s0,
            ":v}.4s, {t0:v}.8h\n",
            "sadalp {s1",
            $s0,
            ":v}.4s, {t2:v}.8h\n",
            "sadalp {s0",
            $s1,
            ":v}.4s, {t1:v}.8h\n",
            "sadalp {s1",
            $s1,
            ":v}.4s, {t3:v}.8h\n",
        )
    };
}

/// Lanes `$first` and `$last` of the codes `a0` and `a1`, each repeated four times.
macro_rules! repeat_lanes {
    ($first:literal, $last:literal) => {
        concat!(
            "dup {c00:v}.4s, {a0:v}.s[",
            $first,
            "]\n",
            "dup {c10:v}.4s, {a1:v}.s[",
            $first,
            "]\n",
            "dup {c01:v}.4s, {a0:v}.s[",
            $last,
            "]\n",
            "dup {c11:v}.4s, {a1:v}.s[",
            $last,
            "]\n",
        )
    };
}

/// Four columns with the four codes in `a0` and `a1`, whose products are added singly.
macro_rules! four_columns {
    ($weights:literal, $s0:literal, $s1:literal) => {
        concat!(
            "smull {t0:v}.8h, {a0:v}.8b, {",
            $weights,
            ":v}.8b\n",
            "smull {t2:v}.8h, {a1:v}.8b, {",
            $weights,
            ":v}.8b\n",
            "smull2 {t1:v}.8h, {a0:v}.16b, {",
            $weights,
            ":v}.16b\n",
            "smull2 {t3:v}.8h, {a1:v}.16b, {",
            $weights,
            ":v}.16b\n",
            "sadalp {s0",
            $s0,
            ":v}.4s, {t0:v}.8h\n",
            "sadalp {s1",
            $s0,
            ":v}.4s, {t2:v}.8h\n",
            "sadalp {s0",
            $s1,
            ":v}.4s, {t1:v}.8h\n",
            "sadalp {s1",
            $s1,
            ":v}.4s, {t3:v}.8h\n",
        )
    };
}

/// [`single_products`] of two rows, two products at a time added in 16 bits.
///
/// # Safety
/// As [`single_products`]; no weight is −128.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn two_rows(sums: &mut [[int32x4_t; 8]; 2], a: [*const u8; 2], b: *const i8, run: usize) {
    let [s0, s1] = sums;
    // SAFETY: reads `run` codes from each of `a` and `16 · run` from `b`; writes registers alone.
    unsafe {
        asm!(
            "movi {flip:v}.16b, #128",
            "cbz {sixteens}, 3f",
            "2:",
            "ldr {a0:q}, [{p0}], #16",
            "ldr {a1:q}, [{p1}], #16",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            repeat_lanes!("0", "1"),
            eight_columns!("0", "64", "0", "1", "2", "3"),
            eight_columns!("32", "96", "4", "5", "6", "7"),
            repeat_lanes!("2", "3"),
            eight_columns!("128", "192", "0", "1", "2", "3"),
            eight_columns!("160", "224", "4", "5", "6", "7"),
            "add {b}, {b}, #256",
            "sub {sixteens}, {sixteens}, #1",
            "cbnz {sixteens}, 2b",
            "3:",
            "tbz {run}, #3, 4f",
            "ldr {a0:d}, [{p0}], #8",
            "ldr {a1:d}, [{p1}], #8",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            repeat_lanes!("0", "1"),
            eight_columns!("0", "64", "0", "1", "2", "3"),
            eight_columns!("32", "96", "4", "5", "6", "7"),
            "add {b}, {b}, #128",
            "4:",
            "tbz {run}, #2, 5f",
            "ld1r {{{a0:v}.4s}}, [{p0}]",
            "ld1r {{{a1:v}.4s}}, [{p1}]",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            "ldp {w0:q}, {w1:q}, [{b}]",
            "ldp {w2:q}, {w3:q}, [{b}, #32]",
            four_columns!("w0", "0", "1"),
            four_columns!("w1", "2", "3"),
            four_columns!("w2", "4", "5"),
            four_columns!("w3", "6", "7"),
            "5:",
            sixteens = inout(reg) run / 16 => _, run = in(reg) run, b = inout(reg) b => _,
            p0 = inout(reg) a[0] => _, p1 = inout(reg) a[1] => _,
            s00 = inout(vreg) s0[0], s01 = inout(vreg) s0[1], s02 = inout(vreg) s0[2], s03 = inout(vreg) s0[3],
            s04 = inout(vreg) s0[4], s05 = inout(vreg) s0[5], s06 = inout(vreg) s0[6], s07 = inout(vreg) s0[7],
            s10 = inout(vreg) s1[0], s11 = inout(vreg) s1[1], s12 = inout(vreg) s1[2], s13 = inout(vreg) s1[3],
            s14 = inout(vreg) s1[4], s15 = inout(vreg) s1[5], s16 = inout(vreg) s1[6], s17 = inout(vreg) s1[7],
            flip = out(vreg) _, a0 = out(vreg) _, a1 = out(vreg) _,
            c00 = out(vreg) _, c01 = out(vreg) _, c10 = out(vreg) _, c11 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// [`two_rows`] without the last eight columns.
///
/// # Safety
/// As [`two_rows`].
#[inline]
#[target_feature(enable = "neon")]
unsafe fn two_rows_of_eight_columns(sums: &mut [[int32x4_t; 8]; 2], a: [*const u8; 2], b: *const i8, run: usize) {
    let [s0, s1] = sums;
    // SAFETY: reads `run` codes from each of `a` and `16 · run` from `b`; writes registers alone.
    unsafe {
        asm!(
            "movi {flip:v}.16b, #128",
            "cbz {sixteens}, 3f",
            "2:",
            "ldr {a0:q}, [{p0}], #16",
            "ldr {a1:q}, [{p1}], #16",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            repeat_lanes!("0", "1"),
            eight_columns!("0", "64", "0", "1", "2", "3"),
            repeat_lanes!("2", "3"),
            eight_columns!("128", "192", "0", "1", "2", "3"),
            "add {b}, {b}, #256",
            "sub {sixteens}, {sixteens}, #1",
            "cbnz {sixteens}, 2b",
            "3:",
            "tbz {run}, #3, 4f",
            "ldr {a0:d}, [{p0}], #8",
            "ldr {a1:d}, [{p1}], #8",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            repeat_lanes!("0", "1"),
            eight_columns!("0", "64", "0", "1", "2", "3"),
            "add {b}, {b}, #128",
            "4:",
            "tbz {run}, #2, 5f",
            "ld1r {{{a0:v}.4s}}, [{p0}]",
            "ld1r {{{a1:v}.4s}}, [{p1}]",
            "eor {a0:v}.16b, {a0:v}.16b, {flip:v}.16b",
            "eor {a1:v}.16b, {a1:v}.16b, {flip:v}.16b",
            "ldp {w0:q}, {w1:q}, [{b}]",
            four_columns!("w0", "0", "1"),
            four_columns!("w1", "2", "3"),
            "5:",
            sixteens = inout(reg) run / 16 => _, run = in(reg) run, b = inout(reg) b => _,
            p0 = inout(reg) a[0] => _, p1 = inout(reg) a[1] => _,
            s00 = inout(vreg) s0[0], s01 = inout(vreg) s0[1], s02 = inout(vreg) s0[2], s03 = inout(vreg) s0[3],
            s10 = inout(vreg) s1[0], s11 = inout(vreg) s1[1], s12 = inout(vreg) s1[2], s13 = inout(vreg) s1[3],
            flip = out(vreg) _, a0 = out(vreg) _, a1 = out(vreg) _,
            c00 = out(vreg) _, c01 = out(vreg) _, c10 = out(vreg) _, c11 = out(vreg) _,
            w0 = out(vreg) _, w1 = out(vreg) _, w2 = out(vreg) _, w3 = out(vreg) _,
            t0 = out(vreg) _, t1 = out(vreg) _, t2 = out(vreg) _, t3 = out(vreg) _,
            options(readonly, nostack, preserves_flags),
        );
    }
}

/// Writes the first `width` of 16 codes to `out[at..]`, 8 at most with `HALF`.
///
/// # Safety
/// `width` codes fit from `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn store_row<const HALF: bool>(codes: uint8x16_t, out: &mut [u8], at: usize, width: usize) {
    // SAFETY: the caller vouches for `width` bytes.
    unsafe {
        let to = out.as_mut_ptr().add(at);
        match (HALF, width) {
            (false, NR) => vst1q_u8(to, codes),
            (true, HALF_PANEL) => vst1_u8(to, vget_low_u8(codes)),
            _ => {
                let mut bytes = [0u8; NR];
                vst1q_u8(bytes.as_mut_ptr(), codes);
                out[at..][..width].copy_from_slice(&bytes[..width]);
            }
        }
    }
}

/// Columns that a panel has at most where its second half is left out.
pub(super) const HALF_PANEL: usize = NR / 2;

/// True if zero point 0 and the bounds of a code leave nothing to do, and sums have 16 bits: narrowing them once
/// saturates to what is right.
pub(super) fn is_unclamped(r: &Requantise) -> bool {
    (r.zero_point, r.low, r.high) == (0, 0, 255) && r.within_16_bits
}

/// The constants of [`Requantise`] that all outputs share, in registers. `UNCLAMPED`: [`is_unclamped`].
#[derive(Clone, Copy)]
pub(super) struct Bounds<const UNCLAMPED: bool> {
    zero_point: int16x8_t,
    low: uint8x16_t,
    high: uint8x16_t,
}

impl<const UNCLAMPED: bool> Bounds<UNCLAMPED> {
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn new(r: &Requantise) -> Bounds<UNCLAMPED> {
        Bounds { zero_point: vdupq_n_s16(i16::from(r.zero_point)), low: vdupq_n_u8(r.low), high: vdupq_n_u8(r.high) }
    }

    /// 16 sums, which hold the bias already, to 16 codes. Every conversion on the way saturates.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn codes(&self, sums: [int32x4_t; 4], multiplier: [float32x4_t; 4]) -> uint8x16_t {
        let step = |i: usize| vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[i]), multiplier[i]));
        if UNCLAMPED {
            let low_halves = |i: usize| vuzp1q_s16(vreinterpretq_s16_s32(step(i)), vreinterpretq_s16_s32(step(i + 1)));
            return vqmovun_high_s16(vqmovun_s16(low_halves(0)), low_halves(2));
        }
        let first = vqmovn_high_s32(vqmovn_s32(step(0)), step(1));
        let second = vqmovn_high_s32(vqmovn_s32(step(2)), step(3));
        let first = vqaddq_s16(first, self.zero_point);
        let second = vqaddq_s16(second, self.zero_point);
        vminq_u8(vmaxq_u8(vqmovun_high_s16(vqmovun_s16(first), second), self.low), self.high)
    }
}

/// Biases of 16 outputs.
///
/// # Safety
/// There are 16 from `first`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn bias(r: &Requantise, first: usize) -> [int32x4_t; 4] {
    // SAFETY: the caller vouches for 16 values.
    std::array::from_fn(|i| unsafe { vld1q_s32(r.bias.as_ptr().add(first + 4 * i)) })
}

/// Multipliers of 16 outputs.
///
/// # Safety
/// There are 16 from `first`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn multipliers(r: &Requantise, first: usize) -> [float32x4_t; 4] {
    // SAFETY: the caller vouches for 16 values.
    std::array::from_fn(|i| unsafe { vld1q_f32(r.multiplier.as_ptr().add(first + 4 * i)) })
}
