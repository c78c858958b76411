//! VNNI: `vpdpbusd` multiplies four pairs of u8 and i8 and adds them into an i32, without saturation, in one instruction.
//!
//! Two table entries: AVX-512 VNNI (servers, 512-bit registers) and AVX-VNNI (small Intel cores, 256-bit). Depthwise and
//! element-wise loops are those of AVX2, which every such processor has.

use super::{Gemm, Kernel, PANEL, Requantise, assert_gemm, avx2};
use std::arch::x86_64::*;

/// AVX-512 VNNI. Only [`super::available`] hands it out, and only where [`has_avx512`] holds.
pub static AVX512: Kernel = Kernel {
    name: "avx512-vnni",
    group: 4,
    signed: false,
    gemm: gemm_avx512,
    depthwise: avx2::depthwise,
    add: avx2::add,
    multiply: avx2::multiply,
    dot: avx2::dot,
};

/// AVX-VNNI. Only [`super::available`] hands it out, and only where [`has_avx`] holds.
pub static AVX: Kernel = Kernel { name: "avx-vnni", gemm: gemm_avx, ..AVX512 };

/// True if this processor runs [`AVX512`].
pub fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512vnni")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl")
        && avx2::is_there()
}

/// True if this processor runs [`AVX`].
pub fn has_avx() -> bool {
    std::is_x86_feature_detected!("avxvnni") && avx2::is_there()
}

fn gemm_avx512(g: &Gemm, out: &mut [u8]) {
    assert_gemm(g, out, 4);
    let panels = g.weights.columns.div_ceil(PANEL);
    let mut panel = 0;
    while panel < panels {
        let count = (panels - panel).min(4);
        // SAFETY: the features were detected before this table entry was handed out; the assertions bound rows, panels,
        // scaling and output.
        unsafe {
            match count {
                4 => panels_avx512::<4, 6>(g, panel, out),
                3 => panels_avx512::<3, 8>(g, panel, out),
                2 => panels_avx512::<2, 12>(g, panel, out),
                _ => panels_avx512::<1, 12>(g, panel, out),
            }
        }
        panel += count;
    }
}

/// All rows of P panels, R at a time: R·P sums, P weights and an activation fit the 32 registers.
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI; what [`assert_gemm`] checks; panels `panel .. panel + P` exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn panels_avx512<const P: usize, const R: usize>(g: &Gemm, panel: usize, out: &mut [u8]) {
    let mut row = 0;
    // SAFETY: every tile stays below `g.rows`.
    unsafe {
        while row + R <= g.rows {
            tile_avx512::<P, R>(g, panel, row, out);
            row += R;
        }
        while row + 2 <= g.rows {
            tile_avx512::<P, 2>(g, panel, row, out);
            row += 2;
        }
        if row < g.rows {
            tile_avx512::<P, 1>(g, panel, row, out);
        }
    }
}

/// # Safety
/// As [`panels_avx512`]; rows `row .. row + R` exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn tile_avx512<const P: usize, const R: usize>(g: &Gemm, panel: usize, row: usize, out: &mut [u8]) {
    let depth = g.weights.depth;
    let mut sums = [[_mm512_setzero_si512(); P]; R];
    // SAFETY: the row and the panel exist.
    let (a, b) = unsafe { (g.a.as_ptr().add(row * g.row), g.weights.codes.as_ptr().add(panel * PANEL * depth)) };
    for k in (0..depth).step_by(4) {
        let mut weights = [_mm512_setzero_si512(); P];
        for (p, weights) in weights.iter_mut().enumerate() {
            // SAFETY: a panel holds 64 codes for each four along the depth.
            *weights = unsafe { _mm512_loadu_si512(b.add(p * PANEL * depth + k * PANEL).cast()) };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: four codes at `k < depth`, a multiple of 4, of an existing row, read as one unaligned `i32`.
            let four = _mm512_set1_epi32(unsafe { a.add(r * g.row + k).cast::<i32>().read_unaligned() });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm512_dpbusd_epi32(*sum, four, weights);
            }
        }
    }
    for (p, column) in (panel * PANEL..).step_by(PANEL).take(P).enumerate() {
        let width = PANEL.min(g.weights.columns - column);
        for (r, sums) in sums.iter().enumerate() {
            // SAFETY: bias and multiplier are as long as all panels.
            let codes = unsafe { requantise_avx512(&g.requantise, column, sums[p]) };
            avx2::store(codes, &mut out[(row + r) * g.out_row + column..][..width]);
        }
    }
}

