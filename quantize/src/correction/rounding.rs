//! Rounding with what a layer reads in view (GPTQ, Frantar et al. 2023): weights of a row are rounded one after the
//! other, and what each rounding changes in the layer's output is taken back, as far as it can be, by the weights that
//! are still to come. Which weights can do that, the second moments of the inputs say.

use data::triangle::{cholesky, inverse};
use edge_runtime::network::Quantisation;
use rayon::prelude::*;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest code of a weight.
const LARGEST: f32 = 127.0;
/// Added to the diagonal of the second moments, as a share of its mean: what calibration images did not show is not
/// believed to be nothing.
const DAMPING: f64 = 0.01;

/// How the weights of each layer are rounded, by the name of their tensor. What was rounded once is kept: a network is
/// quantised several times to choose among forms of it.
#[derive(Default)]
pub struct Rounding {
    factors: HashMap<String, Factor>,
    /// Some values of each channel that is read.
    inputs: HashMap<String, Arc<Channels>>,
    done: Mutex<HashMap<String, Arc<Rounded>>>,
}

/// Some values of each channel of a tensor.
pub type Channels = Vec<Vec<f32>>;

/// The weights of a layer, row by row, as codes.
#[derive(Debug)]
pub struct Rounded {
    /// What a code of each row stands for.
    scales: Vec<f32>,
    /// The codes of all rows.
    pub codes: Vec<i8>,
    /// By how much the mean of each row's output falls; its bias makes up for it.
    pub falls: Vec<f32>,
}

impl Rounding {
    /// Every weight by itself.
    pub fn plain() -> Rounding {
        Rounding::default()
    }

    /// What is known of the inputs of the weights `name`.
    pub fn factor(&self, name: &str) -> Option<&Factor> {
        self.factors.get(name)
    }

    /// With some values of what each of these weights reads.
    pub fn with_inputs(mut self, inputs: HashMap<String, Arc<Channels>>) -> Rounding {
        self.inputs = inputs;
        self
    }

    /// By how much each channel that the weights `name` read is larger as codes of `step`, in the mean: the bias can
    /// take it back (Nagel et al. 2019, section 4.2).
    pub fn input_error(&self, name: &str, step: Quantisation) -> Option<Vec<f32>> {
        let error = |value: &f32| f64::from(step.real(step.code(*value)) - value);
        let mean = |values: &Vec<f32>| values.iter().map(error).sum::<f64>() / values.len().max(1) as f64;
        Some(self.inputs.get(name)?.par_iter().map(|values| mean(values) as f32).collect())
    }

    /// Names of the weights whose inputs are known.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.factors.keys()
    }

    /// Rounds `values`, the weights `name`, which have as many rows as `scales`, to multiples of their row's scale.
    pub fn round(&self, name: &str, values: &[f32], scales: &[f32]) -> Arc<Rounded> {
        let known = self.done.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if let Some(known) = known.filter(|known| known.scales == scales) {
            return known;
        }
        let factor = self.factor(name);
        let depth = (values.len() / scales.len().max(1)).max(1);
        let row = |(o, (row, scale)): (usize, (&[f32], &f32))| {
            let corrected = factor.and_then(|factor| factor.round(o, row, *scale));
            corrected.unwrap_or_else(|| (rounded(row, *scale), 0.0))
        };
        let rows: Vec<(Vec<i8>, f32)> = values.par_chunks_exact(depth).zip(scales).enumerate().map(row).collect();
        let falls = rows.iter().map(|(_, fall)| *fall).collect();
        let codes = rows.into_iter().flat_map(|(codes, _)| codes).collect();
        let done = Arc::new(Rounded { scales: scales.to_vec(), codes, falls });
        self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), done.clone());
        done
    }
}

impl FromParallelIterator<(String, Factor)> for Rounding {
    fn from_par_iter<I: IntoParallelIterator<Item = (String, Factor)>>(factors: I) -> Rounding {
        Rounding { factors: HashMap::from_par_iter(factors), ..Rounding::default() }
    }
}

