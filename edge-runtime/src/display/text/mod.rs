//! Words on the screens: prepared strings of a language, set in lines and drawn.

mod key;
mod language;
pub mod prepared;

pub use key::Key;
pub use language::Language;

use super::palette::Ink;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use prepared::{FIGURES, FORMAT, Face, Piece, Prepared, Role, Word, unpack};

/// The strings of a language, ready to be set.
pub struct Lettering {
    /// The language.
    pub language: Language,
    prepared: Prepared<'static>,
}

/// Why strings cannot be set.
#[derive(Debug, thiserror::Error)]
pub enum LetteringError {
    /// The prepared file is none, or not of this program.
    #[error("the prepared strings of `{0}` are not those of this program: run prepare-strings and build again")]
    NotPrepared(&'static str),
}

/// Where lines begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the side where lines of the language begin.
    Start,
    /// In the middle.
    Centre,
}

impl Lettering {
    /// The strings of `language`.
    pub fn load(language: Language) -> Result<Lettering, LetteringError> {
        let wrong = LetteringError::NotPrepared(language.code());
        match postcard::from_bytes::<Prepared>(language.prepared()) {
            Ok(prepared) if prepared.format == FORMAT && prepared.strings.len() == Key::ALL.len() => {
                Ok(Lettering { language, prepared })
            }
            _ => Err(wrong),
        }
    }

    /// Whether lines run from right to left.
    pub fn is_right_to_left(&self) -> bool {
        self.prepared.right_to_left
    }

    /// Pixels from one line of `role` at `px` to the next.
    pub fn line(&self, role: Role, px: u16) -> u32 {
        self.face(role, px).map_or(u32::from(px), Face::line)
    }

    fn face(&self, role: Role, px: u16) -> Option<&Face<'static>> {
        self.prepared.faces.iter().find(|face| face.role == role && face.px == px)
    }

    /// The string `key` with `values` in lines of at most `width` pixels; `None` where a word is wider. Values consist
    /// of [`FIGURES`].
    pub fn set(&self, key: Key, values: &[String], px: u16, width: u32) -> Option<Block<'_>> {
        let face = self.face(key.role(), px)?;
        let pieces = self.prepared.strings.get(key as usize)?;
        let items: Vec<Item> = pieces.iter().map(|piece| self.item(face, *piece, values)).collect::<Option<_>>()?;
        let lines = broken(items, width)?;
        Some(Block { face, lines, right_to_left: self.prepared.right_to_left })
    }

    /// Figures alone, on one line.
    pub fn figures(&self, text: &str, role: Role, px: u16) -> Option<Block<'_>> {
        let face = self.face(role, px)?;
        let item = value(face, text, 0)?;
        Some(Block { face, lines: vec![vec![item]], right_to_left: self.prepared.right_to_left })
    }

    fn item<'a>(&'a self, face: &'a Face<'static>, piece: Piece, values: &[String]) -> Option<Item<'a>> {
        let base = u8::from(self.prepared.right_to_left);
        match piece {
            Piece::Word { index, level } => {
                Some(Item { words: vec![face.words.get(usize::from(index))?], level, is_space: false, space: 0 })
            }
            Piece::Value(index) => value(face, values.get(usize::from(index))?, base),
            Piece::Space => Some(Item { words: vec![], level: base, is_space: true, space: face.space }),
        }
    }
}

fn value<'a>(face: &'a Face<'static>, text: &str, level: u8) -> Option<Item<'a>> {
    let figure = |c: char| face.figures.get(FIGURES.chars().position(|f| f == c)?);
    Some(Item { words: text.chars().map(figure).collect::<Option<_>>()?, level, is_space: false, space: 0 })
}

/// What is set as one: a word, the figures of a value, or a space.
#[derive(Clone)]
struct Item<'a> {
    words: Vec<&'a Word>,
    level: u8,
    is_space: bool,
    space: u16,
}

impl Item<'_> {
    fn width(&self) -> u32 {
        self.words.iter().map(|word| u32::from(word.advance)).sum::<u32>() + u32::from(self.space)
    }
}

/// `items` in lines of at most `width` pixels, broken at spaces; `None` where what stands between two is wider.
fn broken(items: Vec<Item>, width: u32) -> Option<Vec<Vec<Item>>> {
    let mut lines: Vec<Vec<Item>> = vec![vec![]];
    let of = |line: &[Item]| line.iter().map(Item::width).sum::<u32>();
    let mut rest = items.into_iter().peekable();
    while rest.peek().is_some() {
        let mut part: Vec<Item> = Vec::new();
        while let Some(item) = rest.next_if(|item| !item.is_space) {
            part.push(item);
        }
        let space = rest.next();
        if of(&part) > width {
            return None;
        }
        let line = lines.last_mut()?;
        if of(line) + of(&part) > width {
            line.pop_if(|item| item.is_space);
            lines.push(part);
        } else {
            line.extend(part);
        }
        lines.last_mut()?.extend(space);
    }
    lines.last_mut()?.pop_if(|item| item.is_space);
    for line in &mut lines {
        join_spaces(line);
        reorder(line);
    }
    Some(lines)
}

/// Spaces between words that both run against the line belong to them (rule N1 of Unicode Standard Annex 9).
fn join_spaces(line: &mut [Item]) {
    for i in 1..line.len().saturating_sub(1) {
        if line[i].is_space && line[i - 1].level == line[i + 1].level {
            line[i].level = line[i - 1].level;
        }
    }
}

/// From the order of reading to that from left to right (rule L2 of Unicode Standard Annex 9).
fn reorder(line: &mut [Item]) {
    let highest = line.iter().map(|item| item.level).max().unwrap_or(0);
    for level in (1..=highest).rev() {
        let mut start = 0;
        while start < line.len() {
            let run = line[start..].iter().take_while(|item| item.level >= level).count();
            line[start..start + run].reverse();
            start += run.max(1);
        }
    }
}

