//! Drives the device: files to scans, scans to the log and the screen, buttons to what they ask.

use super::in_work::{InWork, MOST_TRIES};
use super::inbox::Inbox;
use super::input::Input;
use super::self_test::{self, Outcome as TestOutcome};
use super::state::{Pictures, Request, Scanned, State};
use super::sticks::{Mounts, Stick, Sticks};
use super::update::{Running, Updates};
use super::worker::{Done, Report, Worker, decoder_failed};
use crate::board::Board;
use crate::config::{Config, Names};
use crate::display::layout::Style;
use crate::display::screens::{Check, Problem, Repeated, ResultView, Step};
use crate::display::text::{Language, Lettering, LetteringError};
use crate::display::{Canvas, draw};
use crate::finding::{Cause, Finding, ModelId, Outcome, Record, Refusal};
use crate::log::{AppendError, ClinicKey, Contents, Disk, Draft, Entry, KeyError, Limits, Log, OpenError, Version};
use crate::model::{Model, ModelError};
use crate::panel::{PanelError, Shown};
use crate::process::files::write_atomically;
use crate::stages::Stage;
use chrono::Utc;
use slots::state::Outcome as UpdateOutcome;
use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

/// How often folders and sticks are looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A file that looks damaged and is younger than this may not be whole yet.
const YOUNG: Duration = Duration::from_secs(10);
/// Reading a file takes no sound disk this long without getting further.
const STUCK: Duration = Duration::from_secs(20);
/// How long a scan may go on when the device is switched off.
const LAST_SCAN: Duration = Duration::from_secs(3);
/// Files that wait for the scanner; more stay where they are until there is room.
const MOST_QUEUED: usize = 20_000;
/// How long each turn is shown of what a low panel shows in turns (seconds).
const TURN_SECONDS: u64 = 3;
/// The file in which the language that was chosen is kept.
const LANGUAGE: &str = "language";
/// Where the first program of a card leaves word that the findings' file system was repaired by guesses.
const REPAIRED: &str = "/run/hilum/findings-repaired";
/// The file that names what is being scanned.
const IN_WORK: &str = "in-work";

