//! The screens of the device: what each says, as a [`Page`] for any panel and language.

use super::mark::Mark;
use super::page::{Block, Content, Label, Page, Row};
use super::palette::Tone;
use super::text::{Key, Language};
use crate::finding::{Answer, Cause, FIRST_DAY, Finding, ModelId, Refusal, Warning};
use crate::image::Picture;
use crate::stages::Stage;
use chrono::{DateTime, Utc};

/// A screen.
#[derive(Debug, Clone, PartialEq)]
pub enum Screen<'a> {
    /// The program starts.
    Starting(Step),
    /// Nothing to do.
    Ready {
        /// How many findings the device keeps.
        kept: u64,
        /// What is wrong with the device, if anything.
        problem: Option<Problem>,
    },
    /// Files arrive.
    Receiving {
        /// Files that are whole.
        done: usize,
        /// Files that are known.
        of: usize,
    },
    /// A radiograph is scanned.
    Scanning {
        /// Where it stands.
        stage: Stage,
        /// Radiographs before it.
        done: usize,
        /// Radiographs in all.
        of: usize,
    },
    /// A finding.
    Result(ResultView<'a>),
    /// The radiograph with its heat, as large as the panel.
    Picture {
        /// The picture.
        picture: &'a Picture,
        /// True while the heat is over it.
        with_map: bool,
    },
    /// A radiograph without a finding.
    NotRead {
        /// Why.
        refusal: &'a Refusal,
        /// Whether there is another result.
        has_next: bool,
        /// What became of the refusal, where it is not kept.
        problem: Option<Problem>,
    },
    /// What was found so far.
    Findings {
        /// The findings, the latest first.
        rows: &'a [Past],
        /// Which is selected.
        selected: usize,
    },
    /// The choices.
    Menu {
        /// Which is selected.
        selected: MenuItem,
    },
    /// The languages.
    Languages {
        /// Which is selected.
        selected: Language,
    },
    /// What runs here.
    About {
        /// The model.
        model: &'a ModelId,
        /// The site whose profile decides.
        site: Option<&'a str>,
        /// The program's version.
        version: &'a str,
    },
    /// The checks and how they went; `None` while one runs.
    SelfTest(&'a [(Check, Option<bool>)]),
    /// Something is wrong that needs an engineer.
    Problem(Problem),
    /// Whether to switch off.
    Off,
}

/// What a result screen shows.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultView<'a> {
    /// The finding.
    pub finding: &'a Finding,
    /// The radiograph, small.
    pub picture: Option<&'a Picture>,
    /// Whether the device has the radiograph for a screen of its own.
    pub has_map: bool,
    /// Whether there is another result.
    pub has_next: bool,
    /// Whether the image was known.
    pub repeated: Option<Repeated>,
    /// What became of the finding, where it is not kept.
    pub problem: Option<Problem>,
}

/// How an image was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// Scanned with this model.
    SameModel,
    /// Scanned with another.
    OtherModel,
}

/// A step of starting, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The log is read.
    OpeningFindings,
    /// The model is read.
    LoadingModel,
    /// The model scans its test pattern.
    Checking,
    /// An update is written: percent that are done.
    Updating(u8),
}

/// A finding in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// What was found; `None` where nothing could be read.
    pub answer: Option<Answer>,
    /// When, in figures.
    pub time: String,
}

/// What the menu offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MenuItem {
    /// The list of findings.
    Findings,
    /// The language.
    Language,
    /// The checks.
    SelfTest,
    /// What runs here.
    About,
    /// Switching off.
    Off,
}

impl MenuItem {
    /// All items, in order.
    pub const ALL: &[MenuItem] =
        &[MenuItem::Findings, MenuItem::Language, MenuItem::SelfTest, MenuItem::About, MenuItem::Off];

    fn key(self) -> Key {
        match self {
            MenuItem::Findings => Key::MenuFindings,
            MenuItem::Language => Key::MenuLanguage,
            MenuItem::SelfTest => Key::MenuSelfTest,
            MenuItem::About => Key::MenuAbout,
            MenuItem::Off => Key::MenuOff,
        }
    }
}

/// A check of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The model gives on its test pattern what it gave where it was made.
    Model,
    /// Findings can be written.
    Disk,
    /// The clock is set.
    Clock,
    /// The processor is cool enough.
    Temperature,
    /// The screen was drawn.
    Display,
    /// There are buttons.
    Buttons,
}

