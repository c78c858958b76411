//! PNG (ISO/IEC 15948): checksums of every chunk and of the picture's data, every row, and the end.

use super::samples::{Channels, DeclaredBits, Pixels, Samples, Values, check_size};
use super::{Format, RadiographError};
use ::image::metadata::Orientation;
use png::{BitDepth, ColorType, Decoder, DecodingError, Transformations};
use std::io::{Cursor, ErrorKind};

/// Decodes `bytes`.
pub fn read(bytes: &[u8]) -> Result<Samples, RadiographError> {
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.ignore_checksums(false);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(refusal)?;
    let info = reader.info();
    let width = info.width;
    let height = info.height;
    check_size(width, height)?;
    if info.animation_control.is_some_and(|a| a.num_frames > 1) {
        return Err(RadiographError::Unsupported { format: Format::Png, kind: "an animated PNG" });
    }
    let has_alpha = matches!(info.color_type, ColorType::GrayscaleAlpha | ColorType::Rgba);
    let significant = info.sbit.as_ref().and_then(|s| s.iter().copied().max());
    let (color, depth) = reader.output_color_type();
    let damaged = |reason: &str| RadiographError::Damaged { format: Format::Png, reason: reason.into() };
    let size = reader.output_buffer_size().ok_or_else(|| damaged("its picture has no size"))?;
    let mut buffer = vec![0; size];
    let output = reader.next_frame(&mut buffer).map_err(refusal)?;
    reader.finish().map_err(refusal)?;
    buffer.truncate(output.buffer_size());
    // A colour that is named transparent (`tRNS`) comes as an alpha channel, and keeps its own value all the same.
    let channels = match color {
        ColorType::Grayscale => Channels::Grey,
        ColorType::GrayscaleAlpha => Channels::GreyAlpha,
        ColorType::Rgb => Channels::Rgb,
        ColorType::Rgba => Channels::RgbAlpha,
        ColorType::Indexed => return Err(damaged("its palette is missing")),
    };
    let (channels, buffer) = if has_alpha { (channels, buffer) } else { without_alpha(channels, depth, buffer) };
    let pixels = match depth {
        BitDepth::Sixteen => {
            let values = buffer.as_chunks::<2>().0.iter().map(|c| u16::from_be_bytes(*c)).collect();
            Pixels::Sixteen { channels, values }
        }
        _ => Pixels::Eight { channels, values: buffer },
    };
    let mut samples = Samples::of_pixels(width, height, pixels).ok_or_else(|| damaged("its rows are too short"))?;
    if matches!(samples.values, Values::Sixteen(_)) {
        samples.declared = significant.filter(|s| (1..=16).contains(s)).map(DeclaredBits::Significant);
        shift_down(&mut samples);
    }
    let exif = reader.info().exif_metadata.as_deref();
    Ok(samples.oriented(exif.and_then(Orientation::from_exif_chunk)))
}

/// Values that were shifted up by the bits that are not significant go down again.
fn shift_down(samples: &mut Samples) {
    let (Values::Sixteen(values), Some(DeclaredBits::Significant(bits))) = (&mut samples.values, samples.declared)
    else {
        return;
    };
    let shift = 16 - u32::from(bits);
    let is_shifted =
        shift > 0 && values.iter().all(|v| v.trailing_zeros() >= shift) && values.iter().any(|v| v >> bits > 0);
    if is_shifted {
        values.iter_mut().for_each(|v| *v >>= shift);
        samples.declared = Some(DeclaredBits::Low(bits));
    }
}

/// Drops the last of each pixel's values, if it is an alpha value.
fn without_alpha(channels: Channels, depth: BitDepth, buffer: Vec<u8>) -> (Channels, Vec<u8>) {
    let (channels, count) = match channels {
        Channels::GreyAlpha => (Channels::Grey, 2),
        Channels::RgbAlpha => (Channels::Rgb, 4),
        Channels::Grey | Channels::Rgb => return (channels, buffer),
    };
    let bytes = if depth == BitDepth::Sixteen { 2 } else { 1 };
    let colour = |pixel: &[u8]| pixel[..(count - 1) * bytes].to_vec();
    (channels, buffer.chunks_exact(count * bytes).flat_map(colour).collect())
}

fn refusal(e: DecodingError) -> RadiographError {
    match &e {
        DecodingError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => RadiographError::Truncated(Format::Png),
        _ => RadiographError::Damaged { format: Format::Png, reason: e.to_string() },
    }
}