/// Why the kiosk cannot run.
#[derive(Debug, thiserror::Error)]
pub enum KioskError {
    /// The panel cannot be used.
    #[error(transparent)]
    Panel(#[from] PanelError),
    /// The strings cannot be set.
    #[error(transparent)]
    Lettering(#[from] LetteringError),
    /// The log cannot be opened.
    #[error("{folder}: {reason}")]
    Log {
        /// Its folder.
        folder: PathBuf,
        /// Why.
        reason: OpenError,
    },
    /// There is no clinic's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The model is refused.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What a kiosk is made of.
pub struct Kiosk<'a, D, M> {
    /// What the clinic set.
    pub config: &'a Config,
    /// The board.
    pub board: &'a Board,
    /// Where findings are kept.
    pub disk: D,
    /// What mounts sticks; `None` where none are read.
    pub mounts: Option<M>,
    /// The card that updates on sticks are installed on; `None` where the system is updated otherwise.
    pub updates: Option<Updates>,
    /// What it is shown on.
    pub panel: Shown,
    /// Buttons, keys and touches.
    pub inputs: Receiver<Input>,
}

/// How a kiosk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Somebody asked for the device to be switched off.
    Off,
    /// The program alone was ended.
    Quit,
}

/// Runs a kiosk until it is switched off; `load` loads its model.
pub fn run<D: Disk, M: Mounts>(
    kiosk: Kiosk<D, M>,
    load: impl Fn() -> Result<Model, ModelError>,
    check: impl Fn(&Model) -> TestOutcome,
) -> Result<End, KioskError> {
    let Kiosk { config, board, disk, mounts, updates, panel, inputs } = kiosk;
    let folder = &config.findings.folder;
    let language = kept_language(folder).unwrap_or(config.language);
    let mut screen =
        Screen { panel, lettering: Lettering::load(language)?, since: Instant::now(), shown: None, has_turns: false };
    let mut state = State::new(language);
    screen.show(&state)?;
    let limits = Limits::of_mebibytes(config.findings.keep_mib);
    let opened = Log::open(disk, limits).map_err(|reason| KioskError::Log { folder: folder.clone(), reason });
    let (log, contents) = opened.inspect_err(|_| screen.ends_with(&mut state, Problem::FindingsDamaged))?;
    let key = match config.findings.names {
        Names::Hashed => {
            let path = &config.findings.key;
            let is_lost = !contents.entries.is_empty() && !path.exists();
            let key = if is_lost { Err(KeyError::Missing(path.clone())) } else { ClinicKey::open_or_create(path) };
            Some(key.inspect_err(|_| screen.ends_with(&mut state, Problem::DiskReadOnly))?)
        }
        Names::Kept => None,
    };
    let problem = standing_problem(&contents);
    state.has_problem(problem);
    let mut findings = Findings::new(log, contents, key);
    state.keeps(findings.latest());
    state.has_kept(findings.log.count());
    state.starts(Step::LoadingModel);
    screen.show(&state)?;
    let model = load().inspect_err(|_| screen.ends_with(&mut state, Problem::ModelRefused))?;
    state.has_model(ModelId::of(&model), model.site.as_ref().map(|site| site.name.clone()));
    let in_work = folder.join(IN_WORK);
    findings.refuse_what_ended_the_last_run(&in_work, &mut state);
    state.is_ready();
    let outcome = updates.as_ref().and_then(Updates::outcome);
    let failed = match outcome {
        Some(UpdateOutcome::RolledBack { release, .. }) => Some(release),
        _ => None,
    };
    if matches!(outcome, Some(UpdateOutcome::RolledBack { .. } | UpdateOutcome::FellBack)) {
        state.interrupt(Problem::UpdateFailed);
    }
    screen.show(&state)?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let model = Arc::new(model);
    let (scanner, board) = (model.clone(), board.clone());
    let worker = Worker { model: scanner, board, policy: config.policy, size: screen.panel.size(), in_work };
    let (jobs, job_queue) = channel();
    let (reports, reported) = channel();
    let device = Device {
        state,
        screen,
        findings,
        sources: Sources {
            inboxes: config.inbox.folders.iter().cloned().map(Inbox::new).collect(),
            sticks: mounts.map(|mounts| Sticks::new(config.inbox.mounts.clone(), mounts)),
            mounted: vec![],
        },
        updates,
        failed_release: failed,
        found_update: None,
        update: None,
        shown_percent: None,
        queue: VecDeque::new(),
        current: None,
        moved: Instant::now(),
        jobs,
        problem,
        folder: folder.clone(),
    };
    // Not waited for: a disk that hangs must not keep the device from being switched off.
    std::thread::spawn(move || worker.work(&job_queue, &reports));
    device.run(&inputs, &reported, || check(&model))
}

/// What stays wrong with a device after it started.
fn standing_problem(contents: &Contents) -> Option<Problem> {
    if contents.has_lost() || Path::new(REPAIRED).exists() {
        return Some(Problem::FindingsDamaged);
    }
    (!self_test::is_clock_set()).then_some(Problem::ClockUnset)
}

fn kept_language(folder: &Path) -> Option<Language> {
    let text = std::fs::read_to_string(folder.join(LANGUAGE)).ok()?;
    Language::ALL.iter().copied().find(|language| language.code() == text.trim())
}

/// The panel and the words on it.
struct Screen {
    panel: Shown,
    lettering: Lettering,
    /// From when on turns are counted.
    since: Instant,
    shown: Option<Instance>,
    has_turns: bool,
}

/// What is shown, so that nothing is drawn twice.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Instance {
    revision: u64,
    language: Language,
    turn: usize,
}

