//! VNNI: `vpdpbusd` multiplies four pairs of u8 and i8 and adds them into an i32, without saturation, in one
//! instruction.
//!
//! Two table entries: AVX-512 VNNI (servers, 512-bit registers) and AVX-VNNI (small Intel cores, 256-bit), whose
//! depthwise and element-wise loops are those of AVX2.

mod depthwise;

use super::avx2;
use crate::depthwise::Interior;
use crate::{Gemm, Kernel, MaxPool, NR, Product, Requantise, Sum, portable};
use std::arch::x86_64::*;

/// AVX-512 VNNI. Only [`crate::available`] hands it out, and only where [`has_avx512`] holds.
pub static AVX512: Kernel = Kernel {
    name: "avx512-vnni",
    kr: 4,
    signed: false,
    gemm: gemm_avx512,
    winograd: None,
    depthwise: depthwise::depthwise,
    max_pool: max_pool_avx512,
    add: add_avx512,
    multiply: multiply_avx512,
    dot: dot_avx512,
};

/// AVX-VNNI. Only [`crate::available`] hands it out, and only where [`has_avx`] holds.
pub static AVX: Kernel = Kernel {
    name: "avx-vnni",
    gemm: gemm_avx,
    depthwise: avx2::depthwise,
    max_pool: avx2::max_pool,
    add: avx2::add,
    multiply: avx2::multiply,
    dot: avx2::dot,
    ..AVX512
};

/// True if this processor runs [`AVX512`].
pub fn has_avx512() -> bool {
    std::is_x86_feature_detected!("avx512vnni")
        && std::is_x86_feature_detected!("avx512bw")
        && std::is_x86_feature_detected!("avx512vl")
        && std::is_x86_feature_detected!("avx512dq")
        && avx2::is_there()
}

/// True if this processor runs [`AVX`].
pub fn has_avx() -> bool {
    std::is_x86_feature_detected!("avxvnni") && avx2::is_there()
}

fn gemm_avx512(g: &Gemm, out: &mut [u8]) {
    g.check(out, 4);
    let panels = g.weights.columns.div_ceil(NR);
    let short = g.weights.depth <= SHALLOW_DEPTH;
    let mut panel = 0;
    while panel < panels {
        let count = (panels - panel).min(4);
        // SAFETY: the features were detected before this table entry was handed out; the assertions bound rows, panels,
        // scaling and output.
        unsafe {
            match (count, short) {
                (4, false) => panels_avx512::<4, 6>(g, panel, out),
                (4, true) => panels_avx512::<4, 5>(g, panel, out),
                (3, _) => panels_avx512::<3, 8>(g, panel, out),
                (2, false) => panels_avx512::<2, 12>(g, panel, out),
                (2, true) => panels_avx512::<2, 10>(g, panel, out),
                _ => panels_avx512::<1, 14>(g, panel, out),
            }
        }
        panel += count;
    }
}

/// Products in a sum up to which requantisation counts: its constants should have registers too, so a tile has fewer
/// rows.
const SHALLOW_DEPTH: usize = 64;

/// All rows of P panels, R at a time: R·P sums, P weights and an activation fit the 32 registers. Requantised codes of
/// all panels fill one register.
///
/// # Safety
/// AVX-512 F, BW, VL and VNNI; what [`Gemm::check`] checks; panels `panel .. panel + P` exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn panels_avx512<const P: usize, const R: usize>(g: &Gemm, panel: usize, out: &mut [u8]) {
    let mut row = 0;
    let mut starts = g.windows.starts(g.first);
    // SAFETY: every tile stays below `g.rows`.
    unsafe {
        while row + R <= g.rows {
            tile_avx512::<P, R>(g, panel, row, starts.take(), out);
            row += R;
        }
        while row + 2 <= g.rows {
            tile_avx512::<P, 2>(g, panel, row, starts.take(), out);
            row += 2;
        }
        if row < g.rows {
            tile_avx512::<P, 1>(g, panel, row, starts.take(), out);
        }
    }
}

