//! A walk through every scan: every block of every component must be there, and nothing may be left over.
//!
//! Nothing is transformed and no pixel made; a file that passes is one whose pixels all come from its data.

use super::JpegError;
use super::frame::{self, Component, Frame, Process, Segment, next_segment};
use super::huffman::{Bits, Table};

/// Coefficients of a block.
const COEFFICIENTS: usize = 64;

/// Walks through the file `bytes`.
pub fn prove(bytes: &[u8]) -> Result<(), JpegError> {
    let mut walk = Walk::default();
    let mut at = 2;
    loop {
        let segment = next_segment(bytes, at)?;
        at = match segment.marker {
            0xC4 => walk.huffman_tables(segment)?,
            0xDB => walk.quantisation_tables(segment)?,
            0xDD => walk.restart_interval(segment)?,
            0xC8 | 0xCC => segment.end,
            0xC0..=0xCF => walk.frame(segment)?,
            0xDA => walk.scan(bytes, segment)?,
            0xDC => return Err(JpegError::Unsupported("a JPEG whose height follows its picture (DNL)")),
            0xD9 => return walk.finish(),
            _ => segment.end,
        };
    }
}

/// What is known so far.
#[derive(Default)]
struct Walk {
    /// Huffman tables, of differences and of coefficients.
    tables: [[Option<Table>; 4]; 2],
    /// First entry of each quantisation table.
    first_quantiser: [Option<u16>; 4],
    restart_interval: usize,
    frame: Option<Frame>,
    /// For each component, what has been received of it.
    received: Vec<Received>,
}

/// What has been received of a component.
struct Received {
    /// For each coefficient, the bits of it that are still to come; none before its first scan.
    missing_bits: [Option<u8>; COEFFICIENTS],
    /// Blocks across and down, those included that only fill up minimum coded units.
    blocks: [usize; 2],
    /// For each block, the coefficients that are not zero: progressive scans that refine them need to know.
    nonzero: Vec<u64>,
}

/// The part of the coefficients that a scan holds.
#[derive(Clone, Copy)]
struct Band {
    start: usize,
    end: usize,
    /// Bits that were missing before; none in a first scan.
    high: u8,
    /// Bits that are missing afterwards.
    low: u8,
}

/// A component of a scan.
struct ScanComponent {
    /// Its index in the frame.
    index: usize,
    differences: Option<Table>,
    coefficients: Option<Table>,
}

/// What goes on from block to block in a scan; restarts set it back.
struct State {
    /// The last DC value of each component of the scan.
    predictions: Vec<i32>,
    /// Blocks without coefficients that are still to come.
    end_of_band: u32,
}

impl Walk {
    fn huffman_tables(&mut self, segment: Segment) -> Result<usize, JpegError> {
        let wrong = || JpegError::damaged("a Huffman table is cut");
        let mut data = segment.data;
        while let Some((head, rest)) = data.split_first_chunk::<17>() {
            let [kind, counts @ ..] = head;
            let count = counts.iter().map(|c| usize::from(*c)).sum();
            let (symbols, after) = rest.split_at_checked(count).ok_or_else(wrong)?;
            let class = self.tables.get_mut(usize::from(kind >> 4)).ok_or_else(wrong)?;
            let slot = class.get_mut(usize::from(kind & 15)).ok_or_else(wrong)?;
            *slot = Some(Table::new(counts, symbols)?);
            data = after;
        }
        if data.is_empty() { Ok(segment.end) } else { Err(wrong()) }
    }

    fn quantisation_tables(&mut self, segment: Segment) -> Result<usize, JpegError> {
        let wrong = || JpegError::damaged("a quantisation table is cut");
        let mut data = segment.data;
        while let Some((kind, rest)) = data.split_first() {
            let wide = kind >> 4 != 0;
            let (values, after) = rest.split_at_checked(if wide { 128 } else { 64 }).ok_or_else(wrong)?;
            let first = if wide { u16::from_be_bytes([values[0], values[1]]) } else { values[0].into() };
            *self.first_quantiser.get_mut(usize::from(kind & 15)).ok_or_else(wrong)? = Some(first);
            data = after;
        }
        Ok(segment.end)
    }

    fn restart_interval(&mut self, segment: Segment) -> Result<usize, JpegError> {
        let interval = segment.data.first_chunk().ok_or_else(|| JpegError::damaged("a restart interval is cut"))?;
        self.restart_interval = usize::from(u16::from_be_bytes(*interval));
        Ok(segment.end)
    }

