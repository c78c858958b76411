//! Blocks of a page: their letters, and as many of them as there is room for.

use super::super::mark::Mark;
use super::super::page::{Block, Content, Label, Row};
use super::super::palette::Tone;
use super::super::text::prepared::Role;
use super::super::text::{Align, Block as Lines, Key, Lettering};
use super::{Area, Placing};
use embedded_graphics::mono_font::ascii::{FONT_5X8, FONT_6X10, FONT_8X13, FONT_10X20};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::text::{Baseline, Text};

/// Optional blocks stay away before letters become smaller than this part of the rows.
const COMFORTABLE: u32 = 18;
/// Letters of this size are comfortable on any panel (pixels an em).
const LARGE: u32 = 26;
/// Rows of a list that are shown at once, if there are as many.
const FEW_ROWS: usize = 3;
/// A list of at most as many rows is shown whole where letters can be made to fit.
const SHORT_LIST: usize = 6;

/// A block that has its letters.
enum Measured<'a> {
    Lines(Lines<'a>),
    Ascii(&'static MonoFont<'static>, String),
    Bar(u32),
    /// Height of a row, and of as many as are shown at least.
    Rows(u32, u32),
}

impl Measured<'_> {
    fn height(&self) -> u32 {
        match self {
            Measured::Lines(lines) => lines.height(),
            Measured::Ascii(font, _) => font.character_size.height,
            Measured::Bar(height) | Measured::Rows(_, height) => *height,
        }
    }
}

impl<'a, D: DrawTarget<Color = Rgb565>> Placing<'a, D> {
    /// The blocks at the largest size at which they fit.
    pub(super) fn blocks(&mut self, blocks: &[Block], area: Area) -> Result<(), D::Error> {
        let mut kept: Vec<&Block> = blocks.iter().collect();
        let comfortable = (self.size.height / COMFORTABLE).min(LARGE) as u16;
        loop {
            let can_drop = kept.iter().rposition(|block| block.is_optional);
            let sizes = self.sizes(9).filter(|px| can_drop.is_none() || *px >= comfortable);
            let fits = |rows: usize| {
                let mut sizes = sizes.clone();
                sizes.find_map(|px| Some((px, self.measured(&kept, px, area, rows)?)))
            };
            let fitting = fits(SHORT_LIST).or_else(|| fits(FEW_ROWS));
            match (fitting, can_drop) {
                (Some((px, measured)), _) => return self.draw_blocks(&kept, measured, px, area),
                (None, Some(last)) => {
                    kept.remove(last);
                    self.shortfall.left_out += 1;
                }
                (None, None) => return self.blocks_in_turns(&kept, area),
            }
        }
    }

    /// The blocks at the smallest size, as many at a time as fit; text that is longer goes on in the next turn.
    fn blocks_in_turns(&mut self, blocks: &[&Block], area: Area) -> Result<(), D::Error> {
        let Some(px) = self.sizes(9).last() else { return Ok(()) };
        let mut turns: Vec<Vec<(&Block, Measured)>> = vec![];
        let mut free = 0;
        for block in blocks {
            let Some(measured) = self.measure(block, px, area.width, 1) else {
                self.shortfall.lost.push("a block");
                continue;
            };
            let parts = match measured {
                Measured::Lines(lines) => lines.split(area.height).into_iter().map(Measured::Lines).collect(),
                other => vec![other],
            };
            for part in parts {
                let height = part.height();
                if height > area.height {
                    self.shortfall.lost.push("a block");
                }
                match turns.last_mut() {
                    Some(turn) if height <= free => turn.push((*block, part)),
                    _ => {
                        turns.push(vec![(*block, part)]);
                        free = area.height;
                    }
                }
                free = free.saturating_sub(height + self.gap);
            }
        }
        self.shortfall.turns = turns.len();
        if turns.is_empty() {
            return Ok(());
        }
        let (blocks, measured): (Vec<&Block>, Vec<Measured>) =
            turns.swap_remove(self.style.turn % turns.len()).into_iter().unzip();
        self.draw_blocks(&blocks, measured, px, area)
    }

