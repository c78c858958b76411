//! A picture with the finding's words under it, for archives and print.

use super::Canvas;
use crate::finding::{Answer, DISCLAIMER, Finding};
use crate::image::Picture;
use embedded_graphics::mono_font::ascii::FONT_9X18_BOLD;
use embedded_graphics::mono_font::{MonoFont, MonoTextStyle};
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics::text::{Baseline, Text};

const FONT: &MonoFont = &FONT_9X18_BOLD;
const LINE: u32 = 22;
const MARGIN: u32 = 8;
/// Columns below which words would be cut too often.
const NARROWEST: u32 = 480;

/// `picture` with the words of `finding` under it.
pub fn annotated(picture: &Picture, finding: &Finding) -> Picture {
    let width = picture.width.max(NARROWEST);
    let room = ((width - 2 * MARGIN) / FONT.character_size.width) as usize;
    let lines: Vec<(String, Rgb565)> =
        words(finding).into_iter().flat_map(|(text, colour)| wrapped(&text, room, colour)).collect();
    let height = picture.height + 2 * MARGIN + LINE * lines.len() as u32;
    let mut canvas = Canvas::new(width, height);
    let left = (width - picture.width) / 2;
    let area = Rectangle::new(Point::new(left as i32, 0), Size::new(picture.width, picture.height));
    let pixels = picture.rgb.as_chunks::<3>().0.iter().map(|[r, g, b]| Rgb565::new(r >> 3, g >> 2, b >> 3));
    let Ok(()) = canvas.fill_contiguous(&area, pixels);
    for (i, (text, colour)) in lines.iter().enumerate() {
        let at = Point::new(MARGIN as i32, (picture.height + MARGIN + LINE * i as u32) as i32);
        let style = MonoTextStyle::new(FONT, *colour);
        let Ok(_) = Text::with_baseline(text, at, style, Baseline::Top).draw(&mut canvas);
    }
    canvas.to_picture()
}

/// What is written, line by line.
fn words(finding: &Finding) -> Vec<(String, Rgb565)> {
    let plain = Rgb565::WHITE;
    let alarm = Rgb565::CSS_ORANGE;
    let colour = if finding.answer == Answer::Negative { plain } else { alarm };
    let model = &finding.model;
    let mut words = vec![
        (finding.in_words(), colour),
        (
            format!("Probability {:.3}, operating point {:.3}", finding.probability, finding.operating_point.threshold),
            plain,
        ),
    ];
    words.extend(finding.warnings.iter().map(|w| (format!("! {}: {}", w.in_words(), w.sentence()), alarm)));
    words.push((format!("Hilum {} {}, model {:.12}", model.name, model.version, model.digest), plain));
    words.extend(finding.site.as_ref().map(|site| (site.in_words(), plain)));
    words.push((DISCLAIMER.to_owned(), plain));
    words
}

/// `text` in lines of at most `room` characters, broken between words.
fn wrapped(text: &str, room: usize, colour: Rgb565) -> Vec<(String, Rgb565)> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= room {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.into_iter().map(|line| (line, colour)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Warning;
    use crate::finding::tests::example;

    #[test]
    fn words_stand_under_the_picture_and_are_not_cut() {
        let picture = Picture { width: 64, height: 40, rgb: vec![128; 64 * 40 * 3] };
        let finding = Finding { warnings: vec![Warning::OutsideTraining], ..example(true) };
        let shown = annotated(&picture, &finding);
        assert_eq!((shown.width, shown.rgb.len()), (NARROWEST, (NARROWEST * shown.height * 3) as usize));
        let room = ((NARROWEST - 2 * MARGIN) / 9) as usize;
        for (text, colour) in words(&finding) {
            let lines = wrapped(&text, room, colour);
            assert!(lines.iter().all(|(line, _)| line.len() <= room), "{lines:?}");
            let joined: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
            assert_eq!(joined.join(" "), text);
        }
        let below = &shown.rgb[(NARROWEST * 40 * 3) as usize..];
        assert!(below.iter().any(|v| *v > 200));
    }
}
