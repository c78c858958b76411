//! From `i32` sums to codes.

/// From `i32` sums to codes: `code = clamp(round(float(sum + bias) · multiplier) + zero_point, low, high)`, rounding
/// half to even, in single precision. ONNX defines the rounding (`QuantizeLinear`); ONNX Runtime computes it in these
/// steps.
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
    /// True if a scaled sum may leave the range of `i32`.
    pub may_overflow: bool,
    /// True if no scaled sum leaves the range of `i16`.
    pub within_16_bits: bool,
}
