//! The inner loops of the integer engine, behind one table that is chosen when the program starts.
//!
//! Every kernel gives bit for bit what [`portable`] gives; the property tests hold them to it. A kernel says
//! how it wants weights packed ([`Kernel::group`]); everything else about it is its own business.
//!
//! All `unsafe` code of the device is in this crate. It depends on nothing, so that sanitizers and instruction counts reach
//! it without the rest.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod dotprod;
#[cfg(target_arch = "aarch64")]
mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod portable;
pub mod scratch;
pub mod team;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;
pub mod winograd;

use std::sync::OnceLock;
use winograd::Winograd;

/// Output channels that are packed together.
pub const PANEL: usize = 16;

/// Weights of a matrix product: `[panel][depth / group][PANEL][group]`, filled up with zeros.
///
/// `group` codes along the depth lie side by side because one instruction multiplies and adds so many: 2 for `pmaddwd`, 4
/// for `vpdpbusd`, `sdot` and `smull` + `sadalp`, 8 for `usmmla`.
pub struct Packed {
    /// The codes.
    pub codes: Vec<i8>,
    /// Products in each sum, zeros included: all runs together.
    pub depth: usize,
    /// Products from each of [`Windows::runs`], filled up with zeros to a multiple of `group`.
    pub run: usize,
    /// Output channels, without those that fill the last panel.
    pub columns: usize,
    /// True if one of them is −128, whose products need a bit more than those of all others. Only known for
    /// [`Kernel::signed`] kernels.
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
    /// True if a sum in steps of the output may leave the range of `i32`.
    pub far: bool,
}

impl Scaling {
    /// For channels that sum `depth` products each.
    pub fn new(depth: usize, bias: Vec<i32>, multiplier: Vec<f32>) -> Scaling {
        // Whatever the weights are: reading them all again would take longer than the rest of loading them.
        let products = depth as f64 * 255.0 * 128.0;
        // A sum wraps at most to i32::MIN.
        let steps =
            |(b, m): (&i32, &f32)| (products + f64::from(b.unsigned_abs())).min(f64::from(1u32 << 31)) * f64::from(*m);
        // What a float has lost by rounding is far less than the half that stays.
        let far = !bias.iter().zip(&multiplier).map(steps).fold(0.0, f64::max).le(&f64::from(1 << 30));
        Scaling { bias, multiplier, far }
    }

    /// That of the channels from `channel` on, which it loses.
    pub fn split_off(&mut self, channel: usize) -> Scaling {
        let (bias, multiplier) = (self.bias.split_off(channel), self.multiplier.split_off(channel));
        Scaling { bias, multiplier, far: self.far }
    }

    /// Adds channels that give anything, up to a multiple of [`PANEL`].
    pub fn fill_up(&mut self) {
        let filled = self.bias.len().next_multiple_of(PANEL);
        self.bias.resize(filled, 0);
        self.multiplier.resize(filled, 0.0);
    }
}

impl Packed {
    /// Packs `codes`, `[columns][runs][run]`, and keeps their memory where it suffices: new pages cost more than packing.
    pub fn new(mut codes: Vec<i8>, columns: usize, run: usize, mut scaling: Scaling, kernel: &Kernel) -> Packed {
        let group = kernel.group;
        let real = codes.len() / columns;
        let filled_run = run.next_multiple_of(group);
        let depth = real / run * filled_run;
        let lowest = kernel.signed && codes.contains(&i8::MIN);
        if kernel.signed {
            // Σ w·a = Σ w·(a − 128) + 128 · Σ w
            for (bias, row) in scaling.bias.iter_mut().zip(codes.chunks_exact(real)) {
                let sum: i32 = row.iter().map(|w| i32::from(*w)).sum();
                *bias = bias.wrapping_add(sum.wrapping_mul(128));
            }
        }
        scaling.fill_up();
        let len = columns.next_multiple_of(PANEL) * depth;
        scratch::with::<i8, _>(len, |packed| {
            packed.fill(0);
            match group {
                2 => interleave::<2>(&codes, real, run, packed, depth),
                4 => interleave::<4>(&codes, real, run, packed, depth),
                _ => interleave::<8>(&codes, real, run, packed, depth),
            }
            codes.clear();
            codes.extend_from_slice(packed);
        });
        Packed { codes, depth, run: filled_run, columns, lowest, scaling }
    }
}