/// 16 sums to 16 codes; see [`Requantise`].
///
/// # Safety
/// AVX-512 F, BW and VL; bias and multiplier hold 16 values from `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2")]
unsafe fn requantise_avx512(r: &Requantise, first: usize, sums: __m512i) -> __m128i {
    // SAFETY: the caller vouches for 16 values from `first`.
    let (bias, multiplier) = unsafe {
        (_mm512_loadu_si512(r.bias.as_ptr().add(first).cast()), _mm512_loadu_ps(r.multiplier.as_ptr().add(first)))
    };
    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, bias)), multiplier);
    // What exceeds i32 converts to its minimum, which is right below and wrong above: so bounded above.
    let steps = _mm512_cvtps_epi32(_mm512_min_ps(scaled, _mm512_set1_ps(65_536.0)));
    // Bounded below too, so that the zero point cannot wrap.
    let steps = _mm512_max_epi32(steps, _mm512_set1_epi32(-65_536));
    let codes = _mm512_add_epi32(steps, _mm512_set1_epi32(i32::from(r.zero_point)));
    let codes = _mm512_max_epi32(codes, _mm512_set1_epi32(i32::from(r.low)));
    _mm512_cvtepi32_epi8(_mm512_min_epi32(codes, _mm512_set1_epi32(i32::from(r.high))))
}

fn gemm_avx(g: &Gemm, out: &mut [u8]) {
    assert_gemm(g, out, 4);
    for panel in 0..g.weights.columns.div_ceil(PANEL) {
        let mut row = 0;
        while row < g.rows {
            let count = (g.rows - row).min(6);
            // SAFETY: the features were detected before this table entry was handed out; the assertions bound rows,
            // panels, scaling and output.
            unsafe {
                match count {
                    6 => tile_avx::<6>(g, panel, row, out),
                    5 => tile_avx::<5>(g, panel, row, out),
                    4 => tile_avx::<4>(g, panel, row, out),
                    3 => tile_avx::<3>(g, panel, row, out),
                    2 => tile_avx::<2>(g, panel, row, out),
                    _ => tile_avx::<1>(g, panel, row, out),
                }
            }
            row += count;
        }
    }
}

/// R rows of one panel: 2·R sums, 2 weights and an activation fit the 16 registers.
///
/// # Safety
/// AVX2 and AVX-VNNI; what [`assert_gemm`] checks; the panel and rows `row .. row + R` exist.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile_avx<const R: usize>(g: &Gemm, panel: usize, row: usize, out: &mut [u8]) {
    let depth = g.weights.depth;
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: the row and the panel exist.
    let (a, b) = unsafe { (g.a.as_ptr().add(row * g.row), g.weights.codes.as_ptr().add(panel * PANEL * depth)) };
    for k in (0..depth).step_by(4) {
        // SAFETY: the panel holds 64 codes for each four along the depth.
        let weights = unsafe {
            let at = b.add(k * PANEL);
            [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())]
        };
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: four codes at `k < depth`, a multiple of 4, of an existing row, read as one unaligned `i32`.
            let four = _mm256_set1_epi32(unsafe { a.add(r * g.row + k).cast::<i32>().read_unaligned() });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_dpbusd_avx_epi32(*sum, four, weights);
            }
        }
    }
    let column = panel * PANEL;
    let width = PANEL.min(g.weights.columns - column);
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: bias and multiplier are as long as all panels.
        let codes = unsafe { avx2::requantise16(&g.requantise, column, *sums) };
        avx2::store(codes, &mut out[(row + r) * g.out_row + column..][..width]);
    }
}