/// # Safety
/// As [`panels_avx512`]; rows `row .. row + R` exist, and their windows begin at `starts`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn tile_avx512<const P: usize, const R: usize>(
    g: &Gemm,
    panel: usize,
    row: usize,
    starts: [usize; R],
    out: &mut [u8],
) {
    let depth = g.weights.depth;
    let run = g.weights.run;
    let first = panel * NR;
    let mut sums = [[_mm512_setzero_si512(); P]; R];
    for p in 0..P {
        // SAFETY: the bias is as long as all panels.
        let bias = unsafe { _mm512_loadu_si512(g.requantise.bias.as_ptr().add(first + p * NR).cast()) };
        sums.iter_mut().for_each(|sums| sums[p] = bias);
    }
    // SAFETY: the panel exists.
    let mut b = unsafe { g.weights.codes.as_ptr().add(first * depth) };
    let mut i = 0;
    // Both loops end at the bottom, as there is a run and it is not empty: else the compiler copies all sums for each
    // way around them.
    loop {
        // SAFETY: below the number of runs.
        let offset = unsafe { *g.windows.runs.get_unchecked(i) };
        let mut a = [g.a.as_ptr(); R];
        for (a, start) in a.iter_mut().zip(starts) {
            // SAFETY: the windows exist, and `run` codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        let mut k = 0;
        loop {
            let mut weights = [_mm512_setzero_si512(); P];
            for (p, weights) in weights.iter_mut().enumerate() {
                // SAFETY: a panel holds 64 codes for each four along the depth.
                let at = unsafe { b.add(p * NR * depth) };
                // SAFETY: as above.
                *weights = unsafe { _mm512_loadu_si512(at.cast()) };
                // Panels are longer than the first-level cache; asking ahead brings 3 % on ResNet50.
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(PREFETCH_STEPS * 4 * NR));
            }
            b = b.wrapping_add(4 * NR);
            for (a, sums) in a.iter().zip(&mut sums) {
                // SAFETY: four codes at `k`, a multiple of 4 below the length of a run, read as one unaligned `i32`.
                let four = _mm512_set1_epi32(unsafe { a.add(k).cast::<i32>().read_unaligned() });
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm512_dpbusd_epi32(*sum, four, weights);
                }
            }
            k += 4;
            if k >= run {
                break;
            }
        }
        i += 1;
        if i >= g.windows.runs.len() {
            break;
        }
    }
    let codes = Codes::new(&g.requantise);
    // Each by itself, so short that the compiler unrolls it: sums that are indexed in a loop would live in memory.
    // SAFETY: as this function's.
    unsafe {
        match (codes.in_range, codes.unclamped) {
            (true, true) => finish_avx512::<P, R, true, true>(g, first, row, &codes, sums, out),
            (true, false) => finish_avx512::<P, R, true, false>(g, first, row, &codes, sums, out),
            (false, _) => finish_avx512::<P, R, false, false>(g, first, row, &codes, sums, out),
        }
    }
}

/// The sums of a tile to codes.
///
/// # Safety
/// As [`tile_avx512`]; `first` is the first column.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn finish_avx512<const P: usize, const R: usize, const IN_RANGE: bool, const UNCLAMPED: bool>(
    g: &Gemm,
    first: usize,
    row: usize,
    codes: &Codes,
    sums: [[__m512i; P]; R],
    out: &mut [u8],
) {
    let mut multiplier = [_mm512_setzero_ps(); 4];
    for (p, multiplier) in multiplier.iter_mut().take(P).enumerate() {
        // SAFETY: the multiplier is as long as all panels.
        *multiplier = unsafe { _mm512_loadu_ps(g.requantise.multiplier.as_ptr().add(first + p * NR)) };
    }
    let width = (P * NR).min(g.weights.columns - first);
    let mask = u64::MAX >> (64 - width);
    // Through a mask, the compiler orders the codes in three instructions instead of one.
    let whole = width == P * NR;
    for (r, sums) in sums.iter().enumerate() {
        let mut four = [_mm512_setzero_si512(); 4];
        four[..P].copy_from_slice(sums);
        let ordered = _mm512_permutexvar_epi32(codes.order, codes.of::<IN_RANGE, UNCLAMPED>(four, multiplier));
        // SAFETY: `width` codes of a row that exists in the output, as asserted.
        unsafe {
            let to = out.as_mut_ptr().add((row + r) * g.out_row_stride + first);
            match (P, whole) {
                (4, true) => _mm512_storeu_si512(to.cast(), ordered),
                (2, true) => _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(ordered)),
                (1, true) => _mm_storeu_si128(to.cast(), _mm512_castsi512_si128(ordered)),
                _ => _mm512_mask_storeu_epi8(to.cast(), mask, ordered),
            }
        }
    }
}

/// Steps along the depth that weights are prefetched ahead.
const PREFETCH_STEPS: usize = 12;

/// The constants of [`Requantise`] in registers.
struct Codes {
    /// No sum needs bounding before it becomes an integer.
    in_range: bool,
    /// Zero point 0 and nothing to clamp: the packings saturate to what is right.
    unclamped: bool,
    bound: __m512,
    zero_point: __m512i,
    low: __m512i,
    high: __m512i,
    /// Puts the 16 codes of each of four registers one after the other.
    order: __m512i,
}

