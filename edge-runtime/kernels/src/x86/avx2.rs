//! AVX2: exact `pmaddwd` on pairs, 6 rows × 16 columns of sums in registers.
//!
//! `pmaddubsw`, which others use here, saturates at 16 bits and gives other results than VNNI; this does not, and needs
//! no more multiplications: both take one of the two multiplying ports for 16 products.

mod winograd;

use crate::depthwise::Interior;
use crate::scratch;
use crate::winograd::CACHE_LINE_I16;
use crate::{Depthwise, Gemm, Kernel, MaxPool, NR, Product, Requantise, Sum, portable};
use std::arch::x86_64::*;

/// The table entry. Only [`crate::available`] hands it out, and only where AVX2 is there.
pub static KERNEL: Kernel = Kernel {
    name: "avx2",
    kr: 2,
    signed: false,
    gemm,
    winograd: Some(winograd::winograd),
    depthwise,
    max_pool,
    add,
    multiply,
    dot,
};

/// True if this processor runs [`KERNEL`]. Sums of activations need FMA.
pub fn is_there() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

/// Rows whose sums are held at once: 6 rows × 2 vectors of sums, 2 of weights, 1 of activations, 1 of products fill the
/// 16 registers.
const MR: usize = 6;

/// Two products of each row and column; the activations `$at` bytes, the weights `$low` and `$high` bytes on, which
/// `$load` reads.
macro_rules! half {
    ($load:literal, $at:literal, $low:literal, $high:literal) => {
        concat!(
            $load,
            " ymm12, [{b} + ",
            $low,
            "]\n",
            $load,
            " ymm13, [{b} + ",
            $high,
            "]\n",
            row!("{a} + ", $at, "0", "1"),
            row!("{a} + {s} + ", $at, "2", "3"),
            row!("{a} + 2*{s} + ", $at, "4", "5"),
            row!("{d} + ", $at, "6", "7"),
            row!("{d} + {s} + ", $at, "8", "9"),
            row!("{d} + 2*{s} + ", $at, "10", "11"),
        )
    };
}

/// One row of [`half`].
macro_rules! row {
    ($from:literal, $at:literal, $first:literal, $second:literal) => {
        concat!(
            "vpbroadcastd ymm14, [",
            $from,
            $at,
            "]\n",
            "vpmaddwd ymm15, ymm14, ymm12\n",
            "vpmaddwd ymm14, ymm14, ymm13\n",
            "vpaddd ymm",
            $first,
            ", ymm",
            $first,
            ", ymm15\n",
            "vpaddd ymm",
            $second,
            ", ymm",
            $second,
            ", ymm14\n",
        )
    };
}

fn gemm(g: &Gemm, out: &mut [u8]) {
    g.check(out, KERNEL.kr);
    let depth = g.weights.depth;
    let columns = g.weights.columns;
    // Rows that are worked on at once: with few weights so many that activations and output stay in the first-level
    // cache, else so many that they stay in the second while all panels pass by.
    let bytes = match depth * columns {
        0..=12_288 => 24 * 1024,
        12_289..=131_072 => 64 * 1024,
        _ => 160 * 1024,
    };
    let parts = g.rows.div_ceil((bytes / (2 * depth + columns)).max(4 * MR));
    let block = g.rows.div_ceil(parts.max(1)).next_multiple_of(MR);
    scratch::with::<i16, _>(block * depth, |wide| {
        for first in (0..g.rows).step_by(block.max(1)) {
            let rows = block.min(g.rows - first);
            // SAFETY: AVX2 was detected before this table entry was handed out; `wide` holds a block of rows, and the
            // assertions bound activations, weights, scaling and output.
            unsafe {
                widen(g, first, rows, wide);
                block_of_rows(g, wide, first, rows, out);
            }
        }
    });
}

