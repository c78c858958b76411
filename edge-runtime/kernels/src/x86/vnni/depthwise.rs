//! Depthwise convolution 3×3 by `vpdpbusd`: the codes of three vertical taps and a zero side by side are what one
//! instruction takes, and three instructions are a window. Each column of the input is interleaved once for a row of
//! outputs and serves the three windows that see it, whose sums stay in registers while the columns pass by.

use super::{Codes, depthwise_1x1};
use crate::x86::avx2;
use crate::{Depthwise, NR};
use std::arch::x86_64::*;

/// As [`crate::Kernel::depthwise`].
pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    let window = &d.window;
    let rows = d.check(out);
    if rows == 0 {
        return;
    }
    if window.kernel == [1, 1] && window.padding == [0, 0] {
        // SAFETY: the features were detected before this table entry was handed out; `inside` holds every window.
        return d.over_interior(first_row, out, |d, out| unsafe { depthwise_1x1(d, out) });
    }
    let stride = window.stride[1];
    if window.kernel != [3, 3] || window.dilation != [1, 1] || window.channels < NR || stride > 2 {
        return avx2::depthwise(d, first_row, out);
    }
    let mut c = 0;
    while c + NR <= window.channels {
        let at_once = match window.channels - c {
            64.. => 1,
            32.. => 2,
            _ => 4,
        };
        let these = first_row..first_row + rows;
        // SAFETY: the features were detected before this table entry was handed out; `check` bounds input, weights,
        // scaling and output.
        unsafe {
            match (at_once, stride) {
                (1, 1) => block::<1, 1>(d, these, c, out),
                (1, _) => block::<1, 2>(d, these, c, out),
                (2, 1) => block::<2, 1>(d, these, c, out),
                (2, _) => block::<2, 2>(d, these, c, out),
                (_, 1) => block::<4, 1>(d, these, c, out),
                _ => block::<4, 2>(d, these, c, out),
            }
        }
        c += LANES / at_once;
    }
    if c < window.channels {
        // SAFETY: AVX2 was detected.
        d.over_interior(first_row, out, |d, out| unsafe { avx2::depthwise_rest(d, 0..d.rows, c, out) });
    }
}

/// Places that are worked on together: channels of one, two or four rows of outputs, one above the other.
const LANES: usize = 64;

/// For 64 places, the codes or weights of three vertical taps and a zero.
///
/// Bytes are interleaved within the quarters of registers, as the packing instructions at the end join them: register
/// `i` holds places `4i .. 4i + 4` of each quarter.
type Quads = [__m512i; 4];

/// What the windows of some channels have in common.
struct Channels {
    /// For the left, middle and right taps.
    weights: [Quads; 3],
    bias: Quads,
    multiplier: [__m512; 4],
    codes: Codes,
}

/// Three rows of the input under each of N rows of outputs.
struct Lines<const N: usize> {
    start: [[*const u8; N]; 3],
    /// No bits outside the image, where every column is that of `start`.
    valid: [[usize; N]; 3],
}

impl<const N: usize> Lines<N> {
    /// The column that begins `at` codes from the first.
    ///
    /// # Safety
    /// AVX-512 F and BW; the column exists.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn column(&self, at: usize) -> Quads {
        let mut rows = [_mm512_setzero_si512(); 3];
        for (row, (start, valid)) in rows.iter_mut().zip(self.start.iter().zip(&self.valid)) {
            let mut from = *start;
            for (from, valid) in from.iter_mut().zip(valid) {
                *from = from.wrapping_add(at & valid);
            }
            // SAFETY: the codes of a pixel inside a row, or of zero points.
            *row = unsafe { load(from) };
        }
        interleave(rows)
    }
}