impl Check {
    fn key(self) -> Key {
        match self {
            Check::Model => Key::Model,
            Check::Disk => Key::Disk,
            Check::Clock => Key::Clock,
            Check::Temperature => Key::Temperature,
            Check::Display => Key::Display,
            Check::Buttons => Key::Buttons,
        }
    }
}

/// What is wrong with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// No room for findings.
    DiskFull,
    /// Findings cannot be written.
    DiskReadOnly,
    /// Findings that were kept are damaged.
    FindingsDamaged,
    /// The model was refused.
    ModelRefused,
    /// The clock stands before the program was made.
    ClockUnset,
    /// The stick was pulled while files were read from it.
    StickRemoved,
    /// The stick, or a folder, cannot be read.
    StickUnreadable,
    /// A file on the stick is no update for this device.
    UpdateRefused,
    /// An update was tried, and did not pass.
    UpdateFailed,
}

impl Problem {
    /// What is wrong, and what to do.
    fn keys(self) -> [Key; 2] {
        match self {
            Problem::DiskFull => [Key::DiskFull, Key::ExportFindings],
            Problem::DiskReadOnly => [Key::DiskReadOnly, Key::ExportFindings],
            Problem::FindingsDamaged => [Key::FindingsDamaged, Key::CallEngineer],
            Problem::ModelRefused => [Key::ModelRefused, Key::CallEngineer],
            Problem::ClockUnset => [Key::ClockUnset, Key::CallEngineer],
            Problem::StickRemoved => [Key::StickRemoved, Key::InsertAgain],
            Problem::StickUnreadable => [Key::StickUnreadable, Key::CallEngineer],
            Problem::UpdateRefused => [Key::UpdateRefused, Key::CallEngineer],
            Problem::UpdateFailed => [Key::UpdateFailed, Key::CallEngineer],
        }
    }
}

impl<'a> Screen<'a> {
    /// What the screen says.
    pub fn page(&self) -> Page<'a> {
        match self {
            Screen::Starting(step) => starting(*step),
            Screen::Ready { kept, problem } => ready(*kept, *problem),
            Screen::Receiving { done, of } => receiving(*done, *of),
            Screen::Scanning { stage, done, of } => scanning(*stage, *done, *of),
            Screen::Result(view) => result(view),
            Screen::Picture { with_map, .. } => picture(*with_map),
            Screen::NotRead { refusal, has_next, problem } => not_read(refusal, *has_next, *problem),
            Screen::Findings { rows, selected } => findings(rows, *selected),
            Screen::Menu { selected } => menu(*selected),
            Screen::Languages { selected } => languages(*selected),
            Screen::About { model, site, version } => about(model, *site, version),
            Screen::SelfTest(checks) => self_test(checks),
            Screen::Problem(what) => problem(*what),
            Screen::Off => off(),
        }
    }
}

fn starting(step: Step) -> Page<'static> {
    let (key, done) = match step {
        Step::OpeningFindings => (Key::OpeningFindings, 0.15),
        Step::LoadingModel => (Key::LoadingModel, 0.4),
        Step::Checking => (Key::Checking, 0.8),
        Step::Updating(percent) => (Key::InstallingUpdate, f32::from(percent) / 100.0),
    };
    let blocks = vec![
        Block::text(key, Tone::Plain),
        Block::needed(Content::Progress(done), Tone::Plain),
        Block::optional(Content::text(Key::Statement), Tone::Dim),
    ];
    Page { blocks, ..Page::new(Mark::Working, Key::Starting, Tone::Plain) }
}

fn ready(kept: u64, problem: Option<Problem>) -> Page<'static> {
    let mut blocks = vec![Block::text(Key::Insert, Tone::Plain)];
    if let Some(problem) = problem {
        let [what, _] = problem.keys();
        blocks.insert(0, Block::text(what, Tone::Alarm));
    }
    blocks.push(Block::optional(Content::Text(Key::Kept, vec![kept.to_string()]), Tone::Dim));
    let mark = if problem.is_some() { Mark::Found } else { Mark::Waiting };
    let tone = if problem.is_some() { Tone::Alarm } else { Tone::Plain };
    Page {
        blocks,
        foot: Some(Key::Disclaimer),
        buttons: [Some(Key::MenuFindings), None, Some(Key::MenuButton)],
        ..Page::new(mark, Key::Ready, tone)
    }
}

fn share(done: usize, of: usize) -> f32 {
    done as f32 / of.max(1) as f32
}

