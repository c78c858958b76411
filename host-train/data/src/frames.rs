//! Images decoded, each once, and handed to whoever needs their pixels.

use crate::dataset::{Dataset, Item, PixelStatistics, Unreadable};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::source::read_file;
use edge_runtime::image::{GreyPlane, Radiograph, RadiographError};
use edge_runtime::model::contract::InputContract;
use rayon::prelude::*;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An image that does not serve, or work on one that failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// An image that was readable when the manifest was written does not serve any more.
    #[error("{path}: {source}")]
    Image {
        /// The image.
        path: PathBuf,
        /// Why.
        source: RadiographError,
    },
    /// The work failed.
    #[error(transparent)]
    Work(E),
}

/// What came of decoding some images.
pub struct Decoded<T> {
    /// For each image that is one: its index among those asked for, and what the work gave.
    pub results: Vec<(usize, T)>,
    /// The others.
    pub unreadable: Vec<Unreadable>,
}

/// Decodes each of `items` once, on all threads, and gives it to `work`. A broken image is left out, unless a manifest
/// says that it was decoded before. `progress(done)` is called from any thread.
pub fn decode<T: Send, E: Send>(
    dataset: &Dataset,
    items: &[&Item],
    progress: impl Fn(usize) + Sync,
    work: impl Fn(&Item, &Radiograph) -> Result<T, E> + Sync,
) -> Result<Decoded<T>, ReadError<E>> {
    let done = AtomicUsize::new(0);
    let one = |item: &&Item| {
        let path = dataset.path(item);
        let result = match radiograph(&path) {
            Ok(radiograph) => work(item, &radiograph).map(Ok).map_err(ReadError::Work),
            Err(source) if item.pixels.is_some() => Err(ReadError::Image { path, source }),
            Err(e) => Ok(Err(Unreadable { path, reason: e.to_string() })),
        };
        progress(done.fetch_add(1, Ordering::Relaxed) + 1);
        result
    };
    let all: Result<Vec<Result<T, Unreadable>>, ReadError<E>> = items.par_iter().map(one).collect();
    let mut decoded = Decoded { results: Vec::new(), unreadable: Vec::new() };
    for (i, result) in all?.into_iter().enumerate() {
        match result {
            Ok(value) => decoded.results.push((i, value)),
            Err(unreadable) => decoded.unreadable.push(unreadable),
        }
    }
    Ok(decoded)
}

/// Reads and decodes one image file.
pub fn radiograph(path: &Path) -> Result<Radiograph, RadiographError> {
    Radiograph::decode(&read_file(path)?.bytes)
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

impl Dataset {
    /// Decodes every image once for its statistics, and leaves out those that are none.
    pub fn measure(&mut self, progress: impl Fn(usize, usize) + Sync) {
        let items: Vec<&Item> = self.items.iter().filter(|i| i.pixels.is_none()).collect();
        let statistics = |_: &Item, r: &Radiograph| Ok::<_, Infallible>(PixelStatistics::of(&r.plane));
        let of = items.len();
        let decoded = match decode(self, &items, |done| progress(done, of), statistics) {
            Ok(decoded) => decoded,
            Err(ReadError::Image { .. }) => unreachable!("no image among these was decoded before"),
            Err(ReadError::Work(never)) => match never {},
        };
        let measured = decoded.results.into_iter().map(|(i, s)| (items[i].file.clone(), s)).collect();
        self.keep_statistics(measured, decoded.unreadable);
    }

    /// Keeps the statistics of decoded images, and leaves out those that are none.
    pub fn keep_statistics(&mut self, measured: HashMap<String, PixelStatistics>, unreadable: Vec<Unreadable>) {
        for item in &mut self.items {
            if let Some(statistics) = measured.get(&item.file) {
                item.pixels = Some(*statistics);
            }
        }
        self.leave_out(unreadable);
    }
}
