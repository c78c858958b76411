//! Places for a [`Page`] on a panel of any size.
//!
//! From top to bottom: mark and headline, picture and blocks beside one another, the foot, the buttons. Sizes of
//! letters are tried from the largest to the smallest; where even that leaves no room, optional blocks stay away, the
//! last first. Blocks that every panel shows take turns on one that is too low for them. In languages that run from
//! right to left everything but figures and pictures is mirrored.

mod blocks;

use super::mark::Mark;
use super::page::{Block, Page};
use super::palette::{Palette, Tone};
use super::text::prepared::Role;
use super::text::{Align, Block as Lines, Key, Lettering};
use crate::image::Picture;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;

/// Panels that have fewer rows show neither buttons nor pictures beside words.
const ROWS_FOR_BUTTONS: u32 = 160;
/// Panels that have fewer columns show no picture beside words.
const COLUMNS_FOR_PICTURE: u32 = 300;
/// The headline's line takes at least this part of the rows.
const HEADLINE_SHARE: u32 = 6;

/// Greys above which a pixel of a mono panel is lit, so that areas keep their brightness (Bayer 1973).
const DITHER: [[u8; 4]; 4] = [[8, 136, 40, 168], [200, 72, 232, 104], [56, 184, 24, 152], [248, 120, 216, 88]];

/// What of a page found no place; empty on every panel that Hilum knows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Shortfall {
    /// Parts that were needed and are cut or left out.
    pub lost: Vec<&'static str>,
    /// Optional blocks that were left out.
    pub left_out: usize,
    /// In how many turns the needed blocks are shown, where a panel is too low for all of them; 0 where it is not.
    pub turns: usize,
}

/// How screens are drawn: the language and the panel's colours.
#[derive(Clone, Copy)]
pub struct Style<'a> {
    /// The words.
    pub lettering: &'a Lettering,
    /// The colours.
    pub palette: Palette,
    /// Which turn is shown of blocks that take turns.
    pub turn: usize,
}

/// Longest side of a picture beside words on a panel of `size`; `None` where there is no room for one.
pub fn picture_side(size: Size) -> Option<u32> {
    let has_room = size.width >= COLUMNS_FOR_PICTURE && size.height >= ROWS_FOR_BUTTONS;
    has_room.then(|| (size.height * 40 / 100).min(size.width * 40 / 100))
}

/// Longest side of a picture that fills a panel of `size`.
pub fn full_picture_side(size: Size) -> u32 {
    let share = if size.height < ROWS_FOR_BUTTONS { 50 } else { 70 };
    size.width.min(size.height * share / 100)
}

/// Draws `page` on `target`.
pub fn draw_page<D>(target: &mut D, page: &Page, style: Style) -> Result<Shortfall, D::Error>
where
    D: DrawTarget<Color = Rgb565>,
{
    let (mut canvas, mut area, takes_turns) = Placing::begin(target, page, style, Beside::Text)?;
    canvas.headline(page, &mut area)?;
    if let Some(picture) = page.picture
        && picture_side(canvas.size).is_some()
    {
        canvas.picture_beside(picture, &mut area)?;
    }
    let mut blocks = page.blocks.clone();
    blocks.extend(takes_turns.map(|key| Block::text(key, Tone::Plain)));
    canvas.blocks(&blocks, area)?;
    Ok(canvas.shortfall)
}

/// Draws `picture` as large as it is in the middle, over its foot and buttons.
pub fn draw_picture<D>(target: &mut D, picture: &Picture, page: &Page, style: Style) -> Result<Shortfall, D::Error>
where
    D: DrawTarget<Color = Rgb565>,
{
    let (mut canvas, area, _) = Placing::begin(target, page, style, Beside::Picture)?;
    canvas.picture(picture, area)?;
    Ok(canvas.shortfall)
}

/// A rectangle that is given away piece by piece, in coordinates of a panel that is read from left to right.
#[derive(Debug, Clone, Copy)]
struct Area {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
}

impl Area {
    fn take_top(&mut self, rows: u32) -> Area {
        let rows = rows.min(self.height);
        let taken = Area { height: rows, ..*self };
        self.y += rows as i32;
        self.height -= rows;
        taken
    }

    fn take_bottom(&mut self, rows: u32) -> Area {
        let rows = rows.min(self.height);
        self.height -= rows;
        Area { y: self.y + self.height as i32, height: rows, ..*self }
    }

    fn take_start(&mut self, columns: u32) -> Area {
        let columns = columns.min(self.width);
        let taken = Area { width: columns, ..*self };
        self.x += columns as i32;
        self.width -= columns;
        taken
    }
}

/// What a foot stands under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Text,
    Picture,
}

/// A page being placed.
struct Placing<'a, D> {
    target: &'a mut D,
    style: Style<'a>,
    size: Size,
    margin: u32,
    gap: u32,
    shortfall: Shortfall,
}

