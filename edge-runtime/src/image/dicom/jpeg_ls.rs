//! JPEG-LS of one component (ITU-T T.87), lossless and near-lossless. Section numbers are those of T.87.
//!
//! Own code, since no maintained Rust library reads it exactly and CharLS needs a C++ runtime on the device. Every
//! sample is decoded from bits that are there, and the end marker must follow the last one.

use crate::image::samples::Values;

/// Contexts of gradients (A.3.4); two more stand for interrupted runs.
const CONTEXTS: usize = 365;
/// Orders of run lengths (A.2.1).
const RUN_ORDERS: [u32; 32] =
    [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Bounds of a context's correction (A.6.2).
const CORRECTIONS: [i32; 2] = [-128, 127];

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JpegLsError {
    /// It ends early.
    Truncated,
    /// It makes no sense.
    Damaged(&'static str),
    /// It is of a kind that is not read.
    Unsupported(&'static str),
}

/// What the headers say (C.2).
struct Header {
    width: usize,
    height: usize,
    precision: u32,
    near: i32,
    preset: Preset,
}

/// `LSE` of type 1 (C.2.4.1.1); 0 stands for the default.
#[derive(Default)]
struct Preset {
    max: i32,
    thresholds: [i32; 3],
    reset: i32,
}

/// The grey values of `bytes`, whose picture must have `width × height` of them.
pub fn decode(bytes: &[u8], width: u32, height: u32) -> Result<Values, JpegLsError> {
    let mut headers = Headers { bytes, at: 0 };
    let header = headers.read()?;
    if (header.width, header.height) != (width as usize, height as usize) {
        return Err(JpegLsError::Damaged("its picture has another size than the file declares"));
    }
    let bits = Bits { bytes, at: headers.at, held: 0, count: 0, after_ff: false };
    let samples = Scan::new(&header, bits).decode(header.width, header.height)?;
    Ok(match header.precision {
        ..=8 => Values::Eight(samples.iter().map(|v| *v as u8).collect()),
        _ => Values::Sixteen(samples),
    })
}

/// Reads marker segments.
struct Headers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Headers<'_> {
    fn byte(&mut self) -> Result<u8, JpegLsError> {
        let byte = self.bytes.get(self.at).copied().ok_or(JpegLsError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn word(&mut self) -> Result<u16, JpegLsError> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// Up to the first sample.
    fn read(&mut self) -> Result<Header, JpegLsError> {
        if self.word()? != 0xFFD8 {
            return Err(JpegLsError::Damaged("it does not begin as a JPEG-LS stream does"));
        }
        let mut header = Header { width: 0, height: 0, precision: 0, near: 0, preset: Preset::default() };
        loop {
            let marker = self.word()?;
            let start = self.at;
            let length = usize::from(self.word()?);
            match marker {
                0xFFF7 => self.frame(&mut header)?,
                0xFFF8 => self.preset(&mut header.preset)?,
                0xFFDA => {
                    self.scan(&mut header)?;
                    return Ok(header);
                }
                0xFFDD => return Err(JpegLsError::Unsupported("JPEG-LS with restart intervals")),
                0xFFC0..=0xFFCF => return Err(JpegLsError::Damaged("it is a JPEG of another kind")),
                0xFFE0..=0xFFEF | 0xFFFE => {}
                _ => return Err(JpegLsError::Damaged("it has a marker that means nothing there")),
            }
            self.at = start + length;
        }
    }

    fn frame(&mut self, header: &mut Header) -> Result<(), JpegLsError> {
        header.precision = self.byte()?.into();
        header.height = self.word()?.into();
        header.width = self.word()?.into();
        if !(2..=16).contains(&header.precision) || header.height == 0 || header.width == 0 {
            return Err(JpegLsError::Damaged("its frame header is impossible"));
        }
        match self.byte()? {
            1 => Ok(()),
            _ => Err(JpegLsError::Unsupported("JPEG-LS in colour")),
        }
    }

    fn preset(&mut self, preset: &mut Preset) -> Result<(), JpegLsError> {
        if self.byte()? != 1 {
            return Err(JpegLsError::Unsupported("JPEG-LS with tables"));
        }
        preset.max = self.word()?.into();
        for threshold in &mut preset.thresholds {
            *threshold = self.word()?.into();
        }
        preset.reset = self.word()?.into();
        Ok(())
    }

    fn scan(&mut self, header: &mut Header) -> Result<(), JpegLsError> {
        let components = self.byte()?;
        let _ = self.word()?;
        header.near = self.byte()?.into();
        let _interleave = self.byte()?;
        let transform = self.byte()?;
        if components != 1 || header.precision == 0 {
            return Err(JpegLsError::Damaged("its scan header does not fit its frame"));
        }
        if transform != 0 {
            return Err(JpegLsError::Unsupported("JPEG-LS with a point transform"));
        }
        Ok(())
    }
}

/// Bits, most significant first; a byte behind `FF` holds seven (A.1).
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
    after_ff: bool,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32, JpegLsError> {
        if self.count == 0 {
            let byte = *self.bytes.get(self.at).ok_or(JpegLsError::Truncated)?;
            if self.after_ff && byte >= 0x80 {
                return Err(JpegLsError::Truncated);
            }
            self.at += 1;
            self.held = byte.into();
            self.count = if self.after_ff { 7 } else { 8 };
            self.after_ff = byte == 0xFF;
        }
        self.count -= 1;
        Ok(self.held >> self.count & 1)
    }

    fn bits(&mut self, count: u32) -> Result<i32, JpegLsError> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | self.bit()? as i32;
        }
        Ok(value)
    }

    /// Nothing but padding may be left before the end marker: bits that are alike, the seven that follow a byte `FF`,
    /// and bytes `FF` (T.81, B.1.1.2).
    fn finish(self) -> Result<(), JpegLsError> {
        let ones = (1 << self.count) - 1;
        let is_padding = [0, ones].contains(&(self.held & ones));
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let rest = if self.after_ff { rest.strip_prefix(&[0]).unwrap_or(rest) } else { rest };
        let Some(end) = rest.iter().position(|b| *b != 0xFF) else { return Err(JpegLsError::Truncated) };
        match is_padding && end > 0 && rest[end] == 0xD9 {
            true => Ok(()),
            false => Err(JpegLsError::Damaged("data are left over behind its last sample")),
        }
    }
}

/// What has been seen in a context (A.2.1).
#[derive(Clone, Copy)]
struct Context {
    /// Sum of magnitudes of errors.
    magnitude: i32,
    /// Sum of errors, for runs the number of negative ones.
    bias: i32,
    /// Correction of the prediction.
    correction: i32,
    /// How often it occurred.
    count: i32,
}

/// The parameters of a scan and its state.
struct Scan<'a> {
    bits: Bits<'a>,
    max: i32,
    near: i32,
    range: i32,
    /// Bits of an error that is written as it is.
    error_bits: u32,
    limit: u32,
    thresholds: [i32; 3],
    reset: i32,
    contexts: Vec<Context>,
    run_index: usize,
}

