//! Every kernel against the portable one, and the portable one against the definition.

use super::*;
use proptest::prelude::*;

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
    // From far below a step to so large that every code is a bound.
    let multiplier = (0..n).map(|_| ((next() % 1000 + 1) as f32) * 10f32.powi(next() as i32 % 4 - 6)).collect();
    (bias, multiplier)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_gemm_equals_the_definition(
        rows in 0usize..28, depth in prop_oneof![8 => 1usize..90, 1 => 500usize..1100], columns in 1usize..70, slack in 0usize..9, seed: u64,
        a_fill in fill(), b_fill in fill(), zero_point: u8, low in 0u8..100, high in 100u8..=255,
    ) {
        let mut next = pseudo(seed);
        let b = weights(depth * columns, b_fill, &mut next);
        let (bias, multiplier) = scaling(columns, &mut next);
        // Rows are longer than their codes; what lies between must not count. It is the same for all kernels.
        let row = depth.next_multiple_of(8) + slack;
        let a = codes(rows * row, a_fill, &mut next);
        let out_row = columns + slack;
        let mut want = vec![7; rows * out_row];
        for (r, out) in want.chunks_exact_mut(out_row).enumerate() {
            for (c, out) in out.iter_mut().take(columns).enumerate() {
                let sum: i32 = (0..depth).map(|k| i32::from(a[r * row + k]) * i32::from(b[c * depth + k])).sum();
                let real = f64::from(sum.wrapping_add(bias[c]) as f32 * multiplier[c]).round_ties_even();
                *out = (real + f64::from(zero_point)).clamp(f64::from(low), f64::from(high)) as u8;
            }
        }
        for kernel in available() {
            let scaling = Scaling { bias: bias.clone(), multiplier: multiplier.clone() };
            let packed = Packed::new(&b, columns, scaling, kernel);
            let requantise =
                Requantise { bias: &packed.scaling.bias, multiplier: &packed.scaling.multiplier, zero_point, low, high };
            let mut got = vec![7; rows * out_row];
            (kernel.gemm)(&Gemm { a: &a, row, rows, weights: &packed, requantise, out_row }, &mut got);
            prop_assert_eq!(&got, &want, "{}", kernel.name);
        }
    }

    #[test]
    fn every_depthwise_equals_the_definition(
        channels in prop_oneof![1usize..70, Just(16), Just(48), Just(112), Just(150)], kernel in 1usize..6, stride in 1usize..3,
        dilation in 1usize..3, out_width in 1usize..7, out_rows in 1usize..4, first_row in 0usize..2, slack in 0usize..3,
        seed: u64, a_fill in fill(), b_fill in fill(), zero_point: u8, low in 0u8..100, high in 100u8..=255,
    ) {
        let mut next = pseudo(seed);
        let extent = (kernel - 1) * dilation + 1;
        let (pixel, out_pixel) = (channels + slack, channels + slack);
        let width = (out_width - 1) * stride + extent;
        let height = (first_row + out_rows - 1) * stride + extent;
        let input = codes(height * width * pixel, a_fill, &mut next);
        let w = weights(kernel * kernel * channels, b_fill, &mut next);
        let filled = channels.next_multiple_of(PANEL);
        let (bias, multiplier) = scaling(filled, &mut next);
        let taps: Vec<usize> = (0..kernel * kernel)
            .map(|t| (t / kernel * width + t % kernel) * dilation * pixel).collect();
        let requantise = Requantise { bias: &bias, multiplier: &multiplier, zero_point, low, high };
        let d = Depthwise {
            input: &input, taps: &taps, down: stride * width * pixel, right: stride * pixel, channels, out_width, out_pixel,
            weights: &w, requantise,
        };
        // The last pixel is not followed by anything.
        let len = (out_rows * out_width - 1) * out_pixel + channels;
        let mut want = vec![7; len];
        for y in 0..out_rows {
            for x in 0..out_width {
                for c in 0..channels {
                    let corner = (first_row + y) * d.down + x * d.right + c;
                    let sum: i32 = taps.iter().enumerate()
                        .map(|(t, at)| i32::from(input[corner + at]) * i32::from(w[t * channels + c])).sum();
                    let real = f64::from(sum.wrapping_add(bias[c]) as f32 * multiplier[c]).round_ties_even();
                    want[(y * out_width + x) * out_pixel + c] =
                        (real + f64::from(zero_point)).clamp(f64::from(low), f64::from(high)) as u8;
                }
            }
        }
        for kernel in available() {
            let mut got = vec![7; len];
            (kernel.depthwise)(&d, first_row, &mut got);
            prop_assert_eq!(&got, &want, "{}", kernel.name);
        }
    }

    #[test]
    fn every_pairwise_function_equals_the_definition(
        n in 0usize..100, seed: u64, za: u8, zb: u8, zero_point: u8, low in 0u8..100, high in 100u8..=255,
        sa in 1e-4f32..1e4, sb in 1e-4f32..4.0,
    ) {
        let mut next = pseudo(seed);
        let (a, b) = (codes(n, Fill::Random, &mut next), codes(n, Fill::Random, &mut next));
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
            let (mut sums, mut products) = (vec![0; n], vec![0; n]);
            (kernel.add)(&sum, &a, &b, &mut sums);
            (kernel.multiply)(&product, &a, &b, &mut products);
            let got: Vec<(u8, u8)> = sums.into_iter().zip(products).collect();
            prop_assert_eq!(&got, &want, "{}", kernel.name);
            prop_assert_eq!((kernel.dot)(&a, &w), dot, "{}", kernel.name);
        }
    }
}
