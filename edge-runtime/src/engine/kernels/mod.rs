//! The inner loops, behind one table that is chosen when the program starts.
//!
//! Every kernel gives bit for bit what [`portable`] gives; the property tests at the end hold them to it.

#[cfg(target_arch = "x86_64")]
mod avx2;
pub mod portable;

use std::sync::OnceLock;

/// Output channels that are computed together.
pub const PANEL: usize = 16;

/// Sums of products over rows of activations and panels of weights, requantised to codes.
///
/// Activations are widened to `i16` and weights too, both in pairs along the depth: one `pmaddwd` then multiplies two
/// pairs and adds them into `i32` without any saturation (|255 · 127 · 2| < 2³¹).
pub struct Gemm<'a> {
    /// `rows × 2·pairs`, a row after the other; an odd depth is filled up with 0.
    pub a: &'a [i16],
    /// Rows.
    pub rows: usize,
    /// Half of the depth, rounded up.
    pub pairs: usize,
    /// For each panel of [`PANEL`] outputs `[pairs][PANEL][2]`.
    pub b: &'a [i16],
    /// Outputs of each row; the last panel may be wider.
    pub columns: usize,
    /// How sums become codes; as long as all panels together.
    pub requantise: Requantise<'a>,
}

/// From `i32` sums to codes: `code = clamp(round(float(sum + bias) · multiplier) + zero_point, low, high)`, rounding half
/// to even, in single precision. ONNX defines the rounding (`QuantizeLinear`); ONNX Runtime computes it in these steps.
pub struct Requantise<'a> {
    /// Added to the sum: the bias, less zero point of the input times sum of the weights.
    pub bias: &'a [i32],
    /// `input scale · weight scale / output scale`, for each output.
    pub multiplier: &'a [f32],
    /// Code of the real 0 in the output.
    pub zero_point: u8,
    /// Smallest code (ReLU).
    pub low: u8,
    /// Largest code (ReLU6).
    pub high: u8,
}

/// A depthwise convolution over rows that are padded already.
pub struct Depthwise<'a> {
    /// Padded input, `[_, width, channels]` codes.
    pub input: &'a [u8],
    /// Columns of the padded input.
    pub width: usize,
    /// Channels.
    pub channels: usize,
    /// Window rows and columns.
    pub kernel: [usize; 2],
    /// Rows and columns between windows.
    pub stride: [usize; 2],
    /// Columns of the output.
    pub out_width: usize,
    /// `[kernel_h · kernel_w][channels]`.
    pub weights: &'a [i16],
    /// How sums become codes.
    pub requantise: Requantise<'a>,
}

/// The loops of one instruction set.
pub struct Kernel {
    /// Name for `HILUM_KERNEL` and reports.
    pub name: &'static str,
    /// Fills `rows × columns` codes.
    pub gemm: fn(&Gemm, &mut [u8]),
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub depthwise: fn(&Depthwise, usize, &mut [u8]),
}

/// All kernels that this processor runs, best first.
pub fn available() -> Vec<&'static Kernel> {
    let mut found: Vec<&'static Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        found.push(&avx2::KERNEL);
    }
    found.push(&portable::KERNEL);
    found
}

/// The kernel in use: the best one, or the one that the environment variable `HILUM_KERNEL` names.
pub fn selected() -> &'static Kernel {
    static SELECTED: OnceLock<&'static Kernel> = OnceLock::new();
    SELECTED.get_or_init(|| {
        let available = available();
        let wanted = std::env::var("HILUM_KERNEL").ok();
        let named = wanted.as_deref().and_then(|w| available.iter().find(|k| k.name == w));
        named.copied().unwrap_or(available[0])
    })
}

/// The name in `HILUM_KERNEL` if no kernel of this processor has it.
pub fn unknown_request() -> Option<String> {
    let wanted = std::env::var("HILUM_KERNEL").ok()?;
    (!available().iter().any(|k| k.name == wanted)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pseudo(seed: u64) -> impl FnMut() -> u64 {
        let mut x = seed | 1;
        move || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x >> 11
        }
    }

    proptest! {
        #[test]
        fn every_gemm_equals_the_portable_one(
            rows in 1usize..14, pairs in 1usize..40, columns in 1usize..40,
            seed: u64, extreme: bool, zero_point: u8, low in 0u8..100, high in 100u8..=255,
        ) {
            let mut next = pseudo(seed);
            let panels = columns.div_ceil(PANEL);
            let a: Vec<i16> = (0..rows * pairs * 2).map(|_| if extreme { 255 } else { (next() % 256) as i16 }).collect();
            let b: Vec<i16> = (0..panels * PANEL * pairs * 2)
                .map(|_| if extreme { -128 } else { (next() % 256) as i16 - 128 }).collect();
            let bias: Vec<i32> = (0..panels * PANEL).map(|_| next() as i32 % 100_000).collect();
            let multiplier: Vec<f32> = (0..panels * PANEL).map(|_| (next() % 1000) as f32 * 1e-6).collect();
            let requantise = Requantise { bias: &bias, multiplier: &multiplier, zero_point, low, high };
            let gemm = Gemm { a: &a, rows, pairs, b: &b, columns, requantise };
            let mut want = vec![0; rows * columns];
            (portable::KERNEL.gemm)(&gemm, &mut want);
            for kernel in available() {
                let mut got = vec![0; rows * columns];
                (kernel.gemm)(&gemm, &mut got);
                prop_assert_eq!(&got, &want, "{}", kernel.name);
            }
        }

        #[test]
        fn every_depthwise_equals_the_portable_one(
            channels in prop_oneof![1usize..70, Just(16), Just(48)], kernel in 1usize..6, stride in 1usize..3, out_width in 1usize..6,
            out_rows in 1usize..4, seed: u64, zero_point: u8,
        ) {
            let mut next = pseudo(seed);
            let width = (out_width - 1) * stride + kernel;
            let height = (out_rows - 1) * stride + kernel;
            let input: Vec<u8> = (0..height * width * channels).map(|_| next() as u8).collect();
            let weights: Vec<i16> = (0..kernel * kernel * channels).map(|_| (next() % 256) as i16 - 128).collect();
            let bias: Vec<i32> = (0..channels).map(|_| next() as i32 % 10_000).collect();
            let multiplier: Vec<f32> = (0..channels).map(|_| (next() % 1000) as f32 * 1e-5).collect();
            let requantise = Requantise { bias: &bias, multiplier: &multiplier, zero_point, low: 0, high: 255 };
            let d = Depthwise {
                input: &input, width, channels, kernel: [kernel; 2], stride: [stride; 2], out_width, weights: &weights,
                requantise,
            };
            let mut want = vec![0; out_rows * out_width * channels];
            (portable::KERNEL.depthwise)(&d, 0, &mut want);
            for kernel in available() {
                let mut got = vec![0; want.len()];
                (kernel.depthwise)(&d, 0, &mut got);
                prop_assert_eq!(&got, &want, "{}", kernel.name);
            }
        }
    }
}
