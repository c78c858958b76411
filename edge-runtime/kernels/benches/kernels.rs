//! The inner loops of every kernel that this processor runs, on shapes of MobileNetV2 and ResNet50.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kernels::winograd::{Transformed, Winograd};
use kernels::{Depthwise, Gemm, Kernel, MaxPool, Packed, Requantise, Scaling, SlidingWindow, Sum, Windows, available};

fn gemm(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    for shape in [[12544, 16, 96], [3136, 24, 144], [196, 384, 64], [49, 320, 1280], [196, 2304, 256]] {
        for kernel in available() {
            product(&mut group, kernel, shape, false);
        }
    }
    group.finish();
    // Pointwise convolutions behind a depthwise one, with activations where they are and always in the first-level
    // cache: what computing both in one pass could bring at most.
    let mut group = c.benchmark_group("pointwise behind depthwise");
    for shape in [[12544, 32, 16], [3136, 144, 24], [784, 192, 32], [196, 384, 64], [49, 960, 160]] {
        for cached in [false, true] {
            product(&mut group, available()[0], shape, cached);
        }
    }
    group.finish();
}

/// Rows, depth and columns; with `cached`, every row is the first.
fn product(group: &mut BenchmarkGroup<WallTime>, kernel: &Kernel, [rows, depth, columns]: [usize; 3], cached: bool) {
    group.throughput(Throughput::Elements((rows * depth * columns) as u64));
    let codes = vec![3; depth * columns];
    let scaling = Scaling::new(depth, vec![5; columns], vec![1e-3; columns]);
    let weights = Packed::new(codes, columns, depth, scaling, kernel);
    let bias = &weights.scaling.bias;
    let multiplier = &weights.scaling.multiplier;
    let requantise =
        Requantise { bias, multiplier, zero_point: 3, low: 0, high: 255, may_overflow: false, within_16_bits: true };
    let a = vec![100; rows * depth + 64];
    let column_stride = if cached { 0 } else { depth };
    let windows = Windows { width: rows, column_stride, row_stride: rows * depth, runs: &[0] };
    let g = Gemm { a: &a, windows, first: 0, rows, weights: &weights, requantise, out_row_stride: columns };
    let mut out = vec![0; rows * columns];
    let from = if cached { " cached" } else { "" };
    let id = BenchmarkId::new(kernel.name, format!("{rows}×{depth}×{columns}{from}"));
    group.bench_function(id, |b| b.iter(|| (kernel.gemm)(&g, &mut out)));
}

/// A 3×3 convolution over an input with its border, by the definition's products and by Winograd's;
/// multiply-accumulates count as the definition's for both.
fn winograd(c: &mut Criterion) {
    let mut group = c.benchmark_group("convolution 3×3");
    // Side, channels, output channels.
    for (side, channels, columns) in [(56, 64, 64), (28, 128, 128), (14, 256, 256), (28, 128, 32)] {
        group.throughput(Throughput::Elements((side * side * 9 * channels * columns) as u64));
        let line = (side + 2) * channels;
        let depth = 9 * channels;
        let a = vec![100; (side + 2) * line];
        let codes = vec![3; depth * columns];
        let mut out = vec![0; side * side * columns];
        let scaling = || Scaling::new(depth, vec![5; columns], vec![1e-4; columns]);
        let transformed = Transformed::new(&codes, columns, channels, scaling());
        let bias = &transformed.scaling.bias;
        let multiplier = &transformed.scaling.multiplier;
        let requantise = Requantise {
            bias,
            multiplier,
            zero_point: 3,
            low: 0,
            high: 255,
            may_overflow: false,
            within_16_bits: true,
        };
        for kernel in available() {
            let Some(winograd) = kernel.winograd else { continue };
            let id = |how: &str| BenchmarkId::new(kernel.name, format!("{side}×{side}×{channels}→{columns} {how}"));
            let weights = Packed::new(codes.clone(), columns, 3 * channels, scaling(), kernel);
            let runs = [0, line, 2 * line];
            let windows = Windows { width: side, column_stride: channels, row_stride: line, runs: &runs };
            let g = Gemm {
                a: &a,
                windows,
                first: 0,
                rows: side * side,
                weights: &weights,
                requantise,
                out_row_stride: columns,
            };
            group.bench_function(id("gemm"), |b| b.iter(|| (kernel.gemm)(&g, &mut out)));
            let weights = &transformed;
            let w = Winograd {
                input: &a,
                tile_columns: side / 2,
                weights,
                requantise,
                out_width: side,
                out_pixel_stride: columns,
            };
            group.bench_function(id("winograd"), |b| b.iter(|| winograd(&w, 0, &mut out)));
        }
    }
    group.finish();
}

