//! What training images look like, as the device remembers it.

use edge_runtime::domain::{Descriptor, Distribution, LENGTH};
use edge_runtime::image::GreyPlane;
use rayon::prelude::*;

/// Training images for each number of a descriptor, below which nothing is fitted.
const IMAGES_A_NUMBER: usize = 4;
/// Validation images that are needed to choose the limit.
const VALIDATION_IMAGES: usize = 100;
/// Share of the validation images that lie beyond the limit.
pub const BEYOND: f64 = 0.015;
/// Added to the diagonal of the correlation matrix: directions in which training images hardly differ are not trusted
/// (ridge regularisation).
const RIDGE: f64 = 1e-2;

/// Fits the distribution of `train`, with the limit beyond which [`BEYOND`] of `validation` lie; `None` where there are
/// too few images for that.
pub fn fit(train: &[GreyPlane], validation: &[GreyPlane]) -> Option<Distribution> {
    if train.len() < IMAGES_A_NUMBER * LENGTH || validation.len() < VALIDATION_IMAGES {
        return None;
    }
    let describe = |frame: &GreyPlane| Descriptor::of(frame);
    let rows: Vec<Vec<f32>> = train.par_iter().map(|frame| describe(frame).values()).collect();
    let mut distribution = of_rows(&rows)?;
    let distance = |frame: &GreyPlane| distribution.distance(&describe(frame));
    let mut distances: Vec<f32> = validation.par_iter().map(distance).collect();
    distances.sort_by(f32::total_cmp);
    let beyond = (BEYOND * distances.len() as f64) as usize;
    distribution.limit = distances[distances.len() - 1 - beyond].max(f32::MIN_POSITIVE);
    Some(distribution)
}

/// The distribution of descriptors, its limit still open.
fn of_rows(rows: &[Vec<f32>]) -> Option<Distribution> {
    let count = rows.len() as f64;
    let column = |i: usize| rows.iter().map(move |row| f64::from(row[i]));
    let mean: Vec<f64> = (0..LENGTH).map(|i| column(i).sum::<f64>() / count).collect();
    let deviation = |i: usize| (column(i).map(|v| (v - mean[i]).powi(2)).sum::<f64>() / count).sqrt() + 1e-6;
    let scale: Vec<f64> = (0..LENGTH).map(deviation).collect();
    let scaled: Vec<Vec<f64>> =
        rows.iter().map(|row| (0..LENGTH).map(|i| (f64::from(row[i]) - mean[i]) / scale[i]).collect()).collect();
    let correlation = |i: usize, j: usize| scaled.iter().map(|row| row[i] * row[j]).sum::<f64>() / count;
    let matrix: Vec<Vec<f64>> = (0..LENGTH)
        .into_par_iter()
        .map(|i| (0..=i).map(|j| correlation(i, j) + if i == j { RIDGE } else { 0.0 }).collect())
        .collect();
    let whitening = inverse(&cholesky(&matrix)?);
    let scaled_back = |row: &Vec<f64>| row.iter().zip(&scale).map(|(w, s)| (w / s) as f32).collect::<Vec<f32>>();
    Some(Distribution {
        mean: mean.into_iter().map(|m| m as f32).collect(),
        whitening: whitening.iter().flat_map(scaled_back).collect(),
        limit: 1.0,
    })
}

/// The lower triangle `L` with `L·Lᵀ` = `matrix`, of which the lower triangle is given; `None` if it is not positive
/// definite (Golub and Van Loan, Matrix Computations, 4.2).
fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    for row in matrix {
        let mut values: Vec<f64> = Vec::with_capacity(row.len());
        for (j, value) in row.iter().enumerate() {
            let before: f64 = (0..j).map(|k| values[k] * lower.get(j).map_or(values[k], |other| other[k])).sum();
            let rest = value - before;
            if j + 1 < row.len() {
                values.push(rest / lower[j][j]);
            } else if rest > 0.0 {
                values.push(rest.sqrt());
            } else {
                return None;
            }
        }
        lower.push(values);
    }
    Some(lower)
}

/// The inverse of a lower triangle, which is one too.
fn inverse(lower: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut result: Vec<Vec<f64>> = Vec::with_capacity(lower.len());
    for (i, row) in lower.iter().enumerate() {
        let one = |j: usize| {
            let sum: f64 = (j..i).map(|k| row[k] * result[k][j]).sum();
            let identity = if i == j { 1.0 } else { 0.0 };
            (identity - sum) / row[i]
        };
        result.push((0..=i).map(one).collect());
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_triangle_times_its_inverse_is_one() {
        let matrix = [vec![4.0], vec![2.0, 5.0], vec![-1.0, 0.5, 3.0]];
        let lower = cholesky(&matrix).unwrap();
        let product = |i: usize, j: usize| (0..=j).map(|k| lower[i][k] * lower[j][k]).sum::<f64>();
        assert!((0..3).all(|i| (0..=i).all(|j| (product(i, j) - matrix[i][j]).abs() < 1e-12)));
        let inverse = inverse(&lower);
        for i in 0..3 {
            for j in 0..=i {
                let got: f64 = (j..=i).map(|k| lower[i][k] * inverse[k][j]).sum();
                assert!((got - if i == j { 1.0 } else { 0.0 }).abs() < 1e-12);
            }
        }
        assert_eq!(cholesky(&[vec![1.0], vec![2.0, 1.0]]), None);
    }

    /// A picture whose brightness, tilt and texture vary.
    fn picture(seed: u32) -> GreyPlane {
        let draw = |k: u32| (seed.wrapping_mul(2_654_435_761).wrapping_add(k.wrapping_mul(40_503)) >> 16) % 40;
        let [base, tilt, fine] = [draw(1), draw(2), draw(3)];
        let grey = |i: u32| (40 + base + i / 24 * (tilt + 40) / 24 + (i * i) % (fine + 3)) as u8;
        GreyPlane::square(24, (0..576).map(grey).collect())
    }

    #[test]
    fn images_like_those_of_training_are_inside_and_others_outside() {
        let frames: Vec<GreyPlane> = (0..1000).map(picture).collect();
        let (train, validation) = frames.split_at(800);
        let distribution = fit(train, validation).unwrap();
        let is_outside = |frame: &GreyPlane| distribution.position(&Descriptor::of(frame)).distance > 1.0;
        let beyond = validation.iter().filter(|f| is_outside(f)).count();
        assert!(beyond <= 3, "{beyond}");
        let held_back = (2000..2200).map(picture).filter(is_outside).count();
        assert!(held_back < 20, "{held_back}");
        assert!(is_outside(&GreyPlane::square(24, (0..576).map(|i| (i % 24 * 10) as u8).collect())));
        assert_eq!(fit(&train[..600], validation), None);
    }
}
