//! AVX2: exact `pmaddwd` on pairs, 4 rows × 16 columns of sums in registers.
//!
//! `pmaddubsw`, which others use here, saturates at 16 bits and gives other results than VNNI; this does not.

use super::{Depthwise, Gemm, Kernel, PANEL, Requantise, portable};
use std::arch::x86_64::*;

/// The table entry. Only [`super::available`] hands it out, and only where AVX2 is there.
pub static KERNEL: Kernel = Kernel { name: "avx2", gemm, depthwise };

/// Rows whose sums are held at once: 4 rows × 2 vectors of sums, 2 of weights, 1 of activations fit 16 registers.
const ROWS: usize = 4;

fn gemm(g: &Gemm, out: &mut [u8]) {
    let panels = g.columns.div_ceil(PANEL);
    assert!(g.a.len() >= g.rows * g.pairs * 2 && g.b.len() >= panels * PANEL * g.pairs * 2);
    assert!(g.requantise.bias.len() >= panels * PANEL && g.requantise.multiplier.len() >= panels * PANEL);
    assert!(out.len() >= g.rows * g.columns);
    // SAFETY: AVX2 was detected before this table entry was handed out; the assertions above bound every pointer below.
    unsafe { gemm_avx2(g, out) }
}

/// Most pairs of taps that [`depthwise_block`] holds: a 5×5 window.
const MAX_PAIRS: usize = 13;

fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    let taps = d.kernel[0] * d.kernel[1];
    let rows = out.len() / (d.out_width * d.channels);
    let blocks = d.channels / PANEL;
    if taps > 2 * MAX_PAIRS || blocks * PANEL != d.channels || rows == 0 {
        return portable::depthwise_loops(d, first_row, out);
    }
    let last = ((first_row + rows - 1) * d.stride[0] + d.kernel[0] - 1) * d.width
        + (d.out_width - 1) * d.stride[1]
        + d.kernel[1];
    assert!(d.input.len() >= last * d.channels && d.weights.len() >= taps * d.channels);
    assert!(d.requantise.bias.len() >= d.channels && d.requantise.multiplier.len() >= d.channels);
    for (row, out) in out.chunks_exact_mut(d.out_width * d.channels).enumerate() {
        for block in 0..blocks {
            // SAFETY: AVX2 was detected before this table entry was handed out; the assertions above bound the last
            // window of the last row, and every other window lies before it.
            unsafe { depthwise_block(d, first_row + row, block * PANEL, out) }
        }
    }
}

/// One output row of 16 channels: taps in pairs, so that `pmaddwd` multiplies and adds two of them.
///
/// # Safety
/// AVX2; all windows of output row `row` and channels `c .. c + 16` lie inside input, weights, bias and multiplier; at most
/// `2 · MAX_PAIRS` taps; `out` holds the row.
#[target_feature(enable = "avx2")]
unsafe fn depthwise_block(d: &Depthwise, row: usize, c: usize, out: &mut [u8]) {
    let taps = d.kernel[0] * d.kernel[1];
    let pairs = taps.div_ceil(2);
    let zero = _mm256_setzero_si256();
    let mut weights = [[zero; 2]; MAX_PAIRS];
    let mut offsets = [[0usize; 2]; MAX_PAIRS];
    for (pair, (weights, offsets)) in weights.iter_mut().zip(&mut offsets).take(pairs).enumerate() {
        let load = |tap: usize| {
            // SAFETY: `tap < taps`, and 16 weights follow from channel `c`.
            unsafe { _mm256_loadu_si256(d.weights.as_ptr().add(tap * d.channels + c).cast()) }
        };
        let offset = |tap: usize| (tap / d.kernel[1] * d.width + tap % d.kernel[1]) * d.channels + c;
        let first = load(2 * pair);
        // An odd last tap is paired with itself at weight 0.
        let odd = 2 * pair + 1 == taps;
        let second = if odd { zero } else { load(2 * pair + 1) };
        *weights = [_mm256_unpacklo_epi16(first, second), _mm256_unpackhi_epi16(first, second)];
        *offsets = [offset(2 * pair), offset(if odd { 2 * pair } else { 2 * pair + 1 })];
    }
    let corner = row * d.stride[0] * d.width * d.channels;
    for (x, pixel) in out.chunks_exact_mut(d.channels).enumerate() {
        let mut low = zero;
        let mut high = zero;
        let window = corner + x * d.stride[1] * d.channels;
        for (weights, offsets) in weights.iter().zip(&offsets).take(pairs) {
            // SAFETY: the window of this pixel lies inside the input, 16 channels from `c` at each tap.
            let (a, b) = unsafe {
                let at = d.input.as_ptr().add(window);
                (_mm_loadu_si128(at.add(offsets[0]).cast()), _mm_loadu_si128(at.add(offsets[1]).cast()))
            };
            let (a, b) = (_mm256_cvtepu8_epi16(a), _mm256_cvtepu8_epi16(b));
            low = _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), weights[0]));
            high = _mm256_add_epi32(high, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), weights[1]));
        }
        // Unpacking worked within halves: `low` holds channels 0–3 and 8–11, `high` 4–7 and 12–15.
        let sums = [_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high)];
        // SAFETY: bias and multiplier hold 16 values from `c`.
        let codes = unsafe { requantise16(&d.requantise, c, sums) };
        let to = &mut pixel[c..c + PANEL];
        // SAFETY: `to` is 16 bytes long.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), codes) };
    }
}

