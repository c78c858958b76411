//! The inner loops of every kernel that this processor runs, on shapes of MobileNetV2 and ResNet50.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use edge_runtime::engine::kernels::{Depthwise, Gemm, Packed, Requantise, Scaling, available};

fn gemm(c: &mut Criterion) {
    let mut group = c.benchmark_group("gemm");
    // Rows, depth, columns.
    for (rows, depth, columns) in [(12544, 16, 96), (3136, 24, 144), (196, 384, 64), (49, 320, 1280), (196, 2304, 256)]
    {
        group.throughput(Throughput::Elements((rows * depth * columns) as u64));
        for kernel in available() {
            let scaling = Scaling { bias: vec![5; columns], multiplier: vec![1e-3; columns] };
            let weights = Packed::new(&vec![3; depth * columns], columns, scaling, kernel);
            let requantise = Requantise {
                bias: &weights.scaling.bias,
                multiplier: &weights.scaling.multiplier,
                zero_point: 3,
                low: 0,
                high: 255,
            };
            let a = vec![100; rows * depth + 64];
            let g = Gemm { a: &a, row: depth, rows, weights: &weights, requantise, out_row: columns };
            let mut out = vec![0; rows * columns];
            let id = BenchmarkId::new(kernel.name, format!("{rows}×{depth}×{columns}"));
            group.bench_function(id, |b| b.iter(|| (kernel.gemm)(&g, &mut out)));
        }
    }
    group.finish();
}

fn depthwise(c: &mut Criterion) {
    let mut group = c.benchmark_group("depthwise 3×3");
    // Side, channels, stride.
    for (side, channels, stride) in [(112, 96, 2), (56, 144, 1), (14, 384, 1), (7, 960, 1)] {
        let width = side + 2;
        let out_width = side / stride;
        group.throughput(Throughput::Elements((out_width * out_width * channels) as u64));
        let (input, weights) = (vec![100; width * width * channels], vec![3; 9 * channels]);
        let taps: Vec<usize> = (0..9).map(|t| (t / 3 * width + t % 3) * channels).collect();
        let (bias, multiplier) = (vec![1; channels], vec![1e-3; channels]);
        for kernel in available() {
            let requantise = Requantise { bias: &bias, multiplier: &multiplier, zero_point: 3, low: 0, high: 255 };
            let d = Depthwise {
                input: &input,
                taps: &taps,
                down: stride * width * channels,
                right: stride * channels,
                channels,
                out_width,
                out_pixel: channels,
                weights: &weights,
                requantise,
            };
            let mut out = vec![0; out_width * out_width * channels];
            let id = BenchmarkId::new(kernel.name, format!("{side}×{side}×{channels} / {stride}"));
            group.bench_function(id, |b| b.iter(|| (kernel.depthwise)(&d, 0, &mut out)));
        }
    }
    group.finish();
}

criterion_group!(benches, gemm, depthwise);
criterion_main!(benches);
