//! What a model was trained on, and how far a radiograph is from that.
//!
//! Images of the training data are a cloud in the space of [`Descriptor`]s; the Mahalanobis distance from its middle
//! (De Maesschalck et al. 2000) tells how unlike them a picture is, and that of the turned picture whether it lies on
//! its side. A cloud is blind to what differs little from image to image, such as how a child is built: a linear rule
//! tells images of people that the model is not for apart. Both are fitted by `data::domain`, and their limits chosen
//! on validation images.

mod descriptor;

pub use descriptor::{Descriptor, LENGTH, PARTS};

use crate::image::GreyPlane;
use serde::{Deserialize, Serialize};

/// What a model was trained on, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Domain {
    /// Youngest and oldest, in years, both included.
    pub ages: Option<[f32; 2]>,
    /// What its images look like.
    pub images: Option<Distribution>,
    /// What tells images of other people apart.
    pub others: Option<Contrast>,
}

/// A linear rule between training images and images that the model is not for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contrast {
    /// Weight of each of the [`LENGTH`] numbers.
    pub weights: Vec<f32>,
    /// Added to their sum: training images have a mean of 0, and above 1 a picture is one of the others.
    pub offset: f32,
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
    /// The larger of the distance as a share of its limit and of what the rule says: above 1 the picture is outside.
    pub distance: f32,
    /// What was done to the picture, if undoing it brings it clearly nearer.
    pub change: Option<Change>,
}

/// What may have been done to a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was turned by a quarter, a half or three quarters.
    Turned,
    /// Its greys were inverted.
    Inverted,
}

/// Share of a picture's squared distance that it must be below where its change is undone.
const NEARER: f32 = 0.9;

impl Domain {
    /// Refuses one that cannot be: says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.ages.is_some_and(|[youngest, oldest]| !(0.0 <= youngest && youngest <= oldest && oldest < 200.0)) {
            return Err("the ages of its training images are no range of years".into());
        }
        let others = |c: &Contrast| c.weights.len() == LENGTH && c.weights.iter().all(|w| w.is_finite());
        if self.others.as_ref().is_some_and(|c| !others(c) || !c.offset.is_finite()) {
            return Err(format!("the rule for images of others is not one of {LENGTH} numbers"));
        }
        self.images.as_ref().map_or(Ok(()), Distribution::check)
    }

    /// Where `plane` lies; `None` where the training images are not known.
    pub fn position(&self, plane: &GreyPlane) -> Option<Position> {
        let images = self.images.as_ref()?;
        let descriptor = Descriptor::of(plane);
        let distance = images.distance(&descriptor);
        let contrast = self.others.as_ref().map_or(0.0, |others| others.value(&descriptor));
        let change = images.change(&descriptor, plane, distance);
        Some(Position { distance: (distance / images.limit).max(contrast), change })
    }

    /// True if a person of `days` is younger or older than those of the training images; false where that is unknown.
    pub fn excludes_age(&self, days: u32) -> bool {
        let years = days as f32 / 365.0;
        self.ages.is_some_and(|[youngest, oldest]| years < youngest || years >= oldest + 1.0)
    }
}

impl Contrast {
    /// What the rule says of `descriptor`.
    pub fn value(&self, descriptor: &Descriptor) -> f32 {
        self.offset + descriptor.values().iter().zip(&self.weights).map(|(v, w)| v * w).sum::<f32>()
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

    /// The change of the picture `plane`, whose `descriptor` lies at `distance`, that explains best why.
    fn change(&self, descriptor: &Descriptor, plane: &GreyPlane, distance: f32) -> Option<Change> {
        let turned = std::iter::successors(Some(descriptor.turned()), |d| Some(d.turned())).take(3);
        let turned = turned.map(|d| self.distance(&d)).fold(f32::INFINITY, f32::min);
        let negative = GreyPlane { pixels: plane.pixels.iter().map(|p| 255 - p).collect(), ..*plane };
        let negative = self.distance(&Descriptor::of(&negative));
        let change = if turned < negative { Change::Turned } else { Change::Inverted };
        (turned.min(negative).powi(2) < NEARER * distance.powi(2)).then_some(change)
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

    /// Where `plane` lies for a model that was trained on pictures like [`picture`].
    fn position(plane: &GreyPlane) -> Position {
        let domain = Domain { images: Some(around(&picture(), 0.5)), ..Domain::default() };
        domain.position(plane).unwrap()
    }

    #[test]
    fn the_mean_is_at_no_distance_and_upright() {
        assert_eq!(position(&picture()), Position { distance: 0.0, change: None });
    }

    #[test]
    fn what_was_done_to_a_picture_is_known() {
        let mut turned = picture();
        turned.pixels.reverse();
        let mut negative = picture();
        negative.pixels.iter_mut().for_each(|p| *p = 255 - *p);
        for (plane, change) in [(turned, Change::Turned), (negative, Change::Inverted)] {
            let position = position(&plane);
            assert!(position.change == Some(change) && position.distance > 0.5, "{position:?}");
        }
    }

    #[test]
    fn what_is_like_others_is_outside() {
        let images = Some(around(&picture(), 0.5));
        let mut domain = Domain { images, ..Domain::default() };
        assert_eq!(domain.position(&picture()).unwrap().distance, 0.0);
        domain.others = Some(Contrast { weights: vec![0.0; LENGTH], offset: 1.5 });
        assert_eq!(domain.position(&picture()).unwrap().distance, 1.5);
        domain.others = Some(Contrast { weights: vec![0.0; 3], offset: 1.5 });
        assert!(domain.check().is_err());
        assert_eq!(Domain::default().position(&picture()), None);
    }

    #[test]
    fn ages_are_whole_years() {
        let domain = Domain { ages: Some([1.0, 5.0]), ..Domain::default() };
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
        assert!(Domain { ages: Some([5.0, 1.0]), ..Domain::default() }.check().is_err());
    }
}
