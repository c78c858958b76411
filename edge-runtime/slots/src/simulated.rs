//! A card in memory that loses power: what was not synced is kept, lost, torn or reordered.

use crate::block::Block;
use crate::layout::SECTOR;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// A longer write is several.
const PIECE: usize = 4096;
/// Bytes that copies of a card share.
const PAGE: usize = 4096;

/// What becomes of writes that were not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// None of them is there.
    Lost,
    /// All are.
    Kept,
    /// All but the last are, and of that one the first half of every sector.
    TornInSectors,
    /// Only the last is.
    OnlyLast,
    /// Some sectors of some of them, by chance.
    ByChance(u64),
}

impl Fate {
    /// One of each, and eight by chance.
    pub fn all() -> impl Iterator<Item = Fate> {
        [Fate::Lost, Fate::Kept, Fate::TornInSectors, Fate::OnlyLast].into_iter().chain((1..=8).map(Fate::ByChance))
    }
}

/// A card whose power is cut after a number of writes and syncs.
#[derive(Debug, Clone)]
pub struct SimulatedCard {
    /// What stays, in pages that copies of a card share.
    pages: Vec<Arc<[u8; PAGE]>>,
    length: usize,
    pending: Vec<(usize, Vec<u8>)>,
    /// The count at which the power is cut; `None` for power that stays.
    steps: Option<usize>,
    is_off: bool,
    /// Writes and syncs so far.
    pub count: usize,
    /// True while nothing can be written.
    pub is_read_only: bool,
    /// True where writes are taken and forgotten.
    pub forgets: bool,
    /// Bytes that cannot be read.
    pub unreadable: Range<u64>,
}

/// The next number of a sequence by chance (xorshift64*, Vigna 2016).
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    seed.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
}

impl SimulatedCard {
    /// A card of zeros.
    pub fn of_length(length: usize) -> SimulatedCard {
        let zeros = Arc::new([0; PAGE]);
        SimulatedCard {
            pages: std::iter::repeat_n(zeros, length.div_ceil(PAGE)).collect(),
            length,
            pending: vec![],
            steps: None,
            is_off: false,
            count: 0,
            is_read_only: false,
            forgets: false,
            unreadable: 0..0,
        }
    }

    /// A card that holds `bytes`.
    pub fn of_bytes(bytes: &[u8]) -> SimulatedCard {
        let mut card = SimulatedCard::of_length(bytes.len());
        card.set(0, bytes);
        card
    }

    /// Changes what stays, as damage does.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let within = at % PAGE;
            let (part, after) = rest.split_at(rest.len().min(PAGE - within));
            Arc::make_mut(&mut self.pages[at / PAGE])[within..within + part.len()].copy_from_slice(part);
            at += part.len();
            rest = after;
        }
    }

    /// Flips a bit of what stays.
    pub fn flip(&mut self, offset: u64) {
        let at = offset as usize;
        let byte = self.pages[at / PAGE][at % PAGE];
        self.set(at, &[byte ^ 1]);
    }

    /// The same card, whose power is cut after `steps` writes and syncs.
    pub fn with_cut_after(&self, steps: usize) -> SimulatedCard {
        SimulatedCard { steps: Some(self.count + steps), ..self.clone() }
    }

    /// The card after the power came back.
    pub fn after_cut(&self, fate: Fate) -> SimulatedCard {
        let mut card = SimulatedCard { pages: self.pages.clone(), ..SimulatedCard::of_length(0) };
        card.length = self.length;
        let last = self.pending.len().saturating_sub(1);
        let mut seed = match fate {
            Fate::ByChance(seed) => (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.count as u64) | 1,
            _ => 1,
        };
        for (i, (offset, bytes)) in self.pending.iter().enumerate() {
            for (n, part) in bytes.chunks(SECTOR as usize).enumerate() {
                let kept = match fate {
                    Fate::Lost => 0,
                    Fate::Kept => part.len(),
                    Fate::TornInSectors if i == last => part.len() / 2,
                    Fate::TornInSectors => part.len(),
                    Fate::OnlyLast if i == last => part.len(),
                    Fate::OnlyLast => 0,
                    Fate::ByChance(_) => (next(&mut seed) % 2) as usize * part.len(),
                };
                let at = offset + n * SECTOR as usize;
                card.set(at, &part[..kept]);
            }
        }
        card
    }

    fn step(&mut self) -> io::Result<()> {
        self.is_off |= self.steps == Some(self.count);
        if self.is_off {
            return Err(io::Error::other("the power is cut"));
        }
        self.count += 1;
        Ok(())
    }

    fn range(&self, offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(length).filter(|end| *end <= self.length);
        end.map(|end| start..end).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Block for SimulatedCard {
    fn length(&self) -> io::Result<u64> {
        Ok(self.length as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is cut"));
        }
        let range = self.range(offset, into.len())?;
        let end = offset + into.len() as u64;
        if offset < self.unreadable.end && self.unreadable.start < end {
            return Err(io::Error::other("the sector cannot be read"));
        }
        let mut done = 0;
        while done < into.len() {
            let at = range.start + done;
            let part = (into.len() - done).min(PAGE - at % PAGE);
            into[done..done + part].copy_from_slice(&self.pages[at / PAGE][at % PAGE..][..part]);
            done += part;
        }
        for (start, bytes) in &self.pending {
            let from = range.start.max(*start);
            let to = range.end.min(start + bytes.len());
            if from < to {
                into[from - range.start..to - range.start].copy_from_slice(&bytes[from - start..to - start]);
            }
        }
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.is_read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        let range = self.range(offset, bytes.len())?;
        for (i, part) in bytes.chunks(PIECE).enumerate() {
            let went = self.step();
            if !self.forgets {
                // A write that the cut met may have reached the card.
                self.pending.push((range.start + i * PIECE, part.to_vec()));
            }
            went?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.step()?;
        for (offset, bytes) in std::mem::take(&mut self.pending) {
            self.set(offset, &bytes);
        }
        Ok(())
    }
}
