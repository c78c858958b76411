//! The pixels of a data set: stored values of one grey or three colours (PS3.3, C.7.6.3; PS3.5, section 8).

use super::jpeg_ls::{self, JpegLsError};
use super::object::Object;
use super::rle::{self, RleError};
use super::syntax::Compression;
use super::{damaged, truncated, unsupported};
use crate::image::jpeg::{self, ColourTransform};
use crate::image::samples::{Channels, Pixels, Samples, Values, check_size};
use crate::image::{Format, RadiographError};
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use hayro_jpeg2000::{DecodeSettings, DecoderContext, Image};

/// (6000,0102) Overlay Bit Position: bits beside the stored ones may hold a drawing (retired).
const OVERLAY_BIT: Tag = Tag(0x6000, 0x0102);

/// What the image pixel module says.
pub struct Layout {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Bits of a stored value in a file.
    pub allocated: u32,
    /// Bits of them that are used.
    pub stored: u32,
    /// Place of the most significant of those.
    high_bit: u32,
    /// True for two's complement.
    pub signed: bool,
    /// What values mean.
    pub colour: Colour,
    /// True if colours lie in planes of their own.
    planar: bool,
}

/// `PhotometricInterpretation` (PS3.3, C.7.6.3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// `MONOCHROME2`: small is dark.
    BlackIsZero,
    /// `MONOCHROME1`: small is bright.
    WhiteIsZero,
    /// `PALETTE COLOR`.
    Palette,
    /// `RGB`.
    Rgb,
    /// `YBR_FULL`, `YBR_FULL_422`.
    Ybr,
    /// `YBR_ICT`, `YBR_RCT`: JPEG 2000's own transforms, which its decoder undoes.
    Transformed,
}

impl Layout {
    /// Of `object`, checked.
    pub fn of(object: &Object) -> Result<Layout, RadiographError> {
        let number = |tag| object.int(tag).and_then(|n| u32::try_from(n).ok());
        let needed = |tag| number(tag).ok_or_else(|| damaged("it holds no picture"));
        let width = needed(tags::COLUMNS)?;
        let height = needed(tags::ROWS)?;
        check_size(width, height)?;
        if number(tags::NUMBER_OF_FRAMES).is_some_and(|frames| frames > 1) {
            return Err(unsupported("a DICOM of several frames"));
        }
        let colour = match object.word(tags::PHOTOMETRIC_INTERPRETATION).as_deref() {
            Some("MONOCHROME2") => Colour::BlackIsZero,
            Some("MONOCHROME1") => Colour::WhiteIsZero,
            Some("PALETTE COLOR") => Colour::Palette,
            Some("RGB") => Colour::Rgb,
            Some("YBR_FULL" | "YBR_FULL_422") => Colour::Ybr,
            Some("YBR_ICT" | "YBR_RCT") => Colour::Transformed,
            Some(_) => return Err(unsupported("a DICOM of other colours than grey, RGB, YBR and palettes")),
            None => return Err(damaged("nothing says what its pixels mean")),
        };
        let samples = number(tags::SAMPLES_PER_PIXEL).unwrap_or(if colour.is_grey() { 1 } else { 3 });
        if samples != if colour.is_grey() { 1 } else { 3 } {
            return Err(damaged("its pixels have another number of values than their colours"));
        }
        let allocated = needed(tags::BITS_ALLOCATED)?;
        let stored = number(tags::BITS_STORED).unwrap_or(allocated);
        let high_bit = number(tags::HIGH_BIT).unwrap_or(stored.wrapping_sub(1));
        if !matches!(allocated, 8 | 16) {
            return Err(unsupported("a DICOM of other than 8 or 16 bits"));
        }
        if stored == 0 || stored > allocated || high_bit >= allocated || high_bit + 1 < stored {
            return Err(damaged("its bits do not fit its values"));
        }
        let is_jpeg_2000 = object.syntax.compression == Compression::Jpeg2000;
        if colour == Colour::Transformed && !is_jpeg_2000 {
            return Err(damaged("its colours are JPEG 2000's, and it is none"));
        }
        if colour == Colour::Ybr && is_jpeg_2000 {
            return Err(unsupported("JPEG 2000 whose colours are YBR without a transform"));
        }
        let signed = number(tags::PIXEL_REPRESENTATION) == Some(1);
        let planar = number(tags::PLANAR_CONFIGURATION) == Some(1);
        Ok(Layout { width, height, allocated, stored, high_bit, signed, colour, planar })
    }

    fn count(&self) -> usize {
        self.width as usize * self.height as usize
    }

    fn channels(&self) -> Channels {
        if self.colour.is_grey() { Channels::Grey } else { Channels::Rgb }
    }
}