impl Codes {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(r: &Requantise) -> Codes {
        Codes::between(r.may_overflow, r.zero_point, r.low, r.high)
    }

    /// `may_overflow` as in [`Requantise`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn between(may_overflow: bool, zero_point: u8, low: u8, high: u8) -> Codes {
        Codes {
            in_range: !may_overflow,
            unclamped: (zero_point, low, high) == (0, 0, 255),
            bound: _mm512_set1_ps(65_536.0),
            zero_point: _mm512_set1_epi16(i16::from(zero_point)),
            low: _mm512_set1_epi8(low as i8),
            high: _mm512_set1_epi8(high as i8),
            order: _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
        }
    }

    /// 64 sums, which hold the bias already, to codes, joined within the quarters of registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn any(&self, sums: [__m512i; 4], multiplier: [__m512; 4]) -> __m512i {
        match (self.in_range, self.unclamped) {
            (true, true) => self.of::<true, true>(sums, multiplier),
            (true, false) => self.of::<true, false>(sums, multiplier),
            (false, _) => self.of::<false, false>(sums, multiplier),
        }
    }

    /// [`Codes::any`] where `in_range` and `unclamped` are known.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn of<const IN_RANGE: bool, const UNCLAMPED: bool>(&self, sums: [__m512i; 4], multiplier: [__m512; 4]) -> __m512i {
        let mut scaled = [_mm512_setzero_ps(); 4];
        for (scaled, (sum, multiplier)) in scaled.iter_mut().zip(sums.into_iter().zip(multiplier)) {
            *scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), multiplier);
        }
        self.rounded::<IN_RANGE, UNCLAMPED>(scaled)
    }

    /// 64 real values in steps of the output to codes, joined within the quarters of registers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn rounded<const IN_RANGE: bool, const UNCLAMPED: bool>(&self, scaled: [__m512; 4]) -> __m512i {
        let mut steps = [_mm512_setzero_si512(); 4];
        for (steps, scaled) in steps.iter_mut().zip(scaled) {
            // What exceeds i32 converts to its minimum, which is right below and wrong above: so bounded above, beyond
            // every code.
            *steps = _mm512_cvtps_epi32(if IN_RANGE { scaled } else { _mm512_min_ps(scaled, self.bound) });
        }
        // All packings saturate, so nothing wraps on the way to the clamp.
        let first = _mm512_packs_epi32(steps[0], steps[1]);
        let second = _mm512_packs_epi32(steps[2], steps[3]);
        if UNCLAMPED {
            return _mm512_packus_epi16(first, second);
        }
        let first = _mm512_adds_epi16(first, self.zero_point);
        let second = _mm512_adds_epi16(second, self.zero_point);
        _mm512_min_epu8(_mm512_max_epu8(_mm512_packus_epi16(first, second), self.low), self.high)
    }
}

/// Each of 64 codes with three zeros, in the order in which [`Codes`] joins them: register `i` holds codes
/// `4i .. 4i + 4` of each quarter.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn spread(codes: __m512i) -> [__m512i; 4] {
    let zero = _mm512_setzero_si512();
    let low = _mm512_unpacklo_epi8(codes, zero);
    let high = _mm512_unpackhi_epi8(codes, zero);
    [
        _mm512_unpacklo_epi16(low, zero),
        _mm512_unpackhi_epi16(low, zero),
        _mm512_unpacklo_epi16(high, zero),
        _mm512_unpackhi_epi16(high, zero),
    ]
}

