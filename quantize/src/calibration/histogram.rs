//! How often values were seen, in bins that widen with what comes.

use super::kept::{KEPT, Kept};

/// Bins above 0, and as many below.
const HALF: usize = 4096;

/// Values that are placed together: no branch depends on them, so that compilers make vectors of them.
const BATCH: usize = 64;
/// Counts behind those of the bins, of what is in none: zeros have a bin of their own. Several, since one would be
/// waited for.
const IN_NO_BIN: usize = 8;

/// Where `v` is counted, the value number `lane` of a batch, if there are `bins` bins from 0 to 1.
fn place_of(v: f32, bins: f32, lane: usize) -> u16 {
    // 2^23, from which on numbers of single precision are whole: their last bits are what they are beyond it.
    const WHOLE: f32 = 8_388_608.0;
    let at = (v * bins).clamp(-(HALF as f32), HALF as f32 - 0.5);
    let nearest = at + (WHOLE + HALF as f32);
    let is_above = nearest - (WHOLE + HALF as f32) > at;
    let bin = (nearest.to_bits() & 0x7f_ffff).wrapping_sub(u32::from(is_above));
    // Without a branch, and false for what is no number.
    let is_in_one = (v != 0.0) & (v.abs() < f32::INFINITY);
    let none = (2 * HALF + lane % IN_NO_BIN) as u32;
    (if is_in_one { bin } else { none }) as u16
}

/// Values of one activation: their ends exactly, in between by bins of one width with a border at 0.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// The smallest and largest value, and 0.
    range: [f32; 2],
    /// The bins go from its negative to it: a power of two, or 0 while only zeros were seen.
    reach: f32,
    /// Of each bin, then of what is in none; empty while `reach` is 0.
    counts: Vec<u64>,
    zeros: u64,
}

/// Values of a bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    /// The middle of the bin.
    pub value: f32,
    /// How many values were in it.
    pub count: u64,
}

impl Histogram {
    /// With fewer bins.
    pub(super) fn keep(&self) -> Kept {
        let joined: Vec<u64> =
            self.counts[..self.bin_count()].chunks(HALF / KEPT).map(|bins| bins.iter().sum::<u64>()).collect();
        let first = joined.iter().position(|count| *count > 0).unwrap_or(0);
        let end = joined.iter().rposition(|count| *count > 0).map_or(first, |last| last + 1);
        let counts = joined.get(first..end).unwrap_or_default().to_vec();
        Kept { range: self.range, reach: self.reach, zeros: self.zeros, first: first as u32, counts }
    }

    /// What `kept` was of; `None` if it contradicts itself.
    pub(super) fn kept(kept: Kept) -> Option<Histogram> {
        let Kept { range, reach, zeros, first, counts } = kept;
        let first = usize::try_from(first).ok()?;
        let is_power = reach == 0.0 || reach.is_normal() && reach > 0.0 && reach.log2().fract() == 0.0;
        let all = counts.iter().try_fold(zeros, |all, count| all.checked_add(*count));
        let is_sound = is_power && range[0] <= 0.0 && range[1] >= 0.0 && all.is_some();
        if !is_sound || first.checked_add(counts.len())? > 2 * KEPT || reach == 0.0 && !counts.is_empty() {
            return None;
        }
        let mut histogram = Histogram { range, reach, counts: Vec::new(), zeros };
        if reach > 0.0 {
            histogram.counts = vec![0; 2 * HALF + IN_NO_BIN];
            let wide = HALF / KEPT;
            for (i, count) in counts.iter().enumerate() {
                // Spread evenly, what is left over from the left on.
                for (k, bin) in histogram.counts[(first + i) * wide..][..wide].iter_mut().enumerate() {
                    *bin = count / wide as u64 + u64::from((k as u64) < count % wide as u64);
                }
            }
        }
        Some(histogram)
    }

    /// Moves the ends to `values` without counting them.
    pub fn reach_to(&mut self, values: &[f32]) {
        self.move_ends(&Ends::of(values));
    }

    fn move_ends(&mut self, ends: &Ends) {
        self.range = [self.range[0].min(ends.low), self.range[1].max(ends.high)];
    }

    /// Counts `values`. What is no number, or infinite, only moves the ends.
    pub fn add(&mut self, values: &[f32]) {
        let ends = Ends::of(values);
        self.move_ends(&ends);
        self.widen(ends.largest);
        if self.counts.is_empty() {
            self.zeros += values.iter().filter(|v| v.is_finite()).count() as u64;
            return;
        }
        // The width is a power of two, so that nothing is rounded.
        let bins = 1.0 / self.width();
        let (batches, rest) = values.as_chunks();
        batches.iter().for_each(|batch| self.count(batch, bins));
        // What is no number is not counted.
        let mut last = [f32::NAN; BATCH];
        last[..rest.len()].copy_from_slice(rest);
        self.count(&last, bins);
    }

    fn count(&mut self, values: &[f32; BATCH], bins: f32) {
        let mut places = [0; BATCH];
        let mut zeros = 0;
        for (lane, (place, v)) in places.iter_mut().zip(values).enumerate() {
            *place = place_of(*v, bins, lane);
            zeros += u32::from(*v == 0.0);
        }
        self.zeros += u64::from(zeros);
        places.iter().for_each(|place| self.counts[usize::from(*place)] += 1);
    }

    /// The smallest and largest value, and 0.
    pub fn range(&self) -> [f32; 2] {
        self.range
    }

