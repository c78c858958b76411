//! Containers to samples: one grey value a pixel, at the depth in which it is stored. Colour becomes grey, and what an
//! alpha channel makes transparent lies on black.

use super::decode::{MAX_PIXELS, MIN_SIDE};
use super::{Format, Photometric, RadiographError, jpeg, png, tiff};
use ::image::metadata::Orientation;
use ::image::{DynamicImage, GrayImage, ImageBuffer, Luma};

impl Values {
    /// Turns the scale around.
    pub(super) fn negate(&mut self) {
        match self {
            Values::Eight(values) => values.iter_mut().for_each(|v| *v = !*v),
            Values::Sixteen(values) => values.iter_mut().for_each(|v| *v = !*v),
        }
    }
}

/// One grey value a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height` values.
    pub values: Values,
    /// What the container says of the bits that are used; none where it does not say.
    pub declared: Option<DeclaredBits>,
    /// Which end of the scale is white.
    pub photometric: Photometric,
}

/// Grey values at their stored depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// 8 bits.
    Eight(Vec<u8>),
    /// 16 bits, not all of which need be used.
    Sixteen(Vec<u16>),
}

/// What a container says of the bits in 16 that are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredBits {
    /// The low ones: white is 2ⁿ − 1 (precision of a JPEG).
    Low(u8),
    /// So many are significant, and the values are spread over all 16 (`sBIT` of a PNG, ISO/IEC 15948, 11.3.3.4).
    Significant(u8),
}

/// Decodes `bytes`, which are of `format`, the right way up. DICOM has stages of its own.
pub fn read(bytes: &[u8], format: Format) -> Result<Samples, RadiographError> {
    match format {
        Format::Png => png::read(bytes),
        Format::Jpeg => jpeg::read(bytes),
        Format::Tiff => tiff::read(bytes),
        Format::Dicom => Err(RadiographError::UnknownFormat),
    }
}

/// Refuses dimensions that no radiograph has, before anything is allocated for them.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), RadiographError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(RadiographError::TooLarge { width, height });
    }
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(RadiographError::TooSmall { width, height });
    }
    Ok(())
}

impl Samples {
    /// Samples of a picture that is stored as `pixels`; `None` if they are not as many as it has.
    pub(super) fn of_pixels(width: u32, height: u32, pixels: Pixels) -> Option<Samples> {
        let count = width as usize * height as usize;
        let values = pixels.grey();
        let len = match &values {
            Values::Eight(v) => v.len(),
            Values::Sixteen(v) => v.len(),
        };
        (len == count).then_some(Samples {
            width,
            height,
            values,
            declared: None,
            photometric: Photometric::BlackIsZero,
        })
    }

    /// The picture turned as its Exif orientation says.
    pub(super) fn oriented(self, orientation: Option<Orientation>) -> Samples {
        let Some(orientation) = orientation.filter(|o| *o != Orientation::NoTransforms) else { return self };
        let Samples { width, height, values, declared, photometric } = self;
        let image = match values {
            Values::Eight(v) => GrayImage::from_raw(width, height, v).map(DynamicImage::ImageLuma8),
            Values::Sixteen(v) => {
                ImageBuffer::<Luma<u16>, _>::from_raw(width, height, v).map(DynamicImage::ImageLuma16)
            }
        };
        let mut image = image.expect("samples are as many as their picture has pixels");
        image.apply_orientation(orientation);
        let width = image.width();
        let height = image.height();
        let values = match image {
            DynamicImage::ImageLuma16(i) => Values::Sixteen(i.into_raw()),
            other => Values::Eight(other.into_luma8().into_raw()),
        };
        Samples { width, height, values, declared, photometric }
    }
}

/// Pixels as a container stores them.
pub(super) enum Pixels {
    Eight { channels: Channels, values: Vec<u8> },
    Sixteen { channels: Channels, values: Vec<u16> },
}

/// What the values of a pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channels {
    Grey,
    GreyAlpha,
    Rgb,
    RgbAlpha,
}

impl Channels {
    fn count(self) -> usize {
        match self {
            Channels::Grey => 1,
            Channels::GreyAlpha => 2,
            Channels::Rgb => 3,
            Channels::RgbAlpha => 4,
        }
    }
}

impl Pixels {
    fn grey(self) -> Values {
        match self {
            Pixels::Eight { channels: Channels::Grey, values } => Values::Eight(values),
            Pixels::Sixteen { channels: Channels::Grey, values } => Values::Sixteen(values),
            Pixels::Eight { channels, values } => {
                let grey = |p: &[u8]| grey_of(channels, p.iter().map(|v| u32::from(*v)), 255) as u8;
                Values::Eight(values.chunks_exact(channels.count()).map(grey).collect())
            }
            Pixels::Sixteen { channels, values } => {
                let grey = |p: &[u16]| grey_of(channels, p.iter().map(|v| u32::from(*v)), 65_535) as u16;
                Values::Sixteen(values.chunks_exact(channels.count()).map(grey).collect())
            }
        }
    }
}

/// The grey of a pixel, over black where it has an alpha channel; `full` is white. Luma of ITU-R BT.709.
fn grey_of(channels: Channels, mut values: impl Iterator<Item = u32>, full: u32) -> u32 {
    let mut next = || values.next().unwrap_or(0);
    let grey = match channels {
        Channels::Grey | Channels::GreyAlpha => next(),
        Channels::Rgb | Channels::RgbAlpha => {
            let [r, g, b] = [next(), next(), next()].map(u64::from);
            ((r * 2126 + g * 7152 + b * 722) / 10_000) as u32
        }
    };
    match channels {
        Channels::Grey | Channels::Rgb => grey,
        Channels::GreyAlpha | Channels::RgbAlpha => {
            ((u64::from(grey) * u64::from(next()) + u64::from(full) / 2) / u64::from(full)) as u32
        }
    }
}
