//! Containers to samples: one grey value a pixel, at the depth in which it is stored. Colour becomes grey, and
//! transparent pixels lie on black.

use super::decode::{MAX_PIXELS, MIN_SIDE};
use super::{Format, RadiographError};
use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};
use std::io::{Cursor, ErrorKind};

/// One grey value a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width × height` values.
    pub values: Values,
}

/// Grey values at their stored depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// 8 bits.
    Eight(Vec<u8>),
    /// 16 bits, not all of which need be used.
    Sixteen(Vec<u16>),
}

/// Decodes `bytes`, which are of `format`.
pub fn read(bytes: &[u8], format: Format) -> Result<Samples, RadiographError> {
    if format == Format::Jpeg && !jpeg_is_complete(bytes) {
        return Err(RadiographError::Truncated(format));
    }
    let damaged = |e: ImageError| match &e {
        ImageError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => RadiographError::Truncated(format),
        _ => RadiographError::Damaged { format, reason: e.to_string() },
    };
    let container = match format {
        Format::Png => ImageFormat::Png,
        Format::Jpeg => ImageFormat::Jpeg,
    };
    let reader = ImageReader::with_format(Cursor::new(bytes), container);
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_PIXELS * 8);
    decoder.set_limits(limits).map_err(damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    image.apply_orientation(orientation);
    Ok(Samples { width: image.width(), height: image.height(), values: grey(image) })
}

/// Refuses dimensions that no radiograph has, before anything is allocated for them.
fn check_size(width: u32, height: u32) -> Result<(), RadiographError> {
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(RadiographError::TooLarge { width, height });
    }
    if width < MIN_SIDE || height < MIN_SIDE {
        return Err(RadiographError::TooSmall { width, height });
    }
    Ok(())
}

fn grey(image: DynamicImage) -> Values {
    match image {
        DynamicImage::ImageLuma8(i) => Values::Eight(i.into_raw()),
        DynamicImage::ImageLumaA8(i) => Values::Eight(i.pixels().map(|p| over_black(p.0[0], p.0[1])).collect()),
        DynamicImage::ImageRgb8(_) => Values::Eight(image.into_luma8().into_raw()),
        DynamicImage::ImageRgba8(_) => {
            let image = image.into_luma_alpha8();
            Values::Eight(image.pixels().map(|p| over_black(p.0[0], p.0[1])).collect())
        }
        deep => {
            let over_black = |grey: u16, alpha: u16| (u32::from(grey) * u32::from(alpha) / 65535) as u16;
            let image = deep.into_luma_alpha16();
            Values::Sixteen(image.pixels().map(|p| over_black(p.0[0], p.0[1])).collect())
        }
    }
}

fn over_black(grey: u8, alpha: u8) -> u8 {
    ((u32::from(grey) * u32::from(alpha) + 127) / 255) as u8
}

/// True if the JPEG's scan is followed by an end-of-image marker (ITU-T T.81, B.1.1.2 to B.2.1). The decoder itself
/// fills what is missing with grey, which on a radiograph reads as disease.
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