fn receiving(done: usize, of: usize) -> Page<'static> {
    let blocks = vec![
        Block::needed(Content::Text(Key::Of, vec![done.to_string(), of.to_string()]), Tone::Plain),
        Block::needed(Content::Progress(share(done, of)), Tone::Plain),
        Block::text(Key::KeepStick, Tone::Plain),
    ];
    Page { blocks, ..Page::new(Mark::Working, Key::Receiving, Tone::Plain) }
}

fn scanning(stage: Stage, done: usize, of: usize) -> Page<'static> {
    let key = match stage {
        Stage::Read => Key::Reading,
        Stage::Decode => Key::Decoding,
        Stage::Preprocess => Key::Preparing,
        Stage::Infer => Key::Analysing,
        Stage::Explain => Key::Mapping,
        Stage::Render => Key::Finishing,
    };
    let place = Stage::ALL.iter().position(|s| *s == stage).unwrap_or(0);
    let within = share(place, Stage::ALL.len());
    let mut blocks = vec![
        Block::text(key, Tone::Plain),
        Block::needed(Content::Progress((done as f32 + within) / of.max(1) as f32), Tone::Plain),
    ];
    if of > 1 {
        blocks.push(Block::optional(Content::Text(Key::Of, vec![(done + 1).to_string(), of.to_string()]), Tone::Dim));
    }
    Page { blocks, ..Page::new(Mark::Working, Key::Scanning, Tone::Plain) }
}

/// A probability in whole per cent, never rounded over the operating point and never to a certainty.
fn per_cent(probability: f32, threshold: f32) -> String {
    let exact = probability * 100.0;
    let rounded = exact.round();
    let limit = threshold * 100.0;
    let crosses = (probability >= threshold) != (rounded >= limit.round());
    let shown = if crosses && probability >= threshold {
        exact.ceil()
    } else if crosses {
        exact.floor()
    } else {
        rounded
    };
    format!("{:.0}", shown.clamp(1.0, 99.0))
}

fn result<'a>(view: &ResultView<'a>) -> Page<'a> {
    let ResultView { finding, picture, has_map, has_next, repeated, problem } = view;
    let (mark, headline, tone) = match finding.answer {
        Answer::Positive => (Mark::Found, Key::Suspected, Tone::Alarm),
        Answer::Negative => (Mark::Nothing, Key::NoSign, Tone::Calm),
        Answer::Uncertain => (Mark::Undecided, Key::Uncertain, Tone::Undecided),
    };
    // A doubtful finding is not shown as a calm one.
    let is_doubtful = !finding.warnings.is_empty();
    let tone = if is_doubtful && tone == Tone::Calm { Tone::Undecided } else { tone };
    let mut blocks: Vec<Block> = Vec::new();
    blocks.extend(finding.warnings.iter().take(2).map(|w| Block::text(warning(*w), Tone::Alarm)));
    if let Some(problem) = problem {
        blocks.push(Block::text(problem.keys()[0], Tone::Alarm));
    }
    match finding.looked_for.as_str() {
        "PNEUMONIA" => blocks.push(Block::optional(Content::text(said(finding.answer)), Tone::Plain)),
        other => blocks.push(Block::needed(Content::Ascii(other.to_owned()), Tone::Plain)),
    }
    let threshold = finding.operating_point.threshold;
    blocks.push(Block::needed(
        Content::Probability { probability: finding.probability, threshold, uncertain: finding.uncertain },
        tone,
    ));
    let probability = vec![per_cent(finding.probability, threshold)];
    blocks.push(Block::optional(Content::Text(Key::Probability, probability), Tone::Plain));
    blocks.push(Block::optional(Content::text(advice(finding.answer)), Tone::Plain));
    let known = repeated.map(|known| match known {
        Repeated::SameModel => Key::ScannedBefore,
        Repeated::OtherModel => Key::OtherModelBefore,
    });
    blocks.extend(known.map(|key| Block::optional(Content::text(key), Tone::Dim)));
    blocks.push(match DateTime::<Utc>::from_timestamp(finding.time, 0).filter(|_| finding.time >= FIRST_DAY) {
        Some(time) => Block::optional(Content::Figures(time.format("%Y-%m-%d %H:%M:%S").to_string()), Tone::Dim),
        // A time that is wrong is worse than none.
        None => Block::optional(Content::text(Key::ClockUnset), Tone::Dim),
    });
    blocks.push(latency(finding));
    let point = vec![format!("{:.0}", threshold * 100.0)];
    blocks.push(Block::optional(Content::Text(Key::OperatingPoint, point), Tone::Dim));
    Page {
        mark,
        headline,
        tone,
        blocks,
        picture: *picture,
        foot: Some(Key::Disclaimer),
        buttons: [Some(Key::Back), has_map.then_some(Key::Map), has_next.then_some(Key::Next)],
    }
}