/// A string that is set: lines of known size.
pub struct Block<'a> {
    face: &'a Face<'static>,
    lines: Vec<Vec<Item<'a>>>,
    right_to_left: bool,
}

impl Block<'_> {
    /// Pixels of the longest line.
    pub fn width(&self) -> u32 {
        self.lines.iter().map(|line| width(line)).max().unwrap_or(0)
    }

    /// Pixels of all lines.
    pub fn height(&self) -> u32 {
        self.face.line() * self.lines.len() as u32
    }

    /// The lines in parts that are at most `height` pixels high, or of one line each.
    pub fn split(self, height: u32) -> Vec<Self> {
        let each = ((height / self.face.line().max(1)) as usize).max(1);
        let Block { face, lines, right_to_left } = self;
        lines.chunks(each).map(|part| Block { face, lines: part.to_vec(), right_to_left }).collect()
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Draws the lines from `corner` in `room` pixels.
    pub fn draw<D>(&self, target: &mut D, corner: Point, room: u32, align: Align, ink: Ink) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb565>,
    {
        for (i, line) in self.lines.iter().enumerate() {
            let free = room as i32 - width(line) as i32;
            let indent = match align {
                Align::Centre => free / 2,
                Align::Start if self.right_to_left => free,
                Align::Start => 0,
            };
            let baseline = corner.y + i as i32 * self.face.line() as i32 + i32::from(self.face.ascent);
            let mut x = corner.x + indent;
            for item in line {
                for word in &item.words {
                    self.draw_word(target, word, Point::new(x, baseline), ink)?;
                    x += i32::from(word.advance);
                }
                x += i32::from(item.space);
            }
        }
        Ok(())
    }

    /// Glyphs of a word join, so that their alphas add.
    fn draw_word<D>(&self, target: &mut D, word: &Word, origin: Point, ink: Ink) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb565>,
    {
        let alpha = Alpha::of(self.face, word);
        let pixels = alpha.values.iter().enumerate().filter(|(_, a)| **a > 0).map(|(i, a)| {
            let at = Point::new(i as i32 % alpha.width, i as i32 / alpha.width) + alpha.corner + origin;
            Pixel(at, ink.at(*a))
        });
        target.draw_iter(pixels)
    }
}

fn width(line: &[Item]) -> u32 {
    line.iter().map(Item::width).sum()
}

/// The alpha of a word, 0 to 15, `width` a row.
pub(crate) struct Alpha {
    pub(crate) values: Vec<u8>,
    pub(crate) width: i32,
    /// Of the first pixel, relative to the word's origin on the baseline.
    pub(crate) corner: Point,
}

impl Alpha {
    pub(crate) fn of(face: &Face, word: &Word) -> Alpha {
        let glyphs = || word.placed.iter().filter_map(|p| Some((p, face.glyphs.get(usize::from(p.glyph))?)));
        let least = |of: &dyn Fn(&prepared::Placed) -> i16| glyphs().map(|(p, _)| i32::from(of(p))).min().unwrap_or(0);
        let corner = Point::new(least(&|p| p.x), least(&|p| p.y));
        let right = glyphs().map(|(p, g)| i32::from(p.x) + i32::from(g.width)).max().unwrap_or(0);
        let bottom = glyphs().map(|(p, g)| i32::from(p.y) + i32::from(g.height)).max().unwrap_or(0);
        let width = right - corner.x;
        let mut values = vec![0u8; (width * (bottom - corner.y)) as usize];
        for (placed, glyph) in glyphs() {
            let left = i32::from(placed.x) - corner.x;
            let top = i32::from(placed.y) - corner.y;
            let mut at = 0;
            for (alpha, length) in unpack(glyph.runs) {
                for i in at..at + length {
                    let column = left + (i % usize::from(glyph.width)) as i32;
                    let row = top + (i / usize::from(glyph.width)) as i32;
                    if let Some(value) = values.get_mut((row * width + column) as usize) {
                        *value = (*value + alpha).min(15);
                    }
                }
                at += length;
            }
        }
        Alpha { values, width, corner }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::files::sha256;

    #[test]
    fn every_language_is_prepared_from_its_file() {
        for language in Language::ALL {
            let lettering = Lettering::load(*language).unwrap();
            assert_eq!(
                lettering.prepared.source,
                sha256(language.source().as_bytes()),
                "strings/{}.toml changed: run prepare-strings (docs/display.md)",
                language.code()
            );
        }
    }

    #[test]
    fn every_string_can_be_set_at_every_size_of_its_role() {
        let values = ["12".to_owned(), "345".to_owned()];
        for language in Language::ALL {
            let lettering = Lettering::load(*language).unwrap();
            for key in Key::ALL {
                for px in key.role().sizes() {
                    let block = lettering.set(*key, &values, *px, 10_000).unwrap();
                    assert!(block.lines() == 1 && block.width() > 0, "{language:?} {key:?} {px}");
                }
            }
        }
    }

    #[test]
    fn numbers_keep_their_place_in_both_directions() {
        let item = |level, is_space| Item { words: vec![], level, is_space, space: 0 };
        // Arabic, space, "DICOM", space, "PNG", full stop: levels 1 1 2 1 2 1 before rule N1.
        let mut line =
            vec![item(1, false), item(1, true), item(2, false), item(1, true), item(2, false), item(1, false)];
        for (i, item) in line.iter_mut().enumerate() {
            item.space = i as u16;
        }
        join_spaces(&mut line);
        reorder(&mut line);
        let order: Vec<u16> = line.iter().map(|item| item.space).collect();
        assert_eq!(order, [5, 2, 3, 4, 1, 0]);
    }
}
