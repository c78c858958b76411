//! Depthwise convolutions 3×3 of eight channels and two output rows at a time.
//!
//! The four input rows that two output rows see lie side by side in a register, four codes for each channel, so that
//! one `sdot` multiplies a column of the window: with the weights of its three rows and a zero for the upper output
//! row, with a zero and the weights for the lower. A column serves the three windows that hold it.

use super::sdot_codes;
use crate::arm::neon::depthwise::interior as neon_interior;
use crate::arm::neon::{Bounds, is_unclamped};
use crate::arm::slide;
use crate::depthwise::Interior;
use crate::{Depthwise, portable};
use std::arch::aarch64::*;
use std::arch::asm;
use std::ops::Range;

/// Channels of a block.
const CHANNELS: usize = 8;

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    d.over_interior(first_row, out, |d, out| {
        let rows_share = d.taps.get(3) == Some(&d.row_stride);
        match slide::stride(d) == Some(1) && rows_share {
            true => interior(d, out),
            false => neon_interior(d, out),
        }
    });
}

fn interior(d: &Interior, out: &mut [u8]) {
    let blocks = d.channels / CHANNELS;
    let unclamped = is_unclamped(&d.requantise);
    for rows in slide::some_rows(d) {
        let out = &mut out[rows.start * d.out_width * d.out_pixel_stride..];
        for c in (0..blocks).map(|block| block * CHANNELS) {
            let rows = rows.clone();
            // SAFETY: `dotprod` was detected before this table entry was handed out; [`Interior`] holds every window,
            // and `out` every row.
            unsafe {
                match unclamped {
                    true => block::<true>(d, rows, c, out),
                    false => block::<false>(d, rows, c, out),
                }
            }
        }
    }
    if blocks * CHANNELS < d.channels {
        portable::depthwise_loops(d, 0..d.rows, blocks * CHANNELS, out);
    }
}

/// Four rows of eight channels, the codes of a channel side by side: channels 0 to 3, channels 4 to 7.
#[inline]
#[target_feature(enable = "neon")]
fn interleave(rows: [uint8x8_t; 4]) -> [uint8x16_t; 2] {
    let [a, b, c, d] = rows.map(|row| vcombine_u8(row, row));
    let even = vzip1q_u8(a, c);
    let odd = vzip1q_u8(b, d);
    [vzip1q_u8(even, odd), vzip2q_u8(even, odd)]
}

/// Weights of eight channels, and what their sums begin with.
struct Weights {
    /// For each column, those of the upper output row and of the lower; channels 0 to 3, channels 4 to 7.
    columns: [[int8x16_t; 4]; 3],
    /// The bias, and what products with `code − 128` lack: Σ w·a = Σ w·(a − 128) + 128 · Σ w.
    start: [int32x4_t; 2],
}

impl Weights {
    /// # Safety
    /// `dotprod`; channels `c .. c + 8` and 9 taps exist.
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    unsafe fn new(d: &Interior, c: usize) -> Weights {
        // SAFETY: `tap` is one of the taps, and eight weights follow from channel `c`.
        let tap = |tap: usize| unsafe { vld1_u8(d.weights.as_ptr().add(tap * d.channels + c).cast()) };
        let none = vdup_n_u8(0);
        let columns = std::array::from_fn(|x| {
            let upper = interleave([tap(x), tap(3 + x), tap(6 + x), none]);
            let lower = interleave([none, tap(x), tap(3 + x), tap(6 + x)]);
            [upper[0], upper[1], lower[0], lower[1]].map(|w| vreinterpretq_s8_u8(w))
        });
        // SAFETY: the bias holds eight values from `c`.
        let bias = |i: usize| unsafe { vld1q_s32(d.requantise.bias.as_ptr().add(c + 4 * i)) };
        let mut start = [bias(0), bias(1)];
        for (i, start) in start.iter_mut().enumerate() {
            let lacking = columns
                .iter()
                .fold(vdupq_n_s32(0), |sum, w: &[int8x16_t; 4]| sdot_codes(sum, w[i], vdupq_n_s8(i8::MIN)));
            *start = vsubq_s32(*start, lacking);
        }
        Weights { columns, start }
    }