    fn frame(&mut self, segment: Segment) -> Result<usize, JpegError> {
        if self.frame.is_some() {
            return Err(JpegError::damaged("it holds two pictures"));
        }
        let frame = frame::parse(segment.marker, segment.data)?;
        let largest = frame.largest_sampling();
        let unit = if frame.process == Process::Lossless { 1 } else { 8 };
        let units = [usize::from(frame.width), usize::from(frame.height)];
        let units = [0, 1].map(|i| units[i].div_ceil(unit * largest[i]));
        let received = |c: &Component| {
            let blocks = [0, 1].map(|i| units[i] * c.sampling[i]);
            let progressive = frame.process == Process::Progressive;
            Received {
                missing_bits: [None; COEFFICIENTS],
                blocks,
                nonzero: vec![0; if progressive { blocks[0] * blocks[1] } else { 0 }],
            }
        };
        self.received = frame.components.iter().map(received).collect();
        self.frame = Some(frame);
        Ok(segment.end)
    }

    /// Walks through a scan; gives where the next marker is.
    fn scan(&mut self, bytes: &[u8], segment: Segment) -> Result<usize, JpegError> {
        let frame = self.frame.clone().ok_or_else(|| JpegError::damaged("a scan comes before the frame header"))?;
        let (components, band) = self.scan_header(&frame, segment.data)?;
        self.receive(&frame, &components, band)?;
        let order = Order::new(&frame, &components, &self.received);
        let mut bits = Bits::new(bytes, segment.end);
        let mut state = State { predictions: vec![0; components.len()], end_of_band: 0 };
        let mut restarts = 0;
        for unit in 0..order.units {
            if self.restart_interval > 0 && unit > 0 && unit.is_multiple_of(self.restart_interval) {
                let at = end_of_interval(bits, &state)?;
                bits = Bits::new(bytes, restart(bytes, at, restarts)?);
                restarts = (restarts + 1) % 8;
                state = State { predictions: vec![0; components.len()], end_of_band: 0 };
            }
            for (c, block) in order.blocks(unit) {
                self.block(&frame, &components, band, c, block, &mut bits, &mut state)?;
            }
        }
        end_of_interval(bits, &state)
    }
}

/// The end of a restart interval or a scan: all blocks without coefficients are used up, and the bits too.
fn end_of_interval(bits: Bits, state: &State) -> Result<usize, JpegError> {
    match state.end_of_band {
        0 => bits.end(),
        _ => Err(JpegError::damaged("data are left over when its picture is whole")),
    }
}

/// Passes over restart marker `number` at `at`.
fn restart(bytes: &[u8], mut at: usize, number: u8) -> Result<usize, JpegError> {
    while bytes.get(at) == Some(&0xFF) {
        at += 1;
    }
    match bytes.get(at) {
        Some(marker) if *marker == 0xD0 + number => Ok(at + 1),
        Some(0xD9) | None => Err(JpegError::Truncated),
        Some(_) => Err(JpegError::damaged("a restart interval is lost")),
    }
}

impl Walk {
    /// The components of a scan, and the part of their coefficients that it holds.
    fn scan_header(&self, frame: &Frame, data: &[u8]) -> Result<(Vec<ScanComponent>, Band), JpegError> {
        let wrong = || JpegError::damaged("a scan header is impossible");
        let (count, rest) = data.split_first().ok_or_else(wrong)?;
        let (list, rest) = rest.split_at_checked(2 * usize::from(*count)).ok_or_else(wrong)?;
        let [start, end, approximation] = *rest.first_chunk().ok_or_else(wrong)?;
        let mut components = Vec::new();
        for [id, tables] in list.as_chunks::<2>().0 {
            let index = frame.components.iter().position(|c| c.id == *id).ok_or_else(wrong)?;
            if components.iter().any(|c: &ScanComponent| c.index == index) {
                return Err(wrong());
            }
            let table = |class: usize, slot: u8| self.tables[class].get(usize::from(slot)).ok_or_else(wrong);
            components.push(ScanComponent {
                index,
                differences: table(0, tables >> 4)?.clone(),
                coefficients: table(1, tables & 15)?.clone(),
            });
        }
        let band = match frame.process {
            Process::Sequential => Band { start: 0, end: COEFFICIENTS - 1, high: 0, low: 0 },
            Process::Lossless => Band { start: 0, end: 0, high: 0, low: 0 },
            Process::Progressive => {
                Band { start: start.into(), end: end.into(), high: approximation >> 4, low: approximation & 15 }
            }
        };
        let alone = components.len() == 1;
        let possible = band.start <= band.end
            && band.end < COEFFICIENTS
            && (band.start > 0 || band.end == 0 || frame.process != Process::Progressive)
            && (band.start == 0 || alone)
            && band.low <= 13;
        if components.is_empty() || !possible { Err(wrong()) } else { Ok((components, band)) }
    }

