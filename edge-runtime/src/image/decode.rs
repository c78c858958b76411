//! A file's bytes to a radiograph, and every reason why they are none.

use super::source::MAX_FILE_BYTES;
use super::{Basis, Format, GreyPlane, Photometric, depth, samples};
use crate::finding::Cause;
use serde::{Deserialize, Serialize};

/// Images with more pixels than this are refused undecoded: four times the largest common detector (4288×3520).
pub const MAX_PIXELS: u64 = 64 << 20;
/// Images with a shorter side than this hold no chest (pixels).
pub const MIN_SIDE: u32 = 32;
/// Images whose grey levels span less than this (of 255) hold no structure.
pub const MIN_CONTRAST: u8 = 16;

/// A radiograph: its grey plane, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Radiograph {
    /// The grey levels.
    pub plane: GreyPlane,
    /// What they were read from.
    pub origin: Origin,
    /// How it was taken, as far as the file says it.
    pub acquisition: Acquisition,
}

/// What a file says of how a radiograph was taken (DICOM; other formats say nothing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquisition {
    /// False for other modalities than radiography.
    pub is_radiograph: Option<bool>,
    /// False for another part of the body.
    pub is_chest: Option<bool>,
    /// Which way the rays went.
    pub view: Option<View>,
    /// The patient's sex.
    pub sex: Option<Sex>,
    /// The patient's age in days.
    pub age_days: Option<u32>,
}

/// Which way the rays went through the patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    /// From back to front.
    Pa,
    /// From front to back.
    Ap,
    /// From side to side.
    Lateral,
}

/// The patient's sex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
}

/// What made greys of stored values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Windowing {
    /// All values that the bits can hold.
    FullRange,
    /// The first of several windows (`WindowCenter`, `WindowWidth`).
    Window {
        /// How many there are.
        of: u16,
    },
    /// The first of several tables (`VOILUTSequence`).
    Table {
        /// How many there are.
        of: u16,
    },
    /// Those of nearly all pixels: the file does not say.
    Percentiles,
}

/// How a radiograph was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The file format.
    pub format: Format,
    /// Bits of each sample that are used.
    pub bits_used: u8,
    /// The sample that is black, or white where the scale is turned around.
    pub offset: u16,
    /// How both are known.
    pub depth_basis: Basis,
    /// Which end of the stored scale is white.
    pub photometric: Photometric,
    /// What made greys of stored values.
    pub windowing: Windowing,
}

/// Why a file is no radiograph. Each message is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RadiographError {
    /// The file cannot be opened or read.
    #[error("cannot be read ({0}); check the path and its permissions")]
    Io(std::io::Error),
    /// The file holds nothing.
    #[error("the file is empty; copy it again from its source")]
    Empty,
    /// Too many bytes.
    #[error("the file is larger than {} MiB; export the radiograph alone", MAX_FILE_BYTES >> 20)]
    TooManyBytes,
    /// None of the formats that are read.
    #[error("neither {}; export the radiograph in one of them", Format::names("nor"))]
    UnknownFormat,
    /// A known format that is not read.
    #[error("{0} is not supported: export the radiograph as {names}", names = Format::names("or"))]
    OtherFormat(&'static str),
    /// A sound file of a kind that is not read.
    #[error("{kind} is not supported: export the radiograph {}", format.simplest())]
    Unsupported {
        /// The container.
        format: Format,
        /// The kind.
        kind: &'static str,
    },
    /// The data end early.
    #[error("the {0} is truncated; copy it again from its source")]
    Truncated(Format),
    /// The decoder refused.
    #[error("the {format} is damaged ({reason}); copy it again from its source")]
    Damaged {
        /// The container.
        format: Format,
        /// What the decoder said.
        reason: String,
    },
    /// More pixels than any detector.
    #[error("{width}×{height} pixels are more than the {} million that are read; export it smaller", MAX_PIXELS >> 20)]
    TooLarge {
        /// Declared columns.
        width: u32,
        /// Declared rows.
        height: u32,
    },
    /// Fewer pixels than a chest needs.
    #[error("{width}×{height} pixels are too few for a chest radiograph ({MIN_SIDE}×{MIN_SIDE} at least)")]
    TooSmall {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// There is no process to decode a DICOM file in.
    #[error("a DICOM file is decoded in a process of its own, and none can be started ({0}): free memory or processes")]
    NoProcess(std::io::Error),
    /// What a process of its own said of a DICOM file.
    #[error("{sentence}")]
    Apart {
        /// What kind of trouble it is.
        cause: Cause,
        /// What it said.
        sentence: String,
    },
    /// Decoding took more than a DICOM file may.
    #[error(
        "the DICOM cannot be decoded within {mebibytes} MiB and {seconds} s, as every radiograph can: it is damaged, \
         or made to do harm"
    )]
    BeyondLimits {
        /// Memory there is.
        mebibytes: u64,
        /// Time there is.
        seconds: u64,
    },
    /// All pixels (nearly) alike.
    #[error("the image has no contrast (grey levels {low} to {high} of 255): it shows no chest")]
    NoContrast {
        /// Darkest grey.
        low: u8,
        /// Brightest grey.
        high: u8,
    },
}