fn said(answer: Answer) -> Key {
    match answer {
        Answer::Positive => Key::PneumoniaSuspected,
        Answer::Negative => Key::PneumoniaNoSign,
        Answer::Uncertain => Key::AskReader,
    }
}

fn advice(answer: Answer) -> Key {
    match answer {
        Answer::Positive | Answer::Uncertain => Key::ClinicianDecides,
        Answer::Negative => Key::StillPossible,
    }
}

fn latency(finding: &Finding) -> Block {
    let values = vec![format!("{:.0}", finding.latency_ms.total()), format!("{:.0}", finding.budget())];
    match finding.within_budget() {
        true => Block::optional(Content::Text(Key::Latency, values), Tone::Dim),
        false => Block::optional(Content::Text(Key::OverBudget, values), Tone::Alarm),
    }
}

fn warning(warning: Warning) -> Key {
    match warning {
        Warning::Inverted => Key::Inverted,
        Warning::NotAChest => Key::NotAChest,
        Warning::Lateral => Key::Lateral,
        Warning::Rotated => Key::Rotated,
        Warning::UnderExposed => Key::UnderExposed,
        Warning::OverExposed => Key::OverExposed,
        Warning::TooSmall => Key::TooSmall,
        Warning::AgeOutsideTraining => Key::AgeOutsideTraining,
        Warning::OutsideTraining => Key::OutsideTraining,
    }
}

fn picture(with_map: bool) -> Page<'static> {
    let other = if with_map { Key::Image } else { Key::Map };
    Page {
        foot: Some(Key::Disclaimer),
        buttons: [Some(Key::Back), Some(other), None],
        ..Page::new(Mark::Waiting, Key::Scanning, Tone::Plain)
    }
}

fn not_read(refusal: &Refusal, has_next: bool, problem: Option<Problem>) -> Page<'static> {
    let [why, advice] = match refusal.cause {
        Cause::Unreadable => [Key::Unreadable, Key::CopyAgain],
        Cause::Damaged => [Key::Damaged, Key::CopyAgain],
        Cause::Empty => [Key::Empty, Key::CopyAgain],
        Cause::NoImage => [Key::NoImage, Key::ExportAgain],
        Cause::Unsupported => [Key::Unsupported, Key::ExportAgain],
        Cause::TooLarge => [Key::TooLarge, Key::ExportSmaller],
        Cause::NoStructure => [Key::NoStructure, Key::CheckExport],
        Cause::BeyondLimits | Cause::DecoderFailed => [Key::BeyondLimits, Key::ExportAgain],
        Cause::EngineFailed => [Key::EngineFailed, Key::RunSelfTest],
        Cause::Unsuitable => [Key::Unsuitable, Key::ScanFrontal],
    };
    let mut blocks = vec![Block::text(why, Tone::Plain)];
    blocks.extend(refusal.unsuitable.map(|w| Block::text(warning(w), Tone::Alarm)));
    blocks.push(Block::text(advice, Tone::Plain));
    blocks.extend(problem.map(|problem| Block::text(problem.keys()[0], Tone::Alarm)));
    Page {
        blocks,
        foot: Some(Key::Disclaimer),
        buttons: [Some(Key::Back), None, has_next.then_some(Key::Next)],
        ..Page::new(Mark::Failed, Key::NotRead, Tone::Alarm)
    }
}

fn findings(rows: &[Past], selected: usize) -> Page<'static> {
    let row = |past: &Past| {
        let mark = match past.answer {
            Some(Answer::Positive) => (Mark::Found, Tone::Alarm),
            Some(Answer::Negative) => (Mark::Nothing, Tone::Calm),
            Some(Answer::Uncertain) => (Mark::Undecided, Tone::Undecided),
            None => (Mark::Failed, Tone::Dim),
        };
        Row { mark: Some(mark), label: Label::Figures(past.time.clone()) }
    };
    let (blocks, buttons) = match rows.is_empty() {
        true => (vec![Block::text(Key::NoFindings, Tone::Plain)], [Some(Key::Back), None, None]),
        false => (
            vec![Block::needed(
                Content::Rows { rows: rows.iter().map(row).collect(), selected: Some(selected) },
                Tone::Plain,
            )],
            CHOICE,
        ),
    };
    Page { blocks, buttons, ..Page::new(Mark::Waiting, Key::Findings, Tone::Plain) }
}

/// The buttons of a list.
const CHOICE: [Option<Key>; 3] = [Some(Key::Back), Some(Key::Select), Some(Key::Next)];

