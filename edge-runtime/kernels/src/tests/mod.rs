//! Every kernel against the definition, in memory that ends where a kernel may not go on.

mod guarded;

use super::*;
use guarded::Guarded;
use proptest::prelude::*;
use winograd::Transformed;

/// xorshift64: cheap and repeatable.
fn pseudo(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x >> 11
    }
}

/// What codes and weights a case has.
#[derive(Debug, Clone, Copy)]
enum Fill {
    Random,
    /// The products that saturate 16 bits where a kernel sums two of them there.
    Largest,
    Smallest,
}

fn fill() -> impl Strategy<Value = Fill> {
    prop_oneof![4 => Just(Fill::Random), 1 => Just(Fill::Largest), 1 => Just(Fill::Smallest)]
}

fn codes(n: usize, fill: Fill, next: &mut impl FnMut() -> u64) -> Vec<u8> {
    (0..n)
        .map(|_| match fill {
            Fill::Random => next() as u8,
            Fill::Largest => 255,
            Fill::Smallest => 0,
        })
        .collect()
}

fn weights(n: usize, fill: Fill, next: &mut impl FnMut() -> u64) -> Vec<i8> {
    (0..n)
        .map(|_| match fill {
            Fill::Random => next() as i8,
            Fill::Largest => 127,
            Fill::Smallest => -128,
        })
        .collect()
}

fn scaling(n: usize, next: &mut impl FnMut() -> u64) -> (Vec<i32>, Vec<f32>) {
    let bias = (0..n).map(|_| next() as i32 % 100_000).collect();
    // From far below a step to so large that every code is a bound; in half of the cases no sum leaves 16 bits.
    let most = if next().is_multiple_of(2) { 1.0 } else { 1e-5 };
    let multiplier = (0..n).map(|_| ((next() % 1000 + 1) as f32) * most * 10f32.powi(next() as i32 % 4 - 6)).collect();
    (bias, multiplier)
}

/// What the definition says of one sum.
fn code(sum: i32, channel: usize, r: &Requantise) -> u8 {
    let real = f64::from(sum.wrapping_add(r.bias[channel]) as f32 * r.multiplier[channel]).round_ties_even();
    (real + f64::from(r.zero_point)).clamp(f64::from(r.low), f64::from(r.high)) as u8
}

