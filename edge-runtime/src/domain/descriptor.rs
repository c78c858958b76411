//! What a radiograph looks like in a few numbers: grey levels, sharpness by scale and place, borders, and where it is
//! bright. No part of it knows lungs; it tells machines, exposures, ages, positions and pictures of other things apart.

use std::ops::Range;

use crate::image::GreyPlane;

/// Side that a picture is brought to.
const SIDE: u32 = 160;
/// Shares of the pixels whose grey levels are taken.
const QUANTILES: [f64; 9] = [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];
/// Times that the picture is halved, and one.
const OCTAVES: usize = 3;
/// Cells along a side in which sharpness is taken.
const GRID: usize = 4;
/// Pixels of a border strip.
const STRIP: usize = 4;
/// Cells along a side in which brightness is taken.
const CELLS: usize = 10;
/// Added to differences of grey levels before their logarithm, so that a grey plane has one.
const FLOOR: f32 = 0.1;
/// Added to the standard deviation (grey levels) that brightness is divided by.
const CONTRAST_FLOOR: f32 = 5.0;

/// Numbers in a descriptor.
pub const LENGTH: usize = QUANTILES.len() + OCTAVES * (3 + GRID * GRID) + 8 + CELLS * CELLS;

/// Where each kind of number stands in [`Descriptor::values`].
pub const PARTS: [(&str, Range<usize>); 4] = {
    let sharpness = QUANTILES.len();
    let borders = sharpness + OCTAVES * (3 + GRID * GRID);
    let places = borders + 8;
    [
        ("grey levels", 0..sharpness),
        ("sharpness", sharpness..borders),
        ("borders", borders..places),
        ("brightness by place", places..LENGTH),
    ]
};

/// What a picture looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    levels: [f32; QUANTILES.len()],
    octaves: [Octave; OCTAVES],
    /// Top, right, bottom and left: mean, and logarithm of the standard deviation.
    borders: [[f32; 2]; 4],
    /// Brightness of mean 0 and standard deviation near 1, row by row.
    cells: [f32; CELLS * CELLS],
}

/// Sharpness at one scale, as logarithms of mean grey-level differences.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Octave {
    across: f32,
    down: f32,
    curvature: f32,
    /// Curvature by place, row by row.
    grid: [f32; GRID * GRID],
}

impl Descriptor {
    /// Of `plane`, whatever its size.
    pub fn of(plane: &GreyPlane) -> Descriptor {
        let plane = plane.resized(SIDE, SIDE);
        let mut level = Square { side: SIDE as usize, values: plane.pixels.iter().map(|p| f32::from(*p)).collect() };
        let levels = quantiles(&plane);
        let borders = level.borders();
        let cells = level.brightness();
        let octaves = std::array::from_fn(|_| {
            let octave = level.octave();
            level = level.halved();
            octave
        });
        Descriptor { levels, octaves, borders, cells }
    }

    /// Of the picture turned by a quarter, clockwise.
    pub fn turned(&self) -> Descriptor {
        let octave = |o: &Octave| Octave { across: o.down, down: o.across, grid: turned(&o.grid, GRID), ..*o };
        let [top, right, bottom, left] = self.borders;
        Descriptor {
            levels: self.levels,
            octaves: self.octaves.each_ref().map(octave),
            borders: [left, top, right, bottom],
            cells: turned(&self.cells, CELLS),
        }
    }

    /// The numbers, [`LENGTH`] of them.
    pub fn values(&self) -> Vec<f32> {
        let octave = |o: &Octave| [o.across, o.down, o.curvature].into_iter().chain(o.grid);
        let octaves = self.octaves.iter().flat_map(octave);
        self.levels.into_iter().chain(octaves).chain(self.borders.into_iter().flatten()).chain(self.cells).collect()
    }
}

/// The square `cells` turned by a quarter, clockwise.
fn turned<const N: usize>(cells: &[f32; N], side: usize) -> [f32; N] {
    std::array::from_fn(|i| {
        let row = i / side;
        let column = i % side;
        cells[(side - 1 - column) * side + row]
    })
}

/// Grey levels below which [`QUANTILES`] of the pixels lie, as shares of white.
fn quantiles(plane: &GreyPlane) -> [f32; QUANTILES.len()] {
    let histogram = plane.histogram();
    QUANTILES.map(|share| {
        let rank = (share * plane.pixels.len() as f64).ceil() as u32;
        let mut below = 0;
        let level = histogram.iter().position(|count| {
            below += count;
            below >= rank
        });
        level.unwrap_or(255) as f32 / 255.0
    })
}

/// A square of grey levels.
struct Square {
    side: usize,
    values: Vec<f32>,
}

/// Mean and standard deviation.
fn moments(values: impl Iterator<Item = f32> + Clone) -> (f32, f32) {
    let count = values.clone().count() as f32;
    let mean = values.clone().sum::<f32>() / count;
    let variance = values.map(|v| (v - mean) * (v - mean)).sum::<f32>() / count;
    (mean, variance.sqrt())
}

