//! The prepared strings of the screens, held to the pixels of HarfBuzz's own `hb-view` (Debian: `libharfbuzz-bin`,
//! `fonts-noto-core`).

use edge_runtime::display::Canvas;
use edge_runtime::display::palette::{Palette, Tone};
use edge_runtime::display::text::prepared::Role;
use edge_runtime::display::text::{Align, Key, Language, Lettering};
use embedded_graphics::geometry::Point;
use image::GrayImage;
use std::path::Path;
use std::process::Command;

const FONTS: &str = "/usr/share/fonts/truetype/noto";

/// Words without spaces: the device sets spaces itself.
const WORDS: [(Language, Key, &str); 16] = [
    (Language::English, Key::Suspected, "Suspected"),
    (Language::French, Key::Problem, "Problème"),
    (Language::Spanish, Key::Scanning, "Analizando"),
    (Language::Swahili, Key::Scanning, "Uchunguzi"),
    (Language::Hindi, Key::Uncertain, "अनिश्चित"),
    (Language::Hindi, Key::Starting, "प्रारंभ"),
    (Language::Hindi, Key::SelfTest, "स्व-जाँच"),
    (Language::Hindi, Key::Name, "हिन्दी"),
    (Language::Hindi, Key::Analysing, "विश्लेषण"),
    (Language::Arabic, Key::Suspected, "اشتباه"),
    (Language::Arabic, Key::Findings, "النتائج"),
    (Language::Arabic, Key::Language, "اللغة"),
    (Language::Arabic, Key::Name, "العربية"),
    (Language::Arabic, Key::Analysing, "تحليل"),
    (Language::Arabic, Key::Temperature, "الحرارة"),
    (Language::English, Key::Temperature, "Temperature"),
];

#[test]
fn words_of_every_script_are_those_of_harfbuzz() {
    if !has_tool() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (language, key, text) in WORDS.into_iter() {
        for px in key.role().sizes() {
            let ours = cropped(&ours(language, key, *px));
            let theirs = cropped(&theirs(folder.path(), language, key.role(), *px, text));
            let difference = difference(&ours, &theirs);
            // Quarters of a pixel, 16 levels and another rasteriser differ along the edges: the more, the smaller.
            let allowed = match *px {
                0..14 => 0.4,
                14..34 => 0.3,
                _ => 0.2,
            };
            assert!(difference < allowed, "{language:?} {text} at {px}: {difference:.3} of the ink differs");
        }
    }
}

/// What the comparison is worth: letters that do not join, and a conjunct that is none, are told from those that do.
#[test]
fn wrong_shaping_is_told_from_right() {
    if !has_tool() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        (Language::Arabic, Key::Suspected, "ا\u{200c}ش\u{200c}ت\u{200c}ب\u{200c}ا\u{200c}ه"),
        (Language::Hindi, Key::Uncertain, "अनिश\u{200c}\u{94d}\u{200c}चित"),
        (Language::Arabic, Key::Findings, "جئاتنلا"),
    ];
    for (language, key, text) in wrong {
        let ours = cropped(&ours(language, key, 54));
        let theirs = cropped(&theirs(folder.path(), language, key.role(), 54, text));
        let difference = difference(&ours, &theirs);
        assert!(difference > 0.25, "{text}: {difference:.3}");
    }
}

fn has_tool() -> bool {
    let is_there = Command::new("hb-view").arg("--version").output().is_ok() && Path::new(FONTS).exists();
    if !is_there {
        eprintln!("skipped: install libharfbuzz-bin and fonts-noto-core");
    }
    is_there
}

/// The word as the device draws it.
fn ours(language: Language, key: Key, px: u16) -> GrayImage {
    let lettering = Lettering::load(language).unwrap();
    let block = lettering.set(key, &[], px, 4000).unwrap();
    let mut canvas = Canvas::new(block.width() + 80, block.height() + 80);
    let ink = Palette { is_mono: false }.inverse(Tone::Plain);
    let [white, black] = [embedded_graphics::pixelcolor::Rgb565::new(31, 63, 31), Default::default()];
    let ink = edge_runtime::display::palette::Ink { colour: white, paper: black, ..ink };
    let Ok(()) = block.draw(&mut canvas, Point::new(40, 40), block.width(), Align::Start, ink);
    let picture = canvas.to_picture();
    let grey = picture.rgb.chunks_exact(3).map(|pixel| pixel[1]).collect();
    GrayImage::from_raw(picture.width, picture.height, grey).unwrap()
}

/// The word as HarfBuzz's tool draws it.
fn theirs(folder: &Path, language: Language, role: Role, px: u16, text: &str) -> GrayImage {
    let family = match language {
        Language::Arabic => "NotoSansArabic",
        Language::Hindi => "NotoSansDevanagari",
        _ => "NotoSans",
    };
    let weight = if role == Role::Headline { "Bold" } else { "Regular" };
    let out = folder.join("word.png");
    let status = Command::new("hb-view")
        .arg(format!("--font-file={FONTS}/{family}-{weight}.ttf"))
        .args([&format!("--font-size={px}"), "--background=#000000", "--foreground=#FFFFFF", "--margin=40"])
        .arg(format!("--output-file={}", out.display()))
        .arg(text)
        .status()
        .unwrap();
    assert!(status.success());
    image::open(out).unwrap().into_luma8()
}

/// What holds ink, with a margin.
fn cropped(picture: &GrayImage) -> GrayImage {
    let inked = || picture.enumerate_pixels().filter(|(_, _, pixel)| pixel.0[0] > 24);
    let least = |of: fn(u32, u32) -> u32| inked().map(|(x, y, _)| of(x, y)).min().unwrap() - 2;
    let most = |of: fn(u32, u32) -> u32| inked().map(|(x, y, _)| of(x, y)).max().unwrap() + 2;
    let [left, top] = [least(|x, _| x), least(|_, y| y)];
    let [right, bottom] = [most(|x, _| x), most(|_, y| y)];
    image::imageops::crop_imm(picture, left, top, right - left + 1, bottom - top + 1).to_image()
}

/// The share of the ink by which two words differ, where they lie best upon one another.
fn difference(a: &GrayImage, b: &GrayImage) -> f64 {
    let at = |picture: &GrayImage, x: i32, y: i32| match (u32::try_from(x), u32::try_from(y)) {
        (Ok(x), Ok(y)) if x < picture.width() && y < picture.height() => i32::from(picture.get_pixel(x, y).0[0]),
        _ => 0,
    };
    let ink: i64 = b.pixels().map(|pixel| i64::from(pixel.0[0])).sum();
    let [width, height] = [a.width().max(b.width()) as i32 + 2, a.height().max(b.height()) as i32 + 2];
    let shifted = |dx: i32, dy: i32| -> i64 {
        let pixels = (-2..height).flat_map(|y| (-2..width).map(move |x| (x, y)));
        pixels.map(|(x, y)| i64::from((at(a, x, y) - at(b, x + dx, y + dy)).abs())).sum()
    };
    let shifts = (-2..=2).flat_map(|dy| (-2..=2).map(move |dx| (dx, dy)));
    shifts.map(|(dx, dy)| shifted(dx, dy)).min().unwrap_or(ink) as f64 / ink as f64
}