fn depthwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("depthwise 3×3");
    // Side, channels, stride.
    for (side, channels, stride) in [(112, 96, 2), (56, 144, 1), (14, 384, 1), (7, 960, 1)] {
        let out_width = side / stride;
        group.throughput(Throughput::Elements((out_width * out_width * channels) as u64));
        let input = vec![100; side * side * channels];
        let weights = vec![3; 9 * channels];
        let bias = vec![1; channels];
        let multiplier = vec![1e-3; channels];
        let window = sliding_window(&input, side, channels, [3, 3], stride);
        for kernel in available() {
            let requantise = Requantise {
                bias: &bias,
                multiplier: &multiplier,
                zero_point: 3,
                low: 0,
                high: 255,
                may_overflow: false,
                within_16_bits: true,
            };
            let d = Depthwise { window, zero_point: 3, weights: &weights, requantise };
            let mut out = vec![0; out_width * out_width * channels];
            let id = BenchmarkId::new(kernel.name, format!("{side}×{side}×{channels} / {stride}"));
            group.bench_function(id, |b| b.iter(|| (kernel.depthwise)(&d, 0, &mut out)));
        }
    }
    group.finish();
}

fn max_pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("max pool 3×3");
    for (side, channels) in [(112, 64), (56, 32)] {
        group.throughput(Throughput::Elements((side * side * channels / 4) as u64));
        let input = vec![100; side * side * channels];
        let pool = MaxPool { window: sliding_window(&input, side, channels, [3, 3], 2), low: 0, high: 255 };
        for kernel in available() {
            let mut out = vec![0; side * side * channels / 4];
            let id = BenchmarkId::new(kernel.name, format!("{side}×{side}×{channels}"));
            group.bench_function(id, |b| b.iter(|| (kernel.max_pool)(&pool, 0, &mut out)));
        }
    }
    group.finish();
}

/// `vpdpbusd` back to back on registers: what no product on this processor exceeds.
#[cfg(target_arch = "x86_64")]
fn floor(c: &mut Criterion) {
    use std::arch::x86_64::*;
    const SUMS: usize = 24;
    const STEPS: usize = 10_000;
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn products() -> [__m512i; SUMS] {
        let (codes, weights) = std::hint::black_box((_mm512_set1_epi8(3), _mm512_set1_epi8(5)));
        let mut sums = [_mm512_setzero_si512(); SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, codes, weights);
            }
        }
        sums
    }
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        let mut group = c.benchmark_group("floor");
        group.throughput(Throughput::Elements((64 * SUMS * STEPS) as u64));
        // SAFETY: the features are there.
        group.bench_function("vpdpbusd", |b| b.iter(|| unsafe { products() }));
        group.finish();
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn floor(_: &mut Criterion) {}

/// Sums of two activations.
fn sum(c: &mut Criterion) {
    let mut group = c.benchmark_group("sum");
    for len in [14 * 14 * 1024, 56 * 56 * 256] {
        group.throughput(Throughput::Elements(len as u64));
        let a = vec![100; len];
        let b = vec![50; len];
        let mut out = vec![0; len];
        let p = Sum { scale: [0.7, 0.9], offset: -3.0, low: 0, high: 255 };
        for kernel in available() {
            let id = BenchmarkId::new(kernel.name, len);
            group.bench_function(id, |bencher| bencher.iter(|| (kernel.add)(&p, &a, &b, &mut out)));
        }
    }
    group.finish();
}

/// A square image with a border of one pixel.
fn sliding_window(input: &[u8], side: usize, channels: usize, kernel: [usize; 2], stride: usize) -> SlidingWindow<'_> {
    SlidingWindow {
        input,
        height: side,
        width: side,
        pixel_stride: channels,
        channels,
        kernel,
        stride: [stride; 2],
        dilation: [1; 2],
        padding: [1; 2],
        out_width: side / stride,
        out_pixel_stride: channels,
    }
}

criterion_group!(benches, floor, gemm, winograd, depthwise, max_pool, sum);
criterion_main!(benches);
