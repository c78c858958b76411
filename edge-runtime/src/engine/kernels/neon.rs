//! Baseline NEON, for Cortex-A53, A57 and A72: signed products of 8 bits, two of them added in 16 bits (`smull`,
//! `smlal`), then pairwise into 32 bits (`sadalp`).
//!
//! Activations are taken as `code − 128`. |−128 · −127 · 2| < 2¹⁵, so two products never leave 16 bits unless a weight is
//! −128; layers that have one take the products singly.

use super::{Depthwise, Gemm, Kernel, PANEL, Requantise, assert_depthwise, assert_gemm, portable};
use std::arch::aarch64::*;

/// The table entry.
pub static KERNEL: Kernel = Kernel {
    name: "neon",
    group: 8,
    signed: true,
    gemm,
    depthwise,
    add: portable::add_loop,
    multiply: portable::multiply_loop,
    dot: portable::dot_loop,
};

/// Columns whose sums are held at once: 2 rows × 8 columns × 4 partial sums take 16 of the 32 registers.
const COLUMNS: usize = 8;

fn gemm(g: &Gemm, out: &mut [u8]) {
    assert_gemm(g, out, KERNEL.group);
    let paired = !g.weights.codes.contains(&i8::MIN);
    for column in (0..g.weights.columns).step_by(COLUMNS) {
        let mut row = 0;
        while row < g.rows {
            // SAFETY: NEON is there on every aarch64; the rows and the columns exist, as asserted.
            unsafe {
                match (g.rows - row >= 2, paired) {
                    (true, true) => tile::<2, true>(g, column, row, out),
                    (true, false) => tile::<2, false>(g, column, row, out),
                    (false, true) => tile::<1, true>(g, column, row, out),
                    (false, false) => tile::<1, false>(g, column, row, out),
                }
            }
            row += 2;
        }
    }
}

/// R rows × 8 columns.
///
/// # Safety
/// What [`assert_gemm`] checks; rows `row .. row + R` exist; `column` is a multiple of 8 inside the panels. With `PAIRED`, no
/// weight is −128.
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize, const PAIRED: bool>(g: &Gemm, column: usize, row: usize, out: &mut [u8]) {
    let depth = g.weights.depth;
    let flip = vdupq_n_s8(i8::MIN);
    let mut sums = [[vdupq_n_s32(0); COLUMNS]; R];
    // SAFETY: the row and the panel exist; a half panel begins 8 columns · 8 codes later.
    let (a, b) = unsafe {
        let panel = column / PANEL * PANEL * depth;
        (g.a.as_ptr().add(row * g.row), g.weights.codes.as_ptr().add(panel + column % PANEL * 8))
    };
    // Eight codes of a row, in both halves of a register.
    let codes = |r: usize, k: usize| {
        // SAFETY: eight codes at `k`, a multiple of 8 below the depth, of an existing row.
        let eight = unsafe { vld1q_dup_u64(a.add(r * g.row + k).cast()) };
        veorq_s8(vreinterpretq_s8_u64(eight), flip)
    };
    // Eight weights of two columns.
    // SAFETY: the panel holds 16 · 8 codes for each eight along the depth.
    let weights = |k: usize, pair: usize| unsafe { vld1q_s8(b.add(k * PANEL + pair * 16)) };
    let mut k = 0;
    while PAIRED && k + 16 <= depth {
        let a: [[int8x16_t; 2]; R] = std::array::from_fn(|r| [codes(r, k), codes(r, k + 8)]);
        for pair in 0..COLUMNS / 2 {
            let (b0, b1) = (weights(k, pair), weights(k + 8, pair));
            for (sums, a) in sums.iter_mut().zip(&a) {
                let low = vmull_s8(vget_low_s8(a[0]), vget_low_s8(b0));
                let low = vmlal_s8(low, vget_low_s8(a[1]), vget_low_s8(b1));
                sums[2 * pair] = vpadalq_s16(sums[2 * pair], low);
                let high = vmlal_high_s8(vmull_high_s8(a[0], b0), a[1], b1);
                sums[2 * pair + 1] = vpadalq_s16(sums[2 * pair + 1], high);
            }
        }
        k += 16;
    }
    while k < depth {
        let a: [int8x16_t; R] = std::array::from_fn(|r| codes(r, k));
        for pair in 0..COLUMNS / 2 {
            let b = weights(k, pair);
            for (sums, a) in sums.iter_mut().zip(&a) {
                let low = vmull_s8(vget_low_s8(*a), vget_low_s8(b));
                sums[2 * pair] = vpadalq_s16(sums[2 * pair], low);
                sums[2 * pair + 1] = vpadalq_s16(sums[2 * pair + 1], vmull_high_s8(*a, b));
            }
        }
        k += 8;
    }
    let width = COLUMNS.min(g.weights.columns - column);
    for (r, s) in sums.iter().enumerate() {
        let four = |i: usize| vpaddq_s32(vpaddq_s32(s[i], s[i + 1]), vpaddq_s32(s[i + 2], s[i + 3]));
        // SAFETY: bias and multiplier are as long as all panels.
        let codes = unsafe { requantise8(&g.requantise, column, [four(0), four(4)]) };
        store8(codes, &mut out[(row + r) * g.out_row + column..][..width]);
    }
}

