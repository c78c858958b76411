//! What the screen shows, and what the three buttons do. Nothing here waits, reads or draws.

use crate::display::screens::{Check, MenuItem, Past, Problem, Repeated, ResultView, Screen, Step};
use crate::display::text::Language;
use crate::finding::{ModelId, Outcome, Record};
use crate::image::Picture;
use crate::log::Entry;
use crate::stages::Stage;
use std::collections::VecDeque;

/// Results of a batch that can be looked at; of more, the latest.
const MOST_RESULTS: usize = 50;
/// Results whose pictures are kept: they are what takes memory.
const MOST_PICTURES: usize = 3;
/// Findings in the list.
const MOST_PAST: usize = 200;

/// A button of the device, as it lies under the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Button {
    /// The left one.
    Left,
    /// The middle one.
    Middle,
    /// The right one.
    Right,
}

/// What a button asks of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Another language.
    Language(Language),
    /// The checks.
    SelfTest,
    /// Switching off.
    Off,
}

/// The pictures of a radiograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    /// Beside words, where the panel has room.
    pub small: Option<Picture>,
    /// As large as the panel.
    pub plain: Picture,
    /// The same with the class activation map over it.
    pub with_map: Picture,
}

/// What came of a radiograph.
#[derive(Debug, Clone, PartialEq)]
pub struct Scanned {
    /// The record.
    pub record: Record,
    /// Its pictures.
    pub pictures: Option<Pictures>,
    /// Whether the image was known.
    pub repeated: Option<Repeated>,
    /// Why it is not kept, if it is not.
    pub problem: Option<Problem>,
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Starting(Step),
    Ready,
    Receiving,
    Scanning(Stage),
    Result(usize),
    Picture { result: usize, with_map: bool },
    Past(usize),
    PastResult(usize),
    Menu(MenuItem),
    Languages(Language),
    About,
    SelfTest,
    Problem(Problem),
    Off,
}

/// The device as its user sees it.
#[derive(Debug)]
pub struct State {
    /// Goes up with every change.
    revision: u64,
    view: View,
    language: Language,
    /// Findings on the disk.
    kept: u64,
    problem: Option<Problem>,
    arriving: (usize, usize),
    done: usize,
    of: usize,
    /// Files of the batch that wait until they are whole.
    parked: usize,
    results: VecDeque<Scanned>,
    /// The first result that was not shown yet.
    unseen: Option<usize>,
    past: VecDeque<Entry>,
    past_rows: Vec<Past>,
    model: Option<ModelId>,
    /// The site whose profile decides.
    site: Option<String>,
    checks: Vec<(Check, Option<bool>)>,
}

impl State {
    /// A device that starts.
    pub fn new(language: Language) -> State {
        State {
            revision: 0,
            view: View::Starting(Step::OpeningFindings),
            language,
            kept: 0,
            problem: None,
            arriving: (0, 0),
            done: 0,
            of: 0,
            parked: 0,
            results: VecDeque::new(),
            unseen: None,
            past: VecDeque::new(),
            past_rows: vec![],
            model: None,
            site: None,
            checks: vec![],
        }
    }

    /// Another number whenever something changed that a screen may show.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The language of the screens.
    pub fn language(&self) -> Language {
        self.language
    }

    /// A step of starting.
    pub fn starts(&mut self, step: Step) {
        self.revision += 1;
        self.view = View::Starting(step);
    }

    /// The model is loaded, and the profile of `site` decides, if there is one.
    pub fn has_model(&mut self, model: ModelId, site: Option<String>) {
        self.revision += 1;
        self.model = Some(model);
        self.site = site;
    }

    /// Starting is over.
    pub fn is_ready(&mut self) {
        self.revision += 1;
        self.view = View::Ready;
    }

    /// Something is wrong with the device from now on.
    pub fn has_problem(&mut self, problem: Option<Problem>) {
        self.revision += 1;
        self.problem = problem;
    }

    /// Something happened that has to be said before anything else.
    pub fn interrupt(&mut self, problem: Problem) {
        self.revision += 1;
        self.view = View::Problem(problem);
    }

    /// Entries that are on the disk, the oldest first.
    pub fn keeps(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.revision += 1;
        for entry in entries {
            self.past.push_front(entry);
            self.past.truncate(MOST_PAST);
            // What is looked at stays the same finding.
            let last = self.past.len() - 1;
            match &mut self.view {
                View::Past(at) | View::PastResult(at) => *at = (*at + 1).min(last),
                _ => {}
            }
        }
        self.past_rows = self.past.iter().map(past).collect();
    }