impl Colour {
    /// True for one value a pixel.
    pub fn is_grey(self) -> bool {
        matches!(self, Colour::BlackIsZero | Colour::WhiteIsZero | Colour::Palette)
    }
}

/// The stored values of `object`: the used bits of grey ones or indices, or the grey of colours.
pub fn read(object: &Object, layout: &Layout) -> Result<Values, RadiographError> {
    let none = || damaged("it holds no picture");
    let encapsulated = || object.fragments(tags::PIXEL_DATA);
    let values = match object.syntax.compression {
        Compression::None => native(&object.bytes(tags::PIXEL_DATA).ok_or_else(none)?, layout)?,
        Compression::Rle => run_lengths(&encapsulated()?, layout)?,
        Compression::Jpeg => jpeg(&encapsulated()?, layout)?,
        Compression::JpegLs => {
            let bytes = encapsulated()?;
            jpeg_ls::decode(&bytes, layout.width, layout.height).map_err(of_jpeg_ls)?
        }
        Compression::Jpeg2000 => jpeg_2000(&encapsulated()?, layout)?,
    };
    match layout.colour.is_grey() {
        true => used_bits(values, layout, object.int(OVERLAY_BIT).is_some_and(|bit| bit > 0)),
        false => Ok(values),
    }
}

/// Uncompressed values. One byte of padding may follow.
fn native(bytes: &[u8], layout: &Layout) -> Result<Values, RadiographError> {
    let samples = if layout.colour.is_grey() { 1 } else { 3 };
    let size = layout.allocated as usize / 8;
    let needed = layout.count() * samples * size;
    let data = bytes.get(..needed).ok_or_else(truncated)?;
    if bytes.len() > needed + 1 {
        return Err(damaged("it holds more pixels than its size says"));
    }
    match layout.allocated {
        8 => colours_to_grey(Values::Eight(data.to_vec()), layout),
        _ => {
            let values = data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            colours_to_grey(Values::Sixteen(values), layout)
        }
    }
}

fn run_lengths(bytes: &[u8], layout: &Layout) -> Result<Values, RadiographError> {
    let samples = if layout.colour.is_grey() { 1 } else { 3 };
    let size = layout.allocated as usize / 8;
    let planes = rle::decode(bytes, samples * size, layout.count()).map_err(|e| match e {
        RleError::Truncated => truncated(),
        RleError::Damaged(reason) => damaged(reason),
    })?;
    // Planes of bytes lie one behind the other, as planes of colours do.
    let values = match size {
        1 => Values::Eight(planes.concat()),
        _ => {
            let words = planes
                .chunks_exact(2)
                .flat_map(|pair| pair[0].iter().zip(&pair[1]).map(|(high, low)| u16::from_be_bytes([*high, *low])));
            Values::Sixteen(words.collect())
        }
    };
    colours_to_grey(values, &Layout { planar: true, ..*layout })
}

/// Colours by pixel or in planes become grey; grey values stay.
fn colours_to_grey(values: Values, layout: &Layout) -> Result<Values, RadiographError> {
    if layout.colour.is_grey() {
        return Ok(values);
    }
    let Values::Eight(values) = values else { return Err(unsupported("a DICOM of colours of 16 bits")) };
    let count = layout.count();
    let at = |pixel: usize, colour: usize| if layout.planar { colour * count + pixel } else { 3 * pixel + colour };
    let colour = |pixel: usize| {
        let [a, b, c] = [0, 1, 2].map(|colour| values[at(pixel, colour)]);
        if layout.colour == Colour::Ybr { rgb_of_ybr([a, b, c]) } else { [a, b, c] }
    };
    let rgb: Vec<u8> = (0..count).flat_map(colour).collect();
    grey(Pixels::Eight { channels: Channels::Rgb, values: rgb }, layout)
}

/// `YBR_FULL` to `RGB` (PS3.3, C.7.6.3.1.2).
fn rgb_of_ybr(ybr: [u8; 3]) -> [u8; 3] {
    let [y, b, r] = ybr.map(f32::from);
    let [b, r] = [b - 128.0, r - 128.0];
    let rgb = [y + 1.402 * r, y - 0.344_136 * b - 0.714_136 * r, y + 1.772 * b];
    rgb.map(|v| v.round().clamp(0.0, 255.0) as u8)
}

fn grey(pixels: Pixels, layout: &Layout) -> Result<Values, RadiographError> {
    let samples = Samples::of_pixels(layout.width, layout.height, pixels);
    Ok(samples.ok_or_else(|| damaged("its pixels are not as many as it declares"))?.values)
}

