//! Every screen on every panel in every language, as golden pictures: `golden/screens/PANEL-LANGUAGE.png` holds all
//! screens of a panel in a language, one below the other, with every turn of those that take turns. After a change look
//! at them, then run the test with
//! `HILUM_APPROVE=1`; where one differs, the difference is written beside the test's other outputs.

use super::layout::full_picture_side;
use super::screens::{Check, MenuItem, Past, Problem, Repeated, ResultView, Screen, Step};
use super::text::{Language, Lettering};
use super::*;
use crate::finding::tests::example;
use crate::finding::{Answer, Cause, Finding, ModelId, Refusal, Warning};
use crate::stages::StageTimes;

/// The panels that Hilum has layouts for, and whether they are mono.
const PANELS: [(u32, u32, bool); 6] =
    [(128, 64, true), (240, 240, false), (320, 240, false), (480, 320, false), (800, 480, false), (1280, 800, false)];

/// Everything that the screens borrow.
struct Material {
    findings: Vec<(&'static str, Finding)>,
    refusals: Vec<Refusal>,
    past: Vec<Past>,
    model: ModelId,
    small: Option<Picture>,
    full: Picture,
    checks: [Vec<(Check, Option<bool>)>; 2],
}

/// A chest as far as its greys go, with a warm spot.
fn radiograph(side: u32) -> Picture {
    let pixel = |i: u32| {
        let [x, y] = [(i % side) as f32 / side as f32 - 0.5, (i / side) as f32 / side as f32 - 0.5];
        let lung = |centre: f32| (((x - centre) / 0.14).powi(2) + (y / 0.32).powi(2)).min(1.0);
        let grey = (200.0 * lung(-0.2) * lung(0.2) + 30.0) as u8;
        let spot = (((x - 0.22) / 0.1).powi(2) + ((y - 0.15) / 0.1).powi(2)) < 1.0;
        if spot { [grey / 2 + 120, grey / 2 + 40, grey / 2] } else { [grey; 3] }
    };
    Picture { width: side, height: side, rgb: (0..side * side).flat_map(pixel).collect() }
}

impl Material {
    fn new(size: Size) -> Material {
        let uncertain = Finding { answer: Answer::Uncertain, probability: 0.44, ..example(true) };
        let doubtful = Finding { warnings: vec![Warning::Inverted, Warning::OutsideTraining], ..example(false) };
        let slow = StageTimes { read: 31.0, decode: 1730.0, infer: 412.0, ..StageTimes::default() };
        let foreign = Finding { looked_for: "TUBERCULOSIS".into(), ..example(true) };
        let refusal = |cause, unsuitable| Refusal { cause, unsuitable, sentence: String::new() };
        let causes = [
            Cause::Unreadable,
            Cause::Damaged,
            Cause::Empty,
            Cause::NoImage,
            Cause::Unsupported,
            Cause::TooLarge,
            Cause::NoStructure,
            Cause::BeyondLimits,
            Cause::EngineFailed,
        ];
        let mut refusals: Vec<Refusal> = causes.into_iter().map(|cause| refusal(cause, None)).collect();
        refusals.extend(Warning::ALL.iter().map(|warning| refusal(Cause::Unsuitable, Some(*warning))));
        let answers = [Some(Answer::Positive), Some(Answer::Negative), None, Some(Answer::Uncertain)];
        let past = answers.iter().cycle().take(9).enumerate();
        let past = past.map(|(i, answer)| Past { answer: *answer, time: format!("2026-11-27  1{i}:05") }).collect();
        let all = [Check::Display, Check::Buttons, Check::Disk, Check::Clock, Check::Temperature, Check::Model];
        let running = all.iter().enumerate().map(|(i, c)| (*c, (i < 3).then_some(true))).collect();
        let failed = all.iter().map(|check| (*check, Some(*check != Check::Clock))).collect();
        Material {
            model: example(true).model,
            findings: vec![
                ("positive", example(true)),
                ("negative", example(false)),
                ("uncertain", uncertain),
                ("doubtful", doubtful),
                ("slow", Finding { latency_ms: slow, ..example(true) }),
                ("foreign", foreign),
            ],
            refusals,
            past,
            small: layout::picture_side(size).map(radiograph),
            full: radiograph(full_picture_side(size)),
            checks: [running, failed],
        }
    }