/// Zero point, lowest and highest code: also those of a ReLU, which need no clamp.
fn bounds() -> impl Strategy<Value = (u8, u8, u8)> {
    prop_oneof![2 => (any::<u8>(), 0u8..100, 100u8..=255), 1 => Just((0, 0, 255))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_gemm_equals_the_definition(
        rows in 0usize..28, run in prop_oneof![8 => 1usize..50, 1 => 300usize..700], runs in 1usize..4,
        columns in 1usize..70, width in 1usize..15, first in 0usize..20, apart in 0usize..9, slack in 0usize..9,
        end: bool, seed: u64,
        a_fill in fill(), b_fill in fill(), (zero_point, low, high) in bounds(),
    ) {
        let mut next = pseudo(seed);
        let depth = run * runs;
        let b = weights(depth * columns, b_fill, &mut next);
        let (bias, multiplier) = scaling(columns, &mut next);
        // Runs may overlap, as those of a convolution do, or lie apart.
        let offsets: Vec<usize> = (0..runs).map(|i| i * (run / 2 + apart)).collect();
        let column_stride = next() as usize % (run + 8);
        let row_stride = next() as usize % (9 * run);
        let windows = Windows { width, column_stride, row_stride, runs: &offsets };
        // The longest that a kernel's runs are.
        let all = codes(windows.end(first, rows, run.next_multiple_of(8)), a_fill, &mut next);
        let out_row_stride = columns + slack;
        // The last row is not followed by anything.
        let len = (rows * out_row_stride).saturating_sub(slack);
        for kernel in available() {
            let scaling = Scaling::new(depth, bias.clone(), multiplier.clone());
            let Scaling { may_overflow, within_16_bits, .. } = scaling;
            let packed = Packed::new(b.clone(), columns, run, scaling, kernel);
            let a = Guarded::new(&all[..windows.end(first, rows, packed.run)], end);
            let plain = Requantise {
                bias: &bias, multiplier: &multiplier, zero_point, low, high, may_overflow, within_16_bits,
            };
            let requantise = Requantise { bias: &packed.scaling.bias, multiplier: &packed.scaling.multiplier, ..plain };
            let mut got = Guarded::new(&vec![7; len], end);
            let gemm = Gemm { a: &a, windows, first, rows, weights: &packed, requantise, out_row_stride };
            (kernel.gemm)(&gemm, &mut got);
            let mut want = vec![7; len];
            for (r, out) in want.chunks_mut(out_row_stride).enumerate() {
                let start = windows.start(first + r);
                for (c, out) in out.iter_mut().take(columns).enumerate() {
                    let at = |k: usize| i32::from(a[start + offsets[k / run] + k % run]);
                    *out = code((0..depth).map(|k| at(k) * i32::from(b[c * depth + k])).sum(), c, &plain);
                }
            }
            prop_assert_eq!(&got[..], &want[..], "{}", kernel.name);
        }
    }

    #[test]
    fn every_winograd_equals_the_definition(
        channels in (1usize..4).prop_map(|c| c * winograd::CHANNELS), columns in 1usize..40, height in 1usize..9,
        width in 1usize..40, first in 0usize..3, slack in 0usize..9, end: bool, seed: u64, a_fill in fill(),
        b_fill in fill(), (zero_point, low, high) in bounds(),
    ) {
        let mut next = pseudo(seed);
        let tile_columns = width.div_ceil(2);
        let line = (2 * tile_columns + 2) * channels;
        let input = Guarded::new(&codes((2 * (first + height.div_ceil(2)) + 2) * line, a_fill, &mut next), end);
        let b = weights(columns * 9 * channels, b_fill, &mut next);
        let (bias, multiplier) = scaling(columns, &mut next);
        let plain = Requantise {
            bias: &bias, multiplier: &multiplier, zero_point, low, high, may_overflow: true, within_16_bits: false,
        };
        let transformed =
            Transformed::new(&b, columns, channels, Scaling::new(9 * channels, bias.clone(), multiplier.clone()));
        let requantise =
            Requantise { bias: &transformed.scaling.bias, multiplier: &transformed.scaling.multiplier, ..plain };
        let out_pixel_stride = columns + slack;
        let w = Winograd {
            input: &input, tile_columns, weights: &transformed, requantise, out_width: width, out_pixel_stride,
        };
        let len = height * width * out_pixel_stride - slack;
        let mut want = vec![7; len];
        for (i, want) in want.chunks_mut(out_pixel_stride).enumerate() {
            let corner = (2 * first + i / width) * line + i % width * channels;
            for (c, want) in want.iter_mut().take(columns).enumerate() {
                let product = |k: usize| {
                    let tap = k / channels;
                    let channel = k % channels;
                    let at = corner + tap / 3 * line + tap % 3 * channels + channel;
                    i32::from(input[at]) * i32::from(b[c * 9 * channels + k])
                };
                *want = code((0..9 * channels).map(product).sum(), c, &plain);
            }
        }
        for kernel in available() {
            let Some(winograd) = kernel.winograd else { continue };
            let mut got = Guarded::new(&vec![7; len], end);
            winograd(&w, first, &mut got);
            prop_assert_eq!(&got[..], &want[..], "{}", kernel.name);
        }
    }

    #[test]
    fn every_depthwise_equals_the_definition(
        channels in prop_oneof![1usize..70, Just(16), Just(48), Just(112), Just(150)],
        kernel in prop_oneof![2 => Just([3, 3]), 1 => [1usize..6, 1usize..6]], stride in [1usize..3, 1usize..3],
        dilation in prop_oneof![Just([1, 1]), [1usize..3, 1usize..3]], padding in [0usize..3, 0usize..3],
        size in [1usize..9, 1usize..9], below in 0usize..3, beside in 0usize..3, first_row in 0usize..2,
        slack in 0usize..3, end: bool, seed: u64, a_fill in fill(), b_fill in fill(),
        (zero_point, low, high) in bounds(), zero: u8,
    ) {
        let mut next = pseudo(seed);
        let [height, width] = size;
        let out = |i: usize, after: usize| {
            let extent = (kernel[i] - 1) * dilation[i] + 1;
            (size[i] + padding[i] + after).checked_sub(extent).map(|rest| rest / stride[i] + 1)
        };
        let (Some(out_height), Some(out_width)) = (out(0, below), out(1, beside)) else { return Ok(()) };
        let Some(rows) = out_height.checked_sub(first_row).filter(|r| *r > 0) else { return Ok(()) };
        let pixel_stride = channels + slack;
        let out_pixel_stride = channels + slack;
        // The last pixel is not followed by anything.
        let input = Guarded::new(&codes(height * width * pixel_stride - slack, a_fill, &mut next), end);
        let taps = kernel[0] * kernel[1];
        let w = weights(taps * channels, b_fill, &mut next);
        let (bias, multiplier) = scaling(channels.next_multiple_of(NR), &mut next);
        let within_16_bits = Scaling::new(taps, bias.clone(), multiplier.clone()).within_16_bits;
        let requantise = Requantise {
            bias: &bias, multiplier: &multiplier, zero_point, low, high, may_overflow: true, within_16_bits,
        };
        let window = SlidingWindow {
            input: &input, height, width, pixel_stride, channels, kernel, stride, dilation, padding, out_width,
            out_pixel_stride,
        };
        let d = Depthwise { window, zero_point: zero, weights: &w, requantise };
        let len = rows * out_width * out_pixel_stride - slack;
        let mut want = vec![7; len];
        for (i, want) in want.chunks_mut(out_pixel_stride).enumerate() {
            let y = (first_row + i / out_width) * stride[0];
            let x = i % out_width * stride[1];
            for c in 0..channels {
                let sum: i32 = (0..taps).map(|t| {
                    let y = (y + t / kernel[1] * dilation[0]).checked_sub(padding[0]).filter(|y| *y < height);
                    let x = (x + t % kernel[1] * dilation[1]).checked_sub(padding[1]).filter(|x| *x < width);
                    let code = y.zip(x).map_or(zero, |(y, x)| input[(y * width + x) * pixel_stride + c]);
                    i32::from(code) * i32::from(w[t * channels + c])
                }).sum();
                want[c] = code(sum, c, &requantise);
            }
        }
        for kernel in available() {
            let mut got = Guarded::new(&vec![7; len], end);
            (kernel.depthwise)(&d, first_row, &mut got);
            prop_assert_eq!(&got[..], &want[..], "{}", kernel.name);
        }
    }

    #[test]
    fn every_max_pool_equals_the_definition(
        channels in 1usize..80, kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4],
        before in [0usize..3, 0usize..3], size in [1usize..9, 1usize..9], first_row in 0usize..2, slack in 0usize..3,
        end: bool, seed: u64, low in 0u8..100, high in 100u8..=255,
    ) {
        let mut next = pseudo(seed);
        let [height, width] = size;
        // Each window sees a code.
        let padding = [0, 1].map(|i: usize| before[i].min(kernel[i] - 1));
        let out = |i: usize| (size[i] + 2 * padding[i]).checked_sub(kernel[i]).map(|rest| rest / stride[i] + 1);
        let (Some(out_height), Some(out_width)) = (out(0), out(1)) else { return Ok(()) };
        let Some(rows) = out_height.checked_sub(first_row).filter(|r| *r > 0) else { return Ok(()) };
        let pixel_stride = channels + slack;
        let input = Guarded::new(&codes(height * width * pixel_stride - slack, Fill::Random, &mut next), end);
        let window = SlidingWindow {
            input: &input, height, width, pixel_stride, channels, kernel, stride, dilation: [1, 1], padding, out_width,
            out_pixel_stride: pixel_stride,
        };
        let mut want = vec![7; rows * out_width * pixel_stride - slack];
        for (i, want) in want.chunks_mut(pixel_stride).enumerate() {
            let inside = |at: usize, axis: usize, side: usize| {
                let taps = (0..kernel[axis]).filter_map(move |t| (at * stride[axis] + t).checked_sub(padding[axis]));
                taps.filter(move |p| *p < side)
            };
            for c in 0..channels {
                let codes = inside(first_row + i / out_width, 0, height)
                    .flat_map(|y| inside(i % out_width, 1, width).map(move |x| (y, x)))
                    .map(|(y, x)| input[(y * width + x) * pixel_stride + c]);
                want[c] = codes.max().unwrap_or(0).clamp(low, high);
            }
        }
        for kernel in available() {
            let mut got = Guarded::new(&vec![7; want.len()], end);
            (kernel.max_pool)(&MaxPool { window, low, high }, first_row, &mut got);
            prop_assert_eq!(&got[..], &want[..], "{}", kernel.name);
        }
    }

    #[test]
    fn every_pairwise_function_equals_the_definition(
        n in 0usize..100, seed: u64, za: u8, zb: u8, zero_point: u8, low in 0u8..100, high in 100u8..=255,
        sa in 1e-4f32..1e4, sb in 1e-4f32..4.0,
    ) {
        let mut next = pseudo(seed);
        let a = codes(n, Fill::Random, &mut next);
        let b = codes(n, Fill::Random, &mut next);
        let sum = Sum {
            scale: [sa, sb],
            offset: f32::from(zero_point) - (sa * f32::from(za) + sb * f32::from(zb)),
            low,
            high,
        };
        let product = Product { zero: [f32::from(za), f32::from(zb)], scale: sa, zero_point, low, high };
        // A product of 8 and 24 bits is exact in 53, and so is the sum, or its rounding does not reach 24 bits.
        let fused = |x: u8, y: f32, z: f32| (f64::from(x) * f64::from(y) + f64::from(z)) as f32;
        let clamp = |code: f64| code.clamp(f64::from(low), f64::from(high)) as u8;
        let sum_of = |a: u8, b: u8| clamp(f64::from(fused(a, sa, fused(b, sb, sum.offset))).round_ties_even());
        let product_of = |a: u8, b: u8| {
            let steps = (f32::from(a) - product.zero[0]) * (f32::from(b) - product.zero[1]) * sa;
            clamp(f64::from(steps).round_ties_even() + f64::from(zero_point))
        };
        let want: Vec<(u8, u8)> = a.iter().zip(&b).map(|(a, b)| (sum_of(*a, *b), product_of(*a, *b))).collect();
        let w: Vec<i8> = b.iter().map(|b| *b as i8).collect();
        let dot: i32 = a.iter().zip(&w).map(|(a, w)| i32::from(*a) * i32::from(*w)).sum();
        for kernel in available() {
            let mut sums = vec![0; n];
            let mut products = vec![0; n];
            (kernel.add)(&sum, &a, &b, &mut sums);
            (kernel.multiply)(&product, &a, &b, &mut products);
            let got: Vec<(u8, u8)> = sums.into_iter().zip(products).collect();
            prop_assert_eq!(&got, &want, "{}", kernel.name);
            prop_assert_eq!((kernel.dot)(&a, &w), dot, "{}", kernel.name);
        }
    }
}