/// Rows of `real` codes into panels of columns, G codes of a column side by side, runs filled up to a multiple of G.
fn interleave<const G: usize>(codes: &[i8], real: usize, run: usize, packed: &mut [i8], depth: usize) {
    for (panel, rows) in packed.chunks_exact_mut(PANEL * depth).zip(codes.chunks(PANEL * real)) {
        for (column, row) in rows.chunks_exact(real).enumerate() {
            let mut places = panel.as_chunks_mut::<G>().0[column..].iter_mut().step_by(PANEL);
            for run in row.chunks_exact(run) {
                let (groups, rest) = run.as_chunks::<G>();
                places.by_ref().zip(groups).for_each(|(place, group)| *place = *group);
                if !rest.is_empty()
                    && let Some(place) = places.next()
                {
                    place[..rest.len()].copy_from_slice(rest);
                }
            }
        }
    }
}

/// Where the codes of each sum lie: windows over activations, line by line. A window is some runs of codes that lie side by
/// side: the rows of a convolution window, or its taps where pixels lie apart.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// Windows in a line.
    pub width: usize,
    /// Codes from one window to the next in its line.
    pub right: usize,
    /// Codes from one line of windows to the next.
    pub down: usize,
    /// Codes from the first of a window to the first of each run.
    pub runs: &'a [usize],
}

impl Windows<'_> {
    /// Where window `i` begins.
    pub fn start(&self, i: usize) -> usize {
        i / self.width * self.down + i % self.width * self.right
    }

    /// One past the last code that `count` windows from `first` read, of each run `run` codes.
    pub fn end(&self, first: usize, count: usize, run: usize) -> usize {
        let Some(last) = (first + count).checked_sub(1).filter(|_| count > 0) else { return 0 };
        // The end of the line above may lie further.
        let above = (last / self.width > first / self.width).then(|| self.start(last / self.width * self.width - 1));
        let far = self.runs.iter().max().copied().unwrap_or(0);
        self.start(last).max(above.unwrap_or(0)) + far + run
    }

    /// The starts of window `first` and of those after it.
    #[inline(always)]
    fn starts(&self, first: usize) -> Starts {
        let turn = self.down.wrapping_sub((self.width - 1).wrapping_mul(self.right));
        Starts { at: self.start(first), x: first % self.width, width: self.width, right: self.right, turn }
    }
}

/// [`Windows::starts`].
struct Starts {
    at: usize,
    x: usize,
    width: usize,
    right: usize,
    /// From the last window of a line to the first of the next.
    turn: usize,
}

impl Starts {
    /// The next R.
    #[inline(always)]
    fn take<const R: usize>(&mut self) -> [usize; R] {
        let mut starts = [self.at; R];
        if self.x + R < self.width {
            for r in 1..R {
                starts[r] = starts[r - 1].wrapping_add(self.right);
            }
            self.at = starts[R - 1].wrapping_add(self.right);
            self.x += R;
            return starts;
        }
        for start in &mut starts {
            *start = self.at;
            self.x += 1;
            let turns = self.x == self.width;
            self.at = self.at.wrapping_add(if turns { self.turn } else { self.right });
            self.x = if turns { 0 } else { self.x };
        }
        starts
    }
}

/// Sums of products over windows of activations and panels of weights, requantised to codes.
pub struct Gemm<'a> {
    /// Activations. A run is read to the end of [`Packed::run`]; codes beyond the real ones count nothing.
    pub a: &'a [u8],
    /// Windows over them.
    pub windows: Windows<'a>,
    /// The first window.
    pub first: usize,
    /// Windows from there on: rows of the product.
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
    /// As [`Scaling::far`].
    pub far: bool,
}

