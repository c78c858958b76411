//! A linear rule between two classes (Fisher 1936).

use crate::triangle::{cholesky, inverse};
use rayon::prelude::*;

/// Added to the diagonal of the covariance of standardised numbers (ridge regularisation).
const RIDGE: f64 = 0.05;

/// A weighted sum of some of a row's numbers, larger for the second class.
pub struct Discriminant {
    numbers: Vec<usize>,
    weights: Vec<f64>,
}

/// Mean and centred rows of one class.
struct Class {
    mean: Vec<f64>,
    centred: Vec<Vec<f64>>,
}

impl Class {
    /// `None` of no rows.
    fn of(rows: &[&[f32]], numbers: &[usize]) -> Option<Class> {
        if rows.is_empty() {
            return None;
        }
        let mean = |i: &usize| rows.iter().map(|row| f64::from(row[*i])).sum::<f64>() / rows.len() as f64;
        let mean: Vec<f64> = numbers.iter().map(mean).collect();
        let centre = |row: &&[f32]| numbers.iter().zip(&mean).map(|(i, m)| f64::from(row[*i]) - m).collect();
        let centred = rows.iter().map(centre).collect();
        Some(Class { mean, centred })
    }

    fn covariance(&self, i: usize, j: usize) -> f64 {
        self.centred.iter().map(|row| row[i] * row[j]).sum::<f64>() / self.centred.len() as f64
    }
}

impl Discriminant {
    /// Fits the rule between rows of the `first` and of the `second` class, of which it looks at `numbers`; both
    /// classes count alike. `None` where one has no rows.
    pub fn fit(first: &[&[f32]], second: &[&[f32]], numbers: Vec<usize>) -> Option<Discriminant> {
        let classes = [Class::of(first, &numbers)?, Class::of(second, &numbers)?];
        let size = numbers.len();
        let covariance = |i: usize, j: usize| classes.iter().map(|c| c.covariance(i, j)).sum::<f64>() / 2.0;
        let scale: Vec<f64> = (0..size).map(|i| covariance(i, i).sqrt() + 1e-6).collect();
        let row = |i: usize| -> Vec<f64> {
            (0..=i).map(|j| covariance(i, j) / scale[i] / scale[j] + if i == j { RIDGE } else { 0.0 }).collect()
        };
        let matrix: Vec<Vec<f64>> = (0..size).into_par_iter().map(row).collect();
        let whitening = inverse(&cholesky(&matrix)?);
        let difference: Vec<f64> = (0..size).map(|i| (classes[1].mean[i] - classes[0].mean[i]) / scale[i]).collect();
        let whitened: Vec<f64> =
            whitening.iter().map(|row| row.iter().zip(&difference).map(|(w, d)| w * d).sum()).collect();
        let weight = |j: usize| (j..size).map(|i| whitening[i][j] * whitened[i]).sum::<f64>() / scale[j];
        let weights = (0..size).map(weight).collect();
        Some(Discriminant { numbers, weights })
    }

    /// The sum of `row`.
    pub fn score(&self, row: &[f32]) -> f64 {
        self.terms().map(|(i, weight)| f64::from(row[i]) * weight).sum()
    }

    /// Each number that is looked at, with its weight.
    pub fn terms(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.numbers.iter().copied().zip(self.weights.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clouds_are_told_apart_by_the_numbers_that_are_looked_at() {
        let cloud = |shift: f32| -> Vec<Vec<f32>> {
            (0..50).map(|i| vec![(i % 7) as f32 + shift, (i % 5) as f32, 100.0 * shift]).collect()
        };
        let [low, high] = [cloud(0.0), cloud(20.0)];
        let rows = |cloud: &'static [Vec<f32>]| cloud.iter().map(Vec::as_slice).collect::<Vec<_>>();
        let [low, high] = [low, high].map(|cloud| rows(cloud.leak()));
        let rule = Discriminant::fit(&low, &high, vec![0, 1]).unwrap();
        let highest = low.iter().map(|row| rule.score(row)).fold(f64::NEG_INFINITY, f64::max);
        assert!(high.iter().all(|row| rule.score(row) > highest));
        let blind = Discriminant::fit(&low, &high, vec![1]).unwrap();
        assert!(blind.terms().all(|(_, weight)| weight.abs() < 1e-9));
        assert!(Discriminant::fit(&low, &[], vec![0]).is_none());
    }
}