/// Writes the first `to.len()` of 8 codes.
#[inline]
#[target_feature(enable = "neon")]
pub(super) fn store8(codes: uint8x8_t, to: &mut [u8]) {
    if to.len() == 8 {
        // SAFETY: 8 bytes into a slice of 8.
        unsafe { vst1_u8(to.as_mut_ptr(), codes) };
    } else {
        let mut bytes = [0u8; 8];
        // SAFETY: 8 bytes into an array of 8.
        unsafe { vst1_u8(bytes.as_mut_ptr(), codes) };
        to.copy_from_slice(&bytes[..to.len()]);
    }
}

/// 8 sums to 8 codes; see [`Requantise`]. Every conversion on the way saturates.
///
/// # Safety
/// Bias and multiplier hold 8 values from `first`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn requantise8(r: &Requantise, first: usize, sums: [int32x4_t; 2]) -> uint8x8_t {
    let steps = [0, 1].map(|half| {
        // SAFETY: the caller vouches for 8 values from `first`.
        let (bias, multiplier) = unsafe {
            (vld1q_s32(r.bias.as_ptr().add(first + 4 * half)), vld1q_f32(r.multiplier.as_ptr().add(first + 4 * half)))
        };
        vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(vaddq_s32(sums[half], bias)), multiplier)))
    });
    let codes = vqaddq_s16(vcombine_s16(steps[0], steps[1]), vdupq_n_s16(i16::from(r.zero_point)));
    vmin_u8(vmax_u8(vqmovun_s16(codes), vdup_n_u8(r.low)), vdup_n_u8(r.high))
}

/// Most taps that [`depthwise_block`] holds: a 5×5 window.
const MAX_TAPS: usize = 25;

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    let rows = assert_depthwise(d, first_row, out);
    let fits = d.taps.len() <= MAX_TAPS && !d.weights.contains(&i8::MIN);
    let blocks = if fits { d.channels / PANEL } else { 0 };
    for row in 0..rows {
        let to = &mut out[row * d.out_width * d.out_pixel..];
        for block in 0..blocks {
            // SAFETY: NEON is there on every aarch64; `assert_depthwise` bounds the last window of the last row, and every
            // other window lies before it.
            unsafe { depthwise_block(d, first_row + row, block * PANEL, to) }
        }
    }
    if blocks * PANEL < d.channels {
        portable::depthwise_loops(d, first_row..first_row + rows, blocks * PANEL, out);
    }
}

/// One output row of 16 channels.
///
/// # Safety
/// All windows of output row `row` and channels `c .. c + 16` lie inside input, weights, bias and multiplier; at most
/// `MAX_TAPS` taps, no weight −128; `out` starts with the row.
#[target_feature(enable = "neon")]
unsafe fn depthwise_block(d: &Depthwise, row: usize, c: usize, out: &mut [u8]) {
    let flip = vdupq_n_s8(i8::MIN);
    let taps = d.taps.len();
    let mut weights = [vdupq_n_s8(0); MAX_TAPS];
    // Σ w·a = Σ w·(a − 128) + 128 · Σ w
    let mut offset = [vdupq_n_s16(0); 2];
    for (tap, w) in weights.iter_mut().enumerate().take(taps) {
        // SAFETY: `tap < taps`, and 16 weights follow from channel `c`.
        *w = unsafe { vld1q_s8(d.weights.as_ptr().add(tap * d.channels + c)) };
        offset = [vaddw_s8(offset[0], vget_low_s8(*w)), vaddw_high_s8(offset[1], *w)];
    }
    let start = [
        vshll_n_s16::<7>(vget_low_s16(offset[0])),
        vshll_high_n_s16::<7>(offset[0]),
        vshll_n_s16::<7>(vget_low_s16(offset[1])),
        vshll_high_n_s16::<7>(offset[1]),
    ];
    // SAFETY: the row begins inside the input.
    let row = unsafe { d.input.as_ptr().add(row * d.down + c) };
    for x in 0..d.out_width {
        // SAFETY: the caller vouches for every window of this row: 16 codes of each tap.
        let codes =
            |tap: usize| unsafe { veorq_s8(vreinterpretq_s8_u8(vld1q_u8(row.add(x * d.right + d.taps[tap]))), flip) };
        let mut sums = start;
        let mut tap = 0;
        while tap < taps {
            let (a, w) = (codes(tap), weights[tap]);
            let mut low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
            let mut high = vmull_high_s8(a, w);
            if tap + 1 < taps {
                let (a, w) = (codes(tap + 1), weights[tap + 1]);
                low = vmlal_s8(low, vget_low_s8(a), vget_low_s8(w));
                high = vmlal_high_s8(high, a, w);
            }
            sums = [
                vaddw_s16(sums[0], vget_low_s16(low)),
                vaddw_high_s16(sums[1], low),
                vaddw_s16(sums[2], vget_low_s16(high)),
                vaddw_high_s16(sums[3], high),
            ];
            tap += 2;
        }
        // SAFETY: bias and multiplier hold 16 values from `c`.
        unsafe {
            let low = requantise8(&d.requantise, c, [sums[0], sums[1]]);
            let high = requantise8(&d.requantise, c + 8, [sums[2], sums[3]]);
            let to = &mut out[x * d.out_pixel + c..][..PANEL];
            vst1q_u8(to.as_mut_ptr(), vcombine_u8(low, high));
        }
    }
}
