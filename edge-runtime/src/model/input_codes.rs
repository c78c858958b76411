//! Pixels to the input's codes.

use super::contract::InputContract;
use crate::network::Value;

/// The input code of each pixel value in each channel.
pub(super) struct InputCodes {
    tables: Vec<[u8; 256]>,
}

impl InputCodes {
    /// For an input of `contract`, quantised as `value`.
    pub fn new(contract: &InputContract, value: &Value) -> InputCodes {
        let code = |pixel: u8, channel: usize| {
            let steps = (contract.normalise(pixel, channel) / value.scale).round_ties_even();
            (steps + f32::from(value.zero_point)).clamp(0.0, 255.0) as u8
        };
        let table = |channel: usize| std::array::from_fn(|pixel| code(pixel as u8, channel));
        InputCodes { tables: (0..contract.channels as usize).map(table).collect() }
    }

    /// Writes the codes of `pixels`, channels last.
    pub fn fill(&self, pixels: &[u8], to: &mut [u8]) {
        match self.tables.as_slice() {
            [table] => to.iter_mut().zip(pixels).for_each(|(to, p)| *to = table[usize::from(*p)]),
            [a, b, c] => {
                // Four pixels are three words: stores, not look-ups, are what this takes.
                let table: [u32; 256] = std::array::from_fn(|i| u32::from_le_bytes([a[i], b[i], c[i], 0]));
                let (fours, rest) = pixels[..pixels.len().min(to.len() / 3)].as_chunks::<4>();
                let (to, to_rest) = to.split_at_mut(12 * fours.len());
                for (to, pixels) in to.as_chunks_mut::<12>().0.iter_mut().zip(fours) {
                    let [p, q, r, s] = pixels.map(|p| table[usize::from(p)]);
                    let words = [p | q << 24, q >> 8 | r << 16, r >> 16 | s << 8];
                    to.as_chunks_mut::<4>().0.iter_mut().zip(words).for_each(|(to, w)| *to = w.to_le_bytes());
                }
                self.fill_each(rest, to_rest);
            }
            _ => self.fill_each(pixels, to),
        }
    }

    /// [`InputCodes::fill`] for any number of channels.
    fn fill_each(&self, pixels: &[u8], to: &mut [u8]) {
        for (to, pixel) in to.chunks_exact_mut(self.tables.len()).zip(pixels) {
            to.iter_mut().zip(&self.tables).for_each(|(to, table)| *to = table[usize::from(*pixel)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_every_number_of_channels_and_pixels_come_from_their_tables() {
        for channels in 1..5 {
            let tables: Vec<[u8; 256]> = (0..channels)
                .map(|c| std::array::from_fn(|i| (i as u8).wrapping_mul(37).wrapping_add(c * 71)))
                .collect();
            for count in 0..10 {
                let pixels: Vec<u8> = (0..count).map(|i| 250 - 27 * i).collect();
                let want: Vec<u8> = pixels.iter().flat_map(|p| tables.iter().map(|t| t[usize::from(*p)])).collect();
                let mut got = vec![0; want.len()];
                InputCodes { tables: tables.clone() }.fill(&pixels, &mut got);
                assert_eq!(got, want, "{channels} channels, {count} pixels");
            }
        }
    }
}