/// # Safety
/// The processor must have AVX2; `g` and `out` must be as long as [`gemm`] asserts.
#[target_feature(enable = "avx2")]
unsafe fn gemm_avx2(g: &Gemm, out: &mut [u8]) {
    let panels = g.columns.div_ceil(PANEL);
    for panel in 0..panels {
        // SAFETY: `b` holds `panels` panels of `pairs · PANEL · 2` values.
        let b = unsafe { g.b.as_ptr().add(panel * g.pairs * PANEL * 2) };
        let mut row = 0;
        while row + ROWS <= g.rows {
            // SAFETY: rows `row .. row + ROWS` exist in `a` and `out`.
            unsafe { tile::<ROWS>(g, b, panel, row, out) };
            row += ROWS;
        }
        while row < g.rows {
            // SAFETY: row `row` exists in `a` and `out`.
            unsafe { tile::<1>(g, b, panel, row, out) };
            row += 1;
        }
    }
}

/// # Safety
/// AVX2; rows `row .. row + R` exist in `g.a` and `out`; `b` points at panel `panel` of `g.b`.
#[target_feature(enable = "avx2")]
unsafe fn tile<const R: usize>(g: &Gemm, b: *const i16, panel: usize, row: usize, out: &mut [u8]) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    let depth = g.pairs * 2;
    // SAFETY: row `row` starts inside `a`, and R rows of `depth` values follow.
    let a = unsafe { g.a.as_ptr().add(row * depth) };
    for k in 0..g.pairs {
        // SAFETY: `k < pairs`, and a panel holds `pairs · PANEL · 2` values of 2 bytes: two unaligned 32-byte loads a pair.
        let (b0, b1) = unsafe {
            let at = b.add(k * PANEL * 2);
            (_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(PANEL).cast()))
        };
        for (r, sum) in sums.iter_mut().enumerate() {
            // SAFETY: two `i16` at `2k < depth` of an existing row, read as one unaligned `i32`.
            let pair = _mm256_set1_epi32(unsafe { a.add(r * depth + 2 * k).cast::<i32>().read_unaligned() });
            sum[0] = _mm256_add_epi32(sum[0], _mm256_madd_epi16(pair, b0));
            sum[1] = _mm256_add_epi32(sum[1], _mm256_madd_epi16(pair, b1));
        }
    }
    let first = panel * PANEL;
    let width = PANEL.min(g.columns - first);
    for (r, sum) in sums.iter().enumerate() {
        // SAFETY: bias and multiplier are as long as all panels.
        let codes = unsafe { requantise16(&g.requantise, first, *sum) };
        let mut bytes = [0u8; PANEL];
        // SAFETY: 16 bytes into an array of 16.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), codes) };
        out[(row + r) * g.columns + first..][..width].copy_from_slice(&bytes[..width]);
    }
}

/// 16 sums to 16 codes; see [`Requantise`].
///
/// # Safety
/// AVX2; bias and multiplier hold 16 values from `first`.
#[target_feature(enable = "avx2")]
unsafe fn requantise16(r: &Requantise, first: usize, sums: [__m256i; 2]) -> __m128i {
    let mut words = [_mm256_setzero_si256(); 2];
    for half in 0..2 {
        // SAFETY: the caller vouches for 16 values from `first`.
        let (bias, multiplier) = unsafe {
            let at = first + half * 8;
            (_mm256_loadu_si256(r.bias.as_ptr().add(at).cast()), _mm256_loadu_ps(r.multiplier.as_ptr().add(at)))
        };
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sums[half], bias)), multiplier);
        // Bounded before the conversion, which would turn what exceeds i32 into its minimum. The bounds lie beyond
        // every code, so that no rounding is changed.
        let bounded = _mm256_max_ps(_mm256_min_ps(scaled, _mm256_set1_ps(1024.0)), _mm256_set1_ps(-1024.0));
        words[half] = _mm256_add_epi32(_mm256_cvtps_epi32(bounded), _mm256_set1_epi32(i32::from(r.zero_point)));
    }
    let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(words[0], words[1]));
    let codes = _mm_packus_epi16(_mm256_castsi256_si128(packed), _mm256_extracti128_si256::<1>(packed));
    _mm_min_epu8(_mm_max_epu8(codes, _mm_set1_epi8(r.low as i8)), _mm_set1_epi8(r.high as i8))
}