/// Output rows `rows` of channels `c .. c + 64 / N`, N rows at a time; windows are S columns apart.
///
/// # Safety
/// AVX-512 F, BW and VNNI; what [`Depthwise::check`] checks; the channels exist; the windows are 3×3 without holes and
/// S columns apart; `out` starts with the first row.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn block<const N: usize, const S: usize>(d: &Depthwise, rows: std::ops::Range<usize>, c: usize, out: &mut [u8]) {
    let window = &d.window;
    // SAFETY: the channels exist.
    let channels = unsafe { Channels::new::<N>(d, c) };
    let outside = [d.zero_point; LANES];
    let below = window.out_width * window.out_pixel_stride;
    assert!(out.len() >= rows.len() * below - window.out_pixel_stride + c + LANES / N);
    let start = out.as_mut_ptr();
    for row in rows.clone().step_by(N) {
        let mut lines = Lines { start: [[outside.as_ptr(); N]; 3], valid: [[0; N]; 3] };
        let mut to = [std::ptr::null_mut(); N];
        for (n, to) in to.iter_mut().enumerate() {
            // Rows beyond the last are the last once more.
            let row = (row + n).min(rows.end - 1);
            // SAFETY: the assertion above.
            *to = unsafe { start.add((row - rows.start) * below + c) };
            for t in 0..3 {
                let y = (row * window.stride[0] + t).wrapping_sub(window.padding[0]);
                if y < window.height {
                    // SAFETY: row and channel exist.
                    lines.start[t][n] =
                        unsafe { window.input.as_ptr().add(y * window.width * window.pixel_stride + c) };
                    lines.valid[t][n] = usize::MAX;
                }
            }
        }
        // SAFETY: as this function's.
        unsafe {
            match (channels.codes.in_range, channels.codes.unclamped) {
                (true, true) => line::<N, S, true, true>(d, &channels, &lines, &to),
                (true, false) => line::<N, S, true, false>(d, &channels, &lines, &to),
                (false, _) => line::<N, S, false, false>(d, &channels, &lines, &to),
            }
        }
    }
}

/// Output rows that begin at `out`.
///
/// # Safety
/// As [`block`]; the rows exist.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn line<const N: usize, const S: usize, const IN_RANGE: bool, const UNCLAMPED: bool>(
    d: &Depthwise,
    channels: &Channels,
    lines: &Lines<N>,
    out: &[*mut u8; N],
) {
    let window = &d.window;
    let [left, middle, right] = channels.weights;
    let edge = [_mm512_set1_epi32(i32::from_le_bytes([d.zero_point, d.zero_point, d.zero_point, 0])); 4];
    // Columns are counted from the first of the padding.
    let column = |x: usize| {
        let x = x.wrapping_sub(window.padding[1]);
        // SAFETY: the column exists.
        if x < window.width { unsafe { lines.column(x * window.pixel_stride) } } else { edge }
    };
    let store = |x: usize, sums: Quads| {
        let codes = channels.codes.of::<IN_RANGE, UNCLAMPED>(sums, channels.multiplier);
        for (n, to) in out.iter().enumerate() {
            let to = to.wrapping_add(x * window.out_pixel_stride);
            // SAFETY: the codes of a pixel of the row.
            unsafe {
                match (N, n) {
                    (1, _) => _mm512_storeu_si512(to.cast(), codes),
                    (2, 0) => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(codes)),
                    (2, _) => _mm256_storeu_si256(to.cast(), _mm512_extracti64x4_epi64::<1>(codes)),
                    (_, 0) => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(codes)),
                    (_, 1) => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<1>(codes)),
                    (_, 2) => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<2>(codes)),
                    _ => _mm_storeu_si128(to.cast(), _mm512_extracti32x4_epi32::<3>(codes)),
                }
            }
        }
    };
    let first = column(0);
    let mut sums = add(channels.bias, first, left);
    if S == 2 {
        for x in 0..window.out_width {
            let odd = column(2 * x + 1);
            let even = column(2 * x + 2);
            store(x, add(add(sums, odd, middle), even, right));
            sums = add(channels.bias, even, left);
        }
        return;
    }
    let second = column(1);
    sums = add(sums, second, middle);
    let mut next = add(channels.bias, second, left);
    for x in 0..window.out_width {
        let column = column(x + 2);
        store(x, add(sums, column, right));
        sums = add(next, column, middle);
        next = add(channels.bias, column, left);
    }
}

/// `sums` and the products of a column.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn add(mut sums: Quads, codes: Quads, weights: Quads) -> Quads {
    for (sum, (codes, weights)) in sums.iter_mut().zip(codes.into_iter().zip(weights)) {
        *sum = _mm512_dpbusd_epi32(*sum, codes, weights);
    }
    sums
}

