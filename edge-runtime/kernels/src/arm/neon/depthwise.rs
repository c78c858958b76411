//! Depthwise convolutions of 16 channels at a time: products of 8 bits, two of them added in 16 bits, then into 32.

use super::{Bounds, bias, is_unclamped, multipliers};
use crate::arm::slide;
use crate::depthwise::Interior;
use crate::{Depthwise, NR, portable};
use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    d.over_interior(first_row, out, interior);
}

/// All of an [`Interior`]: in blocks of 16 channels where there is a loop for its taps, the rest as it is defined.
pub(in crate::arm) fn interior(d: &Interior, out: &mut [u8]) {
    let fits = matches!(d.taps.len(), 1 | 9 | 25) && !d.weights.contains(&i8::MIN);
    let blocks = if fits { d.channels / NR } else { 0 };
    let unclamped = is_unclamped(&d.requantise);
    for rows in slide::some_rows(d) {
        let out = &mut out[rows.start * d.out_width * d.out_pixel_stride..];
        for c in (0..blocks).map(|block| block * NR) {
            let rows = rows.clone();
            // SAFETY: NEON is there on every aarch64; [`Interior`] holds every window, and `out` every row.
            unsafe {
                match (d.taps.len(), slide::stride(d), unclamped) {
                    (9, Some(1), true) => three_by_three::<1, true>(d, rows, c, out),
                    (9, Some(1), false) => three_by_three::<1, false>(d, rows, c, out),
                    (9, Some(2), true) => three_by_three::<2, true>(d, rows, c, out),
                    (9, Some(2), false) => three_by_three::<2, false>(d, rows, c, out),
                    (9, ..) => any_taps::<9>(d, rows, c, out),
                    (25, ..) => any_taps::<25>(d, rows, c, out),
                    _ => any_taps::<1>(d, rows, c, out),
                }
            }
        }
    }
    if blocks * NR < d.channels {
        portable::depthwise_loops(d, 0..d.rows, blocks * NR, out);
    }
}

/// Weights of 16 channels, and what their sums begin with.
struct Weights<const TAPS: usize> {
    taps: [int8x16_t; TAPS],
    /// The bias, and what products with `code − 128` lack: Σ w·a = Σ w·(a − 128) + 128 · Σ w.
    start: [int32x4_t; 4],
}

impl<const TAPS: usize> Weights<TAPS> {
    /// # Safety
    /// Channels `c .. c + 16` and TAPS taps exist.
    #[inline]
    #[target_feature(enable = "neon")]
    unsafe fn new(d: &Interior, c: usize) -> Weights<TAPS> {
        let mut taps = [vdupq_n_s8(0); TAPS];
        let mut sum = [vdupq_n_s16(0); 2];
        for (tap, w) in taps.iter_mut().enumerate() {
            // SAFETY: `tap` is one of the taps, and 16 weights follow from channel `c`.
            *w = unsafe { vld1q_s8(d.weights.as_ptr().add(tap * d.channels + c)) };
            sum = [vaddw_s8(sum[0], vget_low_s8(*w)), vaddw_high_s8(sum[1], *w)];
        }
        // SAFETY: the bias holds 16 values from `c`.
        let bias = unsafe { bias(&d.requantise, c) };
        let start = [
            vaddq_s32(bias[0], vshll_n_s16::<7>(vget_low_s16(sum[0]))),
            vaddq_s32(bias[1], vshll_high_n_s16::<7>(sum[0])),
            vaddq_s32(bias[2], vshll_n_s16::<7>(vget_low_s16(sum[1]))),
            vaddq_s32(bias[3], vshll_high_n_s16::<7>(sum[1])),
        ];
        Weights { taps, start }
    }
}

/// `sums + w·a + v·b`, of two taps. No weight is −128.
///
/// In assembly, as the compiler takes the upper halves out of their registers before it multiplies them; not `pure`, so
/// that it does not mix windows, whose sums would not all fit the registers.
#[inline]
#[target_feature(enable = "neon")]
fn add_two_taps(sums: &mut [int32x4_t; 4], (a, w): (int8x16_t, int8x16_t), (b, v): (int8x16_t, int8x16_t)) {
    let [s0, s1, s2, s3] = sums;
    // SAFETY: reads and writes registers alone.
    unsafe {
        asm!(
            "smull {low:v}.8h, {a:v}.8b, {w:v}.8b",
            "smull2 {high:v}.8h, {a:v}.16b, {w:v}.16b",
            "smlal {low:v}.8h, {b:v}.8b, {v:v}.8b",
            "smlal2 {high:v}.8h, {b:v}.16b, {v:v}.16b",
            "saddw {s0:v}.4s, {s0:v}.4s, {low:v}.4h",
            "saddw2 {s1:v}.4s, {s1:v}.4s, {low:v}.8h",
            "saddw {s2:v}.4s, {s2:v}.4s, {high:v}.4h",
            "saddw2 {s3:v}.4s, {s3:v}.4s, {high:v}.8h",
            a = in(vreg) a, w = in(vreg) w, b = in(vreg) b, v = in(vreg) v,
            low = out(vreg) _, high = out(vreg) _,
            s0 = inout(vreg) *s0, s1 = inout(vreg) *s1, s2 = inout(vreg) *s2, s3 = inout(vreg) *s3,
            options(nomem, nostack, preserves_flags),
        );
    }
}

