//! Functions of two activations, code by code.

/// A sum of two inputs: `code = clamp(round(a · scale₀ + (b · scale₁ + offset)), low, high)`, each product and sum
/// rounded once (fused). ONNX leaves the order open; ONNX Runtime's `QLinearAdd` computes it like this.
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