impl Channels {
    /// Of channels `c .. c + 64 / N`, the same for each of N rows of outputs.
    ///
    /// # Safety
    /// AVX-512 F and BW; the channels exist.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn new<const N: usize>(d: &Depthwise, c: usize) -> Channels {
        let mut weights = [[_mm512_setzero_si512(); 4]; 3];
        for (x, weights) in weights.iter_mut().enumerate() {
            let mut rows = [_mm512_setzero_si512(); 3];
            for (y, row) in rows.iter_mut().enumerate() {
                let from = d.weights[(y * 3 + x) * d.window.channels + c..].as_ptr();
                // SAFETY: the weights of a tap.
                *row = unsafe { load([from.cast(); N]) };
            }
            *weights = interleave(rows);
        }
        let bias = &d.requantise.bias[c..];
        let multiplier = &d.requantise.multiplier[c..];
        let mut biases = [_mm512_setzero_si512(); 4];
        let mut multipliers = [_mm512_setzero_si512(); 4];
        for q in 0..4 {
            let at = q % (4 / N) * 16;
            // SAFETY: the values of all channels, 16 to a register, as often as they fit.
            unsafe {
                biases[q] = _mm512_loadu_si512(bias.as_ptr().add(at).cast());
                multipliers[q] = _mm512_loadu_si512(multiplier.as_ptr().add(at).cast());
            }
        }
        let mut multiplier = [_mm512_setzero_ps(); 4];
        for (to, from) in multiplier.iter_mut().zip(transpose(multipliers)) {
            *to = _mm512_castsi512_ps(from);
        }
        Channels { weights, bias: transpose(biases), multiplier, codes: Codes::new(&d.requantise) }
    }
}

/// Register `i` of the result holds quarter `i` of each register.
#[inline]
#[target_feature(enable = "avx512f")]
fn transpose([a, b, c, d]: Quads) -> Quads {
    let ab = _mm512_shuffle_i32x4::<0x44>(a, b);
    let cd = _mm512_shuffle_i32x4::<0x44>(c, d);
    let ab_high = _mm512_shuffle_i32x4::<0xee>(a, b);
    let cd_high = _mm512_shuffle_i32x4::<0xee>(c, d);
    [
        _mm512_shuffle_i32x4::<0x88>(ab, cd),
        _mm512_shuffle_i32x4::<0xdd>(ab, cd),
        _mm512_shuffle_i32x4::<0x88>(ab_high, cd_high),
        _mm512_shuffle_i32x4::<0xdd>(ab_high, cd_high),
    ]
}

/// 64 / N bytes from each of N places, one after the other.
///
/// # Safety
/// AVX-512 F; the bytes can be read.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load<const N: usize>(from: [*const u8; N]) -> __m512i {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        match N {
            1 => _mm512_loadu_si512(from[0].cast()),
            2 => {
                let a = _mm256_loadu_si256(from[0].cast());
                let b = _mm256_loadu_si256(from[1].cast());
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
            }
            _ => {
                let a = _mm_loadu_si128(from[0].cast());
                let b = _mm_loadu_si128(from[1].cast());
                let c = _mm_loadu_si128(from[2].cast());
                let d = _mm_loadu_si128(from[3].cast());
                let x = _mm512_inserti32x4::<1>(_mm512_castsi128_si512(a), b);
                _mm512_inserti32x4::<3>(_mm512_inserti32x4::<2>(x, c), d)
            }
        }
    }
}

/// The bytes of three registers and a zero side by side.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn interleave([a, b, c]: [__m512i; 3]) -> Quads {
    let zero = _mm512_setzero_si512();
    let ab = _mm512_unpacklo_epi8(a, b);
    let c0 = _mm512_unpacklo_epi8(c, zero);
    let ab_high = _mm512_unpackhi_epi8(a, b);
    let c0_high = _mm512_unpackhi_epi8(c, zero);
    [
        _mm512_unpacklo_epi16(ab, c0),
        _mm512_unpackhi_epi16(ab, c0),
        _mm512_unpacklo_epi16(ab_high, c0_high),
        _mm512_unpackhi_epi16(ab_high, c0_high),
    ]
}