/// Rows `first .. first + rows` of the activations as `i16`, side by side.
#[target_feature(enable = "avx2")]
fn widen(g: &Gemm, first: usize, rows: usize, wide: &mut [i16]) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let each = |from: &[u8], to: &mut [i16]| to.iter_mut().zip(from).for_each(|(t, f)| *t = i16::from(*f));
    let mut starts = g.windows.starts(g.first + first);
    if g.windows.runs == [0] && g.windows.column_stride == run && g.windows.row_stride == g.windows.width * run {
        let [start] = starts.take();
        return each(&g.a[start..][..rows * run], wide);
    }
    for row in 0..rows {
        let [start] = starts.take();
        for (i, offset) in g.windows.runs.iter().enumerate() {
            let from = start + offset;
            let to = row * depth + i * run;
            // Short runs as whole vectors, whose surplus the next run overwrites.
            let room = (g.a.len() - from).min(wide.len() - to);
            match (g.a[from..].first_chunk::<16>(), wide[to..].first_chunk_mut::<16>()) {
                (Some(codes), Some(wide)) if run <= 16 => *wide = codes.map(i16::from),
                _ if run <= 32 && room >= 32 => {
                    for at in [0, 16] {
                        // SAFETY: there is room for 32.
                        unsafe {
                            let codes = _mm_loadu_si128(g.a.as_ptr().add(from + at).cast());
                            _mm256_storeu_si256(wide.as_mut_ptr().add(to + at).cast(), _mm256_cvtepu8_epi16(codes));
                        }
                    }
                }
                _ => each(&g.a[from..][..run], &mut wide[to..][..run]),
            }
        }
    }
}

/// # Safety
/// AVX2; `wide` holds `rows` rows of the depth; what [`Gemm::check`] checks holds for rows `first .. first + rows`.
#[target_feature(enable = "avx2")]
unsafe fn block_of_rows(g: &Gemm, wide: &[i16], first: usize, rows: usize, out: &mut [u8]) {
    let w = g.weights;
    // Weights that many tiles share are widened once: one in thirteen vector operations of the loop widens.
    let widened = if w.depth <= WIDENED_DEPTH && rows >= 4 * MR { w.depth * NR + CACHE_LINE_I16 } else { 0 };
    scratch::with::<i16, _>(widened, |weights| {
        let begin = weights.as_ptr().align_offset(64).min(weights.len());
        let weights = &mut weights[begin..];
        for panel in 0..w.columns.div_ceil(NR) {
            let columns = NR.min(w.columns - panel * NR);
            let codes = &w.codes[panel * NR * w.depth..][..NR * w.depth];
            weights.iter_mut().zip(codes).for_each(|(w, c)| *w = i16::from(*c));
            let mut row = 0;
            while row < rows {
                let count = MR.min(rows - row);
                // SAFETY: rows `row .. row + count` exist, the panel exists.
                unsafe {
                    match (count, columns <= 8) {
                        (6, false) => tile::<6, 2>(g, wide, weights, panel, first, row, out),
                        (6, true) => tile::<6, 1>(g, wide, weights, panel, first, row, out),
                        (5, _) => tile::<5, 2>(g, wide, weights, panel, first, row, out),
                        (4, _) => tile::<4, 2>(g, wide, weights, panel, first, row, out),
                        (3, _) => tile::<3, 2>(g, wide, weights, panel, first, row, out),
                        (2, _) => tile::<2, 2>(g, wide, weights, panel, first, row, out),
                        _ => tile::<1, 2>(g, wide, weights, panel, first, row, out),
                    }
                }
                row += count;
            }
        }
    });
}

/// Products of a sum up to which a panel of widened weights and a tile's rows stay in the first-level cache.
const WIDENED_DEPTH: usize = 512;

