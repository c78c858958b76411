//! Marker segments: where they are, and what the frame header says (T.81, B.2).

use super::JpegError;

/// A picture in four inks.
pub const FOUR_COLOURS: &str = "a JPEG of four colours (CMYK)";

/// A marker and its segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// The marker's second byte.
    pub marker: u8,
    /// What follows its length.
    pub data: &'a [u8],
    /// First byte after the segment.
    pub end: usize,
}

/// How a frame is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Baseline or extended sequential DCT.
    Sequential,
    /// Progressive DCT.
    Progressive,
    /// Lossless prediction.
    Lossless,
}

/// A component of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// What scans call it.
    pub id: u8,
    /// Blocks in each minimum coded unit, across and down.
    pub sampling: [usize; 2],
    /// Quantisation table.
    pub table: usize,
}

/// The frame header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// How it is coded.
    pub process: Process,
    /// Bits of a sample.
    pub precision: u8,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Components.
    pub components: Vec<Component>,
}

/// The next segment at or after `at`. Bytes between segments are passed over, as libjpeg does.
pub fn next_segment(bytes: &[u8], mut at: usize) -> Result<Segment<'_>, JpegError> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        at += rest.iter().position(|b| *b == 0xFF).ok_or(JpegError::Truncated)?;
        while bytes.get(at) == Some(&0xFF) {
            at += 1;
        }
        let marker = *bytes.get(at).ok_or(JpegError::Truncated)?;
        at += 1;
        match marker {
            // A stuffed zero, or a marker without a segment: TEM, RST, SOI.
            0x00 | 0x01 | 0xD0..=0xD8 => continue,
            0xD9 => return Ok(Segment { marker, data: &[], end: at }),
            _ => {}
        }
        let length = bytes.get(at..at + 2).ok_or(JpegError::Truncated)?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let data = length.checked_sub(2).ok_or_else(|| JpegError::damaged("a segment has an impossible length"))?;
        let data = bytes.get(at + 2..at + 2 + data).ok_or(JpegError::Truncated)?;
        return Ok(Segment { marker, data, end: at + length });
    }
}

/// The frame header of the file `bytes`.
pub fn read(bytes: &[u8]) -> Result<Frame, JpegError> {
    let mut at = 2;
    loop {
        let segment = next_segment(bytes, at)?;
        match segment.marker {
            0xC4 | 0xC8 | 0xCC => {}
            0xC0..=0xCF => return parse(segment.marker, segment.data),
            0xD9 | 0xDA => return Err(JpegError::damaged("it has no frame header")),
            _ => {}
        }
        at = segment.end;
    }
}

/// The frame header in the segment of `marker`.
pub fn parse(marker: u8, data: &[u8]) -> Result<Frame, JpegError> {
    let process = match marker {
        0xC0 | 0xC1 => Process::Sequential,
        0xC2 => Process::Progressive,
        0xC3 => Process::Lossless,
        0xC9..=0xCB => return Err(JpegError::Unsupported("an arithmetically coded JPEG")),
        _ => return Err(JpegError::Unsupported("a hierarchical JPEG")),
    };
    let short = || JpegError::damaged("its frame header is too short");
    let (head, list) = data.split_at_checked(6).ok_or_else(short)?;
    let frame = Frame {
        process,
        precision: head[0],
        height: u16::from_be_bytes([head[1], head[2]]),
        width: u16::from_be_bytes([head[3], head[4]]),
        components: list.as_chunks::<3>().0.iter().map(component).collect(),
    };
    if list.len() != 3 * usize::from(head[5]) || frame.components.is_empty() {
        return Err(short());
    }
    frame.check()?;
    Ok(frame)
}

fn component([id, sampling, table]: &[u8; 3]) -> Component {
    let sampling = [usize::from(sampling >> 4), usize::from(sampling & 15)];
    Component { id: *id, sampling, table: usize::from(*table) }
}

impl Frame {
    fn check(&self) -> Result<(), JpegError> {
        match (self.process, self.precision) {
            (Process::Lossless, 2..=16) | (_, 8) => {}
            (_, 12) => return Err(JpegError::Unsupported("a JPEG of 12 bits")),
            _ => return Err(JpegError::damaged(format!("samples of {} bits", self.precision))),
        }
        if self.height == 0 {
            return Err(JpegError::Unsupported("a JPEG whose height follows its picture (DNL)"));
        }
        if self.width == 0 {
            return Err(JpegError::damaged("it has no columns"));
        }
        let possible = |side: usize| (1..=4).contains(&side);
        if !self.components.iter().all(|c| c.sampling.iter().all(|s| possible(*s)) && c.table < 4) {
            return Err(JpegError::damaged("a component's sampling is impossible"));
        }
        self.check_layout()
    }

    /// Refuses what the decoder would get wrong, by name.
    fn check_layout(&self) -> Result<(), JpegError> {
        match self.components.len() {
            1 => return Ok(()),
            2 => return Err(JpegError::Unsupported("a JPEG of two components")),
            3 => {}
            4 => return Err(JpegError::Unsupported(FOUR_COLOURS)),
            _ => return Err(JpegError::Unsupported("a JPEG of more than four components")),
        }
        if self.process == Process::Lossless {
            return Err(JpegError::Unsupported("a lossless JPEG in colour"));
        }
        let largest = self.largest_sampling();
        if self.components[0].sampling != largest {
            return Err(JpegError::Unsupported("a JPEG whose brightness is coarser than its colour"));
        }
        let divides = |c: &Component| [0, 1].iter().all(|i| largest[*i].is_multiple_of(c.sampling[*i]));
        match self.components.iter().all(divides) {
            true => Ok(()),
            false => Err(JpegError::Unsupported("a JPEG whose colour is not a whole fraction of its brightness")),
        }
    }

    /// Blocks of the finest component in a minimum coded unit, across and down.
    pub fn largest_sampling(&self) -> [usize; 2] {
        [0, 1].map(|i| self.components.iter().map(|c| c.sampling[i]).max().unwrap_or(1))
    }

    /// Samples of component `c`, across and down.
    pub fn component_size(&self, c: usize) -> [usize; 2] {
        let largest = self.largest_sampling();
        let size = [usize::from(self.width), usize::from(self.height)];
        [0, 1].map(|i| (size[i] * self.components[c].sampling[i]).div_ceil(largest[i]))
    }
}