    /// The blocks at size `px`, if they fit `area`; of longer lists `rows` rows.
    fn measured(&self, blocks: &[&Block], px: u16, area: Area, rows: usize) -> Option<Vec<Measured<'a>>> {
        let measured: Vec<Measured> =
            blocks.iter().map(|block| self.measure(block, px, area.width, rows)).collect::<Option<_>>()?;
        let used: u32 = measured.iter().map(|block| block.height() + self.gap).sum();
        (used <= area.height + self.gap).then_some(measured)
    }

    /// A block at size `px`, if its words fit `width`.
    fn measure(&self, block: &Block, px: u16, width: u32, most_rows: usize) -> Option<Measured<'a>> {
        match &block.content {
            Content::Text(key, values) => self.style.lettering.set(*key, values, px, width).map(Measured::Lines),
            Content::Figures(text) => {
                let lines = self.style.lettering.figures(text, Role::Body, px)?;
                (lines.width() <= width).then_some(Measured::Lines(lines))
            }
            Content::Ascii(text) => {
                let font = mono(px);
                let shown = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
                let text: String = text.chars().map(shown).collect();
                let fits = text.len() as u32 * font.character_size.width <= width;
                fits.then_some(Measured::Ascii(font, text))
            }
            Content::Probability { .. } | Content::Progress(_) => Some(Measured::Bar(u32::from(px).max(6))),
            Content::Rows { rows, .. } => {
                let heights = rows.iter().map(|row| self.row_height(row, px, width));
                let step = heights.collect::<Option<Vec<u32>>>()?.into_iter().max()? + self.gap;
                Some(Measured::Rows(step, step * rows.len().min(most_rows) as u32))
            }
        }
    }

    /// Figures stay legible on a mono panel one size below words.
    fn figures_px(&self, px: u16) -> u16 {
        if self.style.palette.is_mono { px.min(12) } else { px }
    }

    /// The height of a row at size `px`, if it fits `width` on one line.
    fn row_height(&self, row: &Row, px: u16, width: u32) -> Option<u32> {
        let lettering = self.style.lettering;
        let line = lettering.line(Role::Body, px);
        let room = width.saturating_sub(mark_side(px) + 3 * self.gap);
        let one_line = |lines: &Lines| lines.lines() == 1 && lines.width() <= room;
        match &row.label {
            Label::Key(key) => lettering.set(*key, &[], px, room).filter(one_line)?,
            Label::Figures(text) => lettering.figures(text, Role::Body, self.figures_px(px)).filter(one_line)?,
            Label::Language(language) => {
                let own = Lettering::load(*language).ok()?;
                let height = own.set(Key::Name, &[], px, room).filter(one_line)?.height();
                return Some(height.max(line));
            }
        };
        Some(line)
    }

    fn draw_blocks(
        &mut self,
        blocks: &[&Block],
        measured: Vec<Measured<'a>>,
        px: u16,
        mut area: Area,
    ) -> Result<(), D::Error> {
        for (block, measured) in blocks.iter().zip(measured) {
            match measured {
                Measured::Lines(lines) => {
                    let place = area.take_top(lines.height());
                    self.lines(&lines, place, Align::Start, block.tone)?;
                }
                Measured::Ascii(font, text) => {
                    let width = font.character_size.width * text.len() as u32;
                    let place = Area { width, ..area.take_top(font.character_size.height) };
                    let at = self.on_panel(place).top_left;
                    let style = MonoTextStyle::new(font, self.style.palette.tone(block.tone));
                    Text::with_baseline(&text, at, style, Baseline::Top).draw(self.target)?;
                }
                Measured::Bar(height) => {
                    let place = area.take_top(height);
                    self.bar(&block.content, place, block.tone)?;
                }
                Measured::Rows(step, _) => {
                    if let Content::Rows { rows, selected } = &block.content {
                        let place = area.take_top(area.height / step * step);
                        self.rows(rows, *selected, place, step, px)?;
                    }
                }
            }
            area.take_top(self.gap);
        }
        Ok(())
    }

    fn bar(&mut self, content: &Content, area: Area, tone: Tone) -> Result<(), D::Error> {
        let palette = self.style.palette;
        let along = |share: f32| (area.width as f32 * share.clamp(0.0, 1.0)) as u32;
        let third = (area.height / 3).max(2);
        let body = Area { height: area.height.saturating_sub(third), ..area };
        let part = |from: f32, to: f32, of: Area| Area {
            x: of.x + along(from) as i32,
            width: along(to).saturating_sub(along(from)).max(1),
            ..of
        };
        self.fill(body, palette.panel())?;
        if palette.is_mono {
            self.frame(body, palette.tone(Tone::Plain))?;
        }
        match content {
            Content::Progress(done) => self.fill(part(0.0, *done, body), palette.tone(tone)),
            Content::Probability { probability, threshold, uncertain } => {
                self.fill(part(0.0, *probability, body), palette.tone(tone))?;
                let under = Area {
                    y: area.y + area.height.saturating_sub(third) as i32 + 1,
                    height: (third - 1).max(1),
                    ..area
                };
                if let Some([low, high]) = uncertain {
                    self.fill(part(*low, *high, under), palette.tone(Tone::Undecided))?;
                }
                // The operating point stands through both, with a rim of the ground so that it shows on any colour.
                let thick = (area.height / 8).max(1);
                let x = area.x + along(*threshold).min(area.width.saturating_sub(thick)) as i32;
                self.fill(Area { x: x - 1, width: thick + 2, ..area }, palette.ground())?;
                self.fill(Area { x, width: thick, ..area }, palette.tone(Tone::Plain))
            }
            Content::Text(..) | Content::Figures(_) | Content::Ascii(_) | Content::Rows { .. } => Ok(()),
        }
    }

    fn frame(&mut self, area: Area, colour: Rgb565) -> Result<(), D::Error> {
        let bottom = area.y + area.height as i32 - 1;
        let right = area.x + area.width as i32 - 1;
        let sides = [
            Area { height: 1, ..area },
            Area { height: 1, y: bottom, ..area },
            Area { width: 1, ..area },
            Area { width: 1, x: right, ..area },
        ];
        sides.into_iter().try_for_each(|side| self.fill(side, colour))
    }

    /// As many rows as fit `area`, the selected one among them.
    fn rows(
        &mut self,
        rows: &[Row],
        selected: Option<usize>,
        mut area: Area,
        step: u32,
        px: u16,
    ) -> Result<(), D::Error> {
        let shown = ((area.height / step) as usize).min(rows.len());
        let first = selected.unwrap_or(0).saturating_sub(shown / 2).min(rows.len().saturating_sub(shown));
        for (i, row) in rows.iter().enumerate().skip(first).take(shown) {
            let place = area.take_top(step);
            self.row(row, selected == Some(i), place, px)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row, is_selected: bool, place: Area, px: u16) -> Result<(), D::Error> {
        let palette = self.style.palette;
        let ground = if is_selected { palette.tone(Tone::Plain) } else { palette.ground() };
        if is_selected {
            self.fill(Area { height: place.height.saturating_sub(1), ..place }, ground)?;
        }
        let gap = self.gap;
        let mut inner = Area { y: place.y + gap as i32 / 2, height: place.height.saturating_sub(gap), ..place };
        inner.take_start(gap);
        let side = mark_side(px).min(inner.height);
        let mark =
            Area { height: side, y: inner.y + inner.height.saturating_sub(side) as i32 / 2, ..inner.take_start(side) };
        inner.take_start(gap);
        if let Some((shape, tone)) = row.mark {
            let colour = if is_selected { palette.ground() } else { palette.tone(tone) };
            let corner = self.on_panel(mark).top_left;
            Mark::draw(shape, self.target, corner, side, colour, ground)?;
        }
        let ink = if is_selected { palette.inverse(Tone::Plain) } else { palette.ink(Tone::Plain) };
        let at = self.on_panel(inner);
        let room = at.size.width;
        let lettering = self.style.lettering;
        let lines = match &row.label {
            Label::Key(key) => lettering.set(*key, &[], px, room),
            Label::Figures(text) => lettering.figures(text, Role::Body, self.figures_px(px)),
            Label::Language(language) => {
                let Ok(own) = Lettering::load(*language) else { return Ok(()) };
                let Some(lines) = own.set(Key::Name, &[], px, room) else { return Ok(()) };
                // Its own letters, at the side where lines of the screen begin.
                let width = lines.width();
                let shift = if lettering.is_right_to_left() { room.saturating_sub(width) as i32 } else { 0 };
                return lines.draw(self.target, at.top_left + Point::new(shift, 0), width, Align::Start, ink);
            }
        };
        lines.map_or(Ok(()), |lines| lines.draw(self.target, at.top_left, room, Align::Start, ink))
    }
}

/// The side of the mark before a row of letters of `px`.
fn mark_side(px: u16) -> u32 {
    u32::from(px)
}

/// The fixed-width font nearest to letters of `px`.
fn mono(px: u16) -> &'static MonoFont<'static> {
    match px {
        0..=11 => &FONT_5X8,
        12..=16 => &FONT_6X10,
        17..=25 => &FONT_8X13,
        _ => &FONT_10X20,
    }
}
