//! The finding's screen.

use crate::finding::{Answer, DISCLAIMER, Finding};
use crate::image::Picture;
use embedded_graphics::mono_font::ascii::{FONT_5X8, FONT_6X10, FONT_8X13_BOLD, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

/// Pixels that stay free on the left and on the right.
const MARGIN: i32 = 6;
/// First row below the header.
const TOP: i32 = 28;

/// What the screen says.
pub struct Screen<'a> {
    /// Radiograph with its heat, already small.
    pub picture: &'a Picture,
    /// The finding, with the milliseconds that it took so far.
    pub finding: &'a Finding,
}

const BACKGROUND: Rgb565 = Rgb565::new(1, 3, 3);
const PANEL: Rgb565 = Rgb565::new(4, 9, 6);
const TEXT: Rgb565 = Rgb565::new(29, 59, 29);
const DIM: Rgb565 = Rgb565::new(17, 36, 18);
const ALARM: Rgb565 = Rgb565::new(31, 26, 4);
const CALM: Rgb565 = Rgb565::new(9, 48, 22);

impl Screen<'_> {
    /// Longest side of [`Screen::picture`] that fits a display of `size`.
    pub fn picture_side(size: Size) -> u32 {
        (size.width * 9 / 16).min(size.height.saturating_sub(54)).max(16)
    }

    /// Draws the whole screen.
    pub fn draw<D: DrawTarget<Color = Rgb565>>(&self, target: &mut D) -> Result<(), D::Error> {
        let area = target.bounding_box();
        let width = area.size.width as i32;
        let height = area.size.height as i32;
        target.clear(BACKGROUND)?;
        self.draw_header(target, width)?;
        let side = Screen::picture_side(area.size) as i32;
        self.draw_picture(target, Point::new(MARGIN, TOP), side)?;
        let column = MARGIN + side + 10;
        self.draw_answer(target, column, width - column - MARGIN)?;
        draw_disclaimer(target, width, height)
    }

    fn draw_header<D: DrawTarget<Color = Rgb565>>(&self, target: &mut D, width: i32) -> Result<(), D::Error> {
        fill(target, 0, 0, width, 22, PANEL)?;
        text(target, "HILUM", MARGIN, 5, &FONT_8X13_BOLD, TEXT)?;
        let room = ((width - 64) / 6).max(0) as usize;
        let model = &self.finding.model;
        let model: String = format!("{} {:.8}", model.name, model.digest).chars().take(room).collect();
        text(target, &model, width - MARGIN - 6 * model.len() as i32, 7, &FONT_6X10, DIM)
    }

    /// The radiograph in the middle of a square of `side`.
    fn draw_picture<D>(&self, target: &mut D, corner: Point, side: i32) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb565>,
    {
        let picture = self.picture;
        let x = corner.x + (side - picture.width as i32) / 2;
        let y = corner.y + (side - picture.height as i32) / 2;
        let frame = Rectangle::new(Point::new(x, y), Size::new(picture.width, picture.height));
        let pixels = picture.rgb.as_chunks::<3>().0.iter().map(|[r, g, b]| Rgb565::new(r >> 3, g >> 2, b >> 3));
        target.fill_contiguous(&frame, pixels)
    }

    /// The finding in words, its probability beside the threshold, and the time it took, in a column of `room` pixels.
    fn draw_answer<D>(&self, target: &mut D, column: i32, room: i32) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb565>,
    {
        let finding = self.finding;
        let is_calm = finding.answer == Answer::Negative && finding.warnings.is_empty();
        let colour = if is_calm { CALM } else { ALARM };
        fill(target, column, TOP, room, 4, colour)?;
        let label = finding.looked_for.as_str();
        let words = match finding.answer {
            Answer::Positive => [label, "suspected"],
            Answer::Negative => ["No sign of", label],
            Answer::Uncertain => ["Uncertain:", "ask a reader"],
        };
        let mut line = TOP + 12;
        for part in words {
            let font = if part.len() as i32 * 9 <= room { &FONT_9X18_BOLD } else { &FONT_6X10 };
            text(target, part, column, line, font, colour)?;
            line += 19;
        }
        line += 9;
        text(target, "Probability", column, line, &FONT_6X10, DIM)?;
        text(target, &format!("{:.2}", finding.probability), column, line + 11, &FONT_9X18_BOLD, TEXT)?;
        line += 34;
        fill(target, column, line, room, 8, PANEL)?;
        let along = |share: f32| (room as f32 * share.clamp(0.0, 1.0)) as i32;
        if let Some([low, high]) = finding.uncertain {
            fill(target, column + along(low), line + 9, along(high) - along(low), 2, ALARM)?;
        }
        fill(target, column, line, along(finding.probability), 8, colour)?;
        let mark = column + along(finding.operating_point.threshold);
        Line::new(Point::new(mark, line - 3), Point::new(mark, line + 10))
            .into_styled(PrimitiveStyle::with_stroke(TEXT, 1))
            .draw(target)?;
        text(
            target,
            &format!("threshold {:.2}", finding.operating_point.threshold),
            column,
            line + 13,
            &FONT_5X8,
            DIM,
        )?;
        line += 34;
        let taken = finding.latency_ms.total();
        let budget = finding.budget_ms.total();
        let time = format!("{taken:.0} of {budget:.0} ms");
        text(target, &time, column, line, &FONT_6X10, if taken > budget { ALARM } else { DIM })?;
        for warning in &finding.warnings {
            line += 16;
            let words = warning.in_words();
            let font = if words.len() as i32 * 6 + 12 <= room { &FONT_6X10 } else { &FONT_5X8 };
            text(target, &format!("! {words}"), column, line, font, ALARM)?;
        }
        Ok(())
    }
}

