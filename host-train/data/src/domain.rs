//! What training images look like, as the device remembers it.

use crate::discriminant::Discriminant;
use crate::frame_store::FrameStore;
use crate::triangle::{cholesky, inverse};
use edge_runtime::domain::{Contrast, Descriptor, Distribution, Domain, LENGTH, PARTS};
use edge_runtime::image::{GreyPlane, Rectangle};
use rayon::prelude::*;
use std::io;

/// Training images for each number of a descriptor, below which nothing is fitted.
const IMAGES_A_NUMBER: usize = 4;
/// Validation images that are needed to choose the limit.
const VALIDATION_IMAGES: usize = 100;
/// Share of the validation images that lie beyond each of the two limits.
pub const BEYOND: f64 = 0.0075;
/// Parts of a descriptor that the rule for others looks at: how a person is built, not how bright an image is.
const LOOKED_AT: [&str; 2] = ["sharpness", "brightness by place"];
/// Added to the diagonal of the correlation matrix: directions in which training images hardly differ are not trusted
/// (ridge regularisation).
const RIDGE: f64 = 1e-2;

/// Fits to `train` what a device shall remember of it, with limits chosen on `validation`, and what tells `others`,
/// images of people that the model is not for, apart; nothing where there are too few images for that.
pub fn fit(train: &FrameStore, validation: &FrameStore, others: &[GreyPlane]) -> io::Result<Domain> {
    if train.len() < IMAGES_A_NUMBER * LENGTH || validation.len() < VALIDATION_IMAGES {
        return Ok(Domain::default());
    }
    let describe = |frames: &FrameStore| -> io::Result<Vec<Descriptor>> {
        (0..frames.len()).into_par_iter().map(|i| frames.get(i).map(|frame| Descriptor::of(&frame))).collect()
    };
    let rows: Vec<Vec<f32>> = describe(train)?.iter().map(Descriptor::values).collect();
    let validation = describe(validation)?;
    let described = |(i, other): (usize, &GreyPlane)| -> io::Result<Vec<Vec<f32>>> {
        Ok(variants(other, i, train)?.iter().map(|variant| Descriptor::of(variant).values()).collect())
    };
    let others: Vec<Vec<Vec<f32>>> = others.par_iter().enumerate().map(described).collect::<io::Result<_>>()?;
    let others: Vec<Vec<f32>> = others.into_iter().flatten().collect();
    Ok(Domain {
        ages: None,
        images: distribution(&rows).map(|images| {
            let limit = limit(validation.iter().map(|d| images.distance(d)), BEYOND);
            Distribution { limit: limit.max(f32::MIN_POSITIVE), ..images }
        }),
        others: contrast(&rows, &others, &validation),
    })
}

/// The value that `share` of `values` exceed.
fn limit(values: impl Iterator<Item = f32>, share: f64) -> f32 {
    let mut values: Vec<f32> = values.collect();
    values.sort_by(f32::total_cmp);
    let beyond = (share * values.len() as f64) as usize;
    values[values.len() - 1 - beyond]
}

/// `frame` as it is and as other machines and hands would have made it, so that no rule rests on its greys or its cut:
/// with the greys of training images, and parts of it.
fn variants(frame: &GreyPlane, number: usize, train: &FrameStore) -> io::Result<Vec<GreyPlane>> {
    let donor = |k: usize| train.get((number * 37 + k * 1009) % train.len());
    let part = |width: f64, height: f64| {
        let whole = frame.whole();
        let width = whole.width * width;
        let height = whole.height * height;
        let middle = Rectangle { left: (whole.width - width) / 2.0, top: (whole.height - height) / 2.0, width, height };
        frame.part(middle, frame.width, frame.height)
    };
    let parts = [frame.clone(), part(0.9, 0.9), part(0.8, 0.8), part(1.0, 0.85), part(0.85, 1.0)];
    let exchanged = |(k, part): (usize, &GreyPlane)| donor(k).map(|donor| part.with_histogram_of(&donor));
    let greys: Vec<GreyPlane> = parts.iter().enumerate().map(exchanged).collect::<io::Result<_>>()?;
    Ok(parts.into_iter().chain(greys).collect())
}

