//! Declared lengths against what is there, before a parser makes room for them (PS3.5, 7.1 and 7.5).

use super::syntax::Coding;
use super::{damaged, truncated};
use crate::image::RadiographError;

/// Sequences within sequences; radiographs have three or four.
const DEEPEST: usize = 16;
/// Elements of a file; radiographs have some hundreds.
const MOST_ELEMENTS: usize = 50_000;
/// The length of what ends with a delimiter.
const UNDEFINED: u32 = 0xFFFF_FFFF;

const ITEM: [u16; 2] = [0xFFFE, 0xE000];
const ITEM_END: [u16; 2] = [0xFFFE, 0xE00D];
const SEQUENCE_END: [u16; 2] = [0xFFFE, 0xE0DD];
const PIXEL_DATA: [u16; 2] = [0x7FE0, 0x0010];

/// Types whose length has two bytes (PS3.5, table 7.1-2); of all others, also those to come, it has four.
const SHORT: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS",
    b"ST", b"TM", b"UI", b"UL", b"US",
];
/// Types whose values are bytes and words, no items.
const OTHER: [&[u8; 2]; 11] = [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SV", b"UC", b"UR", b"UT", b"UV"];

/// Refuses a data set in which an element is longer than what holds it, or which nests too deeply.
pub fn check(data: &[u8], coding: Coding) -> Result<(), RadiographError> {
    let mut walk = Walk { data, elements: 0 };
    walk.elements(0, data.len(), coding, 0, false).map(|_| ())
}

/// The head of an element or item.
struct Head {
    tag: [u16; 2],
    length: u32,
    /// Where its value begins.
    start: usize,
    is_sequence: bool,
    is_unknown: bool,
}

struct Walk<'a> {
    data: &'a [u8],
    elements: usize,
}

impl Walk<'_> {
    /// The elements from `at` on: to `end`, or to the delimiter of their item. Gives what follows.
    fn elements(
        &mut self,
        mut at: usize,
        end: usize,
        coding: Coding,
        depth: usize,
        delimited: bool,
    ) -> Result<usize, RadiographError> {
        if depth > DEEPEST {
            return Err(damaged("its sequences nest deeper than any radiograph's"));
        }
        while at < end {
            self.elements += 1;
            if self.elements > MOST_ELEMENTS {
                return Err(damaged("it has more elements than any radiograph"));
            }
            let head = self.head(at, end, coding)?;
            if head.tag == ITEM_END && delimited {
                return Ok(head.start);
            }
            at = self.value(&head, end, coding, depth)?;
        }
        match delimited {
            true => Err(truncated()),
            false => Ok(end),
        }
    }

    /// Passes over the value of `head`.
    fn value(&mut self, head: &Head, end: usize, coding: Coding, depth: usize) -> Result<usize, RadiographError> {
        // What has no known type is coded without types (PS3.5, 6.2.2).
        let within = if head.is_unknown { Coding::ImplicitLittle } else { coding };
        if head.length == UNDEFINED {
            return self.sequence(head, end, within, depth);
        }
        let last = head.start.checked_add(head.length as usize).filter(|last| *last <= end).ok_or_else(truncated)?;
        if head.is_sequence && head.length > 0 {
            self.sequence(head, last, within, depth)?;
        }
        Ok(last)
    }

    /// The items of `head`, to `end` or to their delimiter.
    fn sequence(&mut self, head: &Head, end: usize, coding: Coding, depth: usize) -> Result<usize, RadiographError> {
        let mut at = head.start;
        while at < end {
            let item = self.head(at, end, coding)?;
            match item.tag {
                SEQUENCE_END => return Ok(item.start),
                ITEM if item.length == UNDEFINED => {
                    at = self.elements(item.start, end, coding, depth + 1, true)?;
                }
                ITEM => {
                    let last = item.start + item.length as usize;
                    if last > end {
                        return Err(truncated());
                    }
                    if head.tag != PIXEL_DATA {
                        self.elements(item.start, last, coding, depth + 1, false)?;
                    }
                    at = last;
                }
                _ => return Err(damaged("a sequence holds what is no item")),
            }
        }
        match head.length {
            UNDEFINED => Err(truncated()),
            _ => Ok(end),
        }
    }

    fn head(&self, at: usize, end: usize, coding: Coding) -> Result<Head, RadiographError> {
        let bytes = self.data.get(at..end).unwrap_or_default();
        let is_big = coding == Coding::ExplicitBig;
        let word = |b: [u8; 2]| if is_big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) };
        let double = |b: [u8; 4]| if is_big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) };
        let Some([g0, g1, e0, e1, a, b, c, d]) = bytes.first_chunk::<8>().copied() else { return Err(truncated()) };
        let tag = [word([g0, g1]), word([e0, e1])];
        let begins_with_item = |start: usize| {
            let first = self.data.get(start..end).and_then(|v| v.first_chunk::<4>());
            first.is_some_and(|[g0, g1, e0, e1]| [word([*g0, *g1]), word([*e0, *e1])] == ITEM)
        };
        if tag[0] == ITEM[0] || coding == Coding::ImplicitLittle {
            let start = at + 8;
            let is_sequence = tag != PIXEL_DATA && begins_with_item(start);
            return Ok(Head { tag, length: double([a, b, c, d]), start, is_sequence, is_unknown: false });
        }
        if SHORT.contains(&&[a, b]) {
            let start = at + 8;
            let length = u32::from(word([c, d]));
            return Ok(Head { tag, length, start, is_sequence: false, is_unknown: false });
        }
        let length = bytes.get(8..12).and_then(|b| b.first_chunk::<4>()).ok_or_else(truncated)?;
        let start = at + 12;
        let is_unknown = [a, b] != *b"SQ" && !OTHER.contains(&&[a, b]);
        let is_sequence = [a, b] == *b"SQ" || is_unknown && begins_with_item(start);
        Ok(Head { tag, length: double(*length), start, is_sequence, is_unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence of undefined length with one item of undefined length around `inner`.
    fn nested(inner: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".to_vec();
        bytes.extend(inner);
        bytes.extend(b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
        bytes
    }

    #[test]
    fn lengths_beyond_what_is_there_are_refused_at_any_depth() {
        let sound = b"\x08\x00\x60\x00CS\x02\0DX".to_vec();
        let long = b"\x08\x00\x60\x00CS\xff\x7fDX".to_vec();
        let longer = b"\x08\x00\x60\x00UN\0\0\xff\xff\xff\x7fDX".to_vec();
        let explicit = |bytes: &[u8]| check(bytes, Coding::ExplicitLittle);
        explicit(&sound).unwrap();
        explicit(&nested(&nested(&sound))).unwrap();
        for broken in [&long, &longer] {
            assert!(explicit(broken).is_err());
            assert!(explicit(&nested(broken)).is_err());
        }
        let deep = (0..=DEEPEST).fold(sound, |inner, _| nested(&inner));
        assert!(explicit(&deep).unwrap_err().to_string().contains("nest"));
        assert!(
            explicit(&b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff".repeat(100_000))
                .is_err()
        );
    }
}