    /// Files arrive: `done` of `of` are whole.
    pub fn receives(&mut self, done: usize, of: usize) {
        if self.arriving == (done, of) && self.view != View::Receiving {
            return;
        }
        self.revision += u64::from(self.arriving != (done, of));
        self.arriving = (done, of);
        let is_busy = matches!(self.view, View::Scanning(_));
        if of > 0 && !is_busy {
            self.view = View::Receiving;
        } else if of == 0 && self.view == View::Receiving {
            self.view = View::Ready;
        }
    }

    /// `count` radiographs more are to be scanned.
    pub fn queues(&mut self, count: usize) {
        self.revision += 1;
        if self.done == self.of {
            (self.done, self.of) = (0, 0);
            // Results that somebody looks at stay beside the new ones.
            if !matches!(self.view, View::Result(_) | View::Picture { .. }) {
                self.results.clear();
            }
        }
        let again = count.min(self.parked);
        self.parked -= again;
        self.of += count - again;
        if !matches!(self.view, View::Problem(_)) {
            self.view = View::Scanning(Stage::Read);
        }
    }

    /// The radiograph that was tried is not whole yet, and stays in its batch.
    pub fn parks(&mut self) {
        self.parked += 1;
    }

    /// Nothing is to be waited for any more.
    pub fn gives_up_parked(&mut self) {
        if self.parked > 0 {
            let parked = std::mem::take(&mut self.parked);
            self.gives_up(parked);
        }
    }

    /// `count` radiographs less, and what is shown when none is left.
    pub fn gives_up(&mut self, count: usize) {
        self.revision += 1;
        self.of = self.of.saturating_sub(count).max(self.done);
        self.finish_batch();
    }

    /// How many entries are on the disk.
    pub fn has_kept(&mut self, kept: u64) {
        self.revision += 1;
        self.kept = kept;
    }

    /// The radiograph that is scanned reached a stage.
    pub fn reaches(&mut self, stage: Stage) {
        self.revision += 1;
        if matches!(self.view, View::Scanning(_)) {
            self.view = View::Scanning(stage);
        }
    }

    /// A radiograph is scanned; true if it was the last of its batch.
    pub fn scanned(&mut self, scanned: Scanned) -> bool {
        self.revision += 1;
        self.done += 1;
        self.results.push_back(scanned);
        self.unseen.get_or_insert(self.results.len() - 1);
        if self.results.len() > MOST_RESULTS {
            self.results.pop_front();
            self.unseen = self.unseen.map(|first| first.saturating_sub(1));
        }
        let with_pictures = self.results.len().saturating_sub(MOST_PICTURES);
        self.results.iter_mut().take(with_pictures).for_each(|result| result.pictures = None);
        if self.done < self.of && !matches!(self.view, View::Problem(_)) {
            self.view = View::Scanning(Stage::Read);
        }
        self.finish_batch();
        self.done >= self.of
    }

    fn finish_batch(&mut self) {
        if self.done >= self.of && matches!(self.view, View::Scanning(_)) {
            self.show_unseen();
        }
    }

    /// The first result that was not shown, or that the device is ready.
    fn show_unseen(&mut self) {
        self.view = match self.unseen.take() {
            Some(first) if self.done >= self.of => View::Result(first.min(self.results.len().saturating_sub(1))),
            first if self.done < self.of => {
                self.unseen = first;
                View::Scanning(Stage::Read)
            }
            _ => View::Ready,
        };
    }

    /// The checks are run.
    pub fn tests(&mut self, checks: Vec<(Check, Option<bool>)>) {
        self.revision += 1;
        self.checks = checks;
    }

    /// What a button does.
    pub fn press(&mut self, button: Button) -> Option<Request> {
        self.revision += 1;
        let choice = self.choice(button);
        match self.view {
            View::Starting(_) | View::Receiving | View::Scanning(_) => None,
            View::Ready => self.at_ready(choice),
            View::Result(at) => self.at_result(at, choice),
            View::Picture { result, with_map } => {
                self.view = match choice {
                    0 => View::Result(result),
                    1 => View::Picture { result, with_map: !with_map },
                    _ => self.view,
                };
                None
            }
            View::Past(at) => self.at_past(at, choice),
            View::PastResult(at) => {
                self.view = match choice {
                    0 => View::Past(at),
                    2 => View::PastResult((at + 1) % self.past.len().max(1)),
                    _ => self.view,
                };
                None
            }
            View::Menu(item) => self.at_menu(item, choice),
            View::Languages(language) => self.at_languages(language, choice),
            View::About | View::SelfTest => {
                if choice == 0 {
                    self.view = View::Ready;
                }
                None
            }
            View::Problem(_) => {
                if choice == 0 {
                    self.show_unseen();
                }
                None
            }
            View::Off => {
                let is_off = choice == 2;
                if choice == 0 {
                    self.view = View::Menu(MenuItem::Off);
                }
                is_off.then_some(Request::Off)
            }
        }
    }