/// The depthwise convolution of one tap, which is a batch norm that no convolution took up: 64 channels at a time.
///
/// # Safety
/// AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
unsafe fn depthwise_1x1(d: &Interior, out: &mut [u8]) {
    let zero = _mm512_setzero_si512();
    let codes = Codes::new(&d.requantise);
    for c in (0..d.channels).step_by(64) {
        let here = (d.channels - c).min(64);
        let mask = u64::MAX >> (64 - here);
        let mut weights = [zero; 4];
        let mut bias = [zero; 4];
        let mut multiplier = [_mm512_setzero_ps(); 4];
        for i in 0..4 {
            let places: [usize; 16] = std::array::from_fn(|s| s / 4 * 16 + 4 * i + s % 4);
            let of = |place: usize| (place < here).then_some(c + place);
            let w = places.map(|p| of(p).map_or(0, |c| i32::from(d.weights[c] as u8)));
            let b = places.map(|p| of(p).map_or(0, |c| d.requantise.bias[c]));
            let m = places.map(|p| of(p).map_or(0.0, |c| d.requantise.multiplier[c]));
            // SAFETY: 16 values of arrays of 16.
            (weights[i], bias[i], multiplier[i]) = unsafe {
                (
                    _mm512_loadu_si512(w.as_ptr().cast()),
                    _mm512_loadu_si512(b.as_ptr().cast()),
                    _mm512_loadu_ps(m.as_ptr()),
                )
            };
        }
        for y in 0..d.rows {
            for x in 0..d.out_width {
                // SAFETY: `here` codes of a window inside the input, and of a pixel inside the output.
                unsafe {
                    let from = d.input.as_ptr().add(y * d.row_stride + x * d.column_stride + c);
                    let a = _mm512_maskz_loadu_epi8(mask, from.cast());
                    let mut sums = bias;
                    for (sum, (quads, weights)) in sums.iter_mut().zip(spread(a).into_iter().zip(weights)) {
                        *sum = _mm512_dpbusd_epi32(*sum, quads, weights);
                    }
                    let to = out.as_mut_ptr().add((y * d.out_width + x) * d.out_pixel_stride + c);
                    _mm512_mask_storeu_epi8(to.cast(), mask, codes.any(sums, multiplier));
                }
            }
        }
    }
}

fn max_pool_avx512(p: &MaxPool, first_row: usize, out: &mut [u8]) {
    let rows = first_row..first_row + p.window.check(out);
    // SAFETY: the features were detected before this table entry was handed out; `check` bounds the input.
    unsafe { max_pool_rows(p, rows, out) }
}

/// 64 channels of a window at a time.
///
/// # Safety
/// AVX-512 F and BW; what [`SlidingWindow::check`] checks; `out` holds `rows`.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn max_pool_rows(p: &MaxPool, rows: std::ops::Range<usize>, out: &mut [u8]) {
    let a = &p.window;
    let low = _mm512_set1_epi8(p.low as i8);
    let high = _mm512_set1_epi8(p.high as i8);
    for (row, y) in rows.enumerate() {
        let lines = a.valid(y, 0, a.height);
        for x in 0..a.out_width {
            let columns = a.valid(x, 1, a.width);
            let to = &mut out[(row * a.out_width + x) * a.out_pixel_stride..][..a.channels];
            for (block, to) in to.chunks_mut(64).enumerate() {
                let mask = u64::MAX >> (64 - to.len());
                let mut most = low;
                for y in lines.clone() {
                    for x in columns.clone() {
                        // SAFETY: channels of a pixel inside the image.
                        let codes = unsafe {
                            let from = a.input.as_ptr().add((y * a.width + x) * a.pixel_stride + block * 64);
                            _mm512_maskz_loadu_epi8(mask, from.cast())
                        };
                        most = _mm512_max_epu8(most, codes);
                    }
                }
                // SAFETY: as many bytes as the slice holds.
                unsafe { _mm512_mask_storeu_epi8(to.as_mut_ptr().cast(), mask, _mm512_min_epu8(most, high)) };
            }
        }
    }
}

fn add_avx512(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
    assert!(a.len() >= out.len() && b.len() >= out.len());
    let most = 255.0 * (p.scale[0] + p.scale[1]) + p.offset.abs();
    // SAFETY: the features were detected before this table entry was handed out; the assertion bounds the inputs.
    unsafe {
        match (most < f32::from(i16::MAX), (p.low, p.high) == (0, 255)) {
            (true, true) => sums::<true, true>(p, a, b, out),
            (true, false) => sums::<true, false>(p, a, b, out),
            (false, _) => sums::<false, false>(p, a, b, out),
        }
    }
}

/// As [`crate::Kernel::add`], 64 codes at a time.
///
/// # Safety
/// AVX-512 F and BW; the inputs are as long as the output.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn sums<const IN_RANGE: bool, const UNCLAMPED: bool>(p: &Sum, a: &[u8], b: &[u8], out: &mut [u8]) {
    let codes = Codes::between(!IN_RANGE, 0, p.low, p.high);
    let [scale, other_scale] = p.scale.map(|s| _mm512_set1_ps(s));
    let offset = _mm512_set1_ps(p.offset);
    for (i, out) in out.chunks_mut(64).enumerate() {
        let mask = u64::MAX >> (64 - out.len());
        // SAFETY: as many bytes as the output holds.
        let (a, b) = unsafe {
            let from = |codes: &[u8]| _mm512_maskz_loadu_epi8(mask, codes.as_ptr().add(64 * i).cast());
            (from(a), from(b))
        };
        let mut steps = [_mm512_setzero_ps(); 4];
        for (steps, (a, b)) in steps.iter_mut().zip(spread(a).into_iter().zip(spread(b))) {
            let other = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), other_scale, offset);
            *steps = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), scale, other);
        }
        // SAFETY: as many bytes as the output holds.
        unsafe { _mm512_mask_storeu_epi8(out.as_mut_ptr().cast(), mask, codes.rounded::<IN_RANGE, UNCLAMPED>(steps)) };
    }
}

