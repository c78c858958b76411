//! One inner loop on one shape, for counting instructions: `count KERNEL LOOP RUNS`. The difference between two counts
//! is what the runs between them cost. `benches/callgrind.sh` keeps the record.

use kernels::{Depthwise, Gemm, Kernel, MaxPool, Packed, Requantise, Scaling, SlidingWindow, Windows, available};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, kernel, name, runs] = args.as_slice() else {
        eprintln!("usage: count KERNEL gemm|conv|depthwise|max-pool RUNS");
        std::process::exit(2);
    };
    let Some(kernel) = available().into_iter().find(|k| k.name == kernel) else {
        eprintln!("count: this processor has no kernel {kernel}");
        std::process::exit(2);
    };
    for _ in 0..runs.parse().unwrap_or(1) {
        match name.as_str() {
            // Layers of MobileNetV2 and ResNet50.
            "gemm" => gemm(kernel, Windows { width: 196, column_stride: 384, row_stride: 196 * 384, runs: &[0] }, 384),
            "conv" => gemm(
                kernel,
                Windows { width: 14, column_stride: 64, row_stride: 16 * 64, runs: &[0, 1024, 2048] },
                3 * 64,
            ),
            "depthwise" => depthwise(kernel),
            "max-pool" => max_pool(kernel),
            other => {
                eprintln!("count: no loop is called {other}");
                std::process::exit(2);
            }
        }
    }
}

/// 196 windows, 64 outputs.
fn gemm(kernel: &Kernel, windows: Windows, run: usize) {
    let depth = run * windows.runs.len();
    let weights = Packed::new(vec![3; 64 * depth], 64, run, Scaling::new(depth, vec![5; 64], vec![1e-3; 64]), kernel);
    let a = vec![100; windows.end(0, 196, weights.run)];
    let mut out = vec![0; 196 * 64];
    let requantise = requantise(&weights.scaling.bias, &weights.scaling.multiplier);
    (kernel.gemm)(
        &Gemm { a: &a, windows, first: 0, rows: 196, weights: &weights, requantise, out_row_stride: 64 },
        &mut out,
    );
    std::hint::black_box(out);
}

/// 3×3 over 14×14×384.
fn depthwise(kernel: &Kernel) {
    let input = vec![100; 14 * 14 * 384];
    let mut out = vec![0; 14 * 14 * 384];
    let window = sliding_window(&input, 14, 384, 1);
    let requantise = requantise(&[1; 384], &[1e-3; 384]);
    (kernel.depthwise)(&Depthwise { window, zero_point: 3, weights: &[3; 9 * 384], requantise }, 0, &mut out);
    std::hint::black_box(out);
}

/// 3×3 with stride 2 over 56×56×64.
fn max_pool(kernel: &Kernel) {
    let input = vec![100; 56 * 56 * 64];
    let mut out = vec![0; 28 * 28 * 64];
    (kernel.max_pool)(&MaxPool { window: sliding_window(&input, 56, 64, 2), low: 0, high: 255 }, 0, &mut out);
    std::hint::black_box(out);
}

fn requantise<'a>(bias: &'a [i32], multiplier: &'a [f32]) -> Requantise<'a> {
    Requantise { bias, multiplier, zero_point: 3, low: 0, high: 255, may_overflow: false, within_16_bits: true }
}

/// A square image with a border of one pixel, under a window of 3×3.
fn sliding_window(input: &[u8], side: usize, channels: usize, stride: usize) -> SlidingWindow<'_> {
    SlidingWindow {
        input,
        height: side,
        width: side,
        pixel_stride: channels,
        channels,
        kernel: [3; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        padding: [1; 2],
        out_width: side / stride,
        out_pixel_stride: channels,
    }
}