    /// Notes which bits of which coefficients a scan brings; each must come once, the high ones first.
    fn receive(&mut self, frame: &Frame, components: &[ScanComponent], band: Band) -> Result<(), JpegError> {
        let expected = (band.high > 0).then_some(band.high);
        for component in components {
            let seen = &mut self.received[component.index].missing_bits;
            for missing in &mut seen[band.start..=band.end] {
                let in_order = *missing == expected && (band.high == 0 || band.low + 1 == band.high);
                if !in_order {
                    return Err(JpegError::damaged("a scan is lost, or comes twice"));
                }
                *missing = Some(band.low);
            }
            if frame.process == Process::Progressive && band.start > 0 && seen[0].is_none() {
                return Err(JpegError::damaged("a scan is lost, or comes twice"));
            }
        }
        Ok(())
    }

    /// Everything must have been received.
    fn finish(&self) -> Result<(), JpegError> {
        let Some(frame) = &self.frame else { return Err(JpegError::damaged("it holds no picture")) };
        let used = if frame.process == Process::Lossless { 1 } else { COEFFICIENTS };
        let whole = |r: &Received| r.missing_bits[..used].iter().all(|missing| *missing == Some(0));
        match self.received.iter().all(whole) {
            true => Ok(()),
            false => Err(JpegError::Truncated),
        }
    }

    /// Walks through one block of component `c` of a scan.
    #[allow(clippy::too_many_arguments)] // what a block depends on
    fn block(
        &mut self,
        frame: &Frame,
        components: &[ScanComponent],
        band: Band,
        c: usize,
        block: usize,
        bits: &mut Bits,
        state: &mut State,
    ) -> Result<(), JpegError> {
        let component = &components[c];
        let no_table = || JpegError::damaged("a Huffman table is missing");
        match frame.process {
            Process::Lossless => lossless(bits, component.differences.as_ref().ok_or_else(no_table)?),
            Process::Sequential => {
                let table = component.differences.as_ref().ok_or_else(no_table)?;
                self.dc(frame, component.index, table, 0, bits, &mut state.predictions[c])?;
                sequential_ac(bits, component.coefficients.as_ref().ok_or_else(no_table)?)
            }
            Process::Progressive if band.start == 0 && band.high == 0 => {
                let table = component.differences.as_ref().ok_or_else(no_table)?;
                self.dc(frame, component.index, table, band.low, bits, &mut state.predictions[c])
            }
            Process::Progressive if band.start == 0 => bits.take(1).map(|_| ()),
            Process::Progressive => {
                let table = component.coefficients.as_ref().ok_or_else(no_table)?;
                let nonzero = &mut self.received[component.index].nonzero[block];
                match band.high {
                    0 => first_ac(bits, table, band, &mut state.end_of_band, nonzero),
                    _ => refine_ac(bits, table, band, &mut state.end_of_band, nonzero),
                }
            }
        }
    }

    /// A DC difference. Its sum must stay near what samples can give: noise between intact data drifts away.
    fn dc(
        &self,
        frame: &Frame,
        component: usize,
        table: &Table,
        low: u8,
        bits: &mut Bits,
        prediction: &mut i32,
    ) -> Result<(), JpegError> {
        let size = bits.symbol(table)?;
        if size > 11 {
            return Err(JpegError::damaged("a difference is larger than samples can give"));
        }
        *prediction += bits.difference(size.into())?;
        let quantiser = self.first_quantiser[frame.components[component].table];
        let quantiser = i64::from(quantiser.ok_or_else(|| JpegError::damaged("a quantisation table is missing"))?);
        let value = (i64::from(*prediction) << low) * quantiser;
        // A block of one grey gives 8 · 128 at most.
        match value.abs() <= 2 * 8 * 128 + quantiser {
            true => Ok(()),
            false => Err(JpegError::damaged("a block is brighter or darker than samples can be")),
        }
    }
}

/// Coefficients 1 to 63 of a block (T.81, F.2.2.2).
#[inline]
fn sequential_ac(bits: &mut Bits, table: &Table) -> Result<(), JpegError> {
    let mut k = 1;
    while k < COEFFICIENTS {
        let symbol = bits.symbol(table)?;
        let run = usize::from(symbol >> 4);
        let size = u32::from(symbol & 15);
        match (run, size) {
            (15, 0) => k += 16,
            (_, 0) => return Ok(()),
            _ => {
                k += run + 1;
                if k > COEFFICIENTS || size > 10 {
                    return Err(JpegError::damaged("a block has more coefficients than it holds"));
                }
                bits.take(size)?;
            }
        }
    }
    match k {
        COEFFICIENTS => Ok(()),
        _ => Err(JpegError::damaged("a block has more coefficients than it holds")),
    }
}

