//! Histograms of activations in a model's metadata, so that it can be quantised by every method without images.

use super::{Activations, Histogram};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key in `metadata_props`: base64 of a postcard map from names of tensors.
pub const KEY: &str = "hilum.histograms";
/// Most bins that are kept on either side of 0: a fortieth of what DenseNet121 weighs.
pub const KEPT: usize = 1024;
/// More tensors than any network has.
const MOST_TENSORS: usize = 5_000;

/// Why histograms cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "the model's histograms of activations cannot be read ({0}): give images with --calibrate DIR, or train it again"
)]
pub struct KeptError(String);

/// A histogram as it is kept.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    /// The smallest and largest value, and 0.
    pub range: [f32; 2],
    /// The bins go from its negative to it.
    pub reach: f32,
    /// How many zeros were seen.
    pub zeros: u64,
    /// The first bin with values, of twice [`KEPT`].
    pub first: u32,
    /// Values of each bin from it on, to the last one with any.
    pub counts: Vec<u64>,
}

impl Activations {
    /// As a `metadata_props` pair.
    pub fn to_metadata(&self) -> (String, String) {
        let kept: BTreeMap<&String, Kept> =
            self.tensors.iter().map(|(name, histogram)| (name, histogram.keep())).collect();
        let bytes = postcard::to_stdvec(&kept).expect("plain data always serialises");
        (KEY.into(), STANDARD.encode(bytes))
    }

    /// From the value of [`KEY`], of a model whose image is called `image`.
    pub fn from_metadata(text: &str, image: &str) -> Result<Activations, KeptError> {
        let bytes = STANDARD.decode(text).map_err(|e| KeptError(e.to_string()))?;
        let kept: BTreeMap<String, Kept> = postcard::from_bytes(&bytes).map_err(|e| KeptError(e.to_string()))?;
        if kept.len() > MOST_TENSORS {
            return Err(KeptError("too many tensors".into()));
        }
        let histogram = |(name, kept): (String, Kept)| match Histogram::kept(kept) {
            Some(histogram) => Ok((name, histogram)),
            None => Err(KeptError(format!("that of `{name}` contradicts itself"))),
        };
        let tensors = kept.into_iter().map(histogram).collect::<Result<_, _>>()?;
        Ok(Activations::new(tensors, image))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::Method;

    fn activations() -> Activations {
        let mut a = Histogram::default();
        a.add(&(0..40_000).map(|i| (i as f32 * 0.37).sin() * (i % 97) as f32 * 0.03).collect::<Vec<_>>());
        let mut b = Histogram::default();
        b.add(&(0..40_000).map(|i| ((i as f32 * 0.11).cos() * 7.0).max(0.0)).collect::<Vec<_>>());
        let tensors = [("a", a), ("image", b.clone()), ("relu", b), ("none", Histogram::default())];
        Activations::new(tensors.map(|(name, histogram)| (name.to_owned(), histogram)).into(), "image")
    }

    #[test]
    fn ranges_of_kept_histograms_are_those_of_what_was_seen() {
        let seen = activations();
        let (key, text) = seen.to_metadata();
        assert_eq!(key, KEY);
        let kept = Activations::from_metadata(&text, "image").unwrap();
        for method in Method::ALL {
            let [seen, kept] = [&seen, &kept].map(|activations| activations.ranges(method));
            for (name, range) in &seen {
                let width = range[1] - range[0];
                let is_near = |i: usize| (range[i] - kept[name][i]).abs() <= 0.03 * width;
                assert!(is_near(0) && is_near(1), "{method:?} {name}: {range:?} {:?}", kept[name]);
            }
            if method == Method::MinMax {
                assert_eq!(seen, kept);
            }
        }
    }

    #[test]
    fn what_is_broken_is_refused() {
        let (_, text) = activations().to_metadata();
        assert!(Activations::from_metadata("no base64!", "image").is_err());
        assert!(Activations::from_metadata(&text[..text.len() / 2 / 4 * 4], "image").is_err());
        let sound = || Histogram::default().keep();
        let broken = [
            Kept { reach: 3.0, counts: vec![1], ..sound() },
            Kept { reach: f32::NAN, ..sound() },
            Kept { reach: 1.0, first: 2 * KEPT as u32 - 1, counts: vec![1, 1], ..sound() },
            Kept { reach: 1.0, counts: vec![u64::MAX, 1], ..sound() },
            Kept { zeros: u64::MAX, reach: 1.0, counts: vec![1], ..sound() },
            Kept { range: [1.0, 2.0], ..sound() },
            Kept { range: [f32::NAN, 2.0], ..sound() },
        ];
        for kept in broken {
            assert!(Histogram::kept(kept).is_none());
        }
    }
}