fn draw_disclaimer<D>(target: &mut D, width: i32, height: i32) -> Result<(), D::Error>
where
    D: DrawTarget<Color = Rgb565>,
{
    fill(target, 0, height - 20, width, 20, PANEL)?;
    let font = if DISCLAIMER.len() as i32 * 6 <= width { &FONT_6X10 } else { &FONT_5X8 };
    let advance = font.character_size.width as i32;
    text(target, DISCLAIMER, (width - advance * DISCLAIMER.len() as i32) / 2, height - 15, font, TEXT)
}

fn fill<D: DrawTarget<Color = Rgb565>>(t: &mut D, x: i32, y: i32, w: i32, h: i32, c: Rgb565) -> Result<(), D::Error> {
    t.fill_solid(&Rectangle::new(Point::new(x, y), Size::new(w.max(0) as u32, h.max(0) as u32)), c)
}

fn text<D: DrawTarget<Color = Rgb565>>(
    t: &mut D,
    s: &str,
    x: i32,
    y: i32,
    font: &MonoFont,
    c: Rgb565,
) -> Result<(), D::Error> {
    Text::with_baseline(s, Point::new(x, y), MonoTextStyle::new(font, c), Baseline::Top).draw(t).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Canvas;
    use crate::finding::Warning;
    use crate::finding::tests::example;

    fn draw(width: u32, height: u32, finding: &Finding) -> Picture {
        let side = Screen::picture_side(Size::new(width, height));
        let rgb = (0..side * side).flat_map(|i| [(i % side * 255 / side) as u8; 3]).collect();
        let picture = Picture { width: side, height: side, rgb };
        let mut canvas = Canvas::new(width, height);
        Screen { picture: &picture, finding }.draw(&mut canvas).unwrap();
        canvas.to_picture()
    }

    #[test]
    fn screens_look_as_they_were_approved() {
        let doubtful = Finding { warnings: vec![Warning::Inverted], ..example(false) };
        let uncertain = Finding { answer: Answer::Uncertain, probability: 0.44, ..example(true) };
        let findings = [
            ("positive", example(true)),
            ("negative", example(false)),
            ("doubtful", doubtful),
            ("uncertain", uncertain),
        ];
        for (name, finding) in findings {
            let got = draw(320, 240, &finding);
            let path = format!("{}/golden/screen-{name}.png", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("HILUM_APPROVE").is_some() {
                image::save_buffer(&path, &got.rgb, got.width, got.height, image::ColorType::Rgb8).unwrap();
            }
            let want = image::open(&path).expect("golden pictures are in golden/").into_rgb8();
            assert!(*want.as_raw() == got.rgb, "{name} differs from {path}; look at both, then HILUM_APPROVE=1");
        }
    }

    #[test]
    fn a_tiny_display_does_not_panic() {
        draw(64, 64, &example(true));
        draw(128, 64, &example(false));
    }
}
