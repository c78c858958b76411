//! Where things lie on a card: a master boot record, an area for records, and four partitions.

use crate::block::Block;
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;

/// Bytes that a card writes as one.
pub const SECTOR: u64 = 512;
/// Where the first partition begins; what lies before it belongs to the boot record and to [`crate::record`].
///
/// Cards erase blocks of some megabytes at once, and a cut may damage a whole one: boot record, first and second copies
/// of records, and partitions have blocks of their own.
pub const FIRST_PARTITION: u64 = 16 << 20;
/// Where the table stands in the boot record.
const TABLE: usize = 446;
/// Where the disk's signature stands in the boot record.
const SIGNATURE: usize = 440;
/// What a boot record ends with.
const END: [u8; 2] = [0x55, 0xaa];

/// One of the two places that a system, or an application, starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The second partition.
    A,
    /// The third.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// The index of its partition.
    fn partition(self) -> usize {
        match self {
            Slot::A => 1,
            Slot::B => 2,
        }
    }

    /// 0 or 1.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Slot::A => "A",
            Slot::B => "B",
        })
    }
}

/// Where the partitions of a card lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The disk's signature.
    pub disk_id: u32,
    /// Bytes of the four partitions.
    pub partitions: [Range<u64>; 4],
}

/// Why a card is none of ours.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// It cannot be read.
    #[error("the card cannot be read ({0}): take it out, put it in again, or replace it")]
    Unreadable(#[from] io::Error),
    /// It has another table.
    #[error("this is no card of Hilum ({0}): write it with `boards flash`")]
    Foreign(&'static str),
}

/// A partition's entry: kind, first sector, sectors (the rest of the 16 bytes is geometry that nobody reads).
fn entry(kind: u8, range: &Range<u64>) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[4] = kind;
    entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    entry[8..12].copy_from_slice(&((range.start / SECTOR) as u32).to_le_bytes());
    entry[12..16].copy_from_slice(&(((range.end - range.start) / SECTOR) as u32).to_le_bytes());
    entry
}

fn number(bytes: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

impl Layout {
    /// Partitions of these sizes in bytes (multiples of 1 MiB), one after the other.
    pub fn of_sizes(disk_id: u32, sizes: [u64; 4]) -> Layout {
        let mut end = FIRST_PARTITION;
        let partitions = sizes.map(|size| {
            let start = end;
            end += size;
            start..end
        });
        Layout { disk_id, partitions }
    }

    /// The layout of a card. It is refused where a partition is missing, leaves the card, or overlaps another.
    pub fn read(card: &impl Block) -> Result<Layout, LayoutError> {
        let record = card.bytes(0, SECTOR as usize)?;
        if record[510..] != END {
            return Err(LayoutError::Foreign("it has no boot record"));
        }
        let partitions = std::array::from_fn(|i| {
            let entry = &record[TABLE + 16 * i..][..16];
            let start = number(&entry[8..12]) * SECTOR;
            start..start + number(&entry[12..16]) * SECTOR
        });
        let layout = Layout { disk_id: number(&record[SIGNATURE..][..4]) as u32, partitions };
        let length = card.length()?;
        let mut end = FIRST_PARTITION;
        for partition in &layout.partitions {
            if partition.start < end || partition.is_empty() || partition.end > length {
                return Err(LayoutError::Foreign("its partitions are not those of a card of ours"));
            }
            end = partition.end;
        }
        Ok(layout)
    }

    /// The boot record; `kinds` are the partitions' types.
    pub fn boot_record(&self, kinds: [u8; 4]) -> [u8; SECTOR as usize] {
        let mut record = [0; SECTOR as usize];
        record[SIGNATURE..][..4].copy_from_slice(&self.disk_id.to_le_bytes());
        for (i, (kind, range)) in kinds.iter().zip(&self.partitions).enumerate() {
            record[TABLE + 16 * i..][..16].copy_from_slice(&entry(*kind, range));
        }
        record[510..].copy_from_slice(&END);
        record
    }

    /// The whole partition of `slot`.
    pub fn slot(&self, slot: Slot) -> Range<u64> {
        self.partitions[slot.partition()].clone()
    }

    /// Where the slot's image lies: its first three quarters.
    pub fn image_area(&self, slot: Slot) -> Range<u64> {
        let whole = self.slot(slot);
        whole.start..self.model_area(slot).start
    }

    /// Where a model that was updated by itself lies: the last quarter, from a sector on.
    pub fn model_area(&self, slot: Slot) -> Range<u64> {
        let whole = self.slot(slot);
        let length = (whole.end - whole.start) / 4 / SECTOR * SECTOR;
        whole.end - length..whole.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulated::SimulatedCard;

    #[test]
    fn a_layout_is_read_back() {
        let layout = Layout::of_sizes(0x4849_4c55, [1 << 20, 2 << 20, 2 << 20, 1 << 20]);
        let mut card = SimulatedCard::of_length(22 << 20);
        card.write_at(0, &layout.boot_record([0x0c, 0x0c, 0x0c, 0x83])).unwrap();
        assert_eq!(Layout::read(&card).unwrap(), layout);
        assert_eq!(layout.slot(Slot::B).start, 19 << 20);
        assert_eq!(layout.image_area(Slot::A).end, layout.model_area(Slot::A).start);
        let short = SimulatedCard::of_bytes(&card.bytes(0, 21 << 20).unwrap());
        assert!(Layout::read(&short).is_err());
        assert!(Layout::read(&SimulatedCard::of_length(1 << 20)).is_err());
        assert!(Layout::read(&SimulatedCard::of_length(3)).is_err());
    }
}
