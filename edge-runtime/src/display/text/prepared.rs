//! The prepared strings of a language: glyphs as alpha bitmaps and where they stand, so that a device without fonts and
//! shaping can draw any script. `prepare-strings` writes them from `strings/*.toml`; the format is postcard's
//! (docs/display.md).

use serde::{Deserialize, Serialize};

/// The version of [`Prepared`].
pub const FORMAT: u8 = 1;

/// The characters that numbers are composed of, in the order of [`Face::figures`].
pub const FIGURES: &str = "0123456789.,:-/% ";

/// Positions of a pixel between which glyphs are prepared.
pub const SUBPIXELS: i32 = 4;

/// What a string is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The word of a screen, bold.
    Headline,
    /// Everything else.
    Body,
}

impl Role {
    /// Sizes of the role in pixels an em, ascending.
    pub fn sizes(self) -> &'static [u16] {
        match self {
            Role::Headline => &[14, 18, 22, 27, 34, 41, 54, 66, 81, 108, 134, 160],
            Role::Body => &[10, 12, 14, 17, 21, 26, 32, 40],
        }
    }
}

/// All strings of a language.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared<'a> {
    /// [`FORMAT`].
    pub format: u8,
    /// SHA-256 of the file that it was prepared from.
    pub source: [u8; 32],
    /// Lines run from right to left.
    pub right_to_left: bool,
    /// The strings, by [`super::Key`].
    pub strings: Vec<Vec<Piece>>,
    /// The words of all strings at every size of their roles.
    #[serde(borrow)]
    pub faces: Vec<Face<'a>>,
}

/// A part of a string, in logical order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// A word, or a part of one that has a direction or a font of its own.
    Word {
        /// Index in [`Face::words`] of the string's role.
        index: u16,
        /// Embedding level (Unicode Standard Annex 9); odd runs from right to left.
        level: u8,
    },
    /// A number that the device knows, by its index among the string's values.
    Value(u8),
    /// Where a line may end.
    Space,
}

/// Words of a role at a size.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Face<'a> {
    /// The role.
    pub role: Role,
    /// Pixels an em.
    pub px: u16,
    /// Pixels above the baseline that any word takes.
    pub ascent: u16,
    /// Pixels below.
    pub descent: u16,
    /// Pixels between two words.
    pub space: u16,
    /// The words.
    pub words: Vec<Word>,
    /// [`FIGURES`], each a word.
    pub figures: Vec<Word>,
    /// Each glyph once a position between pixels.
    #[serde(borrow)]
    pub glyphs: Vec<Glyph<'a>>,
}

impl Face<'_> {
    /// Pixels from one line to the next.
    pub fn line(&self) -> u32 {
        u32::from(self.ascent + self.descent)
    }
}

/// A word: glyphs beside one another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// Its width in pixels.
    pub advance: u16,
    /// Its glyphs.
    pub placed: Vec<Placed>,
}

/// A glyph of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// Index in [`Face::glyphs`].
    pub glyph: u16,
    /// Pixels from the word's left side to the bitmap's.
    pub x: i16,
    /// Pixels from the baseline down to the bitmap's first row; negative above.
    pub y: i16,
}

/// A bitmap of alpha, 0 to 15.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Glyph<'a> {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Row by row as runs: see [`pack`].
    #[serde(borrow)]
    pub runs: &'a [u8],
}

/// Runs of equal alpha (0 to 15): a byte is the alpha in the high half and the length, 1 to 15, in the low one; with
/// the low half 0 the next byte is the length less 16.
pub fn pack(alpha: impl IntoIterator<Item = u8>) -> Vec<u8> {
    const LONGEST: usize = 255 + 16;
    let mut runs = Vec::new();
    let mut push = |value: u8, length: usize| match length {
        0 => {}
        1..=15 => runs.push(value << 4 | length as u8),
        _ => runs.extend([value << 4, (length - 16) as u8]),
    };
    let mut current = 0;
    let mut length = 0;
    for value in alpha {
        if value != current || length == LONGEST {
            push(current, length);
            current = value;
            length = 0;
        }
        length += 1;
    }
    push(current, length);
    runs
}

/// What [`pack`] packed: alpha and length, run by run. Bytes that it never writes give runs as well, never a panic.
pub fn unpack(runs: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut bytes = runs.iter().copied();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        let length = match byte & 15 {
            0 => usize::from(bytes.next()?) + 16,
            short => usize::from(short),
        };
        Some((byte >> 4, length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_give_back_what_was_packed(runs in proptest::collection::vec((0u8..16, 1usize..600), 0..20)) {
            let alpha: Vec<u8> = runs.iter().flat_map(|(value, length)| std::iter::repeat_n(*value, *length)).collect();
            let packed = pack(alpha.iter().copied());
            let back: Vec<u8> = unpack(&packed).flat_map(|(v, length)| std::iter::repeat_n(v, length)).collect();
            prop_assert_eq!(back, alpha);
        }
    }
}