    /// The sums of a window: of the upper row, channels 0 to 3 and 4 to 7, then of the lower.
    ///
    /// Not `pure`, so that the compiler does not mix windows, whose sums would not all fit the registers.
    #[inline]
    #[target_feature(enable = "neon,dotprod")]
    fn sums(&self, [left, middle, right]: [[int8x16_t; 2]; 3]) -> [int32x4_t; 4] {
        let [l, m, r] = self.columns;
        let mut sums = [self.start[0], self.start[1], self.start[0], self.start[1]];
        let [s0, s1, s2, s3] = &mut sums;
        // SAFETY: reads and writes registers alone; the caller has `dotprod`.
        unsafe {
            asm!(
                "sdot {s0:v}.4s, {a0:v}.16b, {l0:v}.16b",
                "sdot {s1:v}.4s, {a1:v}.16b, {l1:v}.16b",
                "sdot {s2:v}.4s, {a0:v}.16b, {l2:v}.16b",
                "sdot {s3:v}.4s, {a1:v}.16b, {l3:v}.16b",
                "sdot {s0:v}.4s, {b0:v}.16b, {m0:v}.16b",
                "sdot {s1:v}.4s, {b1:v}.16b, {m1:v}.16b",
                "sdot {s2:v}.4s, {b0:v}.16b, {m2:v}.16b",
                "sdot {s3:v}.4s, {b1:v}.16b, {m3:v}.16b",
                "sdot {s0:v}.4s, {c0:v}.16b, {r0:v}.16b",
                "sdot {s1:v}.4s, {c1:v}.16b, {r1:v}.16b",
                "sdot {s2:v}.4s, {c0:v}.16b, {r2:v}.16b",
                "sdot {s3:v}.4s, {c1:v}.16b, {r3:v}.16b",
                s0 = inout(vreg) *s0, s1 = inout(vreg) *s1, s2 = inout(vreg) *s2, s3 = inout(vreg) *s3,
                a0 = in(vreg) left[0], a1 = in(vreg) left[1], b0 = in(vreg) middle[0], b1 = in(vreg) middle[1],
                c0 = in(vreg) right[0], c1 = in(vreg) right[1],
                l0 = in(vreg) l[0], l1 = in(vreg) l[1], l2 = in(vreg) l[2], l3 = in(vreg) l[3],
                m0 = in(vreg) m[0], m1 = in(vreg) m[1], m2 = in(vreg) m[2], m3 = in(vreg) m[3],
                r0 = in(vreg) r[0], r1 = in(vreg) r[1], r2 = in(vreg) r[2], r3 = in(vreg) r[3],
                options(nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}

/// Eight channels of some output rows.
///
/// # Safety
/// `dotprod`; all windows of output rows `rows` and channels `c .. c + 8` lie inside input, weights, bias and
/// multiplier; [`slide::stride`] is 1, an output row begins one row of taps below the one before; `out` starts with the
/// first row and holds all.
#[target_feature(enable = "neon,dotprod")]
unsafe fn block<const UNCLAMPED: bool>(d: &Interior, rows: Range<usize>, c: usize, out: &mut [u8]) {
    let flip = vdupq_n_u8(128);
    let bounds = Bounds::<UNCLAMPED>::new(&d.requantise);
    // SAFETY: as this function's.
    let weights = unsafe { Weights::new(d, c) };
    // SAFETY: the multiplier holds eight values from `c`.
    let multiplier = |i: usize| unsafe { vld1q_f32(d.requantise.multiplier.as_ptr().add(c + 4 * i)) };
    let multipliers = [multiplier(0), multiplier(1), multiplier(0), multiplier(1)];
    let line = d.out_width * d.out_pixel_stride;
    for (y, row) in rows.clone().enumerate().step_by(2) {
        // A last row by itself reads its own last row of taps again, and is written twice.
        let single = row + 1 == rows.end;
        // SAFETY: the row begins inside the input.
        let from = unsafe { d.input.as_ptr().add(row * d.row_stride + c) };
        let lowest = if single { d.taps[6] } else { d.taps[6] + d.row_stride };
        // SAFETY: the row begins inside the output.
        let to = unsafe { out.as_mut_ptr().add(y * line + c) };
        let below = if single { 0 } else { line };
        let column = |x: usize| -> [int8x16_t; 2] {
            // SAFETY: the caller vouches for three rows of every column that a window has, of both output rows.
            let row = |y: usize| unsafe { vld1_u8(from.add(x + y)) };
            let rows = interleave([row(0), row(d.taps[3]), row(d.taps[6]), row(lowest)]);
            rows.map(|row| vreinterpretq_s8_u8(veorq_u8(row, flip)))
        };
        slide::columns::<_, 1>(d, column, |x, columns| {
            let codes = vreinterpretq_u64_u8(bounds.codes(weights.sums(columns), multipliers));
            // SAFETY: eight codes of a pixel of each row; the upper is written last, as it may be the only one.
            unsafe {
                vst1q_lane_u64::<1>(to.add(x + below).cast(), codes);
                vst1q_lane_u64::<0>(to.add(x).cast(), codes);
            }
        });
    }
}
