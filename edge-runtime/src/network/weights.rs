//! Quantised weights of convolutions and dense layers.

use serde::{Deserialize, Serialize};

/// Weights and bias of a convolution or a dense layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Convolution `[out, kernel_h, kernel_w, in / groups]`; dense `[out, in]`.
    #[serde(with = "bytes")]
    pub codes: Vec<i8>,
    /// Real value of one step, for each output channel.
    pub scales: Vec<f32>,
    /// In steps of `input scale · scales[channel]`.
    pub bias: Vec<i32>,
}

/// Largest sum of weights without their signs that no activations bring out of 32 bits.
const LARGEST_SUM: u32 = i32::MAX as u32 / 255;

impl Weights {
    /// True if there are weights for `outputs` sums of `inputs` products, none of which can leave 32 bits.
    pub fn fit(&self, outputs: usize, inputs: usize) -> bool {
        outputs > 0
            && self.bias.len() == outputs
            && self.scales.len() == outputs
            && self.scales.iter().all(|s| s.is_finite() && *s > 0.0)
            && outputs.checked_mul(inputs) == Some(self.codes.len())
            && inputs < 1 << 24
            && self.sums_fit(inputs)
    }

    /// True if no sum of products leaves 32 bits, whatever the activations are. Short sums cannot, whatever the weights
    /// are: only long ones are read, which a cold start notices.
    fn sums_fit(&self, inputs: usize) -> bool {
        let magnitude = |row: &[i8]| row.iter().map(|w| u32::from(w.unsigned_abs())).sum::<u32>();
        inputs <= (LARGEST_SUM / 128) as usize
            || self.codes.chunks_exact(inputs).all(|row| magnitude(row) <= LARGEST_SUM)
    }

    /// Bias less `zero_point · Σ weights`, so that kernels sum plain codes.
    pub fn folded_bias(&self, zero_point: u8) -> Vec<i32> {
        let depth = self.codes.len() / self.bias.len();
        let zero = i32::from(zero_point);
        if zero == 0 {
            return self.bias.clone();
        }
        let sums = self.codes.chunks_exact(depth).map(|c| c.iter().map(|w| i32::from(*w)).sum::<i32>());
        self.bias.iter().zip(sums).map(|(b, s)| b.wrapping_sub(zero.wrapping_mul(s))).collect()
    }
}

/// `i8` codes as one byte string: the wire form of a sequence of `i8` in postcard, without a call for each code.
mod bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(codes: &[i8], s: S) -> Result<S::Ok, S::Error> {
        let bytes: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
        s.serialize_bytes(&bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<i8>, D::Error> {
        struct Codes;
        impl Visitor<'_> for Codes {
            type Value = Vec<i8>;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<i8>, E> {
                Ok(bytes.iter().map(|b| *b as i8).collect())
            }
        }
        d.deserialize_bytes(Codes)
    }
}