/// R rows × 8·V columns; `weights` are the panel's, widened, or none.
///
/// # Safety
/// AVX2; rows `row .. row + R` exist in `wide` and, from `first`, in the output; panel `panel` exists.
#[target_feature(enable = "avx2")]
unsafe fn tile<const R: usize, const V: usize>(
    g: &Gemm,
    wide: &[i16],
    weights: &[i16],
    panel: usize,
    first: usize,
    row: usize,
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let column = panel * NR;
    let mut start = [_mm256_setzero_si256(); V];
    for (v, start) in start.iter_mut().enumerate() {
        // SAFETY: the bias is as long as all panels.
        *start = unsafe { _mm256_loadu_si256(g.requantise.bias.as_ptr().add(column + 8 * v).cast()) };
    }
    let mut sums = [start; R];
    // SAFETY: row `row` starts inside `wide`, and R rows of `depth` values follow; so does the panel in the weights.
    let (a, b) = unsafe { (wide.as_ptr().add(row * depth), g.weights.codes.as_ptr().add(panel * NR * depth)) };
    let mut k = 0;
    if R == MR && V == 2 {
        k = depth / 4 * 4;
        // SAFETY: six rows and 16 columns of `k` products exist.
        unsafe {
            match weights.len() >= NR * depth {
                true => six_by_sixteen_widened(a, depth, weights.as_ptr(), k / 4, &mut sums),
                false => six_by_sixteen(a, depth, b, k / 4, &mut sums),
            }
        }
    }
    while k < depth {
        let mut weights = [_mm256_setzero_si256(); V];
        for (v, weights) in weights.iter_mut().enumerate() {
            // SAFETY: the panel holds 32 codes for each pair along the depth.
            *weights = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(b.add(k * NR + v * 16).cast()) });
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: two `i16` at `k < depth`, which is even, of an existing row, read as one unaligned `i32`.
            let pair = _mm256_set1_epi32(unsafe { a.add(r * depth + k).cast::<i32>().read_unaligned() });
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
            }
        }
        k += 2;
    }
    let width = NR.min(g.weights.columns - column);
    let mut multiplier = [_mm256_setzero_ps(); 2];
    for (half, multiplier) in multiplier.iter_mut().enumerate() {
        // SAFETY: the multiplier is as long as all panels.
        *multiplier = unsafe { _mm256_loadu_ps(g.requantise.multiplier.as_ptr().add(column + 8 * half)) };
    }
    let codes = Codes::new(&g.requantise);
    // Two rows at a time fill a register of codes.
    let at = (first + row) * g.out_row_stride + column;
    for r in (0..R).step_by(2) {
        let second = (r + 1).min(R - 1);
        let both = codes.of([sums[r][0], sums[r][V - 1], sums[second][0], sums[second][V - 1]], multiplier);
        let upper = _mm256_castsi256_si128(both);
        let lower = _mm256_extracti128_si256::<1>(both);
        if width == NR {
            // SAFETY: 16 codes of rows that exist in the output, as asserted; an odd last row is written twice.
            unsafe {
                let to = out.as_mut_ptr().add(at);
                _mm_storeu_si128(to.add(r * g.out_row_stride).cast(), upper);
                _mm_storeu_si128(to.add(second * g.out_row_stride).cast(), lower);
            }
        } else {
            store(upper, &mut out[at + r * g.out_row_stride..][..width]);
            store(lower, &mut out[at + second * g.out_row_stride..][..width]);
        }
    }
}

