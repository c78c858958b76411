//! TIFF 6.0, as scanners write it: one page of 8 or 16 bits, grey or colour, uncompressed, LZW, Deflate or PackBits.

use super::samples::{Channels, Pixels, Samples, check_size};
use super::{Format, Photometric, RadiographError};
use ::image::metadata::Orientation;
use std::io::{Cursor, ErrorKind};
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

/// Decodes `bytes`.
pub fn read(bytes: &[u8]) -> Result<Samples, RadiographError> {
    let unsupported = |kind| RadiographError::Unsupported { format: Format::Tiff, kind };
    let mut limits = Limits::default();
    limits.decoding_buffer_size = 8 * super::decode::MAX_PIXELS as usize;
    limits.intermediate_buffer_size = limits.decoding_buffer_size;
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(refusal)?.with_limits(limits);
    let (width, height) = decoder.dimensions().map_err(refusal)?;
    check_size(width, height)?;
    if decoder.more_images() {
        return Err(unsupported("a TIFF of several pages"));
    }
    let separate = decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(refusal)? == Some(2);
    let is_negative = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(refusal)? == Some(0);
    if decoder.find_tag_unsigned::<u16>(Tag::FillOrder).map_err(refusal)? == Some(2) {
        return Err(unsupported("a TIFF whose bits stand in the other order (FillOrder 2)"));
    }
    let orientation = decoder.find_tag_unsigned::<u8>(Tag::Orientation).map_err(refusal)?;
    let channels = match decoder.colortype().map_err(refusal)? {
        ColorType::Gray(8 | 16) => Channels::Grey,
        ColorType::GrayA(8 | 16) if !separate => Channels::GreyAlpha,
        ColorType::RGB(8 | 16) if !separate => Channels::Rgb,
        ColorType::RGBA(8 | 16) if !separate => Channels::RgbAlpha,
        ColorType::Palette(_) => return Err(unsupported("a TIFF with a palette")),
        _ => return Err(unsupported("a TIFF of other colours than grey and RGB of 8 or 16 bits")),
    };
    let pixels = match decoder.read_image().map_err(refusal)? {
        DecodingResult::U8(values) => Pixels::Eight { channels, values },
        DecodingResult::U16(values) => Pixels::Sixteen { channels, values },
        _ => return Err(unsupported("a TIFF of signed or real numbers")),
    };
    let short = || RadiographError::Truncated(Format::Tiff);
    let mut samples = Samples::of_pixels(width, height, pixels).ok_or_else(short)?;
    if is_negative {
        // The decoder has turned the scale of all bits around; which bits are used, only the stored values tell.
        samples.values.negate();
        samples.photometric = Photometric::WhiteIsZero;
    }
    Ok(samples.oriented(orientation.and_then(Orientation::from_exif)))
}

fn refusal(e: TiffError) -> RadiographError {
    match &e {
        TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => RadiographError::Truncated(Format::Tiff),
        TiffError::UnsupportedError(_) => {
            let kind = "this kind of TIFF";
            RadiographError::Unsupported { format: Format::Tiff, kind }
        }
        _ => RadiographError::Damaged { format: Format::Tiff, reason: e.to_string() },
    }
}
