//! What the device's display shows. The drawing goes to any `embedded-graphics` target: a panel over SPI, a frame buffer,
//! or [`Canvas`], which becomes a PNG.

use crate::heatmap::Picture;
use embedded_graphics::mono_font::ascii::{FONT_5X8, FONT_6X10, FONT_8X13_BOLD, FONT_9X18_BOLD};
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{Line, PrimitiveStyle, Rectangle};
use embedded_graphics::text::{Baseline, Text};

/// What the screen says.
pub struct Screen<'a> {
    /// Radiograph with its heat, already small.
    pub picture: &'a Picture,
    /// True above the operating point.
    pub positive: bool,
    /// Name of what is looked for.
    pub label: &'a str,
    /// Probability of it.
    pub probability: f32,
    /// The operating point's threshold.
    pub threshold: f32,
    /// Model name and the first digits of its digest.
    pub model: &'a str,
    /// Milliseconds so far.
    pub latency_ms: f64,
    /// Milliseconds there are.
    pub budget_ms: f64,
}

const BACKGROUND: Rgb565 = Rgb565::new(1, 3, 3);
const PANEL: Rgb565 = Rgb565::new(4, 9, 6);
const TEXT: Rgb565 = Rgb565::new(29, 59, 29);
const DIM: Rgb565 = Rgb565::new(17, 36, 18);
const ALARM: Rgb565 = Rgb565::new(31, 26, 4);
const CALM: Rgb565 = Rgb565::new(9, 48, 22);

/// The sentence at the foot of every screen.
pub const DISCLAIMER: &str = "Screening support, not a diagnosis";

impl Screen<'_> {
    /// Longest side of [`Screen::picture`] that fits a display of `size`.
    pub fn picture_side(size: Size) -> u32 {
        (size.width * 9 / 16).min(size.height.saturating_sub(54)).max(16)
    }

    /// Draws the whole screen.
    pub fn draw<D: DrawTarget<Color = Rgb565>>(&self, target: &mut D) -> Result<(), D::Error> {
        let area = target.bounding_box();
        let (width, height) = (area.size.width as i32, area.size.height as i32);
        target.clear(BACKGROUND)?;
        let colour = if self.positive { ALARM } else { CALM };
        fill(target, 0, 0, width, 22, PANEL)?;
        text(target, "HILUM", 6, 5, &FONT_8X13_BOLD, TEXT)?;
        let room = ((width - 64) / 6).max(0) as usize;
        let model: String = self.model.chars().take(room).collect();
        text(target, &model, width - 6 - 6 * model.len() as i32, 7, &FONT_6X10, DIM)?;

        let side = Screen::picture_side(area.size) as i32;
        let (left, top) = (6, 28);
        let p = self.picture;
        let (x, y) = (left + (side - p.width as i32) / 2, top + (side - p.height as i32) / 2);
        let frame = Rectangle::new(Point::new(x, y), Size::new(p.width, p.height));
        let pixels = p.rgb.as_chunks::<3>().0.iter().map(|[r, g, b]| Rgb565::new(r >> 3, g >> 2, b >> 3));
        target.fill_contiguous(&frame, pixels)?;

        let column = left + side + 10;
        let room = width - column - 6;
        fill(target, column, top, room, 4, colour)?;
        let mut line = top + 12;
        let (first, second) = match self.positive {
            true => (self.label.to_owned(), "suspected"),
            false => ("No sign of".to_owned(), self.label),
        };
        for part in [first.as_str(), second] {
            let font = if part.len() as i32 * 9 <= room { &FONT_9X18_BOLD } else { &FONT_6X10 };
            text(target, part, column, line, font, colour)?;
            line += 19;
        }
        line += 9;
        text(target, "Probability", column, line, &FONT_6X10, DIM)?;
        text(target, &format!("{:.2}", self.probability), column, line + 11, &FONT_9X18_BOLD, TEXT)?;
        line += 34;
        fill(target, column, line, room, 8, PANEL)?;
        fill(target, column, line, (room as f32 * self.probability.clamp(0.0, 1.0)) as i32, 8, colour)?;
        let mark = column + (room as f32 * self.threshold.clamp(0.0, 1.0)) as i32;
        Line::new(Point::new(mark, line - 3), Point::new(mark, line + 10))
            .into_styled(PrimitiveStyle::with_stroke(TEXT, 1))
            .draw(target)?;
        text(target, &format!("threshold {:.2}", self.threshold), column, line + 13, &FONT_5X8, DIM)?;
        line += 34;
        let time = format!("{:.0} of {:.0} ms", self.latency_ms, self.budget_ms);
        let late = self.latency_ms > self.budget_ms;
        text(target, &time, column, line, &FONT_6X10, if late { ALARM } else { DIM })?;

        fill(target, 0, height - 20, width, 20, PANEL)?;
        let font = if DISCLAIMER.len() as i32 * 6 <= width { &FONT_6X10 } else { &FONT_5X8 };
        let advance = font.character_size.width as i32;
        text(target, DISCLAIMER, (width - advance * DISCLAIMER.len() as i32) / 2, height - 15, font, TEXT)
    }
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

/// A display in memory.
pub struct Canvas {
    size: Size,
    pixels: Vec<Rgb565>,
}

impl Canvas {
    /// A black display.
    pub fn new(width: u32, height: u32) -> Canvas {
        Canvas { size: Size::new(width, height), pixels: vec![Rgb565::BLACK; (width * height) as usize] }
    }

    /// The picture as 8-bit RGB.
    pub fn to_picture(&self) -> Picture {
        let wide = |v: u8, bits: u32| (u32::from(v) * 255 / ((1 << bits) - 1)) as u8;
        let rgb = self.pixels.iter().flat_map(|p| [wide(p.r(), 5), wide(p.g(), 6), wide(p.b(), 5)]).collect();
        Picture { width: self.size.width, height: self.size.height, rgb }
    }
}

impl OriginDimensions for Canvas {
    fn size(&self) -> Size {
        self.size
    }
}

impl DrawTarget for Canvas {
    type Color = Rgb565;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb565>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(at, colour) in pixels {
            if let (Ok(x), Ok(y)) = (u32::try_from(at.x), u32::try_from(at.y))
                && x < self.size.width
                && y < self.size.height
            {
                self.pixels[(y * self.size.width + x) as usize] = colour;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(width: u32, height: u32, positive: bool) -> Picture {
        let side = Screen::picture_side(Size::new(width, height));
        let rgb = (0..side * side).flat_map(|i| [(i % side * 255 / side) as u8; 3]).collect();
        let picture = Picture { width: side, height: side, rgb };
        let probability = if positive { 0.93 } else { 0.08 };
        let mut canvas = Canvas::new(width, height);
        let screen = Screen {
            picture: &picture,
            positive,
            label: "PNEUMONIA",
            probability,
            threshold: 0.41,
            model: "mobilenet-v2 0123abcd",
            latency_ms: 42.0,
            budget_ms: 455.0,
        };
        screen.draw(&mut canvas).unwrap();
        canvas.to_picture()
    }

    #[test]
    fn screens_look_as_they_were_approved() {
        for (name, positive) in [("positive", true), ("negative", false)] {
            let got = draw(320, 240, positive);
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
        draw(64, 64, true);
        draw(128, 64, false);
    }
}