/// Windows that slide over an image, and where what is computed from them goes.
#[derive(Debug, Clone, Copy)]
pub struct Area<'a> {
    /// Input codes.
    pub input: &'a [u8],
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Codes from one pixel of the input to the next.
    pub pixel: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows and columns from one tap to the next.
    pub dilation: [usize; 2],
    /// Rows that the first windows lie above the image, columns that they lie left of it.
    pub padding: [usize; 2],
    /// Columns of the output.
    pub out_width: usize,
    /// Codes from one pixel of the output to the next.
    pub out_pixel: usize,
}

impl Area<'_> {
    /// Output rows that `out` holds.
    fn rows(&self, out: &[u8]) -> usize {
        (out.len() + self.out_pixel - self.channels) / (self.out_width * self.out_pixel)
    }

    /// Checks what every kernel relies on; gives the number of rows in `out`.
    fn check(&self, out: &[u8]) -> usize {
        assert!(self.height > 0 && self.width > 0 && self.pixel >= self.channels && self.out_pixel >= self.channels);
        assert!(self.input.len() >= (self.height * self.width - 1) * self.pixel + self.channels);
        self.rows(out)
    }

    /// Rows (`axis` 0) or columns of window `at` that lie inside the image, `side` long; the window has no holes.
    fn inside(&self, at: usize, axis: usize, side: usize) -> std::ops::Range<usize> {
        let (start, padding) = (at * self.stride[axis], self.padding[axis]);
        let end = (start + self.kernel[axis]).saturating_sub(padding).min(side);
        start.saturating_sub(padding).min(end)..end
    }

    /// Input rows and columns, holes included, that a window spans.
    fn extent(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1)
    }
}

/// A depthwise convolution.
pub struct Depthwise<'a> {
    /// Windows, input and output.
    pub area: Area<'a>,
    /// The code that stands outside the image.
    pub zero_point: u8,
    /// `[taps][channels]`.
    pub weights: &'a [i8],
    /// How sums become codes; as long as `channels`, rounded up to [`PANEL`].
    pub requantise: Requantise<'a>,
}

/// Bytes of input lines that a depthwise convolution gives a border at a time; few in tests, whose images are small.
const BORDERED: usize = if cfg!(test) { 1024 } else { 96 * 1024 };

/// Some rows of a depthwise convolution whose windows all lie inside the input.
struct Inside<'a> {
    input: &'a [u8],
    /// Codes from the first tap of a window to each tap.
    taps: &'a [usize],
    /// Codes from one window to the one below.
    down: usize,
    /// Codes from one window to the one on the right.
    right: usize,
    rows: usize,
    channels: usize,
    out_width: usize,
    out_pixel: usize,
    weights: &'a [i8],
    requantise: Requantise<'a>,
}

