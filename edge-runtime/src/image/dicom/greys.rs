//! From stored values to greys: modality transformation, values of interest, polarity (PS3.4, N.2).

use super::damaged;
use super::object::Object;
use super::pixels::{Colour, Layout};
use crate::image::samples::Values;
use crate::image::{GreyPlane, RadiographError, Windowing};
use dicom_core::Tag;
use dicom_dictionary_std::tags;

/// Share of the pixels that may be darker than black, and of those brighter than white, where nothing says what is
/// black and white.
const TAIL: f64 = 0.005;

/// A look-up table (PS3.3, C.11.1.1.1).
struct Table {
    /// The value that the first entry is for.
    first: f64,
    entries: Vec<u16>,
    /// Bits of an entry.
    bits: u32,
}

/// `VOILUTFunction` (PS3.3, C.11.2.1.2 and C.11.2.1.3).
#[derive(Clone, Copy)]
enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// What becomes black and what white.
enum Interest {
    Range { low: f64, high: f64 },
    Window { centre: f64, width: f64, function: Function },
    Table(Table),
}

impl Table {
    /// The first item of a sequence of tables.
    fn read(item: &Object, signed: bool) -> Result<Table, RadiographError> {
        let bad = || damaged("a look-up table cannot be read");
        let mut table = Table::of(item, tags::LUT_DESCRIPTOR, tags::LUT_DATA).ok_or_else(bad)?;
        if signed && table.first >= 32_768.0 {
            table.first -= 65_536.0;
        }
        Ok(table)
    }

    /// The table in `data`, as `descriptor` has it: entries (0 for 65,536), the value of the first, bits of each.
    /// Entries of 8 bits may have a byte each, and a byte of padding behind them.
    fn of(object: &Object, descriptor: Tag, data: Tag) -> Option<Table> {
        let [count, first, bits] = object.floats(descriptor)[..] else { return None };
        let data = object.bytes(data)?;
        let bits = bits as u32;
        let count = match count as i64 & 0xFFFF {
            0 => 1 << 16,
            count => count as usize,
        };
        let entries: Vec<u16> = match data.len() {
            len if len >= 2 * count => data.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).take(count).collect(),
            len if bits == 8 && (count..=count + 1).contains(&len) => {
                data.iter().map(|b| u16::from(*b)).take(count).collect()
            }
            _ => return None,
        };
        (8..=16).contains(&bits).then_some(Table { first, entries, bits })
    }

    fn at(&self, value: f64) -> f64 {
        let last = self.entries.len() - 1;
        let index = (value - self.first).clamp(0.0, last as f64) as usize;
        f64::from(self.entries[index])
    }

    fn full(&self) -> f64 {
        f64::from((1u32 << self.bits) - 1)
    }
}

impl Interest {
    /// The share of white that `value` becomes, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let share = match self {
            Interest::Range { low, high } => (value - low) / (high - low).max(f64::MIN_POSITIVE),
            Interest::Window { centre, width, function } => match function {
                Function::Linear if *width <= 1.0 => f64::from(u8::from(value > centre - 0.5)),
                Function::Linear => (value - (centre - 0.5)) / (width - 1.0) + 0.5,
                Function::LinearExact => (value - centre) / width + 0.5,
                Function::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - centre) / width).exp()),
            },
            Interest::Table(table) => table.at(value) / table.full(),
        };
        share.clamp(0.0, 1.0)
    }
}

/// How stored values become greys, all but the values of interest.
struct Pipeline {
    stored: u32,
    signed: bool,
    modality: Option<Table>,
    slope: f64,
    intercept: f64,
    /// Stored values that stand for no pixel.
    padding: Option<[i64; 2]>,
}

