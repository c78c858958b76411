//! The inner loops, behind one table that is chosen when the program starts.
//!
//! Every kernel gives bit for bit what [`portable`] gives; the property tests in [`tests`] hold them to it. A kernel says
//! how it wants weights packed ([`Kernel::group`]); everything else about it is its own business.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::sync::OnceLock;

/// Output channels that are packed together.
pub const PANEL: usize = 16;

/// Weights of a matrix product: `[panel][depth / group][PANEL][group]`, filled up with zeros.
///
/// `group` codes along the depth lie side by side because one instruction multiplies and adds so many: 2 for `pmaddwd`, 4
/// for `vpdpbusd`, `sdot` and `smull` + `sadalp`, 8 for `usmmla`.
pub struct Packed {
    /// The codes.
    pub codes: Vec<i8>,
    /// Products in each sum, zeros included: a multiple of `group`.
    pub depth: usize,
    /// Output channels, without those that fill the last panel.
    pub columns: usize,
    /// True if one of them is −128, whose products need a bit more than those of all others.
    pub lowest: bool,
    /// For each output channel of all panels.
    pub scaling: Scaling,
}

/// From `i32` sums to codes, for each output channel; see [`Requantise`].
pub struct Scaling {
    /// Added to the sum: the bias, less zero point of the input times sum of the weights.
    pub bias: Vec<i32>,
    /// `input scale · weight scale / output scale`.
    pub multiplier: Vec<f32>,
}

impl Packed {
    /// Packs `codes`, `[columns][depth]`.
    pub fn new(codes: &[i8], columns: usize, mut scaling: Scaling, kernel: &Kernel) -> Packed {
        let group = kernel.group;
        let real = codes.len() / columns;
        let depth = real.next_multiple_of(group);
        let filled = columns.next_multiple_of(PANEL);
        let mut packed = vec![0i8; filled * depth];
        match group {
            2 => interleave::<2>(codes, real, &mut packed, depth),
            4 => interleave::<4>(codes, real, &mut packed, depth),
            _ => interleave::<8>(codes, real, &mut packed, depth),
        }
        if kernel.signed {
            // Σ w·a = Σ w·(a − 128) + 128 · Σ w
            for (bias, row) in scaling.bias.iter_mut().zip(codes.chunks_exact(real)) {
                let sum: i32 = row.iter().map(|w| i32::from(*w)).sum();
                *bias = bias.wrapping_add(sum.wrapping_mul(128));
            }
        }
        scaling.bias.resize(filled, 0);
        scaling.multiplier.resize(filled, 0.0);
        Packed { codes: packed, depth, columns, lowest: codes.contains(&i8::MIN), scaling }
    }
}

/// Rows of `real` codes into panels of columns, G codes of a column side by side.
fn interleave<const G: usize>(codes: &[i8], real: usize, packed: &mut [i8], depth: usize) {
    for (panel, rows) in packed.chunks_exact_mut(PANEL * depth).zip(codes.chunks(PANEL * real)) {
        for (column, row) in rows.chunks_exact(real).enumerate() {
            let (runs, rest) = row.as_chunks::<G>();
            let places = panel.as_chunks_mut::<G>().0;
            for (place, run) in places[column..].iter_mut().step_by(PANEL).zip(runs) {
                *place = *run;
            }
            if !rest.is_empty() {
                places[runs.len() * PANEL + column][..rest.len()].copy_from_slice(rest);
            }
        }
    }
}

/// Sums of products over rows of activations and panels of weights, requantised to codes.
pub struct Gemm<'a> {
    /// Activations; row `r` starts at `r · row` and holds `weights.depth` codes, of which those beyond the real depth
    /// count nothing.
    pub a: &'a [u8],
    /// Codes from one row to the next.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// Weights.
    pub weights: &'a Packed,
    /// How sums become codes.
    pub requantise: Requantise<'a>,
    /// Codes from one row of the output to the next, at least `weights.columns`.
    pub out_row: usize,
}

/// From `i32` sums to codes: `code = clamp(round(float(sum + bias) · multiplier) + zero_point, low, high)`, rounding half
/// to even, in single precision. ONNX defines the rounding (`QuantizeLinear`); ONNX Runtime computes it in these steps.
#[derive(Clone, Copy)]
pub struct Requantise<'a> {
    /// Added to the sum; as long as all panels together.
    pub bias: &'a [i32],
    /// Real value of the sum's step in steps of the output, for each output; finite and above 0.
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
    /// Input codes, padded.
    pub input: &'a [u8],
    /// Codes from the first tap of a window to each tap.
    pub taps: &'a [usize],
    /// Codes from one window to the one below.
    pub down: usize,
    /// Codes from one window to the one on the right.
    pub right: usize,
    /// Channels.
    pub channels: usize,
    /// Columns of the output.
    pub out_width: usize,
    /// Codes from one pixel of the output to the next.
    pub out_pixel: usize,
    /// `[taps][channels]`.
    pub weights: &'a [i8],
    /// How sums become codes; as long as `channels`, rounded up to [`PANEL`].
    pub requantise: Requantise<'a>,
}