impl Depthwise<'_> {
    /// Calls `work` with output rows from `first_row`, as many as `out` holds: over the input where all windows lie inside, else over
    /// copies of some lines with their border, which stay in the second-level cache.
    fn inside(&self, first_row: usize, out: &mut [u8], work: impl Fn(&Inside, &mut [u8])) {
        let area = &self.area;
        let rows = self.check(out);
        if rows == 0 {
            return;
        }
        let ([top, left], [extent_h, extent_w]) = (area.padding, area.extent());
        let lines = |rows: usize| (rows - 1) * area.stride[0] + extent_h;
        let columns = (area.out_width - 1) * area.stride[1] + extent_w;
        let fits =
            top == 0 && left == 0 && first_row * area.stride[0] + lines(rows) <= area.height && columns <= area.width;
        let (width, pixel) =
            if fits { (area.width, area.pixel) } else { (columns.max(left + area.width), area.channels) };
        let line = width * pixel;
        let count = area.kernel[0] * area.kernel[1];
        scratch::with::<usize, _>(count, |taps| {
            for (t, tap) in taps.iter_mut().enumerate() {
                let (y, x) = (t / area.kernel[1] * area.dilation[0], t % area.kernel[1] * area.dilation[1]);
                *tap = y * line + x * pixel;
            }
            let work = |input: &[u8], rows: usize, out: &mut [u8]| {
                let inside = Inside {
                    input,
                    taps,
                    down: area.stride[0] * line,
                    right: area.stride[1] * pixel,
                    rows,
                    channels: area.channels,
                    out_width: area.out_width,
                    out_pixel: area.out_pixel,
                    weights: self.weights,
                    requantise: self.requantise,
                };
                assert!(input.len() >= inside.end(rows));
                work(&inside, out);
            };
            if fits {
                return work(&area.input[first_row * area.stride[0] * line..], rows, out);
            }
            let some = (BORDERED / line).saturating_sub(extent_h) / area.stride[0] + 1;
            scratch::with::<u8, _>(lines(some.min(rows)) * line, |to| {
                let parts = out.chunks_mut(some * area.out_width * area.out_pixel).take(rows.div_ceil(some));
                for (i, out) in parts.enumerate() {
                    let from = (first_row + i * some) * area.stride[0];
                    let rows = some.min(rows - i * some);
                    let to = &mut to[..lines(rows) * line];
                    for (y, to) in to.chunks_exact_mut(line).enumerate() {
                        match (from + y).checked_sub(top).filter(|y| *y < area.height) {
                            Some(y) => {
                                let image = left * pixel..(left + area.width) * pixel;
                                to[..image.start].fill(self.zero_point);
                                to[image.end..].fill(self.zero_point);
                                let from = &area.input[y * area.width * area.pixel..];
                                copy_pixels(from, area.pixel, &mut to[image], pixel);
                            }
                            None => to.fill(self.zero_point),
                        }
                    }
                    work(to, rows, out);
                }
            });
        });
    }

    /// Checks what every kernel relies on; gives the number of rows in `out`.
    fn check(&self, out: &[u8]) -> usize {
        let filled = self.area.channels.next_multiple_of(PANEL);
        assert!(self.weights.len() >= self.area.kernel[0] * self.area.kernel[1] * self.area.channels);
        assert!(self.requantise.bias.len() >= filled && self.requantise.multiplier.len() >= filled);
        self.area.check(out)
    }
}

impl Inside<'_> {
    /// One past the last input code that the windows of the first `rows` rows see.
    fn end(&self, rows: usize) -> usize {
        let far = self.taps.iter().max().copied().unwrap_or(0);
        (rows - 1) * self.down + (self.out_width - 1) * self.right + far + self.channels
    }
}

/// Copies pixels of `channels` codes, which lie `pixel` apart in `from`, side by side to `to`.
pub fn copy_pixels(from: &[u8], pixel: usize, to: &mut [u8], channels: usize) {
    if pixel == channels {
        return to.copy_from_slice(&from[..to.len()]);
    }
    for (i, to) in to.chunks_exact_mut(channels).enumerate() {
        to.copy_from_slice(&from[i * pixel..][..channels]);
    }
}

/// The largest code in each window, clamped. Only what lies inside the image counts, and each window has a code there.
pub struct MaxPool<'a> {
    /// Windows, input and output; no dilation.
    pub area: Area<'a>,
    /// Smallest code.
    pub low: u8,
    /// Largest code.
    pub high: u8,
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
    /// Fills output rows from a row of tiles on, as many as the slice holds; where it is faster than `gemm`.
    pub winograd: Option<fn(&Winograd, usize, &mut [u8])>,
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub depthwise: fn(&Depthwise, usize, &mut [u8]),
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub max_pool: fn(&MaxPool, usize, &mut [u8]),
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
    assert!(w.run > 0 && w.run.is_multiple_of(group) && !g.windows.runs.is_empty());
    assert!(w.depth == w.run * g.windows.runs.len() && w.codes.len() == filled * w.depth);
    assert!(g.requantise.bias.len() >= filled && g.requantise.multiplier.len() >= filled);
    assert!(g.windows.width > 0 && g.a.len() >= g.windows.end(g.first, g.rows, w.run));
    assert!(g.rows == 0 || out.len() >= (g.rows - 1) * g.out_row + w.columns);
}
