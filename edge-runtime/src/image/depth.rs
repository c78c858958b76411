//! How many bits of the samples are used, which end is white, and the 8-bit grey that follows from both.

use super::GreyPlane;
use super::samples::{Samples, Values};
use serde::{Deserialize, Serialize};

/// Which end of the scale is white (TIFF 6.0, `PhotometricInterpretation`; DICOM PS3.3, C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Photometric {
    /// 0 is black (`MONOCHROME2`).
    BlackIsZero,
    /// 0 is white (`MONOCHROME1`).
    WhiteIsZero,
}

/// Bits that the samples use: 8, or of 16 the least of 10, 12, 14 and 16 that hold the brightest. Detectors store 12
/// bits in 16 without saying so, and would come out black otherwise.
pub fn bits_used(samples: &Samples) -> u8 {
    match &samples.values {
        Values::Eight(_) => 8,
        Values::Sixteen(values) => {
            let brightest = u32::from(values.iter().copied().max().unwrap_or(0));
            [10, 12, 14].into_iter().find(|bits| brightest < 1 << bits).unwrap_or(16)
        }
    }
}

/// `samples`, of which `bits` are used, as 8-bit grey with black = 0.
pub fn to_grey(samples: Samples, bits: u8, photometric: Photometric) -> GreyPlane {
    let mut pixels = match samples.values {
        Values::Eight(values) => values,
        Values::Sixteen(values) => {
            let full = (1u32 << bits) - 1;
            values.into_iter().map(|v| ((u32::from(v) * 255 + full / 2) / full).min(255) as u8).collect()
        }
    };
    if photometric == Photometric::WhiteIsZero {
        pixels.iter_mut().for_each(|p| *p = 255 - *p);
    }
    GreyPlane { width: samples.width, height: samples.height, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_is_turned_around() {
        let samples = || Samples { width: 2, height: 1, values: Values::Sixteen(vec![0, 4095]) };
        assert_eq!(bits_used(&samples()), 12);
        assert_eq!(to_grey(samples(), 12, Photometric::BlackIsZero).pixels, [0, 255]);
        assert_eq!(to_grey(samples(), 12, Photometric::WhiteIsZero).pixels, [255, 0]);
    }
}