impl Screen {
    fn style(&self, turn: usize) -> Style<'_> {
        Style { lettering: &self.lettering, palette: self.panel.palette(), turn }
    }

    /// Says why the program ends.
    fn ends_with(&mut self, state: &mut State, problem: Problem) {
        state.interrupt(problem);
        let _ = self.show(state);
    }

    fn show(&mut self, state: &State) -> Result<(), KioskError> {
        let turn = (self.since.elapsed().as_secs() / TURN_SECONDS) as usize;
        let is_shown = self.shown.is_some_and(|shown| {
            let turns = if self.has_turns { turn } else { shown.turn };
            shown == Instance { revision: state.revision(), language: self.lettering.language, turn: turns }
        });
        if is_shown {
            return Ok(());
        }
        let size = self.panel.size();
        let mut canvas = Canvas::new(size.width, size.height);
        let style = self.style(turn);
        let Ok(shortfall) = draw(&mut canvas, &state.screen(), style);
        self.panel.show(canvas)?;
        self.has_turns = shortfall.turns > 1;
        self.shown = Some(Instance { revision: state.revision(), language: self.lettering.language, turn });
        Ok(())
    }
}

/// What decides a finding: the digests of the model and of the site profile.
#[derive(PartialEq)]
struct Decider {
    model: String,
    site: Option<String>,
}

impl Decider {
    fn of(finding: &Finding) -> Decider {
        Decider { model: finding.model.digest.clone(), site: finding.site.as_ref().map(|site| site.digest.clone()) }
    }
}

/// The findings that are kept, and what is known by them.
struct Findings<D> {
    log: Log<D>,
    key: Option<ClinicKey>,
    /// The entries that were there at the start, until the screen has them.
    entries: Vec<Entry>,
    /// What decided the last finding on an image, by the image's digest.
    known: HashMap<String, Decider>,
    /// The files that are done: reference and version.
    done: HashSet<(String, Version)>,
    /// Those that the decoder did not survive.
    fatal: HashSet<(String, Version)>,
    /// How often a scan ended the program since the machine started.
    tries: HashMap<(String, Version), u32>,
}

impl<D: Disk> Findings<D> {
    fn new(log: Log<D>, contents: Contents, key: Option<ClinicKey>) -> Findings<D> {
        let mut findings = Findings {
            log,
            key,
            entries: vec![],
            known: HashMap::new(),
            done: HashSet::new(),
            fatal: HashSet::new(),
            tries: HashMap::new(),
        };
        contents.entries.iter().for_each(|entry| findings.learn(entry));
        findings.entries = contents.entries;
        findings
    }

    fn latest(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    fn learn(&mut self, entry: &Entry) {
        let file = (entry.record.file.clone(), entry.version);
        match &entry.record.outcome {
            Outcome::Finding(finding) => {
                self.known.insert(finding.sha256.clone(), Decider::of(finding));
            }
            Outcome::Refusal(Refusal { cause: Cause::DecoderFailed, .. }) => {
                self.fatal.insert(file.clone());
            }
            Outcome::Refusal(_) => {}
        }
        self.done.insert(file);
    }

    /// What stands for `path`, a file below `folder`, in the log.
    fn reference(&self, path: &Path, folder: &Path) -> String {
        let name = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
        match &self.key {
            Some(key) => key.reference(&name),
            None => name.into_owned(),
        }
    }

    /// True for a file that was scanned as it is now.
    fn is_done(&self, path: &Path, folder: &Path) -> bool {
        version_of(path).is_some_and(|version| self.done.contains(&(self.reference(path, folder), version)))
    }

    /// Whether the image of `record` was known.
    fn repeated(&self, record: &Record) -> Option<Repeated> {
        let Outcome::Finding(finding) = &record.outcome else { return None };
        let decider = self.known.get(&finding.sha256)?;
        Some(if *decider == Decider::of(finding) { Repeated::SameModel } else { Repeated::OtherModel })
    }

    /// Keeps a record; `None` where it is a refusal that is kept already.
    fn keep(&mut self, reference: String, version: Version, record: Record) -> Result<Option<Entry>, AppendError> {
        let is_refusal = matches!(record.outcome, Outcome::Refusal(_));
        if is_refusal && self.done.contains(&(reference.clone(), version)) {
            return Ok(None);
        }
        let is_clock_set = self_test::is_clock_set();
        let draft = Draft { time: Utc::now().timestamp(), is_clock_set, reference, version, record };
        let entry = self.log.append(draft)?;
        self.learn(&entry);
        Ok(Some(entry))
    }

    /// A file whose scans ended the program is refused from now on.
    fn refuse_what_ended_the_last_run(&mut self, in_work: &Path, state: &mut State) {
        let Some(InWork { reference, version, tries }) = InWork::read(in_work) else { return };
        if tries < MOST_TRIES {
            self.tries.insert((reference, version), tries);
            return;
        }
        self.fatal.insert((reference.clone(), version));
        let record = decoder_failed(Path::new(&reference));
        if let Ok(entry) = self.keep(reference, version, record) {
            state.keeps(entry);
            state.has_kept(self.log.count());
            let _ = std::fs::remove_file(in_work);
        }
    }
}

/// The size and the date of a file.
fn version_of(path: &Path) -> Option<Version> {
    let there = std::fs::metadata(path).ok()?;
    let modified = there.modified().ok()?;
    let changed = match modified.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    };
    Some(Version { bytes: there.len(), changed })
}

