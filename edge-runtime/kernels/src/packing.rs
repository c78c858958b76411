//! Weights and scaling as the kernels take them: packed in panels of [`NR`] output channels.

use crate::{Kernel, NR, scratch};

/// Weights of a matrix product: `[panel][depth / kr][NR][kr]`, filled up with zeros.
///
/// `kr` codes along the depth lie side by side because one instruction multiplies and adds so many: 2 for `pmaddwd`,
/// 4 for `vpdpbusd`, `sdot` and `smull` + `sadalp`, 8 for `usmmla`.
pub struct Packed {
    /// The codes.
    pub codes: Vec<i8>,
    /// Products in each sum, zeros included: all runs together.
    pub depth: usize,
    /// Products from each of [`crate::Windows::runs`], filled up with zeros to a multiple of `kr`.
    pub run: usize,
    /// Output channels, without those that fill the last panel.
    pub columns: usize,
    /// True if one of them is −128, whose products need a bit more than those of all others. Only known for
    /// [`Kernel::signed`] kernels.
    pub has_min_weight: bool,
    /// For each output channel of all panels.
    pub scaling: Scaling,
}

/// From `i32` sums to codes, for each output channel; see [`crate::Requantise`].
pub struct Scaling {
    /// Added to the sum: the bias, less zero point of the input times sum of the weights.
    pub bias: Vec<i32>,
    /// `input scale · weight scale / output scale`.
    pub multiplier: Vec<f32>,
    /// True if a sum in steps of the output may leave the range of `i32`.
    pub may_overflow: bool,
    /// True if none leaves the range of `i16`.
    pub within_16_bits: bool,
}

impl Scaling {
    /// For channels that sum `depth` products each.
    pub fn new(depth: usize, bias: Vec<i32>, multiplier: Vec<f32>) -> Scaling {
        // Whatever the weights are: reading them all again would take longer than the rest of loading them.
        let products = depth as f64 * 255.0 * 128.0;
        // A sum wraps at most to i32::MIN.
        let steps =
            |(b, m): (&i32, &f32)| (products + f64::from(b.unsigned_abs())).min(f64::from(1u32 << 31)) * f64::from(*m);
        let most = bias.iter().zip(&multiplier).map(steps).fold(0.0, f64::max);
        // What a float has lost by rounding is far less than the half that stays.
        let may_overflow = !most.le(&f64::from(1 << 30));
        let within_16_bits = most.le(&32_000.0);
        Scaling { bias, multiplier, may_overflow, within_16_bits }
    }

    /// That of the channels from `channel` on, which it loses.
    pub fn split_off(&mut self, channel: usize) -> Scaling {
        let bias = self.bias.split_off(channel);
        let multiplier = self.multiplier.split_off(channel);
        Scaling { bias, multiplier, may_overflow: self.may_overflow, within_16_bits: self.within_16_bits }
    }

    /// Adds channels that give anything, up to a multiple of [`NR`].
    pub fn fill_up(&mut self) {
        let filled = self.bias.len().next_multiple_of(NR);
        self.bias.resize(filled, 0);
        self.multiplier.resize(filled, 0.0);
    }
}

impl Packed {
    /// Packs `codes`, `[columns][runs][run]`, and keeps their memory where it suffices: new pages cost more than
    /// packing.
    pub fn new(mut codes: Vec<i8>, columns: usize, run: usize, mut scaling: Scaling, kernel: &Kernel) -> Packed {
        let kr = kernel.kr;
        let real = codes.len() / columns;
        let filled_run = run.next_multiple_of(kr);
        let depth = real / run * filled_run;
        let has_min_weight = kernel.signed && codes.contains(&i8::MIN);
        if kernel.signed {
            // Σ w·a = Σ w·(a − 128) + 128 · Σ w
            for (bias, row) in scaling.bias.iter_mut().zip(codes.chunks_exact(real)) {
                let sum: i32 = row.iter().map(|w| i32::from(*w)).sum();
                *bias = bias.wrapping_add(sum.wrapping_mul(128));
            }
        }
        scaling.fill_up();
        let len = columns.next_multiple_of(NR) * depth;
        scratch::with::<i8, _>(len, |packed| {
            packed.fill(0);
            match kr {
                2 => interleave::<2>(&codes, real, run, packed, depth),
                4 => interleave::<4>(&codes, real, run, packed, depth),
                _ => interleave::<8>(&codes, real, run, packed, depth),
            }
            codes.clear();
            codes.extend_from_slice(packed);
        });
        Packed { codes, depth, run: filled_run, columns, has_min_weight, scaling }
    }
}

/// Rows of `real` codes into panels of columns, G codes of a column side by side, runs filled up to a multiple of G.
fn interleave<const G: usize>(codes: &[i8], real: usize, run: usize, packed: &mut [i8], depth: usize) {
    for (panel, rows) in packed.chunks_exact_mut(NR * depth).zip(codes.chunks(NR * real)) {
        for (column, row) in rows.chunks_exact(real).enumerate() {
            let mut places = panel.as_chunks_mut::<G>().0[column..].iter_mut().step_by(NR);
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
