//! Symmetric matrices by their triangular factor.

/// The lower triangle `L` with `L·Lᵀ` = `matrix`, of which the lower triangle is given; `None` if it is not positive
/// definite (Golub and Van Loan, Matrix Computations, 4.2).
pub fn cholesky(matrix: &[Vec<f64>]) -> Option<Vec<Vec<f64>>> {
    let mut lower: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    for row in matrix {
        let mut values: Vec<f64> = Vec::with_capacity(row.len());
        for (j, value) in row.iter().enumerate() {
            let before = dot(&values[..j], lower.get(j).map_or(&values[..j], |other| &other[..j]));
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
pub fn inverse(lower: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut result: Vec<Vec<f64>> = Vec::with_capacity(lower.len());
    for (i, row) in lower.iter().enumerate() {
        let mut sums = vec![0.0; i + 1];
        for (factor, other) in row.iter().zip(&result) {
            sums.iter_mut().zip(other).for_each(|(sum, value)| *sum += factor * value);
        }
        let identity = |j: usize| if i == j { 1.0 } else { 0.0 };
        result.push(sums.iter().enumerate().map(|(j, sum)| (identity(j) - sum) / row[i]).collect());
    }
    result
}

/// The sum of products, several at a time, which compilers make vectors of.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f64 = a_chunks.remainder().iter().zip(b_chunks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        (0..LANES).for_each(|lane| sums[lane] += a[lane] * b[lane]);
    }
    sums.iter().sum::<f64>() + rest
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
        let entry = |i: usize, j: usize| (j..=i).map(|k| lower[i][k] * inverse[k][j]).sum::<f64>();
        let identity = |i: usize, j: usize| if i == j { 1.0 } else { 0.0 };
        assert!((0..3).all(|i| (0..=i).all(|j| (entry(i, j) - identity(i, j)).abs() < 1e-12)));
        assert_eq!(cholesky(&[vec![1.0], vec![2.0, 1.0]]), None);
    }
}
