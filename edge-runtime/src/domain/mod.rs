//! What a model was trained on, and how far a radiograph is from that.
//!
//! Images of the training data are a cloud in the space of [`Descriptor`]s; the Mahalanobis distance from its middle
//! (De Maesschalck et al. 2000) tells how unlike them a picture is, and that of the turned picture whether it lies on
//! its side. The cloud is fitted by `data::domain`, and its limit chosen on validation images.

mod descriptor;

pub use descriptor::{Descriptor, LENGTH};

use serde::{Deserialize, Serialize};

/// What a model was trained on, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Youngest and oldest, in years, both included.
    pub ages: Option<[f32; 2]>,
    /// What its images look like.
    pub images: Option<Distribution>,
}

/// The distribution of training images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Mean descriptor, [`LENGTH`] numbers.
    pub mean: Vec<f32>,
    /// Lower triangle, row by row, of the matrix by which deviations from the mean become numbers of variance 1.
    pub whitening: Vec<f32>,
    /// Root mean square of those numbers from which on a picture is unlike the training images.
    pub limit: f32,
}

/// Where a picture lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Position {
    /// Distance as a share of the limit: above 1 it is outside.
    pub distance: f32,
    /// True if the picture turned by a quarter, a half or three quarters is clearly nearer.
    pub is_turned: bool,
}

/// Share of a picture's squared distance that a turned one must be below.
const TURNED: f32 = 0.9;

impl Domain {
    /// Refuses one that cannot be: says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.ages.is_some_and(|[youngest, oldest]| !(0.0 <= youngest && youngest <= oldest && oldest < 200.0)) {
            return Err("the ages of its training images are no range of years".into());
        }
        self.images.as_ref().map_or(Ok(()), Distribution::check)
    }

    /// True if a person of `days` is younger or older than those of the training images; false where that is unknown.
    pub fn excludes_age(&self, days: u32) -> bool {
        let years = days as f32 / 365.0;
        self.ages.is_some_and(|[youngest, oldest]| years < youngest || years >= oldest + 1.0)
    }
}

impl Distribution {
    fn check(&self) -> Result<(), String> {
        let is_sound = self.mean.len() == LENGTH && self.whitening.len() == LENGTH * (LENGTH + 1) / 2;
        let is_finite = self.mean.iter().chain(&self.whitening).all(|v| v.is_finite());
        match is_sound && is_finite && self.limit.is_finite() && self.limit > 0.0 {
            true => Ok(()),
            false => Err(format!("the distribution of its training images is not one of {LENGTH} numbers")),
        }
    }

    /// Where the picture of `descriptor` lies.
    pub fn position(&self, descriptor: &Descriptor) -> Position {
        let distance = self.distance(descriptor);
        let mut turned = descriptor.clone();
        let mut nearest = f32::INFINITY;
        for _ in 0..3 {
            turned = turned.turned();
            nearest = nearest.min(self.distance(&turned));
        }
        Position { distance: distance / self.limit, is_turned: nearest * nearest < TURNED * distance * distance }
    }

    /// Root mean square of the whitened deviation.
    pub fn distance(&self, descriptor: &Descriptor) -> f32 {
        let deviation: Vec<f32> = descriptor.values().iter().zip(&self.mean).map(|(v, m)| v - m).collect();
        let mut rest = self.whitening.as_slice();
        let mut sum = 0.0;
        for row in 1..=deviation.len() {
            let (weights, after) = rest.split_at(row);
            rest = after;
            let value: f32 = weights.iter().zip(&deviation).map(|(w, d)| w * d).sum();
            sum += value * value;
        }
        (sum / deviation.len() as f32).sqrt()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::GreyPlane;

    /// Around `plane`, with deviations of `scale` in every number.
    pub(crate) fn around(plane: &GreyPlane, scale: f32) -> Distribution {
        let row = |n: usize| (0..=n).map(move |i| if i == n { 1.0 / scale } else { 0.0 });
        Distribution {
            mean: Descriptor::of(plane).values(),
            whitening: (0..LENGTH).flat_map(row).collect(),
            limit: 1.0,
        }
    }

    fn picture() -> GreyPlane {
        GreyPlane::square(64, (0..64 * 64).map(|i| (i / 64 * 3 + i % 7) as u8).collect())
    }

    #[test]
    fn the_mean_is_at_no_distance_and_upright() {
        let domain = around(&picture(), 0.5);
        assert_eq!(domain.position(&Descriptor::of(&picture())), Position { distance: 0.0, is_turned: false });
    }

    #[test]
    fn a_picture_upside_down_is_turned() {
        let mut turned = picture();
        turned.pixels.reverse();
        let position = around(&picture(), 0.5).position(&Descriptor::of(&turned));
        assert!(position.is_turned && position.distance > 0.5, "{position:?}");
    }

    #[test]
    fn ages_are_whole_years() {
        let domain = Domain { ages: Some([1.0, 5.0]), images: None };
        let outside = [300, 365, 2100, 2200].map(|days| domain.excludes_age(days));
        assert_eq!(outside, [true, false, false, true]);
        assert!(!Domain::default().excludes_age(30_000));
    }

    #[test]
    fn parts_that_are_missing_are_refused() {
        let mut distribution = around(&picture(), 1.0);
        assert!(distribution.check().is_ok());
        distribution.whitening.pop();
        assert!(distribution.check().is_err());
        assert!(Domain { ages: Some([5.0, 1.0]), images: None }.check().is_err());
    }
}