fn multiply_avx512(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
    fn wide(p: &Product, a: &[u8], b: &[u8], out: &mut [u8]) {
        portable::multiply_loop(p, a, b, out);
    }
    // SAFETY: the features were detected before this table entry was handed out.
    unsafe { wide(p, a, b, out) }
}

fn dot_avx512(codes: &[u8], weights: &[i8]) -> i32 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn wide(codes: &[u8], weights: &[i8]) -> i32 {
        let (codes, rest) = codes.as_chunks::<64>();
        let (weights, rest_weights) = weights.as_chunks::<64>();
        let mut sum = _mm512_setzero_si512();
        for (codes, weights) in codes.iter().zip(weights) {
            // SAFETY: 64 bytes of arrays of 64.
            let (codes, weights) =
                unsafe { (_mm512_loadu_si512(codes.as_ptr().cast()), _mm512_loadu_si512(weights.as_ptr().cast())) };
            sum = _mm512_dpbusd_epi32(sum, codes, weights);
        }
        _mm512_reduce_add_epi32(sum).wrapping_add(portable::dot_loop(rest, rest_weights))
    }
    // SAFETY: the features were detected before this table entry was handed out.
    unsafe { wide(codes, weights) }
}

fn gemm_avx(g: &Gemm, out: &mut [u8]) {
    g.check(out, 4);
    for panel in 0..g.weights.columns.div_ceil(NR) {
        let mut starts = g.windows.starts(g.first);
        let mut row = 0;
        while row < g.rows {
            let count = (g.rows - row).min(6);
            // SAFETY: the features were detected before this table entry was handed out; the assertions bound rows,
            // panels, scaling and output.
            unsafe {
                match count {
                    6 => tile_avx::<6>(g, panel, row, starts.take(), out),
                    5 => tile_avx::<5>(g, panel, row, starts.take(), out),
                    4 => tile_avx::<4>(g, panel, row, starts.take(), out),
                    3 => tile_avx::<3>(g, panel, row, starts.take(), out),
                    2 => tile_avx::<2>(g, panel, row, starts.take(), out),
                    _ => tile_avx::<1>(g, panel, row, starts.take(), out),
                }
            }
            row += count;
        }
    }
}

/// R rows of one panel: 2·R sums, 2 weights and an activation fit the 16 registers.
///
/// # Safety
/// AVX2 and AVX-VNNI; what [`Gemm::check`] checks; the panel and rows `row .. row + R` exist, whose windows begin at
/// `starts`.
#[target_feature(enable = "avx2,avxvnni")]
unsafe fn tile_avx<const R: usize>(g: &Gemm, panel: usize, row: usize, starts: [usize; R], out: &mut [u8]) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    // SAFETY: the panel exists.
    let mut b = unsafe { g.weights.codes.as_ptr().add(panel * NR * g.weights.depth) };
    for offset in g.windows.runs {
        let mut a = [g.a.as_ptr(); R];
        for (a, start) in a.iter_mut().zip(starts) {
            // SAFETY: the windows exist, and codes follow from the start of each run.
            *a = unsafe { a.add(start + offset) };
        }
        for k in (0..g.weights.run).step_by(4) {
            // SAFETY: the panel holds 64 codes for each four along the depth.
            let weights = unsafe { [_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(32).cast())] };
            b = b.wrapping_add(4 * NR);
            for (a, sums) in a.iter().zip(&mut sums) {
                // SAFETY: four codes at `k`, a multiple of 4 below the length of a run, read as one unaligned `i32`.
                let four = _mm256_set1_epi32(unsafe { a.add(k).cast::<i32>().read_unaligned() });
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = _mm256_dpbusd_avx_epi32(*sum, four, weights);
                }
            }
        }
    }
    let column = panel * NR;
    let width = NR.min(g.weights.columns - column);
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: bias and multiplier are as long as all panels.
        let codes = unsafe { avx2::requantise16(&g.requantise, column, *sums) };
        avx2::store(codes, &mut out[(row + r) * g.out_row_stride + column..][..width]);
    }
}
