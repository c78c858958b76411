//! Baseline NEON, for Cortex-A53, A57 and A72: signed products of 8 bits, two of them added in 16 bits (`smull`,
//! `smlal`), then pairwise into 32 bits (`sadalp`).
//!
//! Activations are taken as `code − 128`. |−128 · −127 · 2| < 2¹⁵, so two products never leave 16 bits unless a weight
//! is −128; layers that have one take the products singly.

use crate::depthwise::Interior;
use crate::{Depthwise, Gemm, Kernel, NR, Requantise, portable};
use std::arch::aarch64::*;
use std::arch::asm;

/// The table entry.
pub static KERNEL: Kernel = Kernel {
    name: "neon",
    kr: 4,
    signed: true,
    gemm,
    winograd: None,
    depthwise,
    max_pool: portable::max_pool_loops,
    add: portable::add_loop,
    multiply: portable::multiply_loop,
    dot: portable::dot_loop,
};

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let paired = !g.weights.has_min_weight;
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let mut starts = g.windows.starts(g.first);
        let mut row = 0;
        while row < g.rows {
            // SAFETY: NEON is there on every aarch64; the rows and the panel exist, as asserted.
            unsafe {
                match (g.rows - row >= 2, paired) {
                    (true, true) => tile::<2, true>(g, panel, row, starts.take(), out),
                    (true, false) => tile::<2, false>(g, panel, row, starts.take(), out),
                    (false, true) => tile::<1, true>(g, panel, row, starts.take(), out),
                    (false, false) => tile::<1, false>(g, panel, row, starts.take(), out),
                }
            }
            row += 2;
        }
    }
}

/// The four codes in lane `LANE` four times. In assembly, so that the compiler does not know that the halves are equal:
/// it would then give up `smull2` for two instructions.
#[inline]
#[target_feature(enable = "neon")]
fn repeat<const LANE: i32>(codes: int8x16_t) -> int8x16_t {
    let repeated: int8x16_t;
    // SAFETY: reads and writes registers alone.
    unsafe {
        asm!("dup {0:v}.4s, {1:v}.s[{lane}]", out(vreg) repeated, in(vreg) codes, lane = const LANE,
            options(pure, nomem, nostack, preserves_flags));
    }
    repeated
}

/// R rows × 16 columns. Each register of sums holds two partial sums of two columns, so 2 rows take 16 of 32 registers.
///
/// # Safety
/// What [`Gemm::check`] checks; the panel and rows `row .. row + R` exist, whose windows begin at `starts`. With
/// `PAIRED`, no weight is −128.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn tile<const R: usize, const PAIRED: bool>(
    g: &Gemm,
    panel: usize,
    row: usize,
    starts: [usize; R],
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let flip = vdupq_n_s8(i8::MIN);
    let mut sums = [[vdupq_n_s32(0); 8]; R];
    for (i, offset) in g.windows.runs.iter().enumerate() {
        // SAFETY: the panel exists.
        let b = unsafe { g.weights.codes.as_ptr().add(panel * NR * depth + i * run * NR) };
        let mut a = [g.a.as_ptr(); R];
        for (a, start) in a.iter_mut().zip(starts) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        // Four weights of four columns.
        // SAFETY: the panel holds 64 codes for each four along the depth.
        let weights = |k: usize, four: usize| unsafe { vld1q_s8(b.add(k * NR + four * 16)) };
        // Eight products along the depth, from two registers that repeat four codes.
        let eight = |sums: &mut [[int32x4_t; 8]; R], k: usize, a: [[int8x16_t; 2]; R]| {
            for four in 0..4 {
                let b0 = weights(k, four);
                let b1 = weights(k + 4, four);
                for (sums, a) in sums.iter_mut().zip(&a) {
                    let low = 2 * four;
                    let high = 2 * four + 1;
                    let mut first = vmull_s8(vget_low_s8(a[0]), vget_low_s8(b0));
                    let mut second = vmull_high_s8(a[0], b0);
                    if PAIRED {
                        first = vmlal_s8(first, vget_low_s8(a[1]), vget_low_s8(b1));
                        second = vmlal_high_s8(second, a[1], b1);
                    } else {
                        sums[low] = vpadalq_s16(sums[low], vmull_s8(vget_low_s8(a[1]), vget_low_s8(b1)));
                        sums[high] = vpadalq_s16(sums[high], vmull_high_s8(a[1], b1));
                    }
                    sums[low] = vpadalq_s16(sums[low], first);
                    sums[high] = vpadalq_s16(sums[high], second);
                }
            }
        };
        let mut k = 0;
        while k + 16 <= run {
            let codes: [int8x16_t; R] = std::array::from_fn(|r| {
                // SAFETY: 16 codes at `k` of a run.
                veorq_s8(vreinterpretq_s8_u8(unsafe { vld1q_u8(a[r].add(k)) }), flip)
            });
            eight(&mut sums, k, codes.map(|c| [repeat::<0>(c), repeat::<1>(c)]));
            eight(&mut sums, k + 8, codes.map(|c| [repeat::<2>(c), repeat::<3>(c)]));
            k += 16;
        }
        if k + 8 <= run {
            let codes: [int8x16_t; R] = std::array::from_fn(|r| {
                // SAFETY: eight codes at `k` of a run.
                let eight = unsafe { vld1_u8(a[r].add(k)) };
                veorq_s8(vreinterpretq_s8_u8(vcombine_u8(eight, eight)), flip)
            });
            eight(&mut sums, k, codes.map(|c| [repeat::<0>(c), repeat::<1>(c)]));
            k += 8;
        }
        if k < run {
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: four codes at `k`, as a run is a multiple of 4, of a run.
                let four = unsafe { vdupq_n_u32(a[r].add(k).cast::<u32>().read_unaligned()) };
                let a = veorq_s8(vreinterpretq_s8_u32(four), flip);
                for four in 0..4 {
                    let b = weights(k, four);
                    sums[2 * four] = vpadalq_s16(sums[2 * four], vmull_s8(vget_low_s8(a), vget_low_s8(b)));
                    sums[2 * four + 1] = vpadalq_s16(sums[2 * four + 1], vmull_high_s8(a, b));
                }
            }
        }
    }
    let column = panel * NR;
    // SAFETY: bias and multiplier are as long as all panels.
    let codes = unsafe { Codes::new(&g.requantise, column) };
    let width = NR.min(g.weights.columns - column);
    for (r, s) in sums.iter().enumerate() {
        let four = |i: usize| vaddq_s32(vpaddq_s32(s[2 * i], s[2 * i + 1]), codes.bias[i]);
        let sums = [four(0), four(1), four(2), four(3)];
        // SAFETY: the row exists in the output, as asserted.
        unsafe { store_row(codes.of(sums), out, (row + r) * g.out_row_stride + column, width) };
    }
}