    /// Every screen; `all` of the refusals, or the first of each form.
    fn screens(&self, all: bool) -> Vec<Screen<'_>> {
        let view = |finding, repeated, problem| {
            let picture = self.small.as_ref();
            Screen::Result(ResultView { finding, picture, has_map: true, has_next: true, repeated, problem })
        };
        let mut screens = vec![
            Screen::Starting(Step::LoadingModel),
            Screen::Ready { kept: 1234, problem: None },
            Screen::Ready { kept: 0, problem: Some(Problem::DiskReadOnly) },
            Screen::Receiving { done: 12, of: 345 },
            Screen::Scanning { stage: Stage::Preprocess, done: 2, of: 7 },
        ];
        screens.extend(self.findings.iter().map(|(_, finding)| view(finding, None, None)));
        let first = &self.findings[0].1;
        screens.push(view(first, Some(Repeated::OtherModel), Some(Problem::DiskFull)));
        screens.push(Screen::Picture { picture: &self.full, with_map: true });
        let refusals = self.refusals.iter().filter(|r| all || matches!(r.cause, Cause::BeyondLimits));
        screens.extend(refusals.map(|refusal| Screen::NotRead { refusal, has_next: true, problem: None }));
        if !all {
            screens.extend(self.refusals.last().map(|refusal| Screen::NotRead {
                refusal,
                has_next: false,
                problem: None,
            }));
        }
        screens.extend([
            Screen::Findings { rows: &self.past, selected: 5 },
            Screen::Findings { rows: &[], selected: 0 },
            Screen::Menu { selected: MenuItem::Language },
            Screen::Languages { selected: Language::Hindi },
            Screen::About { model: &self.model, site: None, version: "0.1.0" },
            Screen::About { model: &self.model, site: Some("Kisumu East 2"), version: "0.1.0" },
            Screen::SelfTest(&self.checks[0]),
            Screen::SelfTest(&self.checks[1]),
            Screen::Problem(Problem::StickRemoved),
            Screen::Off,
        ]);
        if all {
            let problems = [Problem::DiskFull, Problem::DiskReadOnly, Problem::FindingsDamaged];
            screens.extend(problems.map(Screen::Problem));
            screens.extend([Problem::ModelRefused, Problem::ClockUnset, Problem::StickUnreadable].map(Screen::Problem));
            screens.extend([Problem::UpdateRefused, Problem::UpdateFailed].map(Screen::Problem));
            screens.extend(Stage::ALL.iter().map(|stage| Screen::Scanning { stage: *stage, done: 9_998, of: 10_000 }));
            let steps = [Step::OpeningFindings, Step::Checking, Step::Updating(40)];
            screens.extend(steps.map(Screen::Starting));
        }
        screens
    }
}