/// What tells `others` from training images by sharpness and brightness by place.
fn contrast(rows: &[Vec<f32>], others: &[Vec<f32>], validation: &[Descriptor]) -> Option<Contrast> {
    let numbers = PARTS.into_iter().filter(|(name, _)| LOOKED_AT.contains(name)).flat_map(|(_, part)| part).collect();
    let [first, second]: [Vec<&[f32]>; 2] = [rows, others].map(|rows| rows.iter().map(Vec::as_slice).collect());
    let rule = Discriminant::fit(&first, &second, numbers)?;
    let mean = rows.iter().map(|row| rule.score(row)).sum::<f64>() / rows.len() as f64;
    let scores = validation.iter().map(|d| (rule.score(&d.values()) - mean) as f32);
    let span = f64::from(limit(scores, BEYOND)).max(1e-6);
    let mut weights = vec![0.0; LENGTH];
    for (i, weight) in rule.terms() {
        weights[i] = (weight / span) as f32;
    }
    Some(Contrast { weights, offset: (-mean / span) as f32 })
}

/// The distribution of descriptors, its limit still open.
fn distribution(rows: &[Vec<f32>]) -> Option<Distribution> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 10×10 cells, each of its own brightness; those of `others` are a little brighter in the middle.
    fn picture(seed: u32, is_other: bool) -> GreyPlane {
        let hash =
            |k: u32| (seed.wrapping_mul(2_654_435_761) ^ k.wrapping_mul(2_246_822_519)).wrapping_mul(3_266_489_917);
        let cell = |row: u32, column: u32| {
            let is_middle = (2..8).contains(&row) && (2..8).contains(&column);
            60 + (hash(row * 10 + column) >> 16) % 80 + if is_other && is_middle { 14 } else { 0 }
        };
        let grey = |i: u32| (cell(i / 400, i % 40 / 4) + (hash(1000 + i) >> 16) % 8) as u8;
        GreyPlane::square(40, (0..1600).map(grey).collect())
    }

    fn pictures(from: u32, count: u32, is_other: bool) -> Vec<GreyPlane> {
        (from..from + count).map(|seed| picture(seed, is_other)).collect()
    }

    /// Share of `frames` that lie outside of `domain`.
    fn outside(domain: &Domain, frames: &[GreyPlane]) -> f64 {
        let outside = frames.iter().filter(|f| domain.position(f).unwrap().distance > 1.0);
        outside.count() as f64 / frames.len() as f64
    }

    #[test]
    fn images_like_those_of_training_are_inside_and_others_outside() {
        let frames = pictures(0, 1000, false);
        let (train, validation) = frames.split_at(800);
        let fit = |train: &[GreyPlane]| {
            fit(&FrameStore::of(train.to_vec()), &FrameStore::of(validation.to_vec()), &[]).unwrap()
        };
        let domain = fit(train);
        assert!(outside(&domain, validation) <= 0.015);
        assert!(outside(&domain, &pictures(2000, 200, false)) < 0.1);
        let ramp = GreyPlane::square(24, (0..576).map(|i| (i % 24 * 10) as u8).collect());
        assert_eq!(outside(&domain, &[ramp]), 1.0);
        assert_eq!(fit(&train[..600]), Domain::default());
    }

    #[test]
    fn others_are_told_apart_where_the_cloud_is_blind() {
        let frames = pictures(0, 1000, false);
        let (train, validation) = frames.split_at(800);
        let unseen = pictures(4000, 100, true);
        let [train, kept] = [train, validation].map(|frames| FrameStore::of(frames.to_vec()));
        let blind = outside(&fit(&train, &kept, &[]).unwrap(), &unseen);
        let seeing = fit(&train, &kept, &pictures(3000, 100, true)).unwrap();
        let found = outside(&seeing, &unseen);
        assert!(found > blind + 0.15, "{found} where {blind} without them");
        assert!(outside(&seeing, validation) <= 0.015);
    }
}