impl RadiographError {
    /// What kind of trouble it is.
    pub fn cause(&self) -> Cause {
        match self {
            RadiographError::Io(_) | RadiographError::NoProcess(_) => Cause::Unreadable,
            RadiographError::Empty => Cause::Empty,
            RadiographError::UnknownFormat => Cause::NoImage,
            RadiographError::OtherFormat(_) | RadiographError::Unsupported { .. } => Cause::Unsupported,
            RadiographError::Truncated(_) | RadiographError::Damaged { .. } => Cause::Damaged,
            RadiographError::TooManyBytes | RadiographError::TooLarge { .. } => Cause::TooLarge,
            RadiographError::TooSmall { .. } | RadiographError::NoContrast { .. } => Cause::NoStructure,
            RadiographError::BeyondLimits { .. } => Cause::BeyondLimits,
            RadiographError::Apart { cause, .. } => *cause,
        }
    }
}

impl Origin {
    /// What was assumed in reading the file, a sentence each.
    pub fn assumptions(&self) -> Vec<String> {
        let bits = self.bits_used;
        let offset = match self.offset {
            0 => String::new(),
            offset => format!(" above {offset}"),
        };
        let depth = match self.depth_basis {
            Basis::Stored => None,
            Basis::GreyLevels => {
                Some(format!("{bits} of 16 bits are used{offset}: the file does not say, its grey levels do"))
            }
        };
        let windowing = match self.windowing {
            Windowing::FullRange | Windowing::Window { of: 1 } | Windowing::Table { of: 1 } => None,
            Windowing::Window { of } => Some(format!("the first of {of} windows makes its greys")),
            Windowing::Table { of } => Some(format!("the first of {of} tables makes its greys")),
            Windowing::Percentiles => {
                Some("black and white are those of nearly all pixels: the file says no window".to_owned())
            }
        };
        depth.into_iter().chain(windowing).collect()
    }
}

impl Radiograph {
    /// Decodes `bytes`, whose format their signature tells, never a file name.
    pub fn decode(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
        if bytes.is_empty() {
            return Err(RadiographError::Empty);
        }
        let unknown = || match Format::detect_other(bytes) {
            Some(other) => RadiographError::OtherFormat(other),
            None => RadiographError::UnknownFormat,
        };
        let format = Format::detect(bytes).ok_or_else(unknown)?;
        let radiograph = match format {
            Format::Dicom => read_dicom(bytes)?,
            Format::Png | Format::Jpeg | Format::Tiff => read_picture(bytes, format)?,
        };
        check_contrast(&radiograph.plane)?;
        Ok(radiograph)
    }
}

#[cfg(feature = "dicom")]
fn read_dicom(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
    super::dicom::read(bytes)
}

#[cfg(not(feature = "dicom"))]
fn read_dicom(_: &[u8]) -> Result<Radiograph, RadiographError> {
    Err(RadiographError::OtherFormat("DICOM in this build"))
}

/// A file of another format than DICOM.
fn read_picture(bytes: &[u8], format: Format) -> Result<Radiograph, RadiographError> {
    let samples = samples::read(bytes, format)?;
    let depth = depth::depth(&samples);
    let photometric = samples.photometric;
    let plane = depth::to_grey(samples, depth, photometric);
    let origin = Origin {
        format,
        bits_used: depth.bits,
        offset: depth.offset,
        depth_basis: depth.basis,
        photometric,
        windowing: Windowing::FullRange,
    };
    Ok(Radiograph { plane, origin, acquisition: Acquisition::default() })
}