#[test]
fn nothing_is_cut_on_any_panel_in_any_language() {
    let mut wrong = Vec::new();
    for (width, height, is_mono) in PANELS {
        let size = Size::new(width, height);
        let material = Material::new(size);
        for language in Language::ALL {
            let lettering = Lettering::load(*language).unwrap();
            let style = Style { lettering: &lettering, palette: Palette { is_mono }, turn: 0 };
            for screen in material.screens(true) {
                let mut canvas = Canvas::new(width, height);
                let Ok(shortfall) = draw(&mut canvas, &screen, style);
                if !shortfall.lost.is_empty() {
                    let kind: String = format!("{screen:?}").chars().take(60).collect();
                    wrong.push(format!("{width}×{height} {} {:?} {kind}", language.code(), shortfall.lost));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} screens:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn panels_of_any_size_are_drawn_without_panic() {
    for (width, height) in [(64, 64), (64, 4096), (4096, 64), (65, 777), (300, 160)] {
        let material = Material::new(Size::new(width, height));
        for language in [Language::English, Language::Arabic] {
            let lettering = Lettering::load(language).unwrap();
            for is_mono in [false, true] {
                let style = Style { lettering: &lettering, palette: Palette { is_mono }, turn: 0 };
                for screen in material.screens(false) {
                    let Ok(_) = draw(&mut Canvas::new(width, height), &screen, style);
                }
            }
        }
    }
}

/// A mono panel shows nothing but black and white.
#[test]
fn a_mono_panel_needs_no_greys() {
    let (width, height, is_mono) = PANELS[0];
    let material = Material::new(Size::new(width, height));
    let lettering = Lettering::load(Language::English).unwrap();
    let style = Style { lettering: &lettering, palette: Palette { is_mono }, turn: 0 };
    for screen in material.screens(false) {
        let mut canvas = Canvas::new(width, height);
        let Ok(_) = draw(&mut canvas, &screen, style);
        assert!(canvas.to_picture().rgb.iter().all(|v| *v == 0 || *v == 255), "{screen:?}");
    }
}

/// All screens of a panel in a language, one below the other.
fn sheet(width: u32, height: u32, is_mono: bool, language: Language) -> Picture {
    let material = Material::new(Size::new(width, height));
    let lettering = Lettering::load(language).unwrap();
    let style = Style { lettering: &lettering, palette: Palette { is_mono }, turn: 0 };
    let mut rgb = Vec::new();
    for screen in &material.screens(false) {
        let mut turn = 0;
        loop {
            let mut canvas = Canvas::new(width, height);
            let Ok(shortfall) = draw(&mut canvas, screen, Style { turn, ..style });
            rgb.extend(canvas.to_picture().rgb);
            turn += 1;
            if turn >= shortfall.turns {
                break;
            }
        }
    }
    let height = (rgb.len() / 3) as u32 / width;
    Picture { width, height, rgb }
}

#[test]
fn screens_look_as_they_were_approved() {
    let mut different = Vec::new();
    for (width, height, is_mono) in PANELS {
        for language in Language::ALL {
            let name = format!("golden/screens/{width}x{height}-{}.png", language.code());
            different.extend(difference(&sheet(width, height, is_mono, *language), &name));
        }
    }
    different.extend(difference(&overview(), "../docs/screens.png"));
    assert!(different.is_empty(), "look at these, then HILUM_APPROVE=1:\n{}", different.join("\n"));
}

/// Some screens of a panel, a row a language: the picture of the README.
fn overview() -> Picture {
    let [width, height, gap] = [320, 240, 8];
    let material = Material::new(Size::new(width, height));
    let refusal = &material.refusals[1];
    let result = |i: usize| {
        let (finding, picture) = (&material.findings[i].1, material.small.as_ref());
        let plain = ResultView { finding, picture, has_map: true, has_next: false, repeated: None, problem: None };
        Screen::Result(plain)
    };
    let ready = Screen::Ready { kept: 12, problem: None };
    let screens = [ready, result(0), result(1), result(2), Screen::NotRead { refusal, has_next: false, problem: None }];
    let columns = screens.len() as u32;
    let rows = Language::ALL.len() as u32;
    let mut whole = Canvas::new(columns * (width + gap) - gap, rows * (height + gap) - gap);
    let Ok(()) = whole.clear(Rgb565::new(12, 24, 12));
    for (row, language) in Language::ALL.iter().enumerate() {
        let lettering = Lettering::load(*language).unwrap();
        let style = Style { lettering: &lettering, palette: Palette { is_mono: false }, turn: 0 };
        for (column, screen) in screens.iter().enumerate() {
            let corner = Point::new(column as i32 * (width + gap) as i32, row as i32 * (height + gap) as i32);
            let area = embedded_graphics::primitives::Rectangle::new(corner, Size::new(width, height));
            let Ok(_) = draw(&mut whole.cropped(&area), screen, style);
        }
    }
    whole.to_picture()
}

/// The picture with a palette where it has few colours, as small as PNG makes it.
fn smallest_png(picture: &Picture) -> Vec<u8> {
    let mut palette: Vec<[u8; 3]> = picture.rgb.as_chunks::<3>().0.to_vec();
    palette.sort_unstable();
    palette.dedup();
    let mut bytes = Vec::new();
    let mut encoder = ::png::Encoder::new(&mut bytes, picture.width, picture.height);
    encoder.set_depth(::png::BitDepth::Eight);
    encoder.set_compression(::png::Compression::High);
    let data = if palette.len() <= 256 {
        encoder.set_color(::png::ColorType::Indexed);
        encoder.set_palette(palette.concat());
        encoder.set_filter(::png::Filter::NoFilter);
        let place = |pixel: &[u8; 3]| palette.binary_search(pixel).unwrap() as u8;
        picture.rgb.as_chunks::<3>().0.iter().map(place).collect()
    } else {
        encoder.set_color(::png::ColorType::Rgb);
        picture.rgb.clone()
    };
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&data).unwrap();
    writer.finish().unwrap();
    bytes
}

/// Holds `got` to the golden picture `name`, a path from the crate on. Where they differ, writes what is there with
/// what differs in red, and gives its path.
fn difference(got: &Picture, name: &str) -> Option<String> {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("HILUM_APPROVE").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, smallest_png(got)).unwrap();
    }
    let want = ::image::open(&golden).map(::image::DynamicImage::into_rgb8).unwrap_or_default();
    if *want.as_raw() == got.rgb {
        return None;
    }
    let wanted = want.as_raw().as_chunks::<3>().0.iter().map(Some).chain(std::iter::repeat(None));
    let pixels = got.rgb.as_chunks::<3>().0.iter().zip(wanted);
    let rgb = pixels.flat_map(|(got, want)| if want == Some(got) { got.map(|v| v / 3) } else { [255, 0, 0] }).collect();
    let path = std::env::temp_dir().join(format!("hilum-different-{}", golden.file_name().unwrap().display()));
    std::fs::write(&path, smallest_png(&Picture { rgb, ..*got })).unwrap();
    Some(path.display().to_string())
}