/// Of a layer's inputs: the upper triangle `U` with `Uᵀ·U` the inverse of their second moments, and their means.
pub enum Factor {
    /// The same for all rows of the weights.
    Shared(Inputs),
    /// One for each row (depthwise).
    EachRow(Vec<Inputs>),
}

/// What is known of the inputs of a row.
pub struct Inputs {
    /// Row by row, from the diagonal on.
    upper: Vec<Vec<f64>>,
    mean: Vec<f64>,
}

impl Inputs {
    /// Nothing is known: plain rounding.
    pub const NOTHING: Inputs = Inputs { upper: vec![], mean: vec![] };

    /// From the sum of products of the inputs, its lower triangle row by row, the sum of the inputs, and their number.
    /// `None` where they say nothing.
    pub fn new(products: &[Vec<f64>], sums: &[f64], count: usize) -> Option<Inputs> {
        let n = products.len();
        let diagonal = (0..n).map(|i| products[i][i]).sum::<f64>() / n as f64;
        if count == 0 || diagonal <= 0.0 || !diagonal.is_finite() {
            return None;
        }
        // With the order of rows and columns turned round, the lower triangle of Cholesky is an upper one.
        let at = |i: usize, j: usize| products[i.max(j)][i.min(j)] + if i == j { DAMPING * diagonal } else { 0.0 };
        let turned: Vec<Vec<f64>> = (0..n).map(|i| (0..=i).map(|j| at(n - 1 - i, n - 1 - j)).collect()).collect();
        let lower = inverse(&cholesky(&turned)?);
        let upper = (0..n).map(|i| (i..n).map(|j| lower[n - 1 - i][n - 1 - j]).collect()).collect();
        Some(Inputs { upper, mean: sums.iter().map(|sum| sum / count as f64).collect() })
    }
}

impl Factor {
    fn row(&self, row: usize) -> Option<&Inputs> {
        match self {
            Factor::Shared(inputs) => Some(inputs),
            Factor::EachRow(rows) => rows.get(row),
        }
    }

    /// Rounds the weights of row number `row` to multiples of `scale`; gives their codes, and by how much the mean of
    /// the row's output falls.
    pub fn round(&self, row: usize, weights: &[f32], scale: f32) -> Option<(Vec<i8>, f32)> {
        let inputs = self.row(row).filter(|inputs| inputs.upper.len() == weights.len())?;
        let mut left: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
        let scale = f64::from(scale);
        let mut codes = Vec::with_capacity(weights.len());
        let mut fall = 0.0;
        for (i, upper) in inputs.upper.iter().enumerate() {
            let code = (left[i] / scale).round_ties_even().clamp(f64::from(-LARGEST), f64::from(LARGEST));
            let error = (left[i] - code * scale) / upper[0];
            left[i..].iter_mut().zip(upper).for_each(|(weight, u)| *weight -= error * u);
            fall += (f64::from(weights[i]) - code * scale) * inputs.mean[i];
            codes.push(code as i8);
        }
        Some((codes, fall as f32))
    }
}