    /// Which of a page's buttons lies over `button`: the first is where lines begin.
    fn choice(&self, button: Button) -> usize {
        let from_left = match button {
            Button::Left => 0,
            Button::Middle => 1,
            Button::Right => 2,
        };
        if self.language.is_right_to_left() { 2 - from_left } else { from_left }
    }

    fn at_ready(&mut self, choice: usize) -> Option<Request> {
        self.view = match choice {
            0 => View::Past(0),
            2 => View::Menu(MenuItem::Findings),
            _ => self.view,
        };
        None
    }

    fn at_result(&mut self, at: usize, choice: usize) -> Option<Request> {
        let has_pictures = self.results.get(at).is_some_and(|result| result.pictures.is_some());
        self.view = match choice {
            0 => View::Ready,
            1 if has_pictures => View::Picture { result: at, with_map: true },
            2 if self.results.len() > 1 => View::Result((at + 1) % self.results.len()),
            _ => self.view,
        };
        None
    }

    fn at_past(&mut self, at: usize, choice: usize) -> Option<Request> {
        let count = self.past.len();
        self.view = match choice {
            0 => View::Ready,
            1 if count > 0 => View::PastResult(at),
            2 if count > 0 => View::Past((at + 1) % count),
            _ => self.view,
        };
        None
    }

    fn at_menu(&mut self, item: MenuItem, choice: usize) -> Option<Request> {
        let place = MenuItem::ALL.iter().position(|i| *i == item).unwrap_or(0);
        match choice {
            0 => self.view = View::Ready,
            2 => self.view = View::Menu(MenuItem::ALL[(place + 1) % MenuItem::ALL.len()]),
            _ => match item {
                MenuItem::Findings => self.view = View::Past(0),
                MenuItem::Language => self.view = View::Languages(self.language),
                MenuItem::About => self.view = View::About,
                MenuItem::Off => self.view = View::Off,
                MenuItem::SelfTest => {
                    self.view = View::SelfTest;
                    return Some(Request::SelfTest);
                }
            },
        }
        None
    }

    fn at_languages(&mut self, language: Language, choice: usize) -> Option<Request> {
        match choice {
            0 => self.view = View::Menu(MenuItem::Language),
            2 => self.view = View::Languages(language.next()),
            _ => {
                self.language = language;
                self.view = View::Ready;
                return Some(Request::Language(language));
            }
        }
        None
    }

    /// The screen.
    pub fn screen(&self) -> Screen<'_> {
        match self.view {
            View::Starting(step) => Screen::Starting(step),
            View::Ready => self.ready(),
            View::Receiving => Screen::Receiving { done: self.arriving.0, of: self.arriving.1 },
            View::Scanning(stage) => Screen::Scanning { stage, done: self.done, of: self.of },
            View::Result(at) => match self.results.get(at) {
                Some(scanned) => result(scanned, self.results.len() > 1),
                None => self.ready(),
            },
            View::Picture { result, with_map } => {
                match self.results.get(result).and_then(|scanned| scanned.pictures.as_ref()) {
                    Some(Pictures { plain, with_map: mapped, .. }) => {
                        Screen::Picture { picture: if with_map { mapped } else { plain }, with_map }
                    }
                    None => self.ready(),
                }
            }
            View::Past(selected) => Screen::Findings { rows: &self.past_rows, selected },
            View::PastResult(at) => match self.past.get(at) {
                Some(entry) => recorded(&entry.record, None, true),
                None => self.ready(),
            },
            View::Menu(selected) => Screen::Menu { selected },
            View::Languages(selected) => Screen::Languages { selected },
            View::About => match &self.model {
                Some(model) => Screen::About { model, site: self.site.as_deref(), version: env!("CARGO_PKG_VERSION") },
                None => Screen::Problem(Problem::ModelRefused),
            },
            View::SelfTest => Screen::SelfTest(&self.checks),
            View::Problem(problem) => Screen::Problem(problem),
            View::Off => Screen::Off,
        }
    }

    fn ready(&self) -> Screen<'_> {
        Screen::Ready { kept: self.kept, problem: self.problem }
    }
}

fn past(entry: &Entry) -> Past {
    let answer = match &entry.record.outcome {
        Outcome::Finding(finding) => Some(finding.answer),
        Outcome::Refusal(_) => None,
    };
    let time = chrono::DateTime::<chrono::Utc>::from_timestamp(entry.time, 0).filter(|_| entry.is_clock_set);
    let time = match time {
        Some(time) => time.format("%Y-%m-%d  %H:%M").to_string(),
        // A time that is wrong is worse than none; the number tells findings apart.
        None => format!("#{}", entry.sequence),
    };
    Past { answer, time }
}

fn result(scanned: &Scanned, has_next: bool) -> Screen<'_> {
    recorded(&scanned.record, Some(scanned), has_next)
}

