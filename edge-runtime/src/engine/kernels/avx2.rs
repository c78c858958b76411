//! AVX2: exact `pmaddwd` on pairs, 6 rows × 16 columns of sums in registers.
//!
//! `pmaddubsw`, which others use here, saturates at 16 bits and gives other results than VNNI; this does not, and needs no
//! more multiplications: both take one of the two multiplying ports for 16 products.

use super::{Depthwise, Gemm, Kernel, PANEL, Pairwise, Requantise, assert_depthwise, assert_gemm, portable};
use crate::engine::scratch;
use std::arch::x86_64::*;

/// The table entry. Only [`super::available`] hands it out, and only where AVX2 is there.
pub static KERNEL: Kernel = Kernel { name: "avx2", group: 2, signed: false, gemm, depthwise, add, multiply, dot };

/// Rows whose sums are held at once: 6 rows × 2 vectors of sums, 2 of weights, 1 of activations, 1 of products fill the
/// 16 registers.
const ROWS: usize = 6;

/// Widened activations that are worked on at once, 48 KiB: they stay in the second-level cache while all panels pass by.
const BLOCK: usize = 24 * 1024;

fn gemm(g: &Gemm, out: &mut [u8]) {
    assert_gemm(g, out, KERNEL.group);
    let depth = g.weights.depth;
    let block = (BLOCK / depth / ROWS * ROWS).max(4 * ROWS).min(g.rows);
    scratch::with::<i16, _>(block * depth, |wide| {
        for first in (0..g.rows).step_by(block.max(1)) {
            let rows = block.min(g.rows - first);
            for r in 0..rows {
                let from = &g.a[(first + r) * g.row..][..depth];
                // SAFETY: AVX2 was detected before this table entry was handed out.
                unsafe { widen(from, &mut wide[r * depth..][..depth]) };
            }
            // SAFETY: AVX2 was detected; `wide` holds `rows` rows, and the assertions bound weights, scaling and output.
            unsafe { block_of_rows(g, wide, first, rows, out) };
        }
    });
}

#[target_feature(enable = "avx2")]
fn widen(from: &[u8], to: &mut [i16]) {
    to.iter_mut().zip(from).for_each(|(t, f)| *t = i16::from(*f));
}

/// # Safety
/// AVX2; `wide` holds `rows` rows of the depth; what [`assert_gemm`] checks holds for rows `first .. first + rows`.
#[target_feature(enable = "avx2")]
unsafe fn block_of_rows(g: &Gemm, wide: &[i16], first: usize, rows: usize, out: &mut [u8]) {
    let w = g.weights;
    for panel in 0..w.columns.div_ceil(PANEL) {
        let columns = PANEL.min(w.columns - panel * PANEL);
        let mut row = 0;
        while row < rows {
            let count = ROWS.min(rows - row);
            // SAFETY: rows `row .. row + count` exist, the panel exists.
            unsafe {
                match (count, columns <= 8) {
                    (6, false) => tile::<6, 2>(g, wide, panel, first, row, out),
                    (6, true) => tile::<6, 1>(g, wide, panel, first, row, out),
                    (5, _) => tile::<5, 2>(g, wide, panel, first, row, out),
                    (4, _) => tile::<4, 2>(g, wide, panel, first, row, out),
                    (3, _) => tile::<3, 2>(g, wide, panel, first, row, out),
                    (2, _) => tile::<2, 2>(g, wide, panel, first, row, out),
                    _ => tile::<1, 2>(g, wide, panel, first, row, out),
                }
            }
            row += count;
        }
    }
}

