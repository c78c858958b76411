//! Which way round the grey scale of a radiograph is: bone white on black air, or its negative.
//!
//! A score of the picture brought to 16×16 cells of mean 0 and standard deviation 1; the negative of a picture has
//! the same score with the other sign. Fitted by `polarity.py` on four fifths of the Kermany training images and
//! variants of them; of the rest none is called a negative, and all of their negatives are (1,044), as are 98.8 % of
//! those of 243 adults of another hospital, with none called so wrongly.

use super::GreyPlane;

const SIDE: usize = 16;
/// Pixels of a cell that are looked at, along each side.
const SAMPLES: usize = 8;
/// Added to the standard deviation (grey levels), so that a grey plane has a score of 0.
const FLOOR: f64 = 1e-3;
/// A picture of this score or less is a negative.
const NEGATIVE: f64 = -4.0;

/// Hundredths of a score for each cell, row by row.
#[rustfmt::skip]
const WEIGHTS: [[i8; SIDE]; SIDE] = [
    [-6, -8, -15, -9, -2, 1, 5, 10, 8, 2, -6, -6, -14, -15, 0, -4],
    [1, -1, -19, -16, -12, -4, 0, 3, -1, -4, -2, -9, -17, -15, 5, 10],
    [8, 2, -27, -12, -3, -8, 3, 19, 18, 9, 1, -6, -13, -22, 7, 14],
    [13, 6, -19, -4, 0, 0, 4, 11, 9, 7, 7, -1, -5, -15, 10, 10],
    [9, -2, -18, -1, -10, -10, -5, 7, 7, -4, -4, -1, 2, -17, 8, 5],
    [-1, -1, -21, -7, -10, -9, -4, 7, 7, -6, -12, -9, -5, -14, 1, -6],
    [-5, 2, -14, 0, -9, -11, -3, 9, 14, 1, -9, -5, -1, -17, -6, -8],
    [-7, 2, -13, -7, -10, -2, 4, 19, 25, 13, -2, -10, -4, -12, -7, -9],
    [-5, 2, -12, -5, -6, -1, 14, 27, 26, 11, -3, -6, -5, -12, -10, -14],
    [-6, 0, -13, -9, -7, 3, 11, 27, 26, 15, 0, -9, -6, -13, -6, -14],
    [-4, -2, -20, -10, -3, 3, 16, 28, 25, 14, 1, -8, -10, -12, -5, -10],
    [-8, -2, -15, -14, -7, 11, 14, 20, 20, 15, 2, -4, -6, -16, -5, -11],
    [-8, 0, -12, -12, 4, 12, 18, 22, 23, 23, 15, -1, -9, -16, 1, -9],
    [-6, -1, -9, -6, 3, 17, 26, 37, 34, 28, 19, 7, 0, -23, -5, -4],
    [-14, -6, -13, -12, 5, 17, 18, 20, 19, 18, 12, 0, -6, -15, 4, -3],
    [-15, -8, -4, -3, 8, 17, 20, 27, 26, 22, 24, 12, 4, -11, -4, -10],
];

/// True if `plane` looks like the negative of a chest radiograph.
pub fn is_negative(plane: &GreyPlane) -> bool {
    score(plane) <= NEGATIVE
}

fn score(plane: &GreyPlane) -> f64 {
    let cells = cells(plane);
    let count = cells.len() as f64;
    let mean = cells.iter().sum::<f64>() / count;
    let variance = cells.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / count;
    let weighted = cells.iter().zip(WEIGHTS.as_flattened()).map(|(c, w)| (c - mean) * f64::from(*w));
    weighted.sum::<f64>() / 100.0 / (variance.sqrt() + FLOOR)
}

/// Mean grey levels of the cells, each from up to [`SAMPLES`]² of its pixels.
fn cells(plane: &GreyPlane) -> Vec<f64> {
    let width = plane.width as usize;
    let columns = places(width);
    let rows = places(plane.height as usize);
    let mean = |rows: &[usize], columns: &[usize]| {
        let grey = |row: &usize| columns.iter().map(|c| u32::from(plane.pixels[row * width + c])).sum::<u32>();
        f64::from(rows.iter().map(grey).sum::<u32>()) / (rows.len() * columns.len()) as f64
    };
    rows.iter().flat_map(|r| columns.iter().map(|c| mean(r, c))).collect()
}

/// For each cell along a side of `length` pixels the places that are looked at, evenly spaced.
fn places(length: usize) -> Vec<Vec<usize>> {
    let cell = |i: usize| {
        let start = i * length / SIDE;
        let end = ((i + 1) * length / SIDE).max(start + 1).min(length.max(1));
        let count = (end - start).min(SAMPLES);
        (0..count).map(|k| start + (2 * k + 1) * (end - start) / (2 * count)).collect()
    };
    (0..SIDE).map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Radiograph;

    fn negative(plane: &GreyPlane) -> GreyPlane {
        GreyPlane { pixels: plane.pixels.iter().map(|p| 255 - p).collect(), ..plane.clone() }
    }

    #[test]
    fn a_negative_has_the_score_of_its_radiograph_turned_around() {
        let bytes = include_bytes!("../../../docs/phantom-chest.jpeg");
        let chest = Radiograph::decode(bytes).unwrap().plane;
        for plane in [chest.clone(), chest.resized(97, 33), chest.resized(1200, 1500)] {
            assert!(!is_negative(&plane) && is_negative(&negative(&plane)), "{}", score(&plane));
            assert!((score(&plane) + score(&negative(&plane))).abs() < 1e-6);
        }
    }

    #[test]
    fn pictures_of_any_size_have_a_score() {
        for (width, height) in [(1, 1), (1, 40), (15, 17), (4000, 2)] {
            let plane = GreyPlane { width, height, pixels: vec![9; (width * height) as usize] };
            assert!(!is_negative(&plane));
        }
    }
}
