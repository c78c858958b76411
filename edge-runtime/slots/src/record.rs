//! Records in the area before the first partition: two copies, written in turns, so that one of them is whole after a
//! cut of power.

use crate::block::Block;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

const MAGIC: [u8; 8] = *b"HILUMREC";
/// Magic, format, sequence and length.
const HEADER: usize = 8 + 4 + 8 + 4;
/// Bytes of a copy.
pub const ROOM: usize = 32 << 10;

/// Where a record's copies lie, and which format its content has.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    copies: [u64; 2],
    format: u32,
}

/// A copy that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Copy {
    /// Of two copies the one with the higher sequence counts.
    sequence: u64,
    content: Vec<u8>,
}

/// What a device knows about its slots.
pub const STATE: Record = Record { copies: [4 << 20, 8 << 20], format: 1 };
/// What a clinic set when the card was written.
pub const CLINIC: Record = Record { copies: [5 << 20, 9 << 20], format: 1 };

/// In what the clinic set, the table that holds its site profile: a card has no place for a file of the clinic's.
pub const SITE_PROFILE: &str = "site_profile";

/// Why a record is not written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The card does not take it.
    #[error("the card cannot be read or written ({0}): replace it")]
    Card(#[from] io::Error),
    /// It is too long.
    #[error("{0} bytes do not fit a record of {ROOM}")]
    TooLong(usize),
}

impl Record {
    /// The copies that are whole. One that cannot be read is none: a cut may leave sectors that the card refuses.
    fn copies(&self, card: &impl Block) -> [Option<Copy>; 2] {
        self.copies.map(|offset| self.parse(&card.bytes(offset, ROOM).ok()?))
    }

    fn parse(&self, bytes: &[u8]) -> Option<Copy> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (format, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let checked = bytes.get(..HEADER.checked_add(length)?)?;
        let sum = rest.get(length..length + 4)?;
        let is_whole = *magic == MAGIC
            && u32::from_le_bytes(*format) == self.format
            && crc32fast::hash(checked).to_le_bytes() == sum;
        is_whole.then(|| Copy { sequence: u64::from_le_bytes(*sequence), content: rest[..length].to_vec() })
    }

    /// The newest whole copy that is understood.
    pub fn read<T: DeserializeOwned>(&self, card: &impl Block) -> Option<T> {
        let mut copies: Vec<Copy> = self.copies(card).into_iter().flatten().collect();
        copies.sort_by_key(|copy| std::cmp::Reverse(copy.sequence));
        copies.iter().find_map(|copy| postcard::from_bytes(&copy.content).ok())
    }

    /// Writes `content` over the older copy, and returns once it stays.
    pub fn write<T: Serialize>(&self, card: &mut impl Block, content: &T) -> Result<(), RecordError> {
        let content = postcard::to_stdvec(content).map_err(|e| io::Error::other(e.to_string()))?;
        if content.len() > ROOM - HEADER - 4 {
            return Err(RecordError::TooLong(content.len()));
        }
        let copies = self.copies(card);
        let sequence = copies.iter().flatten().map(|copy| copy.sequence).max().unwrap_or(0) + 1;
        let older = match &copies {
            [Some(a), Some(b)] => usize::from(a.sequence > b.sequence),
            [Some(_), None] => 1,
            [None, _] => 0,
        };
        let mut bytes = Vec::with_capacity(HEADER + content.len() + 4);
        bytes.extend(MAGIC);
        bytes.extend(self.format.to_le_bytes());
        bytes.extend(sequence.to_le_bytes());
        bytes.extend((content.len() as u32).to_le_bytes());
        bytes.extend(&content);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        card.write_at(self.copies[older], &bytes)?;
        Ok(card.sync()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::{Fate, SimulatedCard};
    use proptest::prelude::*;

    #[test]
    fn a_cut_leaves_the_old_record_or_the_new_one() {
        let mut card = SimulatedCard::of_length(10 << 20);
        assert_eq!(STATE.read::<String>(&card), None);
        for (old, new) in [("", "a"), ("a", "b"), ("b", "c")] {
            let mut whole = card.clone();
            STATE.write(&mut whole, &new).unwrap();
            for steps in 0..2 {
                for fate in Fate::all() {
                    let mut cut = card.with_cut_after(steps);
                    STATE.write(&mut cut, &new).unwrap_err();
                    let kept = STATE.read::<String>(&cut.after_cut(fate)).unwrap_or_default();
                    assert!(kept == old || kept == new, "{steps} {fate:?}: {kept}");
                }
            }
            card = whole;
            assert_eq!(STATE.read::<String>(&card).as_deref(), Some(new));
        }
        assert!(matches!(STATE.write(&mut card, &vec![0u8; ROOM]), Err(RecordError::TooLong(_))));
    }

    #[test]
    fn a_copy_that_cannot_be_read_leaves_the_other() {
        let mut card = SimulatedCard::of_length(10 << 20);
        STATE.write(&mut card, &"a").unwrap();
        STATE.write(&mut card, &"b").unwrap();
        for (copy, left) in [(0, "b"), (1, "a")] {
            let mut card = card.clone();
            card.unreadable = STATE.copies[copy]..STATE.copies[copy] + 512;
            assert_eq!(STATE.read::<String>(&card).as_deref(), Some(left));
            STATE.write(&mut card, &"c").unwrap();
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_record_by_accident(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(STATE.parse(&bytes), None);
        }
    }
}