impl<'a> Scan<'a> {
    fn new(header: &Header, bits: Bits<'a>) -> Scan<'a> {
        let full = (1i32 << header.precision) - 1;
        let max = if header.preset.max > 0 { header.preset.max.min(full) } else { full };
        let near = header.near.min(max / 2);
        let range = (max + 2 * near) / (2 * near + 1) + 1;
        let depth = header.precision.max(2);
        let first = Context { magnitude: ((range + 32) / 64).max(2), bias: 0, correction: 0, count: 1 };
        Scan {
            bits,
            max,
            near,
            range,
            error_bits: bits_below(range),
            limit: 2 * (depth + depth.max(8)),
            thresholds: thresholds(&header.preset, max, near),
            reset: if header.preset.reset > 0 { header.preset.reset } else { 64 },
            contexts: vec![first; CONTEXTS + 2],
            run_index: 0,
        }
    }

    fn decode(mut self, width: usize, height: usize) -> Result<Vec<u16>, JpegLsError> {
        let mut samples = Vec::with_capacity(width * height);
        // A line lies behind one sample of its left edge and before one of its right.
        let mut above = vec![0i32; width + 2];
        let mut line = vec![0i32; width + 2];
        for _ in 0..height {
            above[width + 1] = above[width];
            line[0] = above[1];
            self.line(&above, &mut line)?;
            samples.extend(line[1..=width].iter().map(|v| *v as u16));
            std::mem::swap(&mut above, &mut line);
        }
        self.bits.finish()?;
        Ok(samples)
    }

    fn line(&mut self, above: &[i32], line: &mut [i32]) -> Result<(), JpegLsError> {
        let width = line.len() - 2;
        let mut x = 1;
        while x <= width {
            let left = line[x - 1];
            let gradients = [above[x + 1] - above[x], above[x] - above[x - 1], above[x - 1] - left];
            if gradients.iter().all(|g| g.abs() <= self.near) {
                x = self.run(above, line, x)?;
            } else {
                line[x] = self.regular(gradients, left, above[x], above[x - 1])?;
                x += 1;
            }
        }
        Ok(())
    }

    /// A sample in regular mode (A.3 to A.6).
    fn regular(&mut self, gradients: [i32; 3], a: i32, b: i32, c: i32) -> Result<i32, JpegLsError> {
        let [q1, q2, q3] = gradients.map(|g| self.quantised(g));
        let number = 81 * q1 + 9 * q2 + q3;
        let sign = if number < 0 { -1 } else { 1 };
        let at = number.unsigned_abs() as usize;
        let predicted = match c {
            c if c >= a.max(b) => a.min(b),
            c if c <= a.min(b) => a.max(b),
            c => a + b - c,
        };
        let context = self.contexts[at];
        let predicted = (predicted + sign * context.correction).clamp(0, self.max);
        let order = golomb_order(context.count, context.magnitude);
        let mapped = self.golomb(order, self.limit)?;
        let reversed = self.near == 0 && order == 0 && 2 * context.bias <= -context.count;
        let error = match (mapped & 1 == 1, reversed) {
            (false, false) => mapped / 2,
            (true, false) => -(mapped + 1) / 2,
            (true, true) => (mapped - 1) / 2,
            (false, true) => -(mapped / 2) - 1,
        };
        self.learn(at, error);
        Ok(self.reconstructed(predicted, sign * error))
    }

    /// Updates a context by an error (A.6).
    fn learn(&mut self, at: usize, error: i32) {
        let step = 2 * self.near + 1;
        let reset = self.reset;
        let context = &mut self.contexts[at];
        context.bias += error * step;
        context.magnitude += error.abs();
        if context.count == reset {
            context.magnitude >>= 1;
            context.bias >>= 1;
            context.count >>= 1;
        }
        context.count += 1;
        let [least, largest] = CORRECTIONS;
        if context.bias <= -context.count {
            context.bias = (context.bias + context.count).max(1 - context.count);
            context.correction = (context.correction - 1).max(least);
        } else if context.bias > 0 {
            context.bias = (context.bias - context.count).min(0);
            context.correction = (context.correction + 1).min(largest);
        }
    }

    /// A run from `x` on, and the sample that interrupts it (A.7); gives the next sample's place.
    fn run(&mut self, above: &[i32], line: &mut [i32], mut x: usize) -> Result<usize, JpegLsError> {
        let width = line.len() - 2;
        let value = line[x - 1];
        loop {
            let order = RUN_ORDERS[self.run_index];
            let rest = width + 1 - x;
            if self.bits.bit()? == 1 {
                let length = 1usize << order;
                if length <= rest {
                    self.run_index = (self.run_index + 1).min(31);
                }
                line[x..x + length.min(rest)].fill(value);
                x += length.min(rest);
                if x > width {
                    return Ok(x);
                }
                continue;
            }
            let length = self.bits.bits(order)? as usize;
            if length >= rest {
                return Err(JpegLsError::Damaged("a run is longer than its line"));
            }
            line[x..x + length].fill(value);
            x += length;
            line[x] = self.interruption(value, above[x])?;
            self.run_index = self.run_index.saturating_sub(1);
            return Ok(x + 1);
        }
    }

    /// The sample that ends a run, between `a` on its left and `b` above it (A.7.2).
    fn interruption(&mut self, a: i32, b: i32) -> Result<i32, JpegLsError> {
        let alike = (a - b).abs() <= self.near;
        let kind = i32::from(alike);
        let predicted = if alike { a } else { b };
        let sign = if !alike && a > b { -1 } else { 1 };
        let at = CONTEXTS + usize::from(alike);
        let context = self.contexts[at];
        let magnitude = context.magnitude + if alike { context.count >> 1 } else { 0 };
        let order = golomb_order(context.count, magnitude);
        let mapped = self.golomb(order, self.limit - RUN_ORDERS[self.run_index] - 1)?;
        let doubled = mapped + kind;
        let odd = doubled & 1 == 1;
        let size = (doubled + i32::from(odd)) / 2;
        let error = if (order != 0 || 2 * context.bias >= context.count) == odd { -size } else { size };
        let reset = self.reset;
        let context = &mut self.contexts[at];
        context.bias += i32::from(error < 0);
        context.magnitude += (mapped + 1 - kind) >> 1;
        if context.count == reset {
            context.magnitude >>= 1;
            context.bias >>= 1;
            context.count >>= 1;
        }
        context.count += 1;
        Ok(self.reconstructed(predicted, sign * error))
    }

    /// A number in a Golomb code of limited length (A.5.3).
    fn golomb(&mut self, order: u32, limit: u32) -> Result<i32, JpegLsError> {
        let longest = limit.saturating_sub(self.error_bits + 1);
        let mut zeros = 0;
        while self.bits.bit()? == 0 {
            zeros += 1;
            if zeros > longest {
                return Err(JpegLsError::Damaged("a code is longer than any"));
            }
        }
        let value = match zeros < longest {
            true => (zeros as i32) << order | self.bits.bits(order)?,
            false => self.bits.bits(self.error_bits)? + 1,
        };
        // Twice the range is beyond every error.
        if value > 2 * self.range { Err(JpegLsError::Damaged("an error is larger than any")) } else { Ok(value) }
    }

    fn quantised(&self, gradient: i32) -> i32 {
        let [t1, t2, t3] = self.thresholds;
        let size = match gradient.abs() {
            g if g <= self.near => 0,
            g if g < t1 => 1,
            g if g < t2 => 2,
            g if g < t3 => 3,
            _ => 4,
        };
        size * gradient.signum()
    }

    fn reconstructed(&self, predicted: i32, error: i32) -> i32 {
        let step = 2 * self.near + 1;
        let value = predicted + error * step;
        let wrapped = match value {
            v if v < -self.near => v + self.range * step,
            v if v > self.max + self.near => v - self.range * step,
            v => v,
        };
        wrapped.clamp(0, self.max)
    }
}

/// Order of the Golomb code for `count` errors of a total `magnitude` (A.5.1).
fn golomb_order(count: i32, magnitude: i32) -> u32 {
    (0..24).find(|k| i64::from(count) << k >= i64::from(magnitude)).unwrap_or(24)
}

/// Bits that hold every number below `range`.
fn bits_below(range: i32) -> u32 {
    32 - (range as u32 - 1).leading_zeros()
}

/// Thresholds of the gradients, where the stream does not give them (C.2.4.1.1.1).
fn thresholds(preset: &Preset, max: i32, near: i32) -> [i32; 3] {
    let bounded = |value: i32, least: i32| if value > max || value < least { least } else { value };
    let basic = [3, 7, 21];
    let mut least = near + 1;
    std::array::from_fn(|i| {
        let wide = [3, 5, 7][i] * near;
        let default = if max >= 128 {
            let factor = (max.min(4095) + 128) / 256;
            let floor = [2, 3, 4][i];
            factor * (basic[i] - floor) + floor + wide
        } else {
            let factor = 256 / (max + 1);
            (basic[i] / factor + wide).max([2, 3, 4][i])
        };
        let threshold = match preset.thresholds[i] {
            0 => bounded(default, least),
            given => given,
        };
        least = threshold;
        threshold
    })
}