fn check_contrast(plane: &GreyPlane) -> Result<(), RadiographError> {
    let low = plane.pixels.iter().copied().min().unwrap_or(0);
    let high = plane.pixels.iter().copied().max().unwrap_or(0);
    match high - low < MIN_CONTRAST {
        true => Err(RadiographError::NoContrast { low, high }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::{DynamicImage, GrayImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
    use std::io::Cursor;

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        image.into().write_to(&mut out, format).unwrap();
        out.into_inner()
    }

    fn ramp() -> GrayImage {
        GrayImage::from_fn(64, 48, |x, y| Luma([(x * 3 + y) as u8]))
    }

    #[test]
    fn grey_rgb_and_opaque_alpha_agree() {
        let ramp = ramp();
        let want = Radiograph::decode(&encode(ramp.clone(), ImageFormat::Png)).unwrap();
        assert_eq!(want.plane.pixels, ramp.as_raw().as_slice());
        let rgb = ImageBuffer::from_fn(64, 48, |x, y| Rgb([ramp.get_pixel(x, y).0[0]; 3]));
        assert_eq!(Radiograph::decode(&encode(rgb, ImageFormat::Png)).unwrap(), want);
        let rgba = ImageBuffer::from_fn(64, 48, |x, y| {
            let g = ramp.get_pixel(x, y).0[0];
            Rgba([g, g, g, 255])
        });
        assert_eq!(Radiograph::decode(&encode(rgba, ImageFormat::Png)).unwrap(), want);
    }

    #[test]
    fn transparent_pixels_are_black() {
        let half = ImageBuffer::from_fn(64, 48, |x, _| LumaA([200u8, if x < 32 { 0 } else { 255 }]));
        let r = Radiograph::decode(&encode(half, ImageFormat::Png)).unwrap();
        assert_eq!((r.plane.pixels[0], r.plane.pixels[63]), (0, 200));
    }

    #[test]
    fn twelve_bits_in_sixteen_use_the_whole_scale() {
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(64, 48, |x, _| Luma([(x * 65) as u16]));
        let r = Radiograph::decode(&encode(deep, ImageFormat::Png)).unwrap();
        assert_eq!((r.plane.pixels[0], r.plane.pixels[63]), (0, 255));
    }

    #[test]
    fn sixteen_bits_agree_with_eight() {
        let ramp = ramp();
        let deep = ImageBuffer::from_fn(64, 48, |x, y| {
            let v = if (x, y) == (0, 0) { 65535 } else { u16::from(ramp.get_pixel(x, y).0[0]) * 257 };
            Luma([v])
        });
        let r = Radiograph::decode(&encode(deep, ImageFormat::Png)).unwrap();
        assert_eq!(r.plane.pixels[1..], ramp.as_raw()[1..]);
    }

    #[test]
    fn every_truncation_is_refused_or_whole() {
        for format in [ImageFormat::Png, ImageFormat::Jpeg] {
            let whole = encode(ramp(), format);
            let want = Radiograph::decode(&whole).unwrap();
            for cut in 0..whole.len() - 1 {
                if let Ok(r) = Radiograph::decode(&whole[..cut]) {
                    assert_eq!(r, want, "{format:?} cut at {cut} of {}", whole.len());
                }
            }
        }
    }

    #[test]
    fn bad_images_are_told_apart() {
        use RadiographError as E;
        assert!(matches!(Radiograph::decode(b""), Err(E::Empty)));
        assert!(matches!(Radiograph::decode(b"%PDF-1.4 not an image"), Err(E::OtherFormat("a PDF file"))));
        assert!(matches!(Radiograph::decode(b"not an image"), Err(E::UnknownFormat)));
        let tiny = encode(GrayImage::new(1, 1), ImageFormat::Png);
        assert!(matches!(Radiograph::decode(&tiny), Err(E::TooSmall { .. })));
        let flat = encode(GrayImage::from_pixel(64, 64, Luma([90])), ImageFormat::Png);
        assert!(matches!(Radiograph::decode(&flat), Err(E::NoContrast { low: 90, high: 90 })));
    }
}
