//! How many bits of the samples are used, which end is white, and the 8-bit grey that follows from both.

use super::GreyPlane;
use super::samples::{DeclaredBits, Samples, Values};
use serde::{Deserialize, Serialize};

/// Which end of the scale is white (TIFF 6.0, `PhotometricInterpretation`; DICOM PS3.3, C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Photometric {
    /// 0 is black (`MONOCHROME2`).
    BlackIsZero,
    /// 0 is white (`MONOCHROME1`).
    WhiteIsZero,
}

/// The part of a sample's range that is used: `offset` is black, `offset + 2^bits − 1` white.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Bits that are used.
    pub bits: u8,
    /// The least value.
    pub offset: u16,
    /// How that is known.
    pub basis: Basis,
}

/// How a depth is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Basis {
    /// All bits that are stored are used, or the container says how many.
    Stored,
    /// The grey levels leave no other reading that looks like a picture.
    GreyLevels,
}

/// Share of the pixels that may be brighter than the data: a letter or a ruler that was burned in.
const MARKER_SHARE: f64 = 0.05;
/// Low bits that are always zero from which on values count as shifted up: 12 bits in the upper part of 16.
const SHIFTED_BITS: u32 = 4;
/// The offset by which signed data become unsigned.
const SIGNED_OFFSET: u16 = 1 << 15;

/// The depth of `samples`. Detectors store 10 to 15 bits in 16 without saying so, and would come out black at full
/// scale.
pub fn depth(samples: &Samples) -> Depth {
    let stored = |bits| Depth { bits, offset: 0, basis: Basis::Stored };
    let values = match (&samples.values, samples.declared) {
        (Values::Eight(_), _) => return stored(8),
        (Values::Sixteen(_), Some(DeclaredBits::Low(bits))) => return stored(bits),
        (Values::Sixteen(values), Some(DeclaredBits::Significant(bits))) => {
            // Writers that do not spread the values over all bits, as they should, keep the low ones.
            let kept_low = values.iter().all(|v| u32::from(*v) < 1 << bits);
            return stored(if kept_low { bits } else { 16 });
        }
        (Values::Sixteen(values), None) => values,
    };
    let levels = GreyLevels::of(values);
    if levels.least >= SIGNED_OFFSET {
        let top = levels.without_marker(values, SIGNED_OFFSET) - SIGNED_OFFSET;
        return Depth { bits: bits_of(top), offset: SIGNED_OFFSET, basis: Basis::GreyLevels };
    }
    if levels.are_spread() {
        return stored(16);
    }
    match bits_of(levels.without_marker(values, 0)) {
        16 => stored(16),
        bits => Depth { bits, offset: 0, basis: Basis::GreyLevels },
    }
}

/// Bits that hold `value`, 8 at least.
fn bits_of(value: u16) -> u8 {
    (16 - value.leading_zeros() as u8).max(8)
}

/// What the values of a picture have in common.
struct GreyLevels {
    least: u16,
    largest: u16,
    /// Bits that are set in any value.
    any: u16,
    /// True if all are 8-bit values spread over 16 bits.
    repeated_bytes: bool,
}

impl GreyLevels {
    fn of(values: &[u16]) -> GreyLevels {
        let mut levels = GreyLevels { least: u16::MAX, largest: 0, any: 0, repeated_bytes: true };
        for v in values {
            levels.least = levels.least.min(*v);
            levels.largest = levels.largest.max(*v);
            levels.any |= v;
            levels.repeated_bytes &= v >> 8 == v & 255;
        }
        levels
    }

    /// True if fewer bits were spread over all 16: a byte twice, or low bits that are always zero.
    fn are_spread(&self) -> bool {
        self.repeated_bytes || self.any.trailing_zeros() >= SHIFTED_BITS && self.largest >= 1 << 12
    }

