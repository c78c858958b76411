//! JPEG (ITU-T T.81), proved before it is believed.
//!
//! Decoders fill what is missing: where data end early, a restart interval is lost or a progressive scan never came,
//! the picture has grey, stripes or a blur there, which on a radiograph reads as disease. So every file is walked first
//! ([`proof`]): every Huffman code of every block of every component in every scan, and nothing may be left over. Then
//! `jpeg-decoder` makes the pixels.

mod frame;
mod huffman;
mod proof;

use super::samples::{Channels, DeclaredBits, Pixels, Samples, Values, check_size};
use super::{Format, RadiographError};
use ::image::metadata::Orientation;
use jpeg_decoder::{Decoder, PixelFormat};

/// Why a JPEG is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JpegError {
    /// A kind of JPEG that is sound and not read here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The data end before the picture does.
    #[error("its data end early")]
    Truncated,
    /// What is there is no picture, or more than one.
    #[error("{0}")]
    Damaged(String),
}

impl JpegError {
    fn damaged(reason: impl Into<String>) -> JpegError {
        JpegError::Damaged(reason.into())
    }
}

impl From<JpegError> for RadiographError {
    fn from(e: JpegError) -> RadiographError {
        match e {
            JpegError::Unsupported(kind) => RadiographError::Unsupported { format: Format::Jpeg, kind },
            JpegError::Truncated => RadiographError::Truncated(Format::Jpeg),
            JpegError::Damaged(reason) => RadiographError::Damaged { format: Format::Jpeg, reason },
        }
    }
}

/// Encoders do not agree on differences of 16 bits (T.81, H.1.2.2), so a lossless file that makes no sense here may be
/// sound elsewhere.
fn of_process(e: JpegError, process: frame::Process) -> JpegError {
    match (e, process) {
        (JpegError::Damaged(_), frame::Process::Lossless) => JpegError::Unsupported("this kind of lossless JPEG"),
        (e, _) => e,
    }
}

/// What three components are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColourTransform {
    /// What the file's own markers say.
    AsMarked,
    /// Red, green and blue.
    #[cfg_attr(not(feature = "dicom"), expect(dead_code, reason = "DICOM says it"))]
    Rgb,
    /// Luma and two differences of colour.
    #[cfg_attr(not(feature = "dicom"), expect(dead_code, reason = "DICOM says it"))]
    Ybr,
}

/// Proves and decodes `bytes`.
pub fn read(bytes: &[u8]) -> Result<Samples, RadiographError> {
    let (samples, orientation) = decode(bytes, ColourTransform::AsMarked)?;
    Ok(samples.oriented(orientation))
}

/// As [`read`], of a file in a container that says what its components are, and which way up it is.
#[cfg(feature = "dicom")]
pub fn read_as(bytes: &[u8], transform: ColourTransform) -> Result<Samples, RadiographError> {
    if contradicts(bytes, transform)? {
        return Err(JpegError::damaged("its colours are marked as others than the container says").into());
    }
    decode(bytes, transform).map(|(samples, _)| samples)
}

/// True if markers or sampling prove other colours than `transform` (JFIF; Adobe technical note 5116).
#[cfg(feature = "dicom")]
fn contradicts(bytes: &[u8], transform: ColourTransform) -> Result<bool, JpegError> {
    let frame = frame::read(bytes)?;
    if frame.components.len() != 3 {
        return Ok(false);
    }
    let mut is_jfif = false;
    let mut adobe = None;
    let mut at = 2;
    loop {
        let segment = frame::next_segment(bytes, at)?;
        match segment.marker {
            0xE0 if segment.data.starts_with(b"JFIF") => is_jfif = true,
            0xEE if segment.data.starts_with(b"Adobe") => adobe = segment.data.get(11).copied(),
            0xD9 | 0xDA => break,
            _ => {}
        }
        at = segment.end;
    }
    let is_subsampled = frame.components.iter().any(|c| c.sampling != frame.components[0].sampling);
    let is_named_rgb = frame.components.iter().map(|c| c.id).eq(*b"RGB");
    Ok(match transform {
        ColourTransform::AsMarked => false,
        ColourTransform::Rgb => is_jfif || adobe == Some(1) || is_subsampled,
        ColourTransform::Ybr => adobe == Some(0) || is_named_rgb && !is_jfif,
    })
}

/// The samples of `bytes`, and which way up Exif says they are.
fn decode(bytes: &[u8], transform: ColourTransform) -> Result<(Samples, Option<Orientation>), RadiographError> {
    let frame = frame::read(bytes)?;
    check_size(frame.width.into(), frame.height.into())?;
    proof::prove(bytes).map_err(|e| of_process(e, frame.process))?;
    let mut decoder = Decoder::new(bytes);
    match transform {
        ColourTransform::AsMarked => {}
        ColourTransform::Rgb => decoder.set_color_transform(jpeg_decoder::ColorTransform::RGB),
        ColourTransform::Ybr => decoder.set_color_transform(jpeg_decoder::ColorTransform::YCbCr),
    }
    let damaged = |e: jpeg_decoder::Error| match e {
        jpeg_decoder::Error::Unsupported(_) => JpegError::Unsupported("this kind of JPEG"),
        e => JpegError::damaged(e.to_string()),
    };
    let values = decoder.decode().map_err(damaged)?;
    let info = decoder.info().ok_or_else(|| JpegError::damaged("it has no picture"))?;
    let pixels = match info.pixel_format {
        PixelFormat::L8 => Pixels::Eight { channels: Channels::Grey, values },
        PixelFormat::L16 => {
            let values = values.as_chunks().0.iter().map(|c| u16::from_ne_bytes(*c)).collect();
            Pixels::Sixteen { channels: Channels::Grey, values }
        }
        PixelFormat::RGB24 => Pixels::Eight { channels: Channels::Rgb, values },
        PixelFormat::CMYK32 => return Err(JpegError::Unsupported(frame::FOUR_COLOURS).into()),
    };
    let samples = Samples::of_pixels(info.width.into(), info.height.into(), pixels);
    let mut samples = samples.ok_or_else(|| JpegError::damaged("its pixels are not as many as it declares"))?;
    if matches!(samples.values, Values::Sixteen(_)) {
        samples.declared = Some(DeclaredBits::Low(frame.precision));
    }
    Ok((samples, decoder.exif_data().and_then(Orientation::from_exif_chunk)))
}