impl<'a, D: DrawTarget<Color = Rgb565>> Placing<'a, D> {
    fn new(target: &'a mut D, style: Style<'a>) -> Placing<'a, D> {
        let size = target.bounding_box().size;
        let margin = (size.width.min(size.height) / 40).max(2);
        let gap = (size.width.min(size.height) / 60).max(2);
        Placing { target, style, size, margin, gap, shortfall: Shortfall::default() }
    }

    /// Clears the panel and places buttons and foot; gives the area that is left, and a foot that takes turns.
    fn begin(
        target: &'a mut D,
        page: &Page,
        style: Style<'a>,
        beside: Beside,
    ) -> Result<(Self, Area, Option<Key>), D::Error> {
        let mut canvas = Placing::new(target, style);
        canvas.target.clear(style.palette.ground())?;
        let mut area = canvas.panel();
        canvas.buttons(page.buttons, &mut area)?;
        let takes_turns = canvas.foot(page.foot, beside, &mut area)?;
        Ok((canvas, area, takes_turns))
    }

    fn panel(&self) -> Area {
        Area {
            x: self.margin as i32,
            y: self.margin as i32,
            width: self.size.width - 2 * self.margin,
            height: self.size.height - 2 * self.margin,
        }
    }

    /// `area` on the panel: mirrored where lines run from right to left.
    fn on_panel(&self, area: Area) -> Rectangle {
        let x = match self.style.lettering.is_right_to_left() {
            true => self.size.width as i32 - area.x - area.width as i32,
            false => area.x,
        };
        Rectangle::new(Point::new(x, area.y), Size::new(area.width, area.height))
    }

    /// A panel that has no room for buttons.
    fn is_low(&self) -> bool {
        self.size.height < ROWS_FOR_BUTTONS
    }

    fn fill(&mut self, area: Area, colour: Rgb565) -> Result<(), D::Error> {
        let area = self.on_panel(area);
        self.target.fill_solid(&area, colour)
    }

    fn lines(&mut self, lines: &Lines, area: Area, align: Align, tone: Tone) -> Result<(), D::Error> {
        let at = self.on_panel(area);
        lines.draw(self.target, at.top_left, at.size.width, align, self.style.palette.ink(tone))
    }

    fn mark(&mut self, mark: Mark, area: Area, tone: Tone) -> Result<(), D::Error> {
        let side = area.width.min(area.height);
        let at = self.on_panel(area);
        let corner = at.top_left + Point::new(0, (area.height - side) as i32 / 2);
        let palette = self.style.palette;
        mark.draw(self.target, corner, side, palette.tone(tone), palette.ground())
    }

    /// The sizes of text that are no larger than a `part` of the rows, the largest first. Strokes of the smallest are
    /// lost on a mono panel.
    fn sizes(&self, part: u32) -> impl Iterator<Item = u16> + Clone + use<D> {
        let least = if self.style.palette.is_mono { 14 } else { 10 };
        let most = (self.size.height / part).max(u32::from(least)) as u16;
        Role::Body.sizes().iter().rev().copied().filter(move |px| (least..=most).contains(px))
    }

    fn buttons(&mut self, buttons: [Option<Key>; 3], area: &mut Area) -> Result<(), D::Error> {
        if self.is_low() || buttons.iter().all(Option::is_none) {
            return Ok(());
        }
        let room = (area.width - 2 * self.gap) / 3;
        let lettering = self.style.lettering;
        let fitting = self.sizes(16).find_map(|px| {
            let set = |key: Key| lettering.set(key, &[], px, room).filter(|lines| lines.lines() == 1);
            let all: Vec<Option<Lines>> = buttons.iter().map(|key| key.and_then(set)).collect();
            let fits = all.iter().zip(&buttons).all(|(lines, key)| lines.is_some() == key.is_some());
            fits.then_some((all, px))
        });
        let Some((all, px)) = fitting else {
            self.shortfall.lost.push("a button");
            return Ok(());
        };
        let height = lettering.line(Role::Body, px) + self.gap;
        let mut row = area.take_bottom(height);
        area.take_bottom(self.gap);
        for lines in all {
            let place = row.take_start(room);
            row.take_start(self.gap);
            let Some(lines) = lines else { continue };
            self.fill(place, self.style.palette.panel())?;
            if self.style.palette.is_mono {
                self.fill(Area { height: 1, ..place }, self.style.palette.tone(Tone::Plain))?;
            }
            let at = self.on_panel(Area { y: place.y + self.gap as i32 / 2, ..place });
            let ink = self.style.palette.ink_on_panel(Tone::Plain);
            lines.draw(self.target, at.top_left, at.size.width, Align::Centre, ink)?;
        }
        Ok(())
    }

    /// The foot on as few lines as it fits. A low panel has no room for it beside whole sentences: there its short form
    /// is given back, to take turns with them.
    fn foot(&mut self, foot: Option<Key>, beside: Beside, area: &mut Area) -> Result<Option<Key>, D::Error> {
        let Some(key) = foot else { return Ok(None) };
        if self.is_low() && beside == Beside::Text {
            return Ok(Some(Key::NotADiagnosis));
        }
        let key = if self.is_low() { Key::NotADiagnosis } else { key };
        let lettering = self.style.lettering;
        let sizes = self.sizes(18);
        let with = |key: Key, lines: usize| {
            let mut sizes = sizes.clone();
            sizes.find_map(|px| lettering.set(key, &[], px, area.width).filter(|set| set.lines() <= lines))
        };
        let Some(lines) = with(key, 1).or_else(|| with(key, 2)) else {
            self.shortfall.lost.push("the foot");
            return Ok(None);
        };
        let place = area.take_bottom(lines.height());
        area.take_bottom(self.gap / 2);
        self.lines(&lines, place, Align::Centre, Tone::Plain)?;
        Ok(None)
    }

    /// Mark and headline: the largest letters that fit on one line, else the smallest on two. Where no letters fit
    /// beside the mark, it stands below them.
    fn headline(&mut self, page: &Page, area: &mut Area) -> Result<(), D::Error> {
        let gap = 2 * self.gap;
        let beside = |px: u16| u32::from(px) * 9 / 10 + gap;
        let sizes = self.headline_sizes();
        let set = |px: u16, room: u32, lines: usize| {
            let set = self.style.lettering.set(page.headline, &[], px, room)?;
            (set.lines() <= lines).then_some((set, px))
        };
        let on_one = || sizes.iter().rev().find_map(|px| set(*px, area.width.saturating_sub(beside(*px)), 1));
        let on_two = || sizes.iter().find_map(|px| set(*px, area.width.saturating_sub(beside(*px)), 2));
        let alone = || sizes.iter().find_map(|px| set(*px, area.width, 1));
        let (fitting, is_beside) = match on_one().or_else(on_two) {
            Some(fitting) => (Some(fitting), true),
            None => (alone(), false),
        };
        let Some((lines, px)) = fitting else {
            self.shortfall.lost.push("the headline");
            return Ok(());
        };
        let side = u32::from(px) * 9 / 10;
        let mut row = area.take_top(lines.height());
        if is_beside {
            let mark = row.take_start(side);
            let height = lines.height() / lines.lines() as u32;
            self.mark(page.mark, Area { height: mark.height.min(height), ..mark }, page.tone)?;
            row.take_start(gap);
        }
        self.lines(&lines, row, Align::Start, page.tone)?;
        if !is_beside {
            let mark = Area { width: side, ..area.take_top(side) };
            self.mark(page.mark, mark, page.tone)?;
        }
        area.take_top(self.gap);
        Ok(())
    }

    /// Sizes whose lines take a sixth to three tenths of the rows, ascending.
    fn headline_sizes(&self) -> Vec<u16> {
        let least = self.size.height.div_ceil(HEADLINE_SHARE);
        let most = self.size.height * 3 / 10;
        let line = |px: &u16| self.style.lettering.line(Role::Headline, *px);
        let large = || Role::Headline.sizes().iter().copied().filter(|px| line(px) >= least);
        let fitting: Vec<u16> = large().filter(|px| line(px) <= most).collect();
        // Scripts with tall lines have none in between on the lowest panels.
        if fitting.is_empty() { large().take(1).collect() } else { fitting }
    }

    fn picture_beside(&mut self, picture: &Picture, area: &mut Area) -> Result<(), D::Error> {
        let place = area.take_start(picture.width);
        area.take_start(2 * self.gap + self.margin);
        self.picture(picture, Area { height: place.height.min(picture.height.max(1)), ..place })
    }

    /// `picture` in the middle of `area`.
    fn picture(&mut self, picture: &Picture, area: Area) -> Result<(), D::Error> {
        if picture.width > area.width || picture.height > area.height {
            self.shortfall.lost.push("the picture");
        }
        let at = self.on_panel(area);
        let corner = at.top_left
            + Point::new(
                (area.width as i32 - picture.width as i32) / 2,
                (area.height as i32 - picture.height as i32) / 2,
            );
        let place = Rectangle::new(corner, Size::new(picture.width, picture.height));
        let pixels = picture.rgb.as_chunks::<3>().0.iter();
        if self.style.palette.is_mono {
            let dithered = pixels.enumerate().map(|(i, [_, green, _])| {
                let [x, y] = [i % picture.width as usize, i / picture.width as usize];
                if *green > DITHER[y % 4][x % 4] { Rgb565::WHITE } else { Rgb565::BLACK }
            });
            return self.target.fill_contiguous(&place, dithered);
        }
        self.target.fill_contiguous(&place, pixels.map(|[r, g, b]| Rgb565::new(r >> 3, g >> 2, b >> 3)))
    }
}
