//! How far a quantised network is from its float form: the signal-to-quantisation-noise ratio.

/// Sums of squares over values that were compared.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Noise {
    /// Of the values as they should be.
    signal: f64,
    /// Of the differences from them.
    noise: f64,
}

impl Noise {
    /// Between `reference` and `got`.
    pub fn between(reference: &[f32], got: &[f32]) -> Noise {
        let signal = reference.iter().map(|r| f64::from(*r).powi(2)).sum();
        let noise = reference.iter().zip(got).map(|(r, g)| (f64::from(*r) - f64::from(*g)).powi(2)).sum();
        Noise { signal, noise }
    }

    /// Over the values of both.
    pub fn with(self, other: Noise) -> Noise {
        Noise { signal: self.signal + other.signal, noise: self.noise + other.noise }
    }

    /// The ratio in decibels: infinite without noise, no number where all was and stayed zero.
    pub fn decibels(self) -> f64 {
        match (self.signal, self.noise) {
            (0.0, 0.0) => f64::NAN,
            (_, 0.0) => f64::INFINITY,
            (signal, noise) => 10.0 * (signal / noise).log10(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_signal_is_20_decibels() {
        let noise = Noise::between(&[1.0, -2.0, 3.0], &[1.1, -2.2, 3.3]);
        assert!((noise.decibels() - 20.0).abs() < 1e-4);
        assert!((noise.with(noise).decibels() - 20.0).abs() < 1e-4);
        assert_eq!(Noise::between(&[1.0], &[1.0]).decibels(), f64::INFINITY);
        assert!(Noise::between(&[0.0], &[0.0]).decibels().is_nan());
    }
}