/// The inner loop of 6 rows × 16 columns over `fours` times four products, in assembly because compilers spill sums
/// here: 12 sums, 2 weights, an activation and a product take all 16 registers. `$load` reads 16 weights as `i16`,
/// which lie as `$weight`.
macro_rules! six_by_sixteen {
    ($name:ident, $weight:ty, $load:literal, $second:literal, $third:literal, $fourth:literal, $step:literal) => {
        /// # Safety
        /// AVX2; `a` points to six rows, `stride` values apart, of `4 · fours` values; `b` to `4 · fours · NR`
        /// weights.
        #[target_feature(enable = "avx2")]
        unsafe fn $name<const R: usize, const V: usize>(
            a: *const i16,
            stride: usize,
            b: *const $weight,
            fours: usize,
            sums: &mut [[__m256i; V]; R],
        ) {
            if fours == 0 || R != 6 || V != 2 {
                return;
            }
            // SAFETY: reads what the caller vouches for, writes registers alone.
            unsafe {
                let fourth = a.add(3 * stride);
                std::arch::asm!(
                    "2:",
                    half!($load, "0", "0", $second),
                    half!($load, "4", $third, $fourth),
                    "add {a}, 8",
                    "add {d}, 8",
                    concat!("add {b}, ", $step),
                    "dec {n}",
                    "jnz 2b",
                    a = inout(reg) a => _,
                    d = inout(reg) fourth => _,
                    b = inout(reg) b => _,
                    s = in(reg) 2 * stride,
                    n = inout(reg) fours => _,
                    inout("ymm0") sums[0][0], inout("ymm1") sums[0][1],
                    inout("ymm2") sums[1][0], inout("ymm3") sums[1][1],
                    inout("ymm4") sums[2][0], inout("ymm5") sums[2][1],
                    inout("ymm6") sums[3][0], inout("ymm7") sums[3][1],
                    inout("ymm8") sums[4][0], inout("ymm9") sums[4][1],
                    inout("ymm10") sums[5][0], inout("ymm11") sums[5][1],
                    out("ymm12") _, out("ymm13") _, out("ymm14") _, out("ymm15") _,
                    options(nostack, readonly)
                );
            }
        }
    };
}

six_by_sixteen!(six_by_sixteen, i8, "vpmovsxbw", "16", "32", "48", "64");
six_by_sixteen!(six_by_sixteen_widened, i16, "vmovdqu", "32", "64", "96", "128");

/// The constants of [`Requantise`] in registers.
struct Codes {
    /// No sum needs bounding before it becomes an integer.
    in_range: bool,
    bound: __m256,
    zero_point: __m256i,
    low: __m256i,
    high: __m256i,
    order: __m256i,
}

impl Codes {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn new(r: &Requantise) -> Codes {
        Codes {
            in_range: !r.may_overflow,
            bound: _mm256_set1_ps(65_536.0),
            zero_point: _mm256_set1_epi16(i16::from(r.zero_point)),
            low: _mm256_set1_epi8(r.low as i8),
            high: _mm256_set1_epi8(r.high as i8),
            order: _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7),
        }
    }

    /// Twice 16 sums, which hold the bias already, to twice 16 codes; both have the 16 multipliers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(&self, sums: [__m256i; 4], [a, b]: [__m256; 2]) -> __m256i {
        let ordered = _mm256_permutevar8x32_epi32(self.packed(sums, [a, b, a, b]), self.order);
        self.clamped(ordered)
    }

    /// 32 sums to unclamped codes, joined within the halves of registers.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn packed(&self, sums: [__m256i; 4], multiplier: [__m256; 4]) -> __m256i {
        let mut steps = [_mm256_setzero_si256(); 4];
        for (steps, (sum, multiplier)) in steps.iter_mut().zip(sums.into_iter().zip(multiplier)) {
            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(sum), multiplier);
            // What exceeds i32 converts to its minimum, which is right below and wrong above: so bounded above, beyond
            // every code.
            *steps = _mm256_cvtps_epi32(if self.in_range { scaled } else { _mm256_min_ps(scaled, self.bound) });
        }
        // All packings saturate, so nothing wraps on the way to the clamp.
        let first = _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), self.zero_point);
        let second = _mm256_adds_epi16(_mm256_packs_epi32(steps[2], steps[3]), self.zero_point);
        _mm256_packus_epi16(first, second)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn clamped(&self, codes: __m256i) -> __m256i {
        _mm256_min_epu8(_mm256_max_epu8(codes, self.low), self.high)
    }
}