    /// The width of a bin.
    pub fn width(&self) -> f32 {
        self.reach / HALF as f32
    }

    fn bin_count(&self) -> usize {
        self.counts.len().saturating_sub(IN_NO_BIN)
    }

    /// Bins with values, from the lowest on. Zeros have one of their own.
    pub fn bins(&self) -> Vec<Bin> {
        let middle = |i: usize| (i as f32 - HALF as f32 + 0.5) * self.width();
        let bin = |(i, count): (usize, &u64)| (*count > 0).then(|| Bin { value: middle(i), count: *count });
        let (below, above) = self.counts[..self.bin_count()].split_at(self.bin_count() / 2);
        let zeros = (self.zeros > 0).then_some(Bin { value: 0.0, count: self.zeros });
        let below = below.iter().enumerate().filter_map(bin);
        let above = above.iter().enumerate().map(|(i, count)| (i + HALF, count)).filter_map(bin);
        below.chain(zeros).chain(above).collect()
    }

    /// Share of the values beyond `[low, high]`, by the middles of their bins.
    pub fn share_beyond(&self, [low, high]: [f32; 2]) -> f64 {
        let bins = self.bins();
        let all: u64 = bins.iter().map(|b| b.count).sum();
        let beyond: u64 = bins.iter().filter(|b| b.value < low || b.value > high).map(|b| b.count).sum();
        beyond as f64 / all.max(1) as f64
    }

    /// Makes the bins reach `largest`, two becoming one as often as that takes.
    fn widen(&mut self, largest: f32) {
        if largest == 0.0 {
            return;
        }
        if self.reach == 0.0 {
            self.reach = f32::MIN_POSITIVE.max(largest.log2().ceil().exp2()).min(f32::MAX / 2.0);
            self.counts = vec![0; 2 * HALF + IN_NO_BIN];
        }
        while self.reach < largest && self.reach < f32::MAX / 2.0 {
            self.reach *= 2.0;
            let mut halved = vec![0; 2 * HALF + IN_NO_BIN];
            for (i, count) in self.counts[..2 * HALF].iter().enumerate() {
                halved[(i + HALF) / 2] += count;
            }
            self.counts = halved;
        }
    }
}

/// Ends of some values.
struct Ends {
    /// The smallest value, at most 0.
    low: f32,
    /// The largest value, at least 0.
    high: f32,
    /// The largest finite magnitude.
    largest: f32,
}

impl Ends {
    /// Several at a time, which compilers make vectors of.
    fn of(values: &[f32]) -> Ends {
        const LANES: usize = 8;
        let mut low = [0f32; LANES];
        let mut high = [0f32; LANES];
        let mut largest = [0f32; LANES];
        let mut see = |lane: usize, v: f32| {
            // What is no number is neither smaller nor larger.
            low[lane] = if v < low[lane] { v } else { low[lane] };
            high[lane] = if v > high[lane] { v } else { high[lane] };
            let magnitude = if v.abs() < f32::INFINITY { v.abs() } else { 0.0 };
            largest[lane] = if magnitude > largest[lane] { magnitude } else { largest[lane] };
        };
        let chunks = values.chunks_exact(LANES);
        let rest = chunks.remainder();
        for chunk in chunks {
            (0..LANES).for_each(|lane| see(lane, chunk[lane]));
        }
        rest.iter().for_each(|v| see(0, *v));
        Ends {
            low: low.into_iter().fold(0.0, f32::min),
            high: high.into_iter().fold(0.0, f32::max),
            largest: largest.into_iter().fold(0.0, f32::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_value_is_in_the_bin_around_it(batches in prop::collection::vec(prop::collection::vec(
            prop_oneof![Just(0f32), -1e-3f32..1e-3, -3f32..5.0, -1e5f32..1e5], 0..40), 1..6)) {
            let mut histogram = Histogram::default();
            batches.iter().for_each(|batch| histogram.add(batch));
            let mut values: Vec<f32> = batches.concat();
            values.sort_by(f32::total_cmp);
            let bins = histogram.bins();
            prop_assert_eq!(bins.iter().map(|b| b.count).sum::<u64>(), values.len() as u64);
            prop_assert!(bins.windows(2).all(|pair| pair[0].value < pair[1].value));
            let counted = bins.iter().flat_map(|b| (0..b.count).map(|_| b.value));
            for (value, middle) in values.iter().zip(counted) {
                prop_assert!((value - middle).abs() <= histogram.width() * 0.501, "{} {}", value, middle);
            }
            prop_assert_eq!(histogram.range()[0], values.first().copied().unwrap_or(0.0).min(0.0));
            prop_assert_eq!(histogram.range()[1], values.last().copied().unwrap_or(0.0).max(0.0));
        }
    }

    #[test]
    fn what_is_no_number_ends_nothing() {
        let mut histogram = Histogram::default();
        histogram.add(&[f32::NAN, f32::INFINITY, 1.0, f32::MAX, f32::MIN_POSITIVE / 4.0]);
        assert_eq!(histogram.bins().iter().map(|b| b.count).sum::<u64>(), 3);
        assert_eq!(histogram.range(), [0.0, f32::INFINITY]);
        let mut histogram = Histogram::default();
        histogram.add(&[f32::NAN, f32::INFINITY, 1.0, 9.0, 0.0]);
        assert_eq!(histogram.share_beyond([0.0, 2.0]), 1.0 / 3.0);
        assert_eq!(Histogram::default().share_beyond([0.0, 1.0]), 0.0);
    }
}