fn menu(selected: MenuItem) -> Page<'static> {
    let rows = MenuItem::ALL.iter().map(|item| Row { mark: None, label: Label::Key(item.key()) }).collect();
    let selected = MenuItem::ALL.iter().position(|item| *item == selected);
    let blocks = vec![Block::needed(Content::Rows { rows, selected }, Tone::Plain)];
    Page { blocks, buttons: CHOICE, ..Page::new(Mark::Waiting, Key::Menu, Tone::Plain) }
}

fn languages(selected: Language) -> Page<'static> {
    let rows = Language::ALL.iter().map(|l| Row { mark: None, label: Label::Language(*l) }).collect();
    let selected = Language::ALL.iter().position(|l| *l == selected);
    let blocks = vec![Block::needed(Content::Rows { rows, selected }, Tone::Plain)];
    Page { blocks, buttons: CHOICE, ..Page::new(Mark::Waiting, Key::Language, Tone::Plain) }
}

fn about(model: &ModelId, site: Option<&str>, version: &str) -> Page<'static> {
    let name: String = model.name.chars().take(20).collect();
    let mut blocks = vec![
        Block::text(Key::Statement, Tone::Plain),
        Block::needed(Content::Text(Key::Version, vec![figures_of(version)]), Tone::Plain),
        Block::needed(Content::Ascii(name), Tone::Dim),
        Block::needed(Content::Ascii(format!("{:.16}", model.digest)), Tone::Dim),
        Block::optional(Content::text(Key::Licence), Tone::Dim),
    ];
    if let Some(site) = site {
        let name: String = site.chars().take(20).collect();
        blocks.insert(2, Block::needed(Content::Ascii(name), Tone::Plain));
    }
    Page { blocks, buttons: [Some(Key::Back), None, None], ..Page::new(Mark::Waiting, Key::About, Tone::Plain) }
}

/// A version without what is no figure.
fn figures_of(version: &str) -> String {
    version.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect()
}

fn self_test(checks: &[(Check, Option<bool>)]) -> Page<'static> {
    // What failed comes first, so that it is seen where there is no room for all.
    let mut checks = checks.to_vec();
    checks.sort_by_key(|(_, passed)| *passed != Some(false));
    let rows = checks
        .iter()
        .map(|(check, passed)| {
            let mark = match passed {
                None => (Mark::Working, Tone::Dim),
                Some(true) => (Mark::Passed, Tone::Calm),
                Some(false) => (Mark::Failed, Tone::Alarm),
            };
            Row { mark: Some(mark), label: Label::Key(check.key()) }
        })
        .collect();
    let first_failed = checks.iter().position(|(_, passed)| *passed == Some(false));
    let verdict = match (first_failed, checks.iter().all(|(_, passed)| passed.is_some())) {
        (Some(_), _) => Some((Key::CheckFailed, Tone::Alarm)),
        (None, true) => Some((Key::AllPassed, Tone::Calm)),
        (None, false) => None,
    };
    let mut blocks: Vec<Block> = verdict.into_iter().map(|(key, tone)| Block::text(key, tone)).collect();
    blocks.push(Block::needed(Content::Rows { rows, selected: None }, Tone::Plain));
    let mark = match verdict {
        Some((Key::AllPassed, _)) => Mark::Passed,
        Some(_) => Mark::Failed,
        None => Mark::Working,
    };
    Page { blocks, buttons: [Some(Key::Back), None, None], ..Page::new(mark, Key::SelfTest, Tone::Plain) }
}

fn problem(problem: Problem) -> Page<'static> {
    let [what, advice] = problem.keys();
    let blocks = vec![Block::text(what, Tone::Plain), Block::text(advice, Tone::Plain)];
    Page { blocks, buttons: [Some(Key::Back), None, None], ..Page::new(Mark::Found, Key::Problem, Tone::Alarm) }
}

fn off() -> Page<'static> {
    Page { buttons: [Some(Key::No), None, Some(Key::Yes)], ..Page::new(Mark::Waiting, Key::Off, Tone::Plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_per_cent_stays_on_its_side_of_the_operating_point() {
        assert_eq!(per_cent(0.93, 0.41), "93");
        assert_eq!(per_cent(0.4049, 0.4051), "40");
        assert_eq!(per_cent(0.4095, 0.41), "40");
        assert_eq!(per_cent(0.4051, 0.405), "41");
        assert_eq!([per_cent(0.0, 0.4), per_cent(1.0, 0.4)], ["1", "99"]);
    }
}