/// Writes the first `to.len()` of 16 codes.
#[inline]
#[target_feature(enable = "neon")]
fn store16(codes: uint8x16_t, to: &mut [u8]) {
    if to.len() == NR {
        // SAFETY: 16 bytes into a slice of 16.
        unsafe { vst1q_u8(to.as_mut_ptr(), codes) };
    } else {
        let mut bytes = [0u8; NR];
        // SAFETY: 16 bytes into an array of 16.
        unsafe { vst1q_u8(bytes.as_mut_ptr(), codes) };
        to.copy_from_slice(&bytes[..to.len()]);
    }
}

/// Writes the first `width` of 16 codes to `out[at..]`; whole panels without looking at the length again.
///
/// # Safety
/// `width` codes fit from `at`.
#[inline]
#[target_feature(enable = "neon")]
pub(super) unsafe fn store_row(codes: uint8x16_t, out: &mut [u8], at: usize, width: usize) {
    if width == NR {
        // SAFETY: the caller vouches for 16 bytes.
        unsafe { vst1q_u8(out.as_mut_ptr().add(at), codes) };
    } else {
        store16(codes, &mut out[at..][..width]);
    }
}

/// Bias and multiplier of 16 outputs, and the other constants of [`Requantise`], in registers.
pub(super) struct Codes {
    pub bias: [int32x4_t; 4],
    multiplier: [float32x4_t; 4],
    /// Zero point 0 and nothing to clamp: the narrowing saturates to what is right.
    unclamped: bool,
    zero_point: int16x8_t,
    low: uint8x16_t,
    high: uint8x16_t,
}

impl Codes {
    /// # Safety
    /// Bias and multiplier hold 16 values from `first`.
    #[inline]
    #[target_feature(enable = "neon")]
    pub unsafe fn new(r: &Requantise, first: usize) -> Codes {
        // SAFETY: the caller vouches for 16 values from `first`.
        unsafe {
            Codes {
                bias: std::array::from_fn(|i| vld1q_s32(r.bias.as_ptr().add(first + 4 * i))),
                multiplier: std::array::from_fn(|i| vld1q_f32(r.multiplier.as_ptr().add(first + 4 * i))),
                unclamped: (r.zero_point, r.low, r.high) == (0, 0, 255),
                zero_point: vdupq_n_s16(i16::from(r.zero_point)),
                low: vdupq_n_u8(r.low),
                high: vdupq_n_u8(r.high),
            }
        }
    }

    /// 16 sums, which hold the bias already, to 16 codes. Every conversion on the way saturates.
    #[inline]
    #[target_feature(enable = "neon")]
    pub fn of(&self, sums: [int32x4_t; 4]) -> uint8x16_t {
        let mut steps = [vdupq_n_s32(0); 4];
        for (steps, (sum, multiplier)) in steps.iter_mut().zip(sums.into_iter().zip(self.multiplier)) {
            *steps = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sum), multiplier));
        }
        let first = vqmovn_high_s32(vqmovn_s32(steps[0]), steps[1]);
        let second = vqmovn_high_s32(vqmovn_s32(steps[2]), steps[3]);
        if self.unclamped {
            return vqmovun_high_s16(vqmovun_s16(first), second);
        }
        let first = vqaddq_s16(first, self.zero_point);
        let second = vqaddq_s16(second, self.zero_point);
        vminq_u8(vmaxq_u8(vqmovun_high_s16(vqmovun_s16(first), second), self.low), self.high)
    }
}

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    d.over_interior(first_row, out, depthwise_interior);
}

