//! A card in memory that loses power: what was not synced is kept, lost, torn or reordered.

use crate::block::Block;
use crate::layout::SECTOR;
use std::io;

/// A longer write is several.
const PIECE: usize = 4096;

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
    Some(u64),
}

impl Fate {
    /// One of each, and eight by chance.
    pub fn all() -> impl Iterator<Item = Fate> {
        [Fate::Lost, Fate::Kept, Fate::TornInSectors, Fate::OnlyLast].into_iter().chain((1..=8).map(Fate::Some))
    }
}

/// A card whose power is cut after a number of writes and syncs.
#[derive(Debug, Clone)]
pub struct SimulatedCard {
    durable: Vec<u8>,
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
        SimulatedCard::of_bytes(vec![0; length])
    }

    /// A card that holds `bytes`.
    pub fn of_bytes(bytes: Vec<u8>) -> SimulatedCard {
        SimulatedCard {
            durable: bytes,
            pending: vec![],
            steps: None,
            is_off: false,
            count: 0,
            is_read_only: false,
            forgets: false,
        }
    }

    /// The same card, whose power is cut after `steps` writes and syncs.
    pub fn with_cut_after(&self, steps: usize) -> SimulatedCard {
        SimulatedCard { steps: Some(self.count + steps), ..self.clone() }
    }

    /// The card after the power came back.
    pub fn after_cut(&self, fate: Fate) -> SimulatedCard {
        let mut durable = self.durable.clone();
        let last = self.pending.len().saturating_sub(1);
        let mut seed = match fate {
            Fate::Some(seed) => (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ self.count as u64) | 1,
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
                    Fate::Some(_) => (next(&mut seed) % 2) as usize * part.len(),
                };
                let at = offset + n * SECTOR as usize;
                durable[at..at + kept].copy_from_slice(&part[..kept]);
            }
        }
        SimulatedCard::of_bytes(durable)
    }

    /// The bytes that stay, to be damaged.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.durable
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
        let end = start.checked_add(length).filter(|end| *end <= self.durable.len());
        end.map(|end| start..end).ok_or(io::ErrorKind::UnexpectedEof.into())
    }
}

impl Block for SimulatedCard {
    fn length(&self) -> io::Result<u64> {
        Ok(self.durable.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is cut"));
        }
        let range = self.range(offset, into.len())?;
        into.copy_from_slice(&self.durable[range.clone()]);
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
            self.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
        Ok(())
    }
}
