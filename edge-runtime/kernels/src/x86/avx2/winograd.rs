//! [`Winograd`] by `pmaddwd`: some tiles at a time are transformed, multiplied element by element, and transformed
//! back.

use super::{Codes, MR, six_by_sixteen_widened, store};
use crate::winograd::{CACHE_LINE_I16, CHANNELS, TILE_ELEMENTS, TILE_SIDE, Winograd};
use crate::{NR, scratch};
use std::arch::x86_64::*;

/// Transformed activations that are worked on at once: they and a panel's weights stay in the second-level cache.
const BYTES: usize = 160 * 1024;

/// Tiles that are worked on at once at most; their sums of a panel are a kibibyte each.
const TILES: usize = 48;

pub(super) fn winograd(w: &Winograd, first: usize, out: &mut [u8]) {
    let rows = w.check(first, out);
    let channels = w.weights.channels;
    let tiles = rows.div_ceil(2) * w.tile_columns;
    let parts = tiles.div_ceil((BYTES / (2 * TILE_ELEMENTS * channels)).clamp(MR, TILES)).max(1);
    let block = tiles.div_ceil(parts).next_multiple_of(MR);
    scratch::with::<i16, _>(TILE_ELEMENTS * stride(block, channels) + CACHE_LINE_I16, |codes| {
        scratch::with::<i32, _>(block * TILE_ELEMENTS * NR + CACHE_LINE_I16, |sums| {
            // From the beginning of a cache line.
            let begin = (
                codes.as_ptr().align_offset(64).min(CACHE_LINE_I16),
                sums.as_ptr().align_offset(64).min(CACHE_LINE_I16),
            );
            let codes = &mut codes[begin.0..];
            let sums = &mut sums[begin.1..];
            for from in (0..tiles).step_by(block.max(1)) {
                let count = block.min(tiles - from);
                // SAFETY: AVX2 was detected before this table entry was handed out; `check` bounds input, weights,
                // scaling and output; the buffers hold a block of tiles.
                unsafe {
                    (from..from + count)
                        .enumerate()
                        .for_each(|(i, tile)| transform_tile(w, first, tile, i, count, codes));
                    for panel in 0..w.weights.columns.div_ceil(NR) {
                        products(w, panel, count, codes, sums);
                        (from..from + count)
                            .enumerate()
                            .for_each(|(i, tile)| restore_tile(w, panel, tile, i, count, sums, out));
                    }
                }
            }
        });
    });
}

/// Numbers from one element of `count` tiles to the next: a line more than they take, because a power of two would put
/// all elements of a tile into a few sets of the first-level cache.
fn stride(count: usize, channels: usize) -> usize {
    count * channels + CACHE_LINE_I16
}

/// `Bᵀ · d` of Lavin and Gray.
#[inline]
#[target_feature(enable = "avx2")]
fn spread([a, b, c, d]: [__m256i; TILE_SIDE]) -> [__m256i; TILE_SIDE] {
    [_mm256_sub_epi16(a, c), _mm256_add_epi16(b, c), _mm256_sub_epi16(c, b), _mm256_sub_epi16(b, d)]
}

/// `Aᵀ · m` of Lavin and Gray.
#[inline]
#[target_feature(enable = "avx2")]
fn gather([a, b, c, d]: [__m256i; TILE_SIDE]) -> [__m256i; 2] {
    let sum = _mm256_add_epi32(b, c);
    let difference = _mm256_sub_epi32(b, c);
    [_mm256_add_epi32(a, sum), _mm256_sub_epi32(difference, d)]
}

/// Tile `tile`, counted from tile row `first`, to number `i` of `codes`, `[element][count][channels]` with [`stride`]:
/// at most 4 · 255.
///
/// # Safety
/// AVX2; what [`Winograd::check`] checks; the tile is one of the output's, and `i` below `count`, which `codes` holds.
#[target_feature(enable = "avx2")]
unsafe fn transform_tile(w: &Winograd, first: usize, tile: usize, i: usize, count: usize, codes: &mut [i16]) {
    let channels = w.weights.channels;
    let y = 2 * (first + tile / w.tile_columns);
    let x = 2 * (tile % w.tile_columns);
    // SAFETY: the tile's window lies inside the input.
    let window = unsafe { w.input.as_ptr().add(y * w.line() + x * channels) };
    for channel in (0..channels).step_by(CHANNELS) {
        let mut rows = [[_mm256_setzero_si256(); TILE_SIDE]; TILE_SIDE];
        for (y, row) in rows.iter_mut().enumerate() {
            let mut pixels = [_mm256_setzero_si256(); TILE_SIDE];
            for (x, pixel) in pixels.iter_mut().enumerate() {
                // SAFETY: 16 channels, of which the pixels have a multiple.
                let codes = unsafe { _mm_loadu_si128(window.add(y * w.line() + x * channels + channel).cast()) };
                *pixel = _mm256_cvtepu8_epi16(codes);
            }
            *row = spread(pixels);
        }
        for x in 0..TILE_SIDE {
            for (y, element) in spread(rows.map(|row| row[x])).into_iter().enumerate() {
                let at = (y * TILE_SIDE + x) * stride(count, channels) + i * channels + channel;
                // SAFETY: 16 values of a tile that `codes` holds.
                unsafe { _mm256_storeu_si256(codes.as_mut_ptr().add(at).cast(), element) };
            }
        }
    }
}