/// `start + w·a`, of one tap.
#[inline]
#[target_feature(enable = "neon")]
fn first_tap(start: &[int32x4_t; 4], (a, w): (int8x16_t, int8x16_t)) -> [int32x4_t; 4] {
    let (s0, s1, s2, s3);
    // SAFETY: reads and writes registers alone.
    unsafe {
        asm!(
            "smull {low:v}.8h, {a:v}.8b, {w:v}.8b",
            "smull2 {high:v}.8h, {a:v}.16b, {w:v}.16b",
            "saddw {s0:v}.4s, {t0:v}.4s, {low:v}.4h",
            "saddw2 {s1:v}.4s, {t1:v}.4s, {low:v}.8h",
            "saddw {s2:v}.4s, {t2:v}.4s, {high:v}.4h",
            "saddw2 {s3:v}.4s, {t3:v}.4s, {high:v}.8h",
            a = in(vreg) a, w = in(vreg) w, low = out(vreg) _, high = out(vreg) _,
            t0 = in(vreg) start[0], t1 = in(vreg) start[1], t2 = in(vreg) start[2], t3 = in(vreg) start[3],
            s0 = out(vreg) s0, s1 = out(vreg) s1, s2 = out(vreg) s2, s3 = out(vreg) s3,
            options(nomem, nostack, preserves_flags),
        );
    }
    [s0, s1, s2, s3]
}

/// 3×3 over 16 channels of some output rows.
///
/// # Safety
/// All windows of output rows `rows` and channels `c .. c + 16` lie inside input, weights, bias and multiplier; there
/// are 9 taps, no weight −128; [`slide::stride`] is STRIDE; `out` starts with the first row and holds all.
#[target_feature(enable = "neon")]
unsafe fn three_by_three<const STRIDE: usize, const UNCLAMPED: bool>(
    d: &Interior,
    rows: Range<usize>,
    c: usize,
    out: &mut [u8],
) {
    let flip = vdupq_n_s8(i8::MIN);
    let bounds = Bounds::<UNCLAMPED>::new(&d.requantise);
    // SAFETY: as this function's.
    let (Weights { taps: w, start }, multipliers) = unsafe { (Weights::<9>::new(d, c), multipliers(&d.requantise, c)) };
    for (y, row) in rows.enumerate() {
        // SAFETY: the row begins inside the input.
        let from = unsafe { d.input.as_ptr().add(row * d.row_stride + c) };
        // SAFETY: the row begins inside the output.
        let to = unsafe { out.as_mut_ptr().add(y * d.out_width * d.out_pixel_stride + c) };
        let column = |x: usize| -> [int8x16_t; 3] {
            // SAFETY: the caller vouches for three rows of every column that a window has.
            std::array::from_fn(|y| unsafe { veorq_s8(vld1q_s8(from.add(x + d.taps[3 * y]).cast()), flip) })
        };
        slide::columns::<_, STRIDE>(d, column, |x, [left, middle, right]| {
            let mut sums = first_tap(&start, (left[0], w[0]));
            add_two_taps(&mut sums, (left[1], w[3]), (left[2], w[6]));
            add_two_taps(&mut sums, (middle[0], w[1]), (middle[1], w[4]));
            add_two_taps(&mut sums, (middle[2], w[7]), (right[0], w[2]));
            add_two_taps(&mut sums, (right[1], w[5]), (right[2], w[8]));
            // SAFETY: 16 codes of a pixel of this row.
            unsafe { vst1q_u8(to.add(x), bounds.codes(sums, multipliers)) };
        });
    }
}

/// 16 channels of some output rows.
///
/// # Safety
/// As [`three_by_three`], with TAPS taps, an odd number, wherever they lie.
#[target_feature(enable = "neon")]
unsafe fn any_taps<const TAPS: usize>(d: &Interior, rows: Range<usize>, c: usize, out: &mut [u8]) {
    let flip = vdupq_n_s8(i8::MIN);
    let bounds = Bounds::<false>::new(&d.requantise);
    // SAFETY: as this function's.
    let (Weights { taps: w, start }, multipliers) =
        unsafe { (Weights::<TAPS>::new(d, c), multipliers(&d.requantise, c)) };
    let taps: [usize; TAPS] = std::array::from_fn(|tap| d.taps[tap]);
    for (y, row) in rows.enumerate() {
        // SAFETY: the row begins inside the input.
        let from = unsafe { d.input.as_ptr().add(row * d.row_stride + c) };
        // SAFETY: the row begins inside the output.
        let to = unsafe { out.as_mut_ptr().add(y * d.out_width * d.out_pixel_stride + c) };
        for x in 0..d.out_width {
            // SAFETY: the caller vouches for every window of this row: 16 codes of each tap.
            let codes =
                |tap: usize| unsafe { veorq_s8(vld1q_s8(from.add(x * d.column_stride + taps[tap]).cast()), flip) };
            let mut sums = first_tap(&start, (codes(0), w[0]));
            for tap in (1..TAPS).step_by(2) {
                add_two_taps(&mut sums, (codes(tap), w[tap]), (codes(tap + 1), w[tap + 1]));
            }
            // SAFETY: 16 codes of a pixel of this row.
            unsafe { vst1q_u8(to.add(x * d.out_pixel_stride), bounds.codes(sums, multipliers)) };
        }
    }
}