impl Pipeline {
    fn of(object: &Object, layout: &Layout) -> Result<Pipeline, RadiographError> {
        let table =
            object.items(tags::MODALITY_LUT_SEQUENCE).first().map(|t| Table::read(t, layout.signed)).transpose()?;
        let slope = object.numbers(tags::RESCALE_SLOPE)?.first().copied().unwrap_or(1.0);
        let intercept = object.numbers(tags::RESCALE_INTERCEPT)?.first().copied().unwrap_or(0.0);
        if slope == 0.0 {
            return Err(damaged("its rescale slope is 0"));
        }
        let padding = object.int(tags::PIXEL_PADDING_VALUE).map(|value| {
            let limit = object.int(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
            [value.min(limit), value.max(limit)]
        });
        Ok(Pipeline { stored: layout.stored, signed: layout.signed, modality: table, slope, intercept, padding })
    }

    /// The number that the bits `code` stand for.
    fn stored(&self, code: usize) -> i64 {
        let code = code as i64;
        let half = 1i64 << (self.stored - 1);
        if self.signed && code >= half { code - 2 * half } else { code }
    }

    fn is_padding(&self, code: usize) -> bool {
        let stored = self.stored(code);
        // Writers do not agree whether padding is signed.
        let wrapped = stored & ((1 << self.stored) - 1);
        let within = |value: i64| self.padding.is_some_and(|[low, high]| (low..=high).contains(&value));
        within(stored) || within(wrapped)
    }

    fn real(&self, code: usize) -> f64 {
        let stored = self.stored(code) as f64;
        match &self.modality {
            Some(table) => table.at(stored),
            None => stored * self.slope + self.intercept,
        }
    }

    /// What is black and white where the file does not say: of 8 bits all values, of more those of nearly all pixels.
    fn assumed(&self, counts: &[u64]) -> (Interest, Windowing) {
        if self.stored <= 8 {
            let least = if self.signed { 1 << (self.stored - 1) } else { 0 };
            let ends = [least, least ^ (counts.len() - 1)].map(|code| self.real(code));
            let range = Interest::Range { low: ends[0].min(ends[1]), high: ends[0].max(ends[1]) };
            return (range, Windowing::FullRange);
        }
        let seen = counts.iter().enumerate().filter(|(code, count)| **count > 0 && !self.is_padding(*code));
        let mut values: Vec<(f64, u64)> = seen.map(|(code, count)| (self.real(code), *count)).collect();
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let total: u64 = values.iter().map(|(_, count)| count).sum();
        let at = |share: f64| {
            let mut left = (share * total as f64) as u64;
            let found = values.iter().find(|(_, count)| {
                let here = left < *count;
                left = left.saturating_sub(*count);
                here
            });
            found.or(values.last()).map_or(0.0, |(value, _)| *value)
        };
        (Interest::Range { low: at(TAIL), high: at(1.0 - TAIL) }, Windowing::Percentiles)
    }
}

/// What the file says of black and white.
fn declared(object: &Object, layout: &Layout) -> Result<Option<(Interest, Windowing)>, RadiographError> {
    let tables = object.items(tags::VOILUT_SEQUENCE);
    if let Some(first) = tables.first() {
        let table = Interest::Table(Table::read(first, layout.signed)?);
        return Ok(Some((table, Windowing::Table { of: tables.len().min(999) as u16 })));
    }
    let centres = object.numbers(tags::WINDOW_CENTER)?;
    let widths = object.numbers(tags::WINDOW_WIDTH)?;
    let (Some(centre), Some(width)) = (centres.first(), widths.first()) else { return Ok(None) };
    let function = match object.word(tags::VOILUT_FUNCTION).as_deref() {
        Some("SIGMOID") => Function::Sigmoid,
        Some("LINEAR_EXACT") => Function::LinearExact,
        _ => Function::Linear,
    };
    let is_possible = *width >= 1.0 || *width > 0.0 && !matches!(function, Function::Linear);
    let of = centres.len().min(999) as u16;
    let window = Interest::Window { centre: *centre, width: *width, function };
    match is_possible {
        true => Ok(Some((window, Windowing::Window { of }))),
        false => Err(damaged("its window has an impossible width")),
    }
}

/// The greys of the grey values `values` of `object`, black = 0, and what made them.
pub fn render(object: &Object, layout: &Layout, values: &Values) -> Result<(GreyPlane, Windowing), RadiographError> {
    let pipeline = Pipeline::of(object, layout)?;
    let mut counts = vec![0u64; 1 << layout.stored];
    match values {
        Values::Eight(values) => values.iter().for_each(|v| counts[usize::from(*v)] += 1),
        Values::Sixteen(values) => values.iter().for_each(|v| counts[usize::from(*v)] += 1),
    }
    let (interest, windowing) = declared(object, layout)?.unwrap_or_else(|| pipeline.assumed(&counts));
    let shape = object.word(tags::PRESENTATION_LUT_SHAPE);
    let inverted = layout.colour == Colour::WhiteIsZero || shape.as_deref() == Some("INVERSE");
    let grey = |code: usize| {
        if pipeline.is_padding(code) {
            return 0;
        }
        let grey = (interest.share(pipeline.real(code)) * 255.0).round() as u8;
        if inverted { 255 - grey } else { grey }
    };
    let table: Vec<u8> = (0..counts.len()).map(grey).collect();
    Ok((plane(layout, values, &table), windowing))
}

/// The greys of a palette's indices (PS3.3, C.7.6.3.1.5 and C.7.6.3.1.6).
pub fn of_palette(object: &Object, layout: &Layout, values: &Values) -> Result<GreyPlane, RadiographError> {
    let channel =
        |descriptor, data| Table::of(object, descriptor, data).ok_or_else(|| damaged("its palette cannot be read"));
    let red = channel(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let green =
        channel(tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let blue = channel(tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR, tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA)?;
    let grey = |code: usize| {
        let share = |table: &Table| table.at(code as f64) / table.full();
        // ITU-R BT.709, as all colours.
        (255.0 * (0.2126 * share(&red) + 0.7152 * share(&green) + 0.0722 * share(&blue))).clamp(0.0, 255.0) as u8
    };
    let table: Vec<u8> = (0..1 << layout.stored).map(grey).collect();
    Ok(plane(layout, values, &table))
}

/// Each of `values` as `table` has it.
fn plane(layout: &Layout, values: &Values, table: &[u8]) -> GreyPlane {
    let pixels = match values {
        Values::Eight(values) => values.iter().map(|v| table[usize::from(*v)]).collect(),
        Values::Sixteen(values) => values.iter().map(|v| table[usize::from(*v)]).collect(),
    };
    GreyPlane { width: layout.width, height: layout.height, pixels }
}
