//! How often values were seen, in bins that widen with what comes.

/// Bins above 0, and as many below.
const HALF: usize = 4096;

/// Values of one activation: their ends exactly, in between by bins of one width with a border at 0.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// The smallest and largest value, and 0.
    range: [f32; 2],
    /// The bins go from its negative to it: a power of two, or 0 while only zeros were seen.
    reach: f32,
    /// Empty while `reach` is 0.
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
    /// Counts `values`. What is no number, or infinite, only moves the ends.
    pub fn add(&mut self, values: &[f32]) {
        let ends = |[low, high]: [f32; 2], v: &f32| [low.min(*v), high.max(*v)];
        self.range = values.iter().fold(self.range, ends);
        let largest = values.iter().filter(|v| v.is_finite()).fold(0f32, |m, v| m.max(v.abs()));
        self.widen(largest);
        let width = self.width();
        for v in values.iter().filter(|v| v.is_finite()) {
            if *v == 0.0 || width == 0.0 {
                self.zeros += 1;
                continue;
            }
            let at = (v / width).floor() + HALF as f32;
            self.counts[at.clamp(0.0, (2 * HALF - 1) as f32) as usize] += 1;
        }
    }

    /// The smallest and largest value, and 0.
    pub fn range(&self) -> [f32; 2] {
        self.range
    }

    /// The width of a bin.
    pub fn width(&self) -> f32 {
        self.reach / HALF as f32
    }

    /// Bins with values, from the lowest on. Zeros have one of their own.
    pub fn bins(&self) -> Vec<Bin> {
        let middle = |i: usize| (i as f32 - HALF as f32 + 0.5) * self.width();
        let bin = |(i, count): (usize, &u64)| (*count > 0).then(|| Bin { value: middle(i), count: *count });
        let (below, above) = self.counts.split_at(self.counts.len() / 2);
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
            self.counts = vec![0; 2 * HALF];
        }
        while self.reach < largest && self.reach < f32::MAX / 2.0 {
            self.reach *= 2.0;
            let mut halved = vec![0; 2 * HALF];
            for (i, count) in self.counts.iter().enumerate() {
                halved[(i + HALF) / 2] += count;
            }
            self.counts = halved;
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
