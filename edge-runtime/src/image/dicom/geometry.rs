//! The right way up, with square pixels.

use super::object::Object;
use crate::image::GreyPlane;
use dicom_dictionary_std::tags;

/// Ratios of a pixel's sides beyond this are mistakes.
const LARGEST_RATIO: f64 = 4.0;

/// A direction in the patient, along an axis of a frontal radiograph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Left,
    Right,
    Foot,
    Head,
}

impl Direction {
    /// The first letter of a value of `PatientOrientation` (PS3.3, C.7.6.1.1.1).
    fn of(word: &str) -> Option<Direction> {
        match word.chars().next()? {
            'L' => Some(Direction::Left),
            'R' => Some(Direction::Right),
            'F' => Some(Direction::Foot),
            'H' => Some(Direction::Head),
            _ => None,
        }
    }

    fn is_sideways(self) -> bool {
        matches!(self, Direction::Left | Direction::Right)
    }
}

/// `plane` as a frontal radiograph is looked at: the patient's left on the right, the feet below. Views that are not
/// frontal, and those whose orientation nobody wrote down, stay.
pub fn oriented(object: &Object, plane: GreyPlane) -> GreyPlane {
    let words = object.words(tags::PATIENT_ORIENTATION);
    let directions: Vec<Option<Direction>> = words.iter().map(|w| Direction::of(w)).collect();
    let [Some(along), Some(down)] = directions[..] else { return plane };
    match [along, down] {
        [along, down] if along.is_sideways() && !down.is_sideways() => turned(plane, along, down),
        [along, down] if !along.is_sideways() && down.is_sideways() => turned(transposed(plane), down, along),
        _ => plane,
    }
}

/// Mirrors `plane`, whose rows go `along` and whose columns `down`.
fn turned(mut plane: GreyPlane, along: Direction, down: Direction) -> GreyPlane {
    let width = plane.width as usize;
    if along == Direction::Right {
        plane.pixels.chunks_exact_mut(width).for_each(<[u8]>::reverse);
    }
    if down == Direction::Head {
        let rows: Vec<&[u8]> = plane.pixels.chunks_exact(width).rev().collect();
        plane.pixels = rows.concat();
    }
    plane
}

fn transposed(plane: GreyPlane) -> GreyPlane {
    let width = plane.width as usize;
    let height = plane.height as usize;
    let pixels = (0..width).flat_map(|x| (0..height).map(move |y| (x, y))).map(|(x, y)| plane.pixels[y * width + x]);
    GreyPlane { width: plane.height, height: plane.width, pixels: pixels.collect() }
}

/// `plane` with square pixels: the side along which they are longer grows.
pub fn square(object: &Object, plane: GreyPlane) -> GreyPlane {
    let spacings = [tags::PIXEL_ASPECT_RATIO, tags::PIXEL_SPACING, tags::IMAGER_PIXEL_SPACING];
    let Some([vertical, horizontal]) = spacings.iter().find_map(|tag| <[f64; 2]>::try_from(object.floats(*tag)).ok())
    else {
        return plane;
    };
    let ratio = vertical / horizontal;
    let grown = |side: u32, by: f64| (f64::from(side) * by).round() as u32;
    match ratio {
        r if !(1.0 / LARGEST_RATIO..=LARGEST_RATIO).contains(&r) || (r - 1.0).abs() < 1e-3 => plane,
        r if r > 1.0 => plane.resized(plane.width, grown(plane.height, r)),
        r => plane.resized(grown(plane.width, 1.0 / r), plane.height),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_orientation_is_turned_upright() {
        // Columns go to the patient's left, rows to the feet.
        let upright = GreyPlane { width: 3, height: 2, pixels: vec![1, 2, 3, 4, 5, 6] };
        let mirrored = GreyPlane { pixels: vec![3, 2, 1, 6, 5, 4], ..upright };
        let hanging = GreyPlane { pixels: vec![4, 5, 6, 1, 2, 3], ..upright };
        assert_eq!(turned(mirrored, Direction::Right, Direction::Foot), upright);
        assert_eq!(turned(hanging, Direction::Left, Direction::Head), upright);
        let lying = GreyPlane { width: 2, height: 3, pixels: vec![1, 4, 2, 5, 3, 6] };
        assert_eq!(transposed(lying), upright);
    }
}