fn jpeg(bytes: &[u8], layout: &Layout) -> Result<Values, RadiographError> {
    let transform = match layout.colour {
        Colour::Rgb => ColourTransform::Rgb,
        Colour::Ybr => ColourTransform::Ybr,
        Colour::BlackIsZero | Colour::WhiteIsZero | Colour::Palette | Colour::Transformed => ColourTransform::AsMarked,
    };
    let samples = jpeg::read_as(bytes, transform).map_err(|e| match e {
        RadiographError::Truncated(_) => truncated(),
        RadiographError::Damaged { reason, .. } => RadiographError::Damaged { format: Format::Dicom, reason },
        RadiographError::Unsupported { kind, .. } => unsupported(kind),
        e => e,
    })?;
    if (samples.width, samples.height) != (layout.width, layout.height) {
        return Err(damaged("its picture has another size than the file declares"));
    }
    Ok(samples.values)
}

fn of_jpeg_ls(e: JpegLsError) -> RadiographError {
    match e {
        JpegLsError::Truncated => truncated(),
        JpegLsError::Damaged(reason) => damaged(reason),
        JpegLsError::Unsupported(kind) => unsupported(kind),
    }
}

fn jpeg_2000(bytes: &[u8], layout: &Layout) -> Result<Values, RadiographError> {
    let refused = |e: hayro_jpeg2000::DecodeError| damaged_by(format!("its JPEG 2000 stream cannot be decoded: {e}"));
    if layout.signed {
        // The decoder passes over the sign.
        return Err(unsupported("signed JPEG 2000"));
    }
    let settings = DecodeSettings { strict: true, ..DecodeSettings::default() };
    // A stream of an odd number of bytes is padded to an even one.
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    let image = Image::new(bytes, &settings).map_err(refused)?;
    if (image.width(), image.height()) != (layout.width, layout.height) {
        return Err(damaged("its picture has another size than the file declares"));
    }
    let mut context = DecoderContext::default();
    let bitmap = image.decode(&mut context).map_err(refused)?;
    let components = bitmap.components();
    let bits = u32::from(image.original_bit_depth());
    let full = (1u64 << bits.min(16)) as f32 - 1.0;
    let value = |v: &f32| v.round().clamp(0.0, full) as u16;
    match (components, layout.channels()) {
        ([grey], Channels::Grey) => Ok(match bits {
            ..=8 => Values::Eight(grey.samples().iter().map(|v| value(v) as u8).collect()),
            _ => Values::Sixteen(grey.samples().iter().map(value).collect()),
        }),
        ([red, green, blue], Channels::Rgb) if bits == 8 => {
            let planes = [red, green, blue].map(|c| c.samples());
            let rgb = (0..layout.count()).flat_map(|i| planes.map(|plane| value(&plane[i]) as u8)).collect();
            grey(Pixels::Eight { channels: Channels::Rgb, values: rgb }, layout)
        }
        _ => Err(unsupported("JPEG 2000 of other colours than grey and RGB of 8 bits")),
    }
}

fn damaged_by(reason: String) -> RadiographError {
    RadiographError::Damaged { format: Format::Dicom, reason }
}

/// The used bits of each value. Refused if others are set: neither copies of the sign nor, where there is one, a
/// drawing. Then the file says another depth than it has.
fn used_bits(values: Values, layout: &Layout, has_overlay: bool) -> Result<Values, RadiographError> {
    let shift = layout.high_bit + 1 - layout.stored;
    let mask = ((1u32 << layout.stored) - 1) as u16;
    let width = if matches!(values, Values::Eight(_)) { 8 } else { 16 };
    let above = ((1u32 << width) - 1) as u16 & !((mask as u32) << shift) as u16 & !(((1u32 << shift) - 1) as u16);
    let sign = 1u16 << layout.high_bit;
    let is_sound = |v: u16| {
        let rest = v & !(mask << shift);
        rest == 0 || layout.signed && v & sign != 0 && rest == above
    };
    let others = || damaged("its values have other bits than it says");
    if layout.high_bit >= width {
        return Err(others());
    }
    match values {
        Values::Eight(values) => {
            if !has_overlay && !values.iter().all(|v| is_sound(u16::from(*v))) {
                return Err(others());
            }
            Ok(Values::Eight(values.into_iter().map(|v| (u16::from(v) >> shift & mask) as u8).collect()))
        }
        Values::Sixteen(values) => {
            if !has_overlay && !values.iter().all(|v| is_sound(*v)) {
                return Err(others());
            }
            Ok(Values::Sixteen(values.into_iter().map(|v| v >> shift & mask).collect()))
        }
    }
}
