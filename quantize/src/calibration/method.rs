//! Which part of an activation the codes cover: a wider part clips less, a narrower one has finer steps.

use super::histogram::{Bin, Histogram};
use edge_runtime::network::Quantisation;
use serde::Serialize;

/// How the part is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// All that was seen.
    MinMax,
    /// All but 5 in a million of the values at each end.
    Percentile,
    /// The least Kullback-Leibler divergence of the codes' distribution from the values' (Migacz, *8-bit inference with
    /// TensorRT*, 2017).
    Entropy,
    /// The least mean squared error.
    Mse,
}

/// Share of the values that a percentile leaves out at each end: 99.999 % stay, as in ONNX Runtime's quantiser.
const CUT: f64 = 5e-6;
/// Narrowest part that is tried, as a share of the whole.
const NARROWEST: f32 = 0.2;
/// Steps from the whole to the narrowest part.
const STEPS: usize = 64;

impl Method {
    /// All of them, the simplest first.
    pub const ALL: [Method; 4] = [Method::MinMax, Method::Percentile, Method::Entropy, Method::Mse];
    /// Their names, for a command line.
    pub const NAMES: [&str; 4] = ["min-max", "percentile", "entropy", "mse"];

    /// Its name.
    pub fn name(self) -> &'static str {
        Method::NAMES[self as usize]
    }

    /// The part that is covered of the values in `histogram`, always with 0 in it.
    pub fn range(self, histogram: &Histogram) -> [f32; 2] {
        let whole = histogram.range();
        if !whole.iter().all(|end| end.is_finite()) {
            return whole;
        }
        let bins = histogram.bins();
        match self {
            Method::MinMax => whole,
            Method::Percentile => percentile(&bins, histogram.width(), whole),
            Method::Entropy => {
                // Zeros are exact in every range; as a peak of their own they would ask for the finest steps.
                let bins: Vec<Bin> = bins.into_iter().filter(|bin| bin.value != 0.0).collect();
                narrowed(whole, |range| divergence(&bins, range))
            }
            Method::Mse => least_error(&bins, whole),
        }
    }
}

impl std::str::FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> Result<Method, String> {
        let known = Method::ALL.into_iter().find(|method| method.name() == name);
        known.ok_or_else(|| format!("`{name}` is none of {}", Method::NAMES.join(", ")))
    }
}

fn percentile(bins: &[Bin], width: f32, whole: [f32; 2]) -> [f32; 2] {
    let all: u64 = bins.iter().map(|bin| bin.count).sum();
    let low = end(bins.iter(), all);
    let high = end(bins.iter().rev(), all);
    // The whole bin stays.
    let edge = |value: f32, by: f32| if value == 0.0 { 0.0 } else { value + by * width / 2.0 };
    [edge(low, -1.0).max(whole[0]).min(0.0), edge(high, 1.0).min(whole[1]).max(0.0)]
}

/// The middle of the first bin that stays of `all` values when [`CUT`] of them go.
fn end<'a>(mut from: impl Iterator<Item = &'a Bin>, all: u64) -> f32 {
    let mut left = (CUT * all as f64) as u64;
    let first = from.find(|bin| {
        let stays = bin.count > left;
        left = left.saturating_sub(bin.count);
        stays
    });
    first.map_or(0.0, |bin| bin.value)
}

/// Shares of the whole that are tried.
fn shares() -> impl Iterator<Item = f32> {
    (0..=STEPS).map(|i| 1.0 - (1.0 - NARROWEST) * i as f32 / STEPS as f32)
}

/// `whole` with both ends drawn in by the share that costs least.
fn narrowed(whole: [f32; 2], cost: impl Fn([f32; 2]) -> f64) -> [f32; 2] {
    let candidates = shares().map(|share| whole.map(|end| end * share));
    least(candidates, cost).unwrap_or(whole)
}

/// The first of `candidates` that costs least.
fn least(candidates: impl Iterator<Item = [f32; 2]>, cost: impl Fn([f32; 2]) -> f64) -> Option<[f32; 2]> {
    let priced = candidates.map(|range| (range, cost(range)));
    let best = priced.reduce(|best, other| if other.1 < best.1 { other } else { best });
    best.map(|(range, _)| range)
}

/// Each end by itself, until neither moves.
fn least_error(bins: &[Bin], whole: [f32; 2]) -> [f32; 2] {
    let error = |range: [f32; 2]| {
        let step = Quantisation::covering(range);
        let of = |bin: &Bin| f64::from(bin.value - step.real(step.code(bin.value))).powi(2) * bin.count as f64;
        bins.iter().map(of).sum::<f64>()
    };
    let mut range = whole;
    for _ in 0..3 {
        let before = range;
        for end in 0..2 {
            let moved = |share: f32| {
                let mut moved = range;
                moved[end] = whole[end] * share;
                moved
            };
            range = least(shares().map(moved), error).unwrap_or(range);
        }
        if range == before {
            break;
        }
    }
    range
}