/// Writes the first `to.len()` of 16 codes.
#[target_feature(enable = "avx2")]
pub(super) fn store(codes: __m128i, to: &mut [u8]) {
    if to.len() == NR {
        // SAFETY: 16 bytes into a slice of 16.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), codes) };
    } else {
        let mut bytes = [0u8; NR];
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
    // SAFETY: the caller vouches for 16 values from `first`.
    let (bias, multiplier) = unsafe {
        let bias = r.bias.as_ptr().add(first);
        let multiplier = r.multiplier.as_ptr().add(first);
        (
            [_mm256_loadu_si256(bias.cast()), _mm256_loadu_si256(bias.add(8).cast())],
            [_mm256_loadu_ps(multiplier), _mm256_loadu_ps(multiplier.add(8))],
        )
    };
    let [a, b] = [_mm256_add_epi32(sums[0], bias[0]), _mm256_add_epi32(sums[1], bias[1])];
    _mm256_castsi256_si128(Codes::new(r).of([a, b, a, b], multiplier))
}

pub(super) fn depthwise(d: &Depthwise, first_row: usize, out: &mut [u8]) {
    d.over_interior(first_row, out, interior);
}

/// [`depthwise`] where all windows lie inside.
pub(super) fn interior(d: &Interior, out: &mut [u8]) {
    let blocks = if matches!(d.taps.len(), 1 | 9 | 25) { d.channels / NR } else { 0 };
    // So many rows at a time that preparing the weights of a block does not count, and no more, so that the rows are
    // still in the first-level cache for the next block.
    let some = (128 / d.out_width).max(1);
    for first in (0..d.rows).step_by(some) {
        let these = first..d.rows.min(first + some);
        let to = &mut out[first * d.out_width * d.out_pixel_stride..];
        let mut c = 0;
        while c < blocks * NR {
            let these = these.clone();
            // SAFETY: AVX2 was detected before this table entry was handed out; [`Interior`] holds every window.
            c += unsafe {
                match (d.taps.len(), c + 2 * NR <= d.channels) {
                    (1, true) => depthwise_block::<1, 2>(d, these, c, to),
                    (1, false) => depthwise_block::<1, 1>(d, these, c, to),
                    (9, true) => depthwise_block::<5, 2>(d, these, c, to),
                    (9, false) => depthwise_block::<5, 1>(d, these, c, to),
                    (_, true) => depthwise_block::<13, 2>(d, these, c, to),
                    (_, false) => depthwise_block::<13, 1>(d, these, c, to),
                }
            };
        }
    }
    if blocks * NR < d.channels {
        // SAFETY: AVX2 was detected.
        unsafe { depthwise_rest(d, 0..d.rows, blocks * NR, out) };
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn depthwise_rest(d: &Interior, rows: std::ops::Range<usize>, from: usize, out: &mut [u8]) {
    portable::depthwise_loops(d, rows, from, out);
}

/// 16·L codes from `from`, the upper half of the register zero where L is 1.
///
/// # Safety
/// AVX2; 16·L bytes can be read.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load<const L: usize>(from: *const u8) -> __m256i {
    // SAFETY: the caller vouches for the bytes.
    unsafe {
        match L {
            1 => _mm256_zextsi128_si256(_mm_loadu_si128(from.cast())),
            _ => _mm256_loadu_si256(from.cast()),
        }
    }
}

/// 16·L channels of some output rows; gives their number. Taps go in pairs, so that `pmaddwd` multiplies and adds two
/// of them.
///
/// Bytes are interleaved within the halves of registers, as the packing instructions at the end join them: sum `i`
/// holds channels `4i .. 4i + 4` in its lower half and those 16 further in its upper half.
///
/// # Safety
/// AVX2; all windows of output rows `rows` and channels `c .. c + 16·L` lie inside input, weights, bias and multiplier;
/// there are `2 · PAIRS − 1` taps; `out` starts with the first row.
#[target_feature(enable = "avx2")]
unsafe fn depthwise_block<const PAIRS: usize, const L: usize>(
    d: &Interior,
    rows: std::ops::Range<usize>,
    c: usize,
    out: &mut [u8],
) -> usize {
    let zero = _mm256_setzero_si256();
    let mut weights = [[zero; 4]; PAIRS];
    let mut offsets = [[0usize; 2]; PAIRS];
    for (pair, (weights, offsets)) in weights.iter_mut().zip(&mut offsets).enumerate() {
        // SAFETY: `tap` is one of the taps, and 16·L weights follow from channel `c`.
        let of = |tap: usize| unsafe { load::<L>(d.weights.as_ptr().add(tap * d.channels + c).cast()) };
        // The odd last tap is paired with nothing.
        let odd = pair + 1 == PAIRS;
        let first = of(2 * pair);
        let second = if odd { zero } else { of(2 * pair + 1) };
        let bytes = [_mm256_unpacklo_epi8(first, second), _mm256_unpackhi_epi8(first, second)];
        for (i, weights) in weights.iter_mut().enumerate() {
            let wide = match i % 2 {
                0 => _mm256_unpacklo_epi8(zero, bytes[i / 2]),
                _ => _mm256_unpackhi_epi8(zero, bytes[i / 2]),
            };
            *weights = _mm256_srai_epi16::<8>(wide);
        }
        *offsets = [d.taps[2 * pair], d.taps[if odd { 2 * pair } else { 2 * pair + 1 }]];
    }
    let codes = Codes::new(&d.requantise);
    let mut bias = [zero; 4];
    let mut multiplier = [_mm256_setzero_ps(); 4];
    for i in 0..4 {
        let at = c + 4 * i;
        // SAFETY: bias and multiplier hold 16·L values from `c`.
        unsafe {
            let b = d.requantise.bias.as_ptr().add(at);
            let m = d.requantise.multiplier.as_ptr().add(at);
            let low = _mm_loadu_si128(b.cast());
            let high = _mm_loadu_ps(m);
            let upper = if L == 2 { 16 } else { 0 };
            bias[i] = _mm256_set_m128i(_mm_loadu_si128(b.add(upper).cast()), low);
            multiplier[i] = _mm256_set_m128(_mm_loadu_ps(m.add(upper)), high);
        }
    }
    for (y, row) in rows.enumerate() {
        // SAFETY: the row begins inside the input.
        let row = unsafe { d.input.as_ptr().add(row * d.row_stride + c) };
        let to = &mut out[y * d.out_width * d.out_pixel_stride..];
        for x in 0..d.out_width {
            // SAFETY: the caller vouches for every window of this row.
            let window = unsafe { row.add(x * d.column_stride) };
            let mut sums = bias;
            for (pair, (weights, offsets)) in weights.iter().zip(&offsets).enumerate() {
                // SAFETY: 16·L codes of each of two taps inside the window.
                let (a, b) = unsafe {
                    let second = if pair + 1 == PAIRS { zero } else { load::<L>(window.add(offsets[1])) };
                    (load::<L>(window.add(offsets[0])), second)
                };
                let bytes = [_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)];
                for (i, sum) in sums.iter_mut().enumerate() {
                    let wide = match i % 2 {
                        0 => _mm256_unpacklo_epi8(bytes[i / 2], zero),
                        _ => _mm256_unpackhi_epi8(bytes[i / 2], zero),
                    };
                    *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(wide, weights[i]));
                }
            }
            let packed = codes.clamped(codes.packed(sums, multiplier));
            let to = &mut to[x * d.out_pixel_stride + c..][..NR * L];
            // SAFETY: 16·L bytes into a slice of as many.
            unsafe {
                match L {
                    1 => _mm_storeu_si128(to.as_mut_ptr().cast(), _mm256_castsi256_si128(packed)),
                    _ => _mm256_storeu_si256(to.as_mut_ptr().cast(), packed),
                }
            }
        }
    }
    NR * L
}

pub(super) fn max_pool(p: &MaxPool, first_row: usize, out: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn wide(p: &MaxPool, first_row: usize, out: &mut [u8]) {
        portable::max_pool_loops(p, first_row, out);
    }
    // SAFETY: AVX2 was detected before this table entry was handed out.
    unsafe { wide(p, first_row, out) }
}

pub(super) fn add(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx2,fma")]
    fn wide(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
        portable::add_loop(p, a, b, out);
    }
    // SAFETY: AVX2 was detected before this table entry was handed out.
    unsafe { wide(p, a, b, out) }
}

pub(super) fn multiply(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx2")]
    fn wide(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
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