/// The codes of a row of weights by themselves.
fn rounded(weights: &[f32], scale: f32) -> Vec<i8> {
    weights.iter().map(|v| (v / scale).round_ties_even().clamp(-LARGEST, LARGEST) as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs that resemble each other, as neighbouring pixels do.
    fn inputs(n: usize, count: usize) -> Vec<Vec<f64>> {
        let noise = |k: usize| ((k as u64).wrapping_mul(6_364_136_223_846_793_005) >> 33) as f64 / (1u64 << 31) as f64;
        (0..count)
            .map(|s| (0..n).map(|i| 1.0 + noise(s * 977 + 1) + 0.2 * noise(s * 31 + i * 7919)).collect())
            .collect()
    }

    fn moments(samples: &[Vec<f64>]) -> Inputs {
        let n = samples[0].len();
        let product = |i: usize, j: usize| samples.iter().map(|s| s[i] * s[j]).sum::<f64>();
        let products: Vec<Vec<f64>> = (0..n).map(|i| (0..=i).map(|j| product(i, j)).collect()).collect();
        let sums: Vec<f64> = (0..n).map(|i| samples.iter().map(|s| s[i]).sum()).collect();
        Inputs::new(&products, &sums, samples.len()).unwrap()
    }

    #[test]
    fn the_output_changes_less_than_with_plain_rounding() {
        let samples = inputs(24, 400);
        let factor = Factor::Shared(moments(&samples));
        let scale = 0.2;
        let error = |weights: &[f32], codes: &[i8], shift: f32| -> f64 {
            let one = |sample: &Vec<f64>| {
                let change: f64 = sample
                    .iter()
                    .zip(codes)
                    .zip(weights)
                    .map(|((x, code), w)| x * (f64::from(*w) - f64::from(*code) * f64::from(scale)))
                    .sum();
                (change - f64::from(shift)).powi(2)
            };
            samples.iter().map(one).sum()
        };
        let mut errors = [0.0; 3];
        for row in 0..40 {
            let weights: Vec<f32> = (0..24).map(|i| ((i * 37 + row * 101) % 251) as f32 / 125.0 - 1.0).collect();
            let (codes, fall) = factor.round(0, &weights, scale).unwrap();
            errors[0] += error(&weights, &rounded(&weights, scale), 0.0);
            errors[1] += error(&weights, &codes, 0.0);
            errors[2] += error(&weights, &codes, fall);
        }
        assert!(errors[1] < errors[0] / 4.0 && errors[2] <= errors[1], "{errors:?}");
    }

    #[test]
    fn weights_are_rounded_anew_for_other_scales_only() {
        let factor = Factor::Shared(moments(&inputs(24, 400)));
        let rounding = Rounding::from_par_iter([("w".to_owned(), factor)]);
        let weights: Vec<f32> = (0..48).map(|i| ((i * 37) % 251) as f32 / 125.0 - 1.0).collect();
        let first = rounding.round("w", &weights, &[0.2, 0.1]);
        assert!(Arc::ptr_eq(&first, &rounding.round("w", &weights, &[0.2, 0.1])));
        let by_row: Vec<i8> = [(0, 0.2), (1, 0.1)]
            .into_iter()
            .flat_map(|(o, scale)| rounding.factor("w").unwrap().round(0, &weights[o * 24..][..24], scale).unwrap().0)
            .collect();
        assert_eq!(first.codes, by_row);
        assert_ne!(rounding.round("w", &weights, &[0.3, 0.1]).codes, by_row);
        let plain = Rounding::plain().round("w", &weights, &[0.2, 0.1]);
        assert_eq!((plain.codes[..24].to_vec(), plain.falls.as_slice()), (rounded(&weights[..24], 0.2), &[0.0; 2][..]));
    }

    #[test]
    fn the_mean_error_of_codes_is_that_of_the_values() {
        let step = Quantisation::covering([-1.0, 1.55]);
        let values = vec![vec![0.004; 9], vec![0.0, 0.012, 9.0], vec![]];
        let rounding = Rounding::plain().with_inputs(HashMap::from([("w".to_owned(), Arc::new(values))]));
        let errors = rounding.input_error("w", step).unwrap();
        let want = [-0.004, (0.0 - 0.002 - (9.0 - 1.55)) / 3.0, 0.0];
        assert!(errors.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-5), "{errors:?}");
        assert!(rounding.input_error("v", step).is_none());
    }

    #[test]
    fn independent_inputs_change_nothing() {
        let products: Vec<Vec<f64>> = (0..8).map(|i| (0..=i).map(|j| f64::from(u8::from(i == j))).collect()).collect();
        let factor = Factor::Shared(Inputs::new(&products, &[0.0; 8], 8).unwrap());
        let weights: Vec<f32> = (0..8).map(|i| i as f32 * 0.373 - 1.0).collect();
        assert_eq!(factor.round(0, &weights, 0.1).unwrap(), (rounded(&weights, 0.1), 0.0));
    }

    #[test]
    fn inputs_that_say_nothing_round_nothing() {
        assert!(Inputs::new(&[vec![0.0]], &[0.0], 5).is_none());
        assert!(Inputs::new(&[vec![f64::NAN]], &[0.0], 5).is_none());
    }
}