/// Kullback-Leibler divergence from the distribution of the values, those beyond `range` at its ends, to that of the
/// codes, each of which stands for the bins that it covers in equal parts.
fn divergence(bins: &[Bin], range: [f32; 2]) -> f64 {
    let step = Quantisation::covering(range);
    let ends = [step.real(0), step.real(255)];
    let is_inside = |bin: &&Bin| (ends[0]..=ends[1]).contains(&bin.value);
    let inside: Vec<&Bin> = bins.iter().filter(is_inside).collect();
    let mut values: Vec<f64> = inside.iter().map(|bin| bin.count as f64).collect();
    let beyond = |is: &dyn Fn(f32) -> bool| bins.iter().filter(|b| is(b.value)).map(|b| b.count as f64).sum::<f64>();
    if let [first, .., last] = values.as_mut_slice() {
        *first += beyond(&|v| v < ends[0]);
        *last += beyond(&|v| v > ends[1]);
    }
    let mut codes = vec![(0f64, 0f64); 256];
    for bin in &inside {
        let (count, covered) = &mut codes[usize::from(step.code(bin.value))];
        *count += bin.count as f64;
        *covered += 1.0;
    }
    let all: f64 = values.iter().sum();
    let counted: f64 = inside.iter().map(|bin| bin.count as f64).sum();
    if all == 0.0 || counted == 0.0 {
        return f64::INFINITY;
    }
    let term = |(bin, value): (&&Bin, &f64)| {
        let (count, covered) = codes[usize::from(step.code(bin.value))];
        let p = value / all;
        p * (p / (count / covered / counted)).ln()
    };
    inside.iter().zip(&values).map(term).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bell of `count` values around 0 with deviation 1, and some far away.
    fn bell(count: usize, far: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        // SplitMix64.
        let noise = |k: usize| {
            let mut z = (k as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
        };
        let values: Vec<f32> = (0..count).map(|i| (0..12).map(|k| noise(i * 12 + k + 1)).sum::<f32>() - 6.0).collect();
        histogram.add(&values);
        histogram.add(far);
        histogram
    }

    fn mean_squared_error(histogram: &Histogram, range: [f32; 2]) -> f64 {
        let step = Quantisation::covering(range);
        let bins = histogram.bins();
        bins.iter().map(|b| f64::from(b.value - step.real(step.code(b.value))).powi(2) * b.count as f64).sum()
    }

    #[test]
    fn a_few_values_far_away_are_given_up_for_finer_steps() {
        let histogram = bell(400_000, &[40.0, -22.0]);
        let [whole, percentile, entropy, mse] = Method::ALL.map(|method| method.range(&histogram));
        assert_eq!(whole, [-22.0, 40.0]);
        for range in [percentile, entropy, mse] {
            assert!(range[0] > -22.0 && range[1] < 40.0 && range[0] < -2.0 && range[1] > 2.0, "{range:?}");
        }
        let errors = [whole, percentile, entropy, mse].map(|range| mean_squared_error(&histogram, range));
        assert!(errors[3] <= errors[1] && errors[3] <= errors[2] && errors[3] < errors[0] / 2.0, "{errors:?}");
    }

    #[test]
    fn what_has_no_outliers_keeps_its_range() {
        let mut histogram = Histogram::default();
        histogram.add(&(0..=1000).map(|i| i as f32 / 100.0).collect::<Vec<f32>>());
        for method in Method::ALL {
            let [low, high] = method.range(&histogram);
            assert!(low == 0.0 && (9.7..=10.0).contains(&high), "{method:?} {low} {high}");
        }
    }

    #[test]
    fn values_that_say_nothing_have_a_range() {
        for values in [vec![], vec![0.0; 9], vec![3.0; 9], vec![-2.0], vec![f32::NAN, 1.0], vec![1e-30, 1.0]] {
            let mut histogram = Histogram::default();
            histogram.add(&values);
            for method in Method::ALL {
                let [low, high] = method.range(&histogram);
                assert!(low <= 0.0 && high >= 0.0 && low.is_finite() && high.is_finite(), "{method:?} {values:?}");
            }
        }
        let mut histogram = Histogram::default();
        histogram.add(&[1.0, f32::INFINITY]);
        assert!(Method::ALL.iter().all(|method| method.range(&histogram)[1].is_infinite()));
    }

    #[test]
    fn methods_are_called_as_they_are_written() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>(), Ok(method));
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
        assert!("kl".parse::<Method>().unwrap_err().contains("entropy"));
    }
}