impl Depthwise<'_> {
    /// Output rows that `out` holds.
    fn rows(&self, out: &[u8]) -> usize {
        let row = self.out_width * self.out_pixel;
        (out.len() + self.out_pixel - self.channels) / row
    }

    /// One past the last input code that the windows of rows `first .. first + rows` see.
    fn end(&self, first: usize, rows: usize) -> usize {
        let far = self.taps.iter().max().copied().unwrap_or(0);
        (first + rows - 1) * self.down + (self.out_width - 1) * self.right + far + self.channels
    }
}

/// A sum of two inputs: `code = clamp(round(a · scale₀ + (b · scale₁ + offset)), low, high)`, each product and sum rounded
/// once (fused). ONNX leaves the order open; ONNX Runtime's `QLinearAdd` computes it like this.
#[derive(Clone, Copy)]
pub struct Sum {
    /// Steps of the inputs in steps of the output.
    pub scale: [f32; 2],
    /// `zero point − zero point of a · scale₀ − zero point of b · scale₁`
    pub offset: f32,
    /// Smallest code.
    pub low: u8,
    /// Largest code.
    pub high: u8,
}

/// A product of two inputs: `code = clamp(round((a − zero₀) · (b − zero₁) · scale) + zero_point, low, high)`.
#[derive(Clone, Copy)]
pub struct Product {
    /// Codes of the real 0 in the inputs.
    pub zero: [f32; 2],
    /// Product of the inputs' steps in steps of the output.
    pub scale: f32,
    /// Code of the real 0 in the output.
    pub zero_point: u8,
    /// Smallest code.
    pub low: u8,
    /// Largest code.
    pub high: u8,
}

/// The loops of one instruction set.
pub struct Kernel {
    /// Name for `HILUM_KERNEL` and reports.
    pub name: &'static str,
    /// Codes along the depth that are packed side by side.
    pub group: usize,
    /// True if activations are multiplied as `code − 128`, for instructions that know signed bytes only.
    pub signed: bool,
    /// Fills `rows × columns` codes.
    pub gemm: fn(&Gemm, &mut [u8]),
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub depthwise: fn(&Depthwise, usize, &mut [u8]),
    /// Sums, code by code.
    pub add: fn(&Sum, &[u8], &[u8], &mut [u8]),
    /// Products, code by code.
    pub multiply: fn(&Product, &[u8], &[u8], &mut [u8]),
    /// Sum of products of codes and weights.
    pub dot: fn(&[u8], &[i8]) -> i32,
}

/// All kernels that this processor runs, best first.
pub fn available() -> Vec<&'static Kernel> {
    let mut found: Vec<&'static Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if vnni::has_avx512() {
            found.push(&vnni::AVX512);
        }
        if vnni::has_avx() {
            found.push(&vnni::AVX);
        }
        if avx2::is_there() {
            found.push(&avx2::KERNEL);
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        if std::arch::is_aarch64_feature_detected!("i8mm") {
            found.push(&i8mm::KERNEL);
        }
        if std::arch::is_aarch64_feature_detected!("dotprod") {
            found.push(&dotprod::KERNEL);
        }
        // Every aarch64 processor has NEON (Arm Architecture Reference Manual, Advanced SIMD of Armv8-A on Linux).
        found.push(&neon::KERNEL);
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

/// Checks what every [`Kernel::gemm`] relies on: lengths of activations, weights, scaling and output.
fn assert_gemm(g: &Gemm, out: &[u8], group: usize) {
    let w = g.weights;
    let filled = w.columns.next_multiple_of(PANEL);
    assert!(w.depth.is_multiple_of(group) && w.codes.len() == filled * w.depth);
    assert!(g.requantise.bias.len() >= filled && g.requantise.multiplier.len() >= filled);
    assert!(g.rows == 0 || g.a.len() >= (g.rows - 1) * g.row + w.depth);
    assert!(g.rows == 0 || out.len() >= (g.rows - 1) * g.out_row + w.columns);
}

/// Checks what every [`Kernel::depthwise`] relies on; gives the number of rows.
fn assert_depthwise(d: &Depthwise, first_row: usize, out: &[u8]) -> usize {
    let rows = d.rows(out);
    let filled = d.channels.next_multiple_of(PANEL);
    assert!(d.weights.len() >= d.taps.len() * d.channels);
    assert!(d.requantise.bias.len() >= filled && d.requantise.multiplier.len() >= filled);
    assert!(rows == 0 || d.input.len() >= d.end(first_row, rows));
    rows
}