/// R rows × 8·V columns.
///
/// # Safety
/// AVX2; rows `row .. row + R` exist in `wide` and, from `first`, in the output; panel `panel` exists.
#[target_feature(enable = "avx2")]
unsafe fn tile<const R: usize, const V: usize>(
    g: &Gemm,
    wide: &[i16],
    panel: usize,
    first: usize,
    row: usize,
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let mut sums = [[_mm256_setzero_si256(); V]; R];
    // SAFETY: row `row` starts inside `wide`, and R rows of `depth` values follow; so does the panel in the weights.
    let (a, b) = unsafe { (wide.as_ptr().add(row * depth), g.weights.codes.as_ptr().add(panel * PANEL * depth)) };
    for k in (0..depth).step_by(2) {
        let mut weights = [_mm256_setzero_si256(); V];
        for (v, weights) in weights.iter_mut().enumerate() {
            // SAFETY: the panel holds 32 codes for each pair along the depth.
            *weights = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(b.add(k * PANEL + v * 16).cast()) });
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: two `i16` at `k < depth`, which is even, of an existing row, read as one unaligned `i32`.
            let pair = _mm256_set1_epi32(unsafe { a.add(r * depth + k).cast::<i32>().read_unaligned() });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
            }
        }
    }
    let column = panel * PANEL;
    let width = PANEL.min(g.weights.columns - column);
    for (r, sums) in sums.iter().enumerate() {
        let both = [sums[0], if V == 2 { sums[V - 1] } else { _mm256_setzero_si256() }];
        // SAFETY: bias and multiplier are as long as all panels.
        let codes = unsafe { requantise16(&g.requantise, column, both) };
        store(codes, &mut out[(first + row + r) * g.out_row + column..][..width]);
    }
}

/// Writes the first `to.len()` of 16 codes.
#[target_feature(enable = "avx2")]
pub(super) fn store(codes: __m128i, to: &mut [u8]) {
    if to.len() == PANEL {
        // SAFETY: 16 bytes into a slice of 16.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), codes) };
    } else {
        let mut bytes = [0u8; PANEL];
        // SAFETY: 16 bytes into an array of 16.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), codes) };
        to.copy_from_slice(&bytes[..to.len()]);
    }
}

/// 16 sums to 16 codes; see [`Requantise`].
///
/// # Safety
/// AVX2; bias and multiplier hold 16 values from `first`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) unsafe fn requantise16(r: &Requantise, first: usize, sums: [__m256i; 2]) -> __m128i {
    let mut words = [_mm256_setzero_si256(); 2];
    for half in 0..2 {
        // SAFETY: the caller vouches for 16 values from `first`.
        let (bias, multiplier) = unsafe {
            let at = first + half * 8;
            (_mm256_loadu_si256(r.bias.as_ptr().add(at).cast()), _mm256_loadu_ps(r.multiplier.as_ptr().add(at)))
        };
        let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(sums[half], bias)), multiplier);
        // What exceeds i32 converts to its minimum, which is right below and wrong above: so bounded above, beyond every
        // code.
        words[half] = _mm256_cvtps_epi32(_mm256_min_ps(scaled, _mm256_set1_ps(65_536.0)));
    }
    // Both packings saturate, so nothing wraps on the way to the clamp.
    let zero = _mm256_set1_epi16(i16::from(r.zero_point));
    let packed = _mm256_adds_epi16(_mm256_packs_epi32(words[0], words[1]), zero);
    let ordered = _mm256_permute4x64_epi64::<0b11_01_10_00>(packed);
    let codes = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256::<1>(ordered));
    _mm_min_epu8(_mm_max_epu8(codes, _mm_set1_epi8(r.low as i8)), _mm_set1_epi8(r.high as i8))
}

/// Most pairs of taps that [`depthwise_block`] holds: a 5×5 window.
const MAX_PAIRS: usize = 13;

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    let rows = assert_depthwise(d, first_row, out);
    let blocks = if d.taps.len() > 2 * MAX_PAIRS { 0 } else { d.channels / PANEL };
    for row in 0..rows {
        let to = &mut out[row * d.out_width * d.out_pixel..];
        for block in 0..blocks {
            // SAFETY: AVX2 was detected before this table entry was handed out; `assert_depthwise` bounds the last window
            // of the last row, and every other window lies before it.
            unsafe { depthwise_block(d, first_row + row, block * PANEL, to) }
        }
    }
    if blocks * PANEL < d.channels {
        // SAFETY: AVX2 was detected.
        unsafe { depthwise_rest(d, first_row..first_row + rows, blocks * PANEL, out) };
    }
}