impl Square {
    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.side + column]
    }

    fn borders(&self) -> [[f32; 2]; 4] {
        let whole = 0..self.side;
        let first = 0..STRIP;
        let last = self.side - STRIP..self.side;
        [(&first, &whole), (&whole, &last), (&last, &whole), (&whole, &first)].map(|(rows, columns)| {
            let strip = rows.clone().flat_map(|row| columns.clone().map(move |column| self.at(row, column)));
            let (mean, deviation) = moments(strip);
            [mean / 255.0, (deviation + 1.0).ln()]
        })
    }

    fn brightness(&self) -> [f32; CELLS * CELLS] {
        let step = self.side / CELLS;
        let cells: [f32; CELLS * CELLS] = std::array::from_fn(|i| {
            let rows = i / CELLS * step..(i / CELLS + 1) * step;
            let columns = i % CELLS * step..(i % CELLS + 1) * step;
            let sum: f32 = rows.flat_map(|row| &self.values[row * self.side..][columns.clone()]).sum();
            sum / (step * step) as f32
        });
        let (mean, deviation) = moments(cells.into_iter());
        cells.map(|cell| (cell - mean) / (deviation + CONTRAST_FLOOR))
    }

    fn octave(&self) -> Octave {
        let side = self.side;
        let rows = || self.values.chunks_exact(side);
        let across: f32 = rows().map(|row| row.iter().zip(&row[1..]).map(|(a, b)| (a - b).abs()).sum::<f32>()).sum();
        let down: f32 = self.values.iter().zip(&self.values[side..]).map(|(a, b)| (a - b).abs()).sum();
        let cell = side / GRID;
        // Without the outermost pixels, which have no four neighbours.
        let inner = |i: usize| (i * cell).max(1)..((i + 1) * cell).min(side - 1);
        let areas: [_; GRID * GRID] = std::array::from_fn(|i| (inner(i / GRID), inner(i % GRID)));
        let sums = areas.clone().map(|(rows, columns)| self.curvature(rows, columns));
        let curvature = sums.iter().sum::<f32>() / ((side - 2) * (side - 2)) as f32;
        let pairs = (side * (side - 1)) as f32;
        Octave {
            across: (across / pairs + FLOOR).ln(),
            down: (down / pairs + FLOOR).ln(),
            curvature: (curvature + FLOOR).ln(),
            grid: std::array::from_fn(|i| (sums[i] / (areas[i].0.len() * areas[i].1.len()) as f32 + FLOOR).ln()),
        }
    }

    /// Sum of the magnitudes of four times a pixel less its neighbours, over the pixels of an area.
    fn curvature(&self, rows: Range<usize>, columns: Range<usize>) -> f32 {
        let mut sum = 0.0;
        for row in rows {
            for column in columns.clone() {
                let beside = self.at(row - 1, column)
                    + self.at(row + 1, column)
                    + self.at(row, column - 1)
                    + self.at(row, column + 1);
                sum += (4.0 * self.at(row, column) - beside).abs();
            }
        }
        sum
    }

    /// Means of 2×2 pixels.
    fn halved(&self) -> Square {
        let side = self.side / 2;
        let mean = |i: usize| {
            let row = i / side * 2;
            let column = i % side * 2;
            let sum = self.at(row, column) + self.at(row, column + 1) + self.at(row + 1, column);
            (sum + self.at(row + 1, column + 1)) / 4.0
        };
        Square { side, values: (0..side * side).map(mean).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture() -> GreyPlane {
        let grey = |i: u32| ((i % 160) + (i / 160) / 2 + (i * 7919) % 13) as u8;
        GreyPlane::square(SIDE, (0..SIDE * SIDE).map(grey).collect())
    }

    fn quarter(plane: &GreyPlane) -> GreyPlane {
        let side = plane.width as usize;
        let grey = |i: usize| plane.pixels[(side - 1 - i % side) * side + i / side];
        GreyPlane::square(plane.width, (0..side * side).map(grey).collect())
    }

    #[test]
    fn a_turned_descriptor_is_that_of_the_turned_picture() {
        let mut plane = picture();
        let mut descriptor = Descriptor::of(&plane);
        for _ in 0..3 {
            plane = quarter(&plane);
            descriptor = descriptor.turned();
            let got = Descriptor::of(&plane).values();
            let worst = got.iter().zip(descriptor.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{worst}");
        }
        assert_eq!(descriptor.turned().values(), Descriptor::of(&picture()).values());
    }

    #[test]
    fn a_descriptor_is_finite_and_has_its_length() {
        for plane in
            [picture(), GreyPlane::square(1, vec![0]), GreyPlane { width: 3, height: 900, pixels: vec![255; 2700] }]
        {
            let values = Descriptor::of(&plane).values();
            assert_eq!(values.len(), LENGTH);
            assert!(values.iter().all(|v| v.is_finite()));
        }
    }

    #[test]
    fn brightness_does_not_change_with_exposure() {
        let plane = picture();
        let darker = GreyPlane { pixels: plane.pixels.iter().map(|p| p / 2).collect(), ..plane.clone() };
        let [bright, dark] = [plane, darker].map(|p| Descriptor::of(&p).cells);
        assert!(bright.iter().zip(dark).all(|(a, b)| (a - b).abs() < 0.2));
    }
}