/// For every element the product of `count` tiles and a panel of weights: `sums`, `[element][count][NR]`.
///
/// # Safety
/// AVX2; the panel exists; `codes` and `sums` hold `count` tiles.
#[target_feature(enable = "avx2")]
unsafe fn products(w: &Winograd, panel: usize, count: usize, codes: &[i16], sums: &mut [i32]) {
    let channels = w.weights.channels;
    let element = w.weights.columns.next_multiple_of(NR) * channels;
    for p in 0..TILE_ELEMENTS {
        // SAFETY: the panel exists.
        let b = unsafe { w.weights.codes.as_ptr().cast::<i16>().add(p * element + panel * NR * channels) };
        let mut tile = 0;
        while tile < count {
            let rows = MR.min(count - tile);
            // SAFETY: tiles `tile .. tile + rows` exist.
            unsafe {
                let a = codes.as_ptr().add(p * stride(count, channels) + tile * channels);
                let to = sums.as_mut_ptr().add((p * count + tile) * NR);
                match rows {
                    6 => product::<6>(a, channels, b, to),
                    5 => product::<5>(a, channels, b, to),
                    4 => product::<4>(a, channels, b, to),
                    3 => product::<3>(a, channels, b, to),
                    2 => product::<2>(a, channels, b, to),
                    _ => product::<1>(a, channels, b, to),
                }
            }
            tile += rows;
        }
    }
}

/// R rows × 16 columns.
///
/// # Safety
/// AVX2; `a` points to R rows of `depth` values, a multiple of 4, `b` to `depth · NR` weights, `to` to R · NR
/// sums.
#[target_feature(enable = "avx2")]
unsafe fn product<const R: usize>(a: *const i16, depth: usize, b: *const i16, to: *mut i32) {
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    if R == MR {
        // SAFETY: six rows and 16 columns of `depth` products exist.
        unsafe { six_by_sixteen_widened(a, depth, b, depth / 4, &mut sums) };
    } else {
        for k in (0..depth).step_by(2) {
            // SAFETY: 32 weights for each pair along the depth, and a pair of each row, read as one unaligned `i32`.
            unsafe {
                let b = b.add(k * NR);
                let weights = [_mm256_loadu_si256(b.cast()), _mm256_loadu_si256(b.add(16).cast())];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair = _mm256_set1_epi32(a.add(r * depth + k).cast::<i32>().read_unaligned());
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pair, weights));
                    }
                }
            }
        }
    }
    for (i, sum) in sums.iter().flatten().enumerate() {
        // SAFETY: R · NR sums.
        unsafe { _mm256_storeu_si256(to.add(8 * i).cast(), *sum) };
    }
}

/// The outputs of tile `tile`, number `i` of `count` in `sums`, of one panel.
///
/// # Safety
/// AVX2; what [`Winograd::check`] checks; the panel exists; `i` is below `count`, which `sums` holds.
#[target_feature(enable = "avx2")]
unsafe fn restore_tile(w: &Winograd, panel: usize, tile: usize, i: usize, count: usize, sums: &[i32], out: &mut [u8]) {
    let column = panel * NR;
    let width = NR.min(w.weights.columns - column);
    // `[row][column][half]` of the tile's outputs.
    let mut outputs = [[[_mm256_setzero_si256(); 2]; 2]; 2];
    let mut multiplier = [_mm256_setzero_ps(); 2];
    for half in 0..2 {
        let mut columns = [[_mm256_setzero_si256(); 2]; TILE_SIDE];
        for (x, column) in columns.iter_mut().enumerate() {
            let mut elements = [_mm256_setzero_si256(); TILE_SIDE];
            for (y, element) in elements.iter_mut().enumerate() {
                let at = ((y * TILE_SIDE + x) * count + i) * NR + 8 * half;
                // SAFETY: eight sums of a tile that `sums` holds.
                *element = unsafe { _mm256_loadu_si256(sums.as_ptr().add(at).cast()) };
            }
            *column = gather(elements);
        }
        // SAFETY: bias and multiplier are as long as all panels.
        let bias = unsafe {
            multiplier[half] = _mm256_loadu_ps(w.requantise.multiplier.as_ptr().add(column + 8 * half));
            _mm256_loadu_si256(w.requantise.bias.as_ptr().add(column + 8 * half).cast())
        };
        for y in 0..2 {
            for (x, sum) in gather(columns.map(|c| c[y])).into_iter().enumerate() {
                // Four times the convolution's sum, exactly.
                outputs[y][x][half] = _mm256_add_epi32(_mm256_srai_epi32::<2>(sum), bias);
            }
        }
    }
    let codes = Codes::new(&w.requantise);
    let y = 2 * (tile / w.tile_columns);
    let x = 2 * (tile % w.tile_columns);
    for (row, [left, right]) in outputs.into_iter().enumerate() {
        let both = codes.of([left[0], left[1], right[0], right[1]], multiplier);
        let at = ((y + row) * w.out_width + x) * w.out_pixel_stride + column;
        // The last row and column of the tiles may lie outside.
        if let Some(to) = out.get_mut(at..at + width) {
            store(_mm256_castsi256_si128(both), to);
            if x + 1 < w.out_width {
                store(_mm256_extracti128_si256::<1>(both), &mut out[at + w.out_pixel_stride..][..width]);
            }
        }
    }
}