/// Where radiographs come from.
struct Sources<M> {
    inboxes: Vec<Inbox>,
    sticks: Option<Sticks<M>>,
    mounted: Vec<(Stick, Inbox)>,
}

/// A file that is to be scanned.
#[derive(Debug, Clone)]
struct Job {
    path: PathBuf,
    /// The folder that it came in.
    folder: PathBuf,
    /// What it was when its scan began.
    version: Version,
}

/// A device that runs.
struct Device<D, M> {
    state: State,
    screen: Screen,
    findings: Findings<D>,
    sources: Sources<M>,
    updates: Option<Updates>,
    /// The release whose trial failed before this start, until the sticks that were in then have been looked at: one
    /// that stayed in is not tried again and again.
    failed_release: Option<u64>,
    /// An update on a stick, which waits until nothing is scanned.
    found_update: Option<PathBuf>,
    /// An update that is being installed.
    update: Option<Running>,
    shown_percent: Option<u8>,
    queue: VecDeque<Job>,
    current: Option<Job>,
    /// When the file that is scanned last got further, or its being stuck was said.
    moved: Instant,
    jobs: Sender<(PathBuf, InWork)>,
    /// What stays wrong, unless something worse comes.
    problem: Option<Problem>,
    folder: PathBuf,
}

impl<D: Disk, M: Mounts> Device<D, M> {
    fn run(
        mut self,
        inputs: &Receiver<Input>,
        reported: &Receiver<Report>,
        check: impl Fn() -> TestOutcome,
    ) -> Result<End, KioskError> {
        let mut looked: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if looked.is_none_or(|last| now.duration_since(last) >= LOOK) {
                looked = Some(now);
                self.look(now);
                if self.problem == Some(Problem::ClockUnset) && self_test::is_clock_set() {
                    self.problem = None;
                    self.state.has_problem(None);
                }
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
            }
            if self.install()? == Some(End::Off) {
                return Ok(self.ends(End::Off, reported));
            }
            let pressed: Vec<Input> = self.screen.panel.pressed().into_iter().chain(inputs.try_iter()).collect();
            for input in pressed {
                if let Some(end) = self.input(input, &check)? {
                    return Ok(self.ends(end, reported));
                }
            }
            self.screen.show(&self.state)?;
            match reported.recv_timeout(LOOK / 5) {
                Ok(Report::Stage(stage)) => {
                    self.moved = Instant::now();
                    self.state.reaches(stage);
                }
                Ok(Report::Done(done)) => self.done(*done)?,
                Err(RecvTimeoutError::Timeout) => {}
                // The worker lives as long as its jobs can come.
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Quit),
            }
        }
    }

    fn ends(&mut self, end: End, reported: &Receiver<Report>) -> End {
        let last = Instant::now() + LAST_SCAN;
        while self.current.is_some() {
            match reported.recv_timeout(last.saturating_duration_since(Instant::now())) {
                Ok(Report::Done(_)) | Err(_) => self.current = None,
                Ok(Report::Stage(_)) => {}
            }
        }
        if let Some(sticks) = &mut self.sources.sticks {
            sticks.close();
        }
        end
    }

    /// Installs an update that was found, once nothing is scanned; gives the end of the kiosk where the device has to
    /// restart to try it.
    fn install(&mut self) -> Result<Option<End>, KioskError> {
        let is_idle = self.current.is_none() && self.queue.is_empty();
        if self.update.is_none()
            && is_idle
            && let Some(file) = self.found_update.take()
            && let Some(updates) = &self.updates
        {
            self.state.starts(Step::Updating(0));
            self.screen.show(&self.state)?;
            self.update = Some(updates.install(file));
        }
        let Some(running) = &self.update else { return Ok(None) };
        if self.shown_percent != Some(running.percent()) {
            self.shown_percent = Some(running.percent());
            self.state.starts(Step::Updating(running.percent()));
        }
        let Some(ended) = running.ended() else { return Ok(None) };
        self.update = None;
        self.state.is_ready();
        match ended {
            Ok(()) => Ok(Some(End::Off)),
            Err(e) => {
                eprintln!("edge-runtime: the update is not installed: {e}");
                if !e.is_there() {
                    self.state.interrupt(Problem::UpdateRefused);
                }
                Ok(None)
            }
        }
    }

    /// Looks for sticks and files, and gives the worker what is next.
    fn look(&mut self, now: Instant) {
        self.look_for_sticks();
        self.look_whether_it_is_stuck(now);
        let findings = &self.findings;
        let mut found: Vec<Job> = Vec::new();
        if self.queue.len() < MOST_QUEUED {
            let of = |path, folder: &Path| Job { path, folder: folder.to_owned(), version: Version::default() };
            for inbox in &mut self.sources.inboxes {
                let folder = inbox.folder().to_owned();
                let was_readable = !inbox.has_unreadable();
                let whole = inbox.poll(now, |path| findings.is_done(path, &folder));
                if was_readable && inbox.has_unreadable() {
                    self.state.interrupt(Problem::StickUnreadable);
                }
                found.extend(whole.into_iter().map(|path| of(path, &folder)));
            }
            for (stick, inbox) in &mut self.sources.mounted {
                let was_readable = !inbox.has_unreadable();
                found.extend(inbox.poll(now, |_| false).into_iter().map(|path| of(path, &stick.mount)));
                if was_readable && inbox.has_unreadable() {
                    self.state.interrupt(Problem::StickUnreadable);
                }
            }
        }
        let waiting: usize = self.sources.inboxes.iter().map(Inbox::waiting).sum();
        if waiting == 0 && found.is_empty() {
            self.state.gives_up_parked();
        }
        if self.current.is_none() && self.queue.is_empty() {
            self.state.receives(found.len(), found.len() + waiting);
        }
        if !found.is_empty() {
            self.state.queues(found.len());
            self.queue.extend(found);
        }
        self.next();
    }

    /// A stick or a disk that hangs keeps the worker waiting for as long as it likes: somebody has to pull it.
    fn look_whether_it_is_stuck(&mut self, now: Instant) {
        if self.current.is_some() && now.saturating_duration_since(self.moved) >= STUCK {
            self.moved = now;
            eprintln!("edge-runtime: a file has been read for {} s: its disk does not answer", STUCK.as_secs());
            self.state.interrupt(Problem::StickUnreadable);
        }
    }

    fn look_for_sticks(&mut self) {
        let Some(sticks) = &mut self.sources.sticks else { return };
        let changes = sticks.poll();
        // A stick that comes later was plugged in by somebody.
        let failed = if changes.came.is_empty() { self.failed_release } else { self.failed_release.take() };
        for stick in changes.came {
            if let Some(updates) = &self.updates
                && let Some(file) = updates.on(&stick.mount)
                && (failed.is_none() || updates.release_of(&file) != failed)
            {
                self.found_update = Some(file);
            }
            self.sources.mounted.push((stick.clone(), Inbox::still(stick.mount)));
        }
        for (name, reason) in changes.refused {
            eprintln!("edge-runtime: stick {name} cannot be read ({reason}): use one with a FAT file system");
            self.state.interrupt(Problem::StickUnreadable);
        }
        for stick in changes.went {
            self.sources.mounted.retain(|(mounted, _)| *mounted != stick);
            let before = self.queue.len();
            self.queue.retain(|job| job.folder != stick.mount);
            let lost = before - self.queue.len();
            let was_read = self.current.as_ref().is_some_and(|job| job.folder == stick.mount);
            if lost > 0 || was_read {
                self.state.gives_up(lost);
                self.state.interrupt(Problem::StickRemoved);
            }
        }
    }

    /// Gives the worker its next file.
    fn next(&mut self) {
        while self.current.is_none() && self.update.is_none() {
            let Some(job) = self.queue.pop_front() else { return };
            let version = version_of(&job.path).unwrap_or_default();
            let file = (self.findings.reference(&job.path, &job.folder), version);
            if self.findings.fatal.contains(&file) {
                let record = decoder_failed(&job.path);
                self.state.scanned(Scanned { record, pictures: None, repeated: None, problem: None });
                continue;
            }
            let tries = self.findings.tries.get(&file).copied().unwrap_or(0) + 1;
            let in_work = InWork { reference: file.0, version, tries };
            if self.jobs.send((job.path.clone(), in_work)).is_err() {
                return;
            }
            self.moved = Instant::now();
            self.current = Some(Job { version, ..job });
        }
    }

    /// What came of the file that was scanned.
    fn done(&mut self, done: Done) -> Result<(), KioskError> {
        let Some(job) = self.current.take() else { return Ok(()) };
        let Done { path, mut record, pictures } = done;
        if self.is_not_whole_yet(&job, &record) {
            let inbox = self.sources.inboxes.iter_mut().find(|inbox| inbox.folder() == job.folder);
            if let Some(inbox) = inbox {
                inbox.give_back(&path, Instant::now());
            }
            self.state.parks();
            self.next();
            return Ok(());
        }
        if matches!(&record.outcome, Outcome::Refusal(_)) {
            // A stick that was pulled makes every file unreadable: look before that is believed.
            self.look_for_sticks();
        }
        let is_gone = !self.is_there(&job);
        if is_gone && matches!(&record.outcome, Outcome::Refusal(_)) {
            self.state.gives_up(1);
            self.state.interrupt(Problem::StickRemoved);
            self.next();
            return Ok(());
        }
        let repeated = self.findings.repeated(&record);
        self.time_screen(&mut record, pictures.as_ref());
        let problem = match repeated {
            Some(Repeated::SameModel) => None,
            _ => {
                let problem = self.keep(&job, record.clone());
                self.state.has_problem(problem.or(self.problem));
                problem
            }
        };
        self.state.scanned(Scanned { record, pictures, repeated, problem });
        self.next();
        Ok(())
    }

    /// A damaged file that has just come may still be written.
    fn is_not_whole_yet(&self, job: &Job, record: &Record) -> bool {
        let is_watched = self.sources.inboxes.iter().any(|inbox| inbox.folder() == job.folder);
        let looks_cut = matches!(&record.outcome, Outcome::Refusal(refusal)
            if matches!(refusal.cause, Cause::Damaged | Cause::Empty | Cause::NoImage));
        let modified = std::fs::metadata(&job.path).and_then(|there| there.modified());
        let age = modified.ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        is_watched && looks_cut && age.is_some_and(|age| age < YOUNG)
    }

    /// Whether the stick or folder that the file came in is still there.
    fn is_there(&self, job: &Job) -> bool {
        let is_watched = self.sources.inboxes.iter().any(|inbox| inbox.folder() == job.folder);
        is_watched || self.sources.mounted.iter().any(|(stick, _)| stick.mount == job.folder) && job.path.exists()
    }

    /// Counts what drawing a finding takes for its latency.
    fn time_screen(&self, record: &mut Record, pictures: Option<&Pictures>) {
        let Outcome::Finding(finding) = &mut record.outcome else { return };
        let mut times = finding.latency_ms;
        times.time(Stage::Render, || {
            let size = self.screen.panel.size();
            let mut canvas = Canvas::new(size.width, size.height);
            let view = ResultView {
                finding,
                picture: pictures.and_then(|pictures| pictures.small.as_ref()),
                has_map: pictures.is_some(),
                has_next: false,
                repeated: None,
                problem: None,
            };
            let Ok(_) = draw(&mut canvas, &crate::display::screens::Screen::Result(view), self.screen.style(0));
        });
        finding.latency_ms = times;
    }

    /// Keeps a record; gives why it is not kept, if it is not.
    fn keep(&mut self, job: &Job, record: Record) -> Option<Problem> {
        let reference = self.findings.reference(&job.path, &job.folder);
        match self.findings.keep(reference, job.version, record) {
            Ok(entry) => {
                if let Some(entry) = &entry {
                    // For whoever reads the journal or the serial line; no name, no result.
                    eprintln!("edge-runtime: kept finding {}", entry.sequence);
                }
                self.state.keeps(entry);
                self.state.has_kept(self.findings.log.count());
                None
            }
            Err(e) => {
                eprintln!("edge-runtime: {e}");
                let problem = match e {
                    AppendError::Full => Problem::DiskFull,
                    AppendError::Unwritable(_) | AppendError::TooLarge => Problem::DiskReadOnly,
                };
                // Something was not kept: that stays said until somebody looked after it and started the device again.
                self.problem = Some(problem);
                self.problem
            }
        }
    }

    fn input(&mut self, input: Input, check: &impl Fn() -> TestOutcome) -> Result<Option<End>, KioskError> {
        match input {
            Input::Quit => return Ok(Some(End::Quit)),
            Input::Power => return Ok(Some(End::Off)),
            Input::Button(_) | Input::Touch { .. } => {}
        }
        let Some(button) = input.button() else { return Ok(None) };
        match self.state.press(button) {
            None => Ok(None),
            Some(Request::Off) => Ok(Some(End::Off)),
            Some(Request::Language(language)) => {
                self.screen.lettering = Lettering::load(language)?;
                let _ = write_atomically(&self.folder.join(LANGUAGE), language.code().as_bytes());
                Ok(None)
            }
            Some(Request::SelfTest) => {
                self.self_test(check)?;
                Ok(None)
            }
        }
    }

    /// Runs the checks, each shown as it ends.
    fn self_test(&mut self, check: &impl Fn() -> TestOutcome) -> Result<(), KioskError> {
        let all = [Check::Display, Check::Buttons, Check::Disk, Check::Clock, Check::Temperature, Check::Model];
        let mut checks: Vec<(Check, Option<bool>)> = all.into_iter().map(|check| (check, None)).collect();
        for i in 0..checks.len() {
            self.state.tests(checks.clone());
            self.screen.show(&self.state)?;
            let outcome = match checks[i].0 {
                // This screen has been drawn, and a button was pressed to get here.
                Check::Display | Check::Buttons => {
                    TestOutcome { check: checks[i].0, passed: true, sentence: String::new() }
                }
                Check::Disk => self_test::disk(&self.folder),
                Check::Clock => self_test::clock(),
                Check::Temperature => self_test::temperature(),
                Check::Model => check(),
            };
            if !outcome.passed {
                eprintln!("edge-runtime: {}: {}", self_test::name(outcome.check), outcome.sentence);
            }
            checks[i].1 = Some(outcome.passed);
        }
        self.state.tests(checks);
        Ok(())
    }
}