fn depthwise_interior(d: &Interior, out: &mut [u8]) {
    let fits = matches!(d.taps.len(), 1 | 9 | 25) && !d.weights.contains(&i8::MIN);
    let blocks = if fits { d.channels / NR } else { 0 };
    // So many rows at a time that preparing the weights of a block does not count, and no more, so that the rows are
    // still in the first-level cache for the next block.
    let some = (128 / d.out_width).max(1);
    for first in (0..d.rows).step_by(some) {
        let these = first..d.rows.min(first + some);
        let to = &mut out[first * d.out_width * d.out_pixel_stride..];
        for c in (0..blocks).map(|block| block * NR) {
            // SAFETY: NEON is there on every aarch64; [`Interior`] holds every window.
            unsafe {
                match d.taps.len() {
                    9 => depthwise_block::<9>(d, these.clone(), c, to),
                    25 => depthwise_block::<25>(d, these.clone(), c, to),
                    _ => depthwise_block::<1>(d, these.clone(), c, to),
                }
            }
        }
    }
    if blocks * NR < d.channels {
        portable::depthwise_loops(d, 0..d.rows, blocks * NR, out);
    }
}

/// 16 channels of some output rows.
///
/// # Safety
/// All windows of output rows `rows` and channels `c .. c + 16` lie inside input, weights, bias and multiplier; there
/// are `TAPS` taps, no weight −128; `out` starts with the first row.
#[target_feature(enable = "neon")]
unsafe fn depthwise_block<const TAPS: usize>(d: &Interior, rows: std::ops::Range<usize>, c: usize, out: &mut [u8]) {
    let flip = vdupq_n_s8(i8::MIN);
    let mut weights = [vdupq_n_s8(0); TAPS];
    // Σ w·a = Σ w·(a − 128) + 128 · Σ w
    let mut offset = [vdupq_n_s16(0); 2];
    for (tap, w) in weights.iter_mut().enumerate() {
        // SAFETY: `tap` is one of the taps, and 16 weights follow from channel `c`.
        *w = unsafe { vld1q_s8(d.weights.as_ptr().add(tap * d.channels + c)) };
        offset = [vaddw_s8(offset[0], vget_low_s8(*w)), vaddw_high_s8(offset[1], *w)];
    }
    // SAFETY: bias and multiplier hold 16 values from `c`.
    let to_codes = unsafe { Codes::new(&d.requantise, c) };
    let taps: [usize; TAPS] = std::array::from_fn(|tap| d.taps[tap]);
    let start = [
        vshll_n_s16::<7>(vget_low_s16(offset[0])),
        vshll_high_n_s16::<7>(offset[0]),
        vshll_n_s16::<7>(vget_low_s16(offset[1])),
        vshll_high_n_s16::<7>(offset[1]),
    ];
    let start: [int32x4_t; 4] = std::array::from_fn(|i| vaddq_s32(start[i], to_codes.bias[i]));
    for (y, row) in rows.enumerate() {
        // SAFETY: the row begins inside the input.
        let row = unsafe { d.input.as_ptr().add(row * d.row_stride + c) };
        let out = &mut out[y * d.out_width * d.out_pixel_stride..];
        for x in 0..d.out_width {
            // SAFETY: the caller vouches for every window of this row: 16 codes of each tap.
            let codes = |tap: usize| unsafe {
                veorq_s8(vreinterpretq_s8_u8(vld1q_u8(row.add(x * d.column_stride + taps[tap]))), flip)
            };
            let mut sums = start;
            for tap in (0..TAPS).step_by(2) {
                let a = codes(tap);
                let w = weights[tap];
                let mut low = vmull_s8(vget_low_s8(a), vget_low_s8(w));
                let mut high = vmull_high_s8(a, w);
                if tap + 1 < TAPS {
                    let a = codes(tap + 1);
                    let w = weights[tap + 1];
                    low = vmlal_s8(low, vget_low_s8(a), vget_low_s8(w));
                    high = vmlal_high_s8(high, a, w);
                }
                sums = [
                    vaddw_s16(sums[0], vget_low_s16(low)),
                    vaddw_high_s16(sums[1], low),
                    vaddw_s16(sums[2], vget_low_s16(high)),
                    vaddw_high_s16(sums[3], high),
                ];
            }
            store16(to_codes.of(sums), &mut out[x * d.out_pixel_stride + c..][..NR]);
        }
    }
}
