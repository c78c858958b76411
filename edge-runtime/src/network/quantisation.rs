//! How codes stand for real values.

/// Scale and zero point of an activation (ONNX `QuantizeLinear`): `real = scale · (code − zero point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quantisation {
    /// Real value of one step.
    pub scale: f32,
    /// The code of 0.
    pub zero_point: u8,
}

impl Quantisation {
    /// The finest one that covers `[low, high]` and has 0 among its values.
    pub fn covering([low, high]: [f32; 2]) -> Quantisation {
        let low = low.min(0.0);
        let high = high.max(0.0);
        let span = high - low;
        let scale = if span > 0.0 && span.is_finite() { span / 255.0 } else { 1.0 / 255.0 };
        Quantisation { scale, zero_point: (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// The code nearest to `real`.
    pub fn code(self, real: f32) -> u8 {
        ((real / self.scale).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// What `code` stands for.
    pub fn real(self, code: u8) -> f32 {
        (f32::from(code) - f32::from(self.zero_point)) * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_always_has_zero_in_it() {
        assert_eq!(Quantisation::covering([0.5, 2.0]).zero_point, 0);
        assert_eq!(Quantisation::covering([0.0, 0.0]).scale, 1.0 / 255.0);
        let q = Quantisation::covering([-1.0, 3.0]);
        assert!((0..=255).all(|code| q.code(q.real(code)) == code));
        assert_eq!(q.real(q.zero_point), 0.0);
    }
}
