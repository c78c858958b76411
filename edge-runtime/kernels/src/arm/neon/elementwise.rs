//! Functions of two activations, 16 codes at a time; what does not fill 16 goes the portable way.

use crate::{NR, Product, Sum, portable};
use std::arch::aarch64::*;

/// 16 codes as real numbers.
#[inline]
#[target_feature(enable = "neon")]
fn reals(codes: uint8x16_t) -> [float32x4_t; 4] {
    let low = vmovl_u8(vget_low_u8(codes));
    let high = vmovl_high_u8(codes);
    [
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(low))),
        vcvtq_f32_u32(vmovl_high_u16(low)),
        vcvtq_f32_u32(vmovl_u16(vget_low_u16(high))),
        vcvtq_f32_u32(vmovl_high_u16(high)),
    ]
}

/// 16 real numbers, rounded half to even, and `zero_point` added; every conversion saturates.
#[inline]
#[target_feature(enable = "neon")]
fn codes(steps: [float32x4_t; 4], zero_point: int16x8_t, [low, high]: [uint8x16_t; 2]) -> uint8x16_t {
    let [a, b, c, d] = steps.map(|steps| vcvtnq_s32_f32(steps));
    let first = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), zero_point);
    let second = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), zero_point);
    vminq_u8(vmaxq_u8(vqmovun_high_s16(vqmovun_s16(first), second), low), high)
}

pub(super) fn add(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
    let some = out.len().min(a.len()).min(b.len()) / NR * NR;
    // SAFETY: NEON is there on every aarch64; all three hold `some` codes.
    unsafe { add_some(p, a, b, out, some) };
    portable::add_loop(p, &a[some..], &b[some..], &mut out[some..]);
}

/// # Safety
/// `a`, `b` and `out` hold `some` codes, a multiple of 16.
#[target_feature(enable = "neon")]
unsafe fn add_some(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8], some: usize) {
    let offset = vdupq_n_f32(p.offset);
    let bounds = [vdupq_n_u8(p.low), vdupq_n_u8(p.high)];
    for at in (0..some).step_by(NR) {
        // SAFETY: 16 codes at `at`.
        let [a, b] = unsafe { [reals(vld1q_u8(a.as_ptr().add(at))), reals(vld1q_u8(b.as_ptr().add(at)))] };
        let sum = |i: usize| vfmaq_n_f32(vfmaq_n_f32(offset, b[i], p.scale[1]), a[i], p.scale[0]);
        let codes = codes([sum(0), sum(1), sum(2), sum(3)], vdupq_n_s16(0), bounds);
        // SAFETY: 16 codes at `at`.
        unsafe { vst1q_u8(out.as_mut_ptr().add(at), codes) };
    }
}

pub(super) fn multiply(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
    let some = out.len().min(a.len()).min(b.len()) / NR * NR;
    // SAFETY: NEON is there on every aarch64; all three hold `some` codes.
    unsafe { multiply_some(p, a, b, out, some) };
    portable::multiply_loop(p, &a[some..], &b[some..], &mut out[some..]);
}

/// # Safety
/// `a`, `b` and `out` hold `some` codes, a multiple of 16.
#[target_feature(enable = "neon")]
unsafe fn multiply_some(p: &Product, a: &[u8], b: &[u8], out: &mut [u8], some: usize) {
    let zero = p.zero.map(|zero| vdupq_n_f32(zero));
    let zero_point = vdupq_n_s16(i16::from(p.zero_point));
    let bounds = [vdupq_n_u8(p.low), vdupq_n_u8(p.high)];
    for at in (0..some).step_by(NR) {
        // SAFETY: 16 codes at `at`.
        let [a, b] = unsafe { [reals(vld1q_u8(a.as_ptr().add(at))), reals(vld1q_u8(b.as_ptr().add(at)))] };
        let steps = |i: usize| vmulq_n_f32(vmulq_f32(vsubq_f32(a[i], zero[0]), vsubq_f32(b[i], zero[1])), p.scale);
        let codes = codes([steps(0), steps(1), steps(2), steps(3)], zero_point, bounds);
        // SAFETY: 16 codes at `at`.
        unsafe { vst1q_u8(out.as_mut_ptr().add(at), codes) };
    }
}

pub(super) fn dot(codes: &[u8], weights: &[i8]) -> i32 {
    let some = codes.len().min(weights.len()) / NR * NR;
    // SAFETY: NEON is there on every aarch64; both hold `some` values.
    let sum = unsafe { dot_some(codes, weights, some) };
    sum.wrapping_add(portable::dot_loop(&codes[some..], &weights[some..]))
}

/// # Safety
/// `codes` and `weights` hold `some` values, a multiple of 16.
#[target_feature(enable = "neon")]
unsafe fn dot_some(codes: &[u8], weights: &[i8], some: usize) -> i32 {
    // A product of 255 and −128 fits 16 bits with a sign; so does that of a code less 128, and two of them may not.
    let flip = vdupq_n_s8(i8::MIN);
    let mut sums = [vdupq_n_s32(0); 2];
    let mut weight_sum = vdupq_n_s32(0);
    for at in (0..some).step_by(NR) {
        // SAFETY: 16 values at `at`.
        let (a, w) = unsafe { (vld1q_s8(codes.as_ptr().add(at).cast()), vld1q_s8(weights.as_ptr().add(at))) };
        let a = veorq_s8(a, flip);
        sums[0] = vpadalq_s16(sums[0], vmull_s8(vget_low_s8(a), vget_low_s8(w)));
        sums[1] = vpadalq_s16(sums[1], vmull_high_s8(a, w));
        weight_sum = vpadalq_s16(weight_sum, vpaddlq_s8(w));
    }
    // Σ w·a = Σ w·(a − 128) + 128 · Σ w
    vaddvq_s32(vaddq_s32(sums[0], sums[1])).wrapping_add(vaddvq_s32(weight_sum).wrapping_mul(128))
}
