//! Image files to grey pixels: PNG (8 and 16 bit; grey, RGB, palette, alpha) and JPEG.
//!
//! Every file is hostile until decoded: its size, its declared dimensions and its contrast are bounded before anything is
//! believed. What comes out is one plane of 8-bit grey, black = 0 as on a radiograph's air.

use crate::files::sha256_hex;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::io::{Cursor, Read};
use std::path::Path;

/// Files larger than this are refused unread (bytes).
pub const MAX_FILE_BYTES: u64 = 128 << 20;
/// Images with more pixels than this are refused undecoded: four times the largest common detector (4288×3520).
pub const MAX_PIXELS: u64 = 64 << 20;
/// Images with a shorter side than this hold no chest (pixels).
pub const MIN_SIDE: u32 = 32;
/// Images whose grey levels span less than this (of 255) hold no structure.
pub const MIN_CONTRAST: u8 = 16;

/// A decoded radiograph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Radiograph {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height` grey levels, row by row.
    pub pixels: Vec<u8>,
    /// `"PNG"` or `"JPEG"`.
    pub format: &'static str,
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
    /// Neither PNG nor JPEG.
    #[error("neither PNG nor JPEG; export the radiograph in one of the two")]
    UnknownFormat,
    /// The data end early.
    #[error("the {0} is truncated; copy it again from its source")]
    Truncated(&'static str),
    /// The decoder refused.
    #[error("the {format} is damaged ({reason}); copy it again from its source")]
    Damaged {
        /// The container.
        format: &'static str,
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
    /// All pixels (nearly) alike.
    #[error("the image has no contrast (grey levels {low} to {high} of 255): it shows no chest")]
    NoContrast {
        /// Darkest grey.
        low: u8,
        /// Brightest grey.
        high: u8,
    },
}

/// A file in memory with its digest: what the finding is bound to.
pub struct SourceFile {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, hexadecimal.
    pub sha256: String,
}

/// Reads `path` whole, at most [`MAX_FILE_BYTES`].
pub fn read_file(path: &Path) -> Result<SourceFile, RadiographError> {
    let io = RadiographError::Io;
    let file = std::fs::File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        return Err(io(std::io::Error::other("it is a folder")));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.is_empty() {
        return Err(RadiographError::Empty);
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(RadiographError::TooManyBytes);
    }
    let sha256 = sha256_hex(&bytes);
    Ok(SourceFile { bytes, sha256 })
}

impl Radiograph {
    /// Decodes PNG or JPEG `bytes`, told apart by their signature, never by a file name.
    pub fn decode(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
        let name = match image::guess_format(bytes) {
            Ok(ImageFormat::Png) => "PNG",
            Ok(ImageFormat::Jpeg) => "JPEG",
            _ if bytes.is_empty() => return Err(RadiographError::Empty),
            _ => return Err(RadiographError::UnknownFormat),
        };
        if name == "JPEG" && !jpeg_is_complete(bytes) {
            return Err(RadiographError::Truncated(name));
        }
        let damaged = |e: image::ImageError| match &e {
            image::ImageError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => {
                RadiographError::Truncated(name)
            }
            _ => RadiographError::Damaged { format: name, reason: e.to_string() },
        };
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let mut decoder = reader.expect("reading memory cannot fail").into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(RadiographError::TooLarge { width, height });
        }
        if width < MIN_SIDE || height < MIN_SIDE {
            return Err(RadiographError::TooSmall { width, height });
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(MAX_PIXELS * 8);
        decoder.set_limits(limits).map_err(damaged)?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(orientation);

        let (width, height) = (image.width(), image.height());
        let pixels = grey(image);
        let low = pixels.iter().copied().min().unwrap_or(0);
        let high = pixels.iter().copied().max().unwrap_or(0);
        if high - low < MIN_CONTRAST {
            return Err(RadiographError::NoContrast { low, high });
        }
        Ok(Radiograph { width, height, pixels, format: name })
    }
}

/// One 8-bit grey plane. Transparent pixels lie on black. 16-bit greys are read at the bit depth they use (10, 12, 14 or
/// 16): detectors store 12 bits in 16 without saying so, and would come out black otherwise.
fn grey(image: DynamicImage) -> Vec<u8> {
    match image {
        DynamicImage::ImageLuma8(i) => i.into_raw(),
        DynamicImage::ImageLumaA8(i) => i.pixels().map(|p| over_black(p.0[0], p.0[1])).collect(),
        DynamicImage::ImageRgb8(_) => image.into_luma8().into_raw(),
        DynamicImage::ImageRgba8(_) => image.into_luma_alpha8().pixels().map(|p| over_black(p.0[0], p.0[1])).collect(),
        wide => {
            let wide: Vec<u16> = wide
                .into_luma_alpha16()
                .pixels()
                .map(|p| (u32::from(p.0[0]) * u32::from(p.0[1]) / 65535) as u16)
                .collect();
            let top = wide.iter().copied().max().unwrap_or(0);
            let full = [10, 12, 14, 16].map(|bits| ((1u32 << bits) - 1) as u16).into_iter().find(|f| top <= *f);
            let full = u32::from(full.unwrap_or(u16::MAX));
            wide.into_iter().map(|v| ((u32::from(v) * 255 + full / 2) / full) as u8).collect()
        }
    }
}

fn over_black(grey: u8, alpha: u8) -> u8 {
    ((u32::from(grey) * u32::from(alpha) + 127) / 255) as u8
}

/// True if the JPEG's scan is followed by an end-of-image marker (ITU-T T.81, B.1.1.2 to B.2.1). The decoder itself fills
/// what is missing with grey, which on a radiograph reads as disease.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    let mut at = 2;
    while at + 4 <= bytes.len() {
        if bytes[at] != 0xFF {
            return false;
        }
        let marker = bytes[at + 1];
        let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        match marker {
            0xFF => at += 1,
            0xDA => return bytes.get(at + 2 + length..).is_some_and(|s| s.windows(2).any(|w| w == [0xFF, 0xD9])),
            _ => at += 2 + length,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba};

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
        assert_eq!(want.pixels, ramp.as_raw().as_slice());
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
        assert_eq!((r.pixels[0], r.pixels[63]), (0, 200));
    }

    #[test]
    fn twelve_bits_in_sixteen_use_the_whole_scale() {
        let deep: ImageBuffer<Luma<u16>, Vec<u16>> = ImageBuffer::from_fn(64, 48, |x, _| Luma([(x * 65) as u16]));
        let r = Radiograph::decode(&encode(deep, ImageFormat::Png)).unwrap();
        assert_eq!((r.pixels[0], r.pixels[63]), (0, 255));
    }

    #[test]
    fn sixteen_bits_agree_with_eight() {
        let ramp = ramp();
        let deep = ImageBuffer::from_fn(64, 48, |x, y| {
            let v = if (x, y) == (0, 0) { 65535 } else { u16::from(ramp.get_pixel(x, y).0[0]) * 257 };
            Luma([v])
        });
        let r = Radiograph::decode(&encode(deep, ImageFormat::Png)).unwrap();
        assert_eq!(r.pixels[1..], ramp.as_raw()[1..]);
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
        assert!(matches!(Radiograph::decode(b"%PDF-1.4 not an image"), Err(E::UnknownFormat)));
        let tiny = encode(GrayImage::new(1, 1), ImageFormat::Png);
        assert!(matches!(Radiograph::decode(&tiny), Err(E::TooSmall { .. })));
        let flat = encode(GrayImage::from_pixel(64, 64, Luma([90])), ImageFormat::Png);
        assert!(matches!(Radiograph::decode(&flat), Err(E::NoContrast { low: 90, high: 90 })));
    }
}