    /// The brightest value, a marker left aside: few pixels, mostly of one value, four times as bright as all others
    /// (twice, if all its bits are set).
    fn without_marker(&self, values: &[u16], offset: u16) -> u16 {
        let top = self.largest - offset;
        // All bits set is no grey of a detector of 15 bits.
        let limit = if self.largest == u16::MAX { top / 2 } else { top / 4 };
        let above = |v: &&u16| *v - offset > limit;
        let bright = values.iter().filter(above).count();
        let at_top = values.iter().filter(|v| **v == self.largest).count();
        let is_marker = bright as f64 <= MARKER_SHARE * values.len() as f64 && 2 * at_top >= bright;
        match is_marker {
            true => values.iter().copied().filter(|v| *v - offset <= limit).max().unwrap_or(self.largest),
            false => self.largest,
        }
    }
}

/// `samples` at `depth` as 8-bit grey with black = 0.
pub fn to_grey(samples: Samples, depth: Depth, photometric: Photometric) -> GreyPlane {
    let mut pixels = match samples.values {
        Values::Eight(values) => values,
        Values::Sixteen(values) => {
            let full = (1u32 << depth.bits) - 1;
            let grey = |v: u16| (u32::from(v.saturating_sub(depth.offset)) * 255 + full / 2) / full;
            values.into_iter().map(|v| grey(v).min(255) as u8).collect()
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

    fn samples(values: Vec<u16>, declared: Option<DeclaredBits>) -> Samples {
        Samples {
            width: values.len() as u32,
            height: 1,
            values: Values::Sixteen(values),
            declared,
            photometric: Photometric::BlackIsZero,
        }
    }

    /// A ramp over `bits` bits, with noise in the low ones.
    fn ramp(bits: u32) -> Vec<u16> {
        let full = (1u32 << bits) - 1;
        (0..4096u32).map(|i| (full * i / 4095) as u16).collect()
    }

    fn known(values: Vec<u16>) -> (u8, u16, Basis) {
        let d = depth(&samples(values, None));
        (d.bits, d.offset, d.basis)
    }

    #[test]
    fn every_depth_is_told_from_the_grey_levels() {
        for bits in 8..16 {
            assert_eq!(known(ramp(bits)), (bits as u8, 0, Basis::GreyLevels));
        }
        assert_eq!(known(ramp(16)), (16, 0, Basis::Stored));
    }

    #[test]
    fn a_marker_does_not_darken_the_picture() {
        for (bits, marker) in [(12, 65_535), (12, 32_768), (12, 16_384 + 4095), (15, 65_535)] {
            let mut values = ramp(bits);
            values[..100].fill(marker);
            assert_eq!(known(values), (bits as u8, 0, Basis::GreyLevels), "{marker}");
        }
    }

    #[test]
    fn an_offset_is_taken_off() {
        let values: Vec<u16> = ramp(12).iter().map(|v| v + 32_768).collect();
        let d = depth(&samples(values.clone(), None));
        assert_eq!((d.bits, d.offset), (12, 32_768));
        let grey = to_grey(samples(values, None), d, Photometric::BlackIsZero);
        assert_eq!((grey.pixels[0], grey.pixels[4095]), (0, 255));
    }

    #[test]
    fn dark_pictures_that_were_spread_over_all_bits_stay_dark() {
        let bytes: Vec<u16> = (0..4096u32).map(|i| (i / 64 * 257) as u16).collect();
        assert_eq!(known(bytes), (16, 0, Basis::Stored));
        let shifted: Vec<u16> = ramp(11).iter().map(|v| v << 4).collect();
        assert_eq!(known(shifted), (16, 0, Basis::Stored));
    }

    #[test]
    fn what_the_container_says_counts() {
        let d = |values, declared| depth(&samples(values, Some(declared))).bits;
        assert_eq!(d(ramp(10), DeclaredBits::Low(12)), 12);
        assert_eq!(d(ramp(10), DeclaredBits::Significant(12)), 12);
        assert_eq!(d(ramp(15), DeclaredBits::Significant(12)), 16);
    }

    #[test]
    fn a_negative_is_turned_around() {
        let d = Depth { bits: 12, offset: 0, basis: Basis::Stored };
        let grey = |p| to_grey(samples(vec![0, 4095], None), d, p).pixels;
        assert_eq!(grey(Photometric::BlackIsZero), [0, 255]);
        assert_eq!(grey(Photometric::WhiteIsZero), [255, 0]);
    }
}
