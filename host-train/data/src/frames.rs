//! Images decoded, each once, and handed to whoever needs their pixels.

use crate::Split;
use crate::dataset::{Dataset, DatasetError, Item, PixelStatistics, Subject, Unreadable};
use edge_runtime::image::guard;
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::source::read_file;
use edge_runtime::image::{Acquisition, GreyPlane, Radiograph, RadiographError};
use edge_runtime::model::contract::InputContract;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Why the images of a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An image that was readable when the manifest was written does not serve any more.
    #[error("{path}: {source}")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: RadiographError,
    },
    /// An image is not the one that the data set was made with.
    #[error("{path}: the file has changed since the data set was listed: run `host-train prepare` again")]
    Changed {
        /// The image.
        path: PathBuf,
    },
    /// No image is left.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

/// Decodes each image of `splits` once, on all threads, and gives it to `work`: for each that serves, its index in
/// `dataset.items` and what `work` gave. A file that is no image is left out, unless a manifest says that it was
/// decoded before. Of a folder without a manifest every image is decoded, since the split follows from those that
/// serve.
/// `progress(done, of)` is called from any thread.
pub fn load<T: Send>(
    dataset: &mut Dataset,
    splits: &[Split],
    progress: impl Fn(usize, usize) + Sync,
    work: impl Fn(&Item, &Radiograph) -> T + Sync,
) -> Result<Vec<(usize, T)>, ReadError> {
    load_with(dataset, splits, progress, |item, path| decoded(item, path, |radiograph| work(item, radiograph)))
}

/// Why an image does not serve.
pub(crate) enum Unusable {
    /// It cannot be decoded.
    Radiograph(RadiographError),
    /// It is another file than was listed.
    Changed,
}

/// Decodes the image of `item`, which lies at `path`, and gives it to `work`.
pub(crate) fn decoded<T>(item: &Item, path: &Path, work: impl Fn(&Radiograph) -> T) -> Result<(Seen, T), Unusable> {
    let source = read_file(path).map_err(Unusable::Radiograph)?;
    if source.sha256 != item.sha256 {
        return Err(Unusable::Changed);
    }
    let radiograph = guard::decode(&source.bytes).map_err(Unusable::Radiograph)?;
    Ok((Seen::of(&radiograph), work(&radiograph)))
}

/// As [`load`], with `one` for an item and its file.
pub(crate) fn load_with<T: Send>(
    dataset: &mut Dataset,
    splits: &[Split],
    progress: impl Fn(usize, usize) + Sync,
    one: impl Fn(&Item, &Path) -> Result<(Seen, T), Unusable> + Sync,
) -> Result<Vec<(usize, T)>, ReadError> {
    let all = dataset.provisional.is_some();
    let wanted: Vec<usize> =
        (0..dataset.items.len()).filter(|i| all || splits.contains(&dataset.items[*i].split)).collect();
    let done = AtomicUsize::new(0);
    let one = |i: &usize| {
        let item = &dataset.items[*i];
        let path = dataset.path(item);
        let result = match one(item, &path) {
            Ok(read) => Ok(Ok(read)),
            Err(Unusable::Changed) => Err(ReadError::Changed { path }),
            Err(Unusable::Radiograph(source)) if item.pixels.is_some() => Err(ReadError::Image { path, source }),
            Err(Unusable::Radiograph(e)) => Ok(Err(Unreadable { path, reason: e.to_string() })),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, wanted.len());
        result
    };
    let results: Vec<Result<(Seen, T), Unreadable>> = wanted.par_iter().map(one).collect::<Result<_, ReadError>>()?;
    let mut loaded = HashMap::new();
    let mut unreadable = Vec::new();
    for (i, result) in wanted.into_iter().zip(results) {
        let item = &mut dataset.items[i];
        match result {
            Ok((seen, value)) => {
                item.pixels.get_or_insert(seen.pixels);
                item.subject = item.subject.or(seen.subject);
                loaded.insert(item.file.clone(), value);
            }
            Err(file) => unreadable.push(file),
        }
    }
    dataset.settle(unreadable)?;
    let serving = dataset.items.iter().enumerate().filter(|(_, item)| splits.contains(&item.split));
    Ok(serving.filter_map(|(i, item)| loaded.remove(&item.file).map(|value| (i, value))).collect())
}

/// What decoding an image tells of it.
pub(crate) struct Seen {
    pub pixels: PixelStatistics,
    pub subject: Subject,
}

impl Seen {
    pub fn of(radiograph: &Radiograph) -> Seen {
        let Acquisition { age_days, sex, view, .. } = radiograph.acquisition;
        Seen { pixels: PixelStatistics::of(&radiograph.plane), subject: Subject { age_days, sex, view } }
    }
}

/// Reads and decodes one image file.
pub fn radiograph(path: &Path) -> Result<Radiograph, RadiographError> {
    guard::decode(&read_file(path)?.bytes)
}

/// Reads, decodes and preprocesses one image file.
pub fn frame(path: &Path, input: &InputContract) -> Result<GreyPlane, RadiographError> {
    Ok(preprocess(&radiograph(path)?.plane, input))
}

impl PixelStatistics {
    /// Of `plane`, means to a hundredth.
    pub fn of(plane: &GreyPlane) -> PixelStatistics {
        let n = plane.pixels.len() as f64;
        let mean = plane.pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / n;
        let variance = plane.pixels.iter().map(|p| (f64::from(*p) - mean).powi(2)).sum::<f64>() / n;
        let hundredths = |v: f64| (v * 100.0).round() as f32 / 100.0;
        PixelStatistics {
            width: plane.width,
            height: plane.height,
            mean: hundredths(mean),
            std: hundredths(variance.sqrt()),
        }
    }
}