fn recorded<'a>(record: &'a Record, scanned: Option<&'a Scanned>, has_next: bool) -> Screen<'a> {
    match &record.outcome {
        Outcome::Refusal(refusal) => {
            let problem = scanned.and_then(|scanned| scanned.problem);
            Screen::NotRead { refusal, has_next, problem }
        }
        Outcome::Finding(finding) => {
            let pictures = scanned.and_then(|scanned| scanned.pictures.as_ref());
            Screen::Result(ResultView {
                finding,
                picture: pictures.and_then(|p| p.small.as_ref()),
                has_map: pictures.is_some(),
                has_next,
                repeated: scanned.and_then(|scanned| scanned.repeated),
                problem: scanned.and_then(|scanned| scanned.problem),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::tests::example;

    fn scanned(name: &str) -> Scanned {
        let record = Record::new(name.into(), Outcome::Finding(example(true).into()));
        Scanned { record, pictures: None, repeated: None, problem: None }
    }

    fn ready() -> State {
        let mut state = State::new(Language::English);
        state.is_ready();
        state
    }

    fn entry(sequence: u64) -> Entry {
        let Scanned { record, .. } = scanned("a");
        Entry { sequence, time: sequence as i64, is_clock_set: true, version: Default::default(), record }
    }

    #[test]
    fn a_batch_is_scanned_to_its_end_and_then_shown_from_its_first_result() {
        let mut state = ready();
        state.queues(2);
        assert!(!state.scanned(scanned("a")));
        assert!(matches!(state.screen(), Screen::Scanning { done: 1, of: 2, .. }));
        assert!(state.scanned(scanned("b")));
        assert_eq!(state.view, View::Result(0));
        state.press(Button::Right);
        assert_eq!(state.view, View::Result(1));
        state.press(Button::Left);
        assert_eq!(state.view, View::Ready);
    }

    #[test]
    fn a_file_that_is_not_whole_yet_keeps_its_batch_open() {
        let mut state = ready();
        state.queues(2);
        state.scanned(scanned("good"));
        state.parks();
        assert!(matches!(state.screen(), Screen::Scanning { done: 1, of: 2, .. }));
        state.queues(1);
        assert!(matches!(state.screen(), Screen::Scanning { done: 1, of: 2, .. }));
        state.scanned(scanned("late"));
        assert_eq!((state.view, state.results.len()), (View::Result(0), 2));
        // One that is gone ends its batch.
        state.queues(1);
        state.parks();
        state.gives_up_parked();
        assert_eq!(state.view, View::Ready);
    }

    #[test]
    fn a_stick_that_was_pulled_is_said_until_somebody_reads_it_and_no_result_is_lost() {
        let mut state = ready();
        state.queues(3);
        state.scanned(scanned("a"));
        state.gives_up(1);
        state.interrupt(Problem::StickRemoved);
        state.scanned(scanned("b"));
        assert_eq!(state.view, View::Problem(Problem::StickRemoved));
        state.press(Button::Left);
        assert_eq!((state.view, state.results.len()), (View::Result(0), 2));
    }

    #[test]
    fn results_that_are_looked_at_stay_beside_new_ones() {
        let mut state = ready();
        state.queues(1);
        state.scanned(scanned("first"));
        state.queues(1);
        state.scanned(scanned("second"));
        assert_eq!((state.view, state.results.len()), (View::Result(1), 2));
    }

    #[test]
    fn a_past_finding_stays_the_same_while_new_ones_come() {
        let mut state = ready();
        state.keeps([entry(1), entry(2)]);
        state.view = View::PastResult(0);
        state.keeps([entry(3)]);
        let View::PastResult(at) = state.view else { panic!("{:?}", state.view) };
        assert_eq!(state.past[at].sequence, 2);
    }

    #[test]
    fn ten_thousand_results_keep_few_pictures_and_no_index_leads_nowhere() {
        let mut state = ready();
        state.queues(10_000);
        for i in 0..10_000 {
            let picture = Picture { width: 1, height: 1, rgb: vec![0; 3] };
            let pictures = Pictures { small: None, plain: picture.clone(), with_map: picture };
            state.scanned(Scanned { pictures: Some(pictures), ..scanned(&i.to_string()) });
        }
        assert_eq!((state.view, state.results.len()), (View::Result(0), MOST_RESULTS));
        assert_eq!(state.results.iter().filter(|result| result.pictures.is_some()).count(), MOST_PICTURES);
        assert!(matches!(state.screen(), Screen::Result(_)));
    }

    #[test]
    fn buttons_are_mirrored_where_the_screen_is() {
        let mut state = State::new(Language::Arabic);
        state.is_ready();
        state.press(Button::Left);
        assert!(matches!(state.screen(), Screen::Menu { .. }));
        state.press(Button::Right);
        assert!(matches!(state.screen(), Screen::Ready { .. }));
    }
}