/// The first bits of a band of coefficients (T.81, G.1.2.2).
fn first_ac(
    bits: &mut Bits,
    table: &Table,
    band: Band,
    end_of_band: &mut u32,
    nonzero: &mut u64,
) -> Result<(), JpegError> {
    if *end_of_band > 0 {
        *end_of_band -= 1;
        return Ok(());
    }
    let mut k = band.start;
    while k <= band.end {
        let symbol = bits.symbol(table)?;
        let run = usize::from(symbol >> 4);
        let size = u32::from(symbol & 15);
        if size == 0 {
            if run < 15 {
                *end_of_band = (1 << run) - 1 + bits.take(run as u32)?;
                return Ok(());
            }
            k += 16;
            continue;
        }
        k += run;
        if k > band.end || size > 10 {
            return Err(JpegError::damaged("a block has more coefficients than it holds"));
        }
        bits.take(size)?;
        *nonzero |= 1 << k;
        k += 1;
    }
    match k == band.end + 1 {
        true => Ok(()),
        false => Err(JpegError::damaged("a block has more coefficients than it holds")),
    }
}

/// One more bit of a band of coefficients (T.81, G.1.2.3).
fn refine_ac(
    bits: &mut Bits,
    table: &Table,
    band: Band,
    end_of_band: &mut u32,
    nonzero: &mut u64,
) -> Result<(), JpegError> {
    let mut k = band.start;
    while *end_of_band == 0 && k <= band.end {
        let symbol = bits.symbol(table)?;
        let mut zeros = u32::from(symbol >> 4);
        let new = match symbol & 15 {
            0 if zeros < 15 => {
                *end_of_band = (1 << zeros) + bits.take(zeros)?;
                break;
            }
            0 => false,
            1 => {
                bits.take(1)?;
                true
            }
            _ => return Err(JpegError::damaged("a refined coefficient has more than a bit")),
        };
        // Over coefficients that are known, each of which gets its bit, and over `zeros` that stay zero.
        loop {
            if k > band.end {
                return Err(JpegError::damaged("a block has more coefficients than it holds"));
            }
            if *nonzero >> k & 1 == 1 {
                bits.take(1)?;
            } else if zeros == 0 {
                break;
            } else {
                zeros -= 1;
            }
            k += 1;
        }
        if new {
            *nonzero |= 1 << k;
        }
        k += 1;
    }
    if *end_of_band > 0 {
        *end_of_band -= 1;
        let known = (k..=band.end).filter(|k| *nonzero >> k & 1 == 1).count();
        for _ in 0..known {
            bits.take(1)?;
        }
    }
    Ok(())
}

/// A lossless difference (T.81, H.1.2.2).
fn lossless(bits: &mut Bits, table: &Table) -> Result<(), JpegError> {
    match bits.symbol(table)? {
        16 => Ok(()),
        size @ 0..16 => bits.take(size.into()).map(|_| ()),
        _ => Err(JpegError::damaged("a difference is larger than samples can give")),
    }
}

/// The order of a scan's blocks (T.81, A.2).
struct Order {
    /// Minimum coded units.
    units: usize,
    /// Minimum coded units of a line.
    across: usize,
    components: Vec<OrderedComponent>,
}

struct OrderedComponent {
    /// Blocks in a minimum coded unit, across and down.
    in_unit: [usize; 2],
    /// Blocks of a line.
    line: usize,
}

impl Order {
    fn new(frame: &Frame, components: &[ScanComponent], received: &[Received]) -> Order {
        let line = |c: &ScanComponent| received[c.index].blocks[0];
        if let [component] = components {
            // By itself, a component has only the blocks that its samples need, one a unit.
            let unit = if frame.process == Process::Lossless { 1 } else { 8 };
            let [across, down] = frame.component_size(component.index).map(|s| s.div_ceil(unit));
            let components = vec![OrderedComponent { in_unit: [1, 1], line: line(component) }];
            return Order { units: across * down, across, components };
        }
        let sampling = |c: &ScanComponent| frame.components[c.index].sampling;
        let ordered = components.iter().map(|c| OrderedComponent { in_unit: sampling(c), line: line(c) }).collect();
        let first = &components[0];
        let [across, down] = [0, 1].map(|i| received[first.index].blocks[i] / sampling(first)[i]);
        Order { units: across * down, across, components: ordered }
    }

    /// The blocks of minimum coded unit `unit`: component of the scan, and number of the block in it.
    fn blocks(&self, unit: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let x = unit % self.across;
        let y = unit / self.across;
        self.components.iter().enumerate().flat_map(move |(c, component)| {
            let [width, height] = component.in_unit;
            let corner = y * height * component.line + x * width;
            let rows = (0..height).map(move |row| corner + row * component.line);
            rows.flat_map(move |first| (0..width).map(move |column| (c, first + column)))
        })
    }
}