#[target_feature(enable = "avx2")]
fn depthwise_rest(d: &Depthwise, rows: std::ops::Range<usize>, from: usize, out: &mut [u8]) {
    portable::depthwise_loops(d, rows, from, out);
}

/// One output row of 16 channels: taps in pairs, so that `pmaddwd` multiplies and adds two of them.
///
/// # Safety
/// AVX2; all windows of output row `row` and channels `c .. c + 16` lie inside input, weights, bias and multiplier; at most
/// `2 · MAX_PAIRS` taps; `out` starts with the row.
#[target_feature(enable = "avx2")]
unsafe fn depthwise_block(d: &Depthwise, row: usize, c: usize, out: &mut [u8]) {
    let taps = d.taps.len();
    let pairs = taps.div_ceil(2);
    let zero = _mm256_setzero_si256();
    let mut weights = [[zero; 2]; MAX_PAIRS];
    let mut offsets = [[0usize; 2]; MAX_PAIRS];
    for (pair, (weights, offsets)) in weights.iter_mut().zip(&mut offsets).take(pairs).enumerate() {
        let load = |tap: usize| {
            // SAFETY: `tap < taps`, and 16 weights follow from channel `c`.
            unsafe { _mm_loadu_si128(d.weights.as_ptr().add(tap * d.channels + c).cast()) }
        };
        // An odd last tap is paired with itself at weight 0.
        let odd = 2 * pair + 1 == taps;
        let (first, second) = (load(2 * pair), if odd { _mm_setzero_si128() } else { load(2 * pair + 1) });
        *weights = [
            _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(first, second)),
            _mm256_cvtepi8_epi16(_mm_unpackhi_epi8(first, second)),
        ];
        *offsets = [d.taps[2 * pair] + c, d.taps[if odd { 2 * pair } else { 2 * pair + 1 }] + c];
    }
    // SAFETY: the row begins inside the input.
    let row = unsafe { d.input.as_ptr().add(row * d.down) };
    for x in 0..d.out_width {
        let mut sums = [zero; 2];
        // SAFETY: the caller vouches for every window of this row.
        let window = unsafe { row.add(x * d.right) };
        for (weights, offsets) in weights.iter().zip(&offsets).take(pairs) {
            // SAFETY: 16 codes of each of two taps inside the window.
            let (a, b) = unsafe {
                (_mm_loadu_si128(window.add(offsets[0]).cast()), _mm_loadu_si128(window.add(offsets[1]).cast()))
            };
            let wide = [_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b)), _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(a, b))];
            sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(wide[0], weights[0]));
            sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(wide[1], weights[1]));
        }
        // SAFETY: bias and multiplier hold 16 values from `c`.
        let codes = unsafe { requantise16(&d.requantise, c, sums) };
        store(codes, &mut out[x * d.out_pixel + c..][..PANEL]);
    }
}

pub(super) fn add(p: &Pairwise, a: &[u8], b: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn wide(p: &Pairwise, a: &[u8], b: &[u8], out: &mut [u8]) {
        portable::add_loop(p, a, b, out);
    }
    // SAFETY: AVX2 was detected before this table entry was handed out.
    unsafe { wide(p, a, b, out) }
}

pub(super) fn multiply(p: &Pairwise, a: &[u8], b: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn wide(p: &Pairwise, a: &[u8], b: &[u8], out: &mut [u8]) {
        portable::multiply_loop(p, a, b, out);
    }
    // SAFETY: AVX2 was detected before this table entry was handed out.
    unsafe { wide(p, a, b, out) }
}

pub(super) fn dot(codes: &[u8], weights: &[i8]) -> i32 {
    #[target_feature(enable = "avx2")]
    fn wide(codes: &[u8], weights: &[i8]) -> i32 {
        portable::dot_loop(codes, weights)
    }
    // SAFETY: AVX2 was detected before this table entry was handed out.
    unsafe { wide(codes, weights) }
}
