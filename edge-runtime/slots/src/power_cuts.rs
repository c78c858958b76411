//! The power is cut at every write and every sync of what a card goes through, and the device has to come up: in a
//! whole slot, with a release that may run, with the clinic's settings, and able to take the update again.

use crate::block::Block;
use crate::boot::{self, MOST_STARTS};
use crate::bundle::{Kind, Manifest};
use crate::keys::{KeyRing, SecretKey};
use crate::layout::{FIRST_PARTITION, Layout, Slot};
use crate::record::CLINIC;
use crate::simulated::{Fate, SimulatedCard};
use crate::state::{Content, State};
use crate::update::{Device, UpdateError, install, is_whole};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::io::Cursor;

const BOARD: &str = "simulated";
const TARGET: &str = "simulated";
/// Bytes of a slot.
const SLOT: u64 = 128 << 10;
/// Bytes of an application.
const APPLICATION: usize = 60_000;
/// Bytes of a model.
const MODEL: usize = 20_000;
/// Restarts after which a device that does not come up is given up.
const MOST_RESTARTS: usize = 20;
/// The release that runs at first.
const OLD: u64 = 1;
/// The one that is installed.
const NEW: u64 = 2;

/// How a release behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Behaviour {
    /// It passes its trial, and runs.
    Runs,
    /// Its trial fails.
    FailsItsTrial,
    /// It hangs, and the watchdog restarts the device.
    Hangs,
    /// It passes its trial, and never runs well afterwards.
    FailsLater,
}

/// What a card goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Scenario {
    /// The slot that runs at first.
    pub from: Slot,
    /// What is replaced.
    pub kind: Kind,
    /// How the new release behaves.
    pub behaviour: Behaviour,
    /// Whether keys come with it.
    pub has_keys: bool,
    /// Starts before it that did not end well.
    pub starts: u32,
}

/// How many states were tried.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// A line for each scenario.
    pub scenarios: Vec<Tried>,
    /// All states.
    pub states: usize,
}

/// How many states of a scenario were tried.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// The scenario.
    pub scenario: Scenario,
    /// Writes and syncs at which the power was cut.
    pub steps: usize,
    /// States after one cut.
    pub once: usize,
    /// States after a second cut, while the device recovered from the first.
    pub twice: usize,
}

/// A device that does not come up, or comes up wrongly.
#[derive(Debug, thiserror::Error)]
#[error("{scenario:?}, {cuts}: {reason}")]
pub struct Bricked {
    /// What the card went through.
    pub scenario: Scenario,
    /// Where the power was cut, and what became of the writes before.
    pub cuts: String,
    /// What is wrong.
    pub reason: String,
}

/// What becomes of a start, or of a chain of them.
type Lived<T> = Result<T, String>;

fn secret(name: &str) -> SecretKey {
    SecretKey::of_random(name, Sha256::digest(name.as_bytes()).into())
}

fn ring(version: u32, names: &[&str]) -> KeyRing {
    let keys = names.iter().filter_map(|name| secret(name).public().ok()).collect();
    KeyRing { version, keys, revoked: vec![] }
}

/// `length` bytes that are those of no other release.
fn bytes_of(release: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i * 31 + i / 251 + release * 97) as u8).collect()
}

fn content_of(release: u64) -> Content {
    let image = bytes_of(release, APPLICATION);
    Content {
        release,
        version: release.to_string(),
        length: image.len() as u64,
        sha256: Sha256::digest(&image).into(),
        model: None,
    }
}

impl Scenario {
    /// Everything that is tried.
    pub fn all() -> Vec<Scenario> {
        use Behaviour::*;
        let of = |from, kind, behaviour| Scenario { from, kind, behaviour, has_keys: false, starts: 0 };
        let applications = Slot::ALL.into_iter().flat_map(|from| {
            [Runs, FailsItsTrial, Hangs, FailsLater].map(|behaviour| of(from, Kind::Application, behaviour))
        });
        let mut all: Vec<Scenario> = applications.collect();
        all.push(of(Slot::A, Kind::Model, Runs));
        all.push(of(Slot::B, Kind::Model, FailsItsTrial));
        all.push(Scenario { has_keys: true, ..of(Slot::A, Kind::Application, Runs) });
        all.push(Scenario { starts: MOST_STARTS, ..of(Slot::A, Kind::Application, FailsItsTrial) });
        all.push(Scenario { starts: MOST_STARTS, ..of(Slot::B, Kind::Application, Hangs) });
        all.push(Scenario { starts: MOST_STARTS, ..of(Slot::A, Kind::Model, Runs) });
        all
    }

    /// A card whose slots both hold [`OLD`].
    fn card(self) -> Lived<SimulatedCard> {
        let layout = Layout::of_sizes(1, [4096, SLOT, SLOT, 4096]);
        let mut card = SimulatedCard::of_length((FIRST_PARTITION + 2 * SLOT + 2 * 4096) as usize);
        let mut state = State::of_running(self.from, content_of(OLD));
        state.slots[self.from.other().index()] = Some(content_of(OLD));
        state.starts = self.starts;
        let mut set = || -> Result<(), Box<dyn std::error::Error>> {
            card.write_at(0, &layout.boot_record([0x0c, 0xda, 0xda, 0x83]))?;
            for slot in Slot::ALL {
                card.write_at(layout.slot(slot).start, &bytes_of(OLD, APPLICATION))?;
            }
            state.write(&mut card)?;
            CLINIC.write(&mut card, &settings(OLD))?;
            Ok(card.sync()?)
        };
        set().map_err(|e| e.to_string())?;
        card.count = 0;
        Ok(card)
    }

    fn device() -> Device {
        Device { board: BOARD.into(), target: TARGET.into(), interface: crate::INTERFACE, keys: ring(1, &["first"]) }
    }

    fn file(self) -> Lived<Vec<u8>> {
        let content = match self.kind {
            Kind::Application => bytes_of(NEW, APPLICATION),
            Kind::Model => bytes_of(NEW, MODEL),
        };
        let manifest = Manifest {
            boards: vec![BOARD.into()],
            target: TARGET.into(),
            kind: self.kind,
            release: NEW,
            version: NEW.to_string(),
            length: content.len() as u64,
            sha256: Sha256::digest(&content).into(),
            interface: crate::INTERFACE,
            over: None,
            keys: self.has_keys.then(|| ring(2, &["first", "second"])),
            key: String::new(),
        };
        let head = manifest.sign(&secret("first")).map_err(|e| e.to_string())?;
        Ok([head, content].concat())
    }

    /// Everything that the card goes through: settings are changed, the update is installed, tried and committed.
    fn lives(self, card: &mut SimulatedCard, file: &[u8]) -> Lived<u64> {
        CLINIC.write(card, &settings(NEW)).map_err(|e| e.to_string())?;
        match install(card, &Scenario::device(), &mut Cursor::new(file), |_, _| {}) {
            // It runs, or waits for a restart, since before the cut.
            Ok(_) | Err(UpdateError::Installed(_)) => {}
            Err(e) => return Err(e.to_string()),
        }
        self.comes_up(card)
    }

    /// Starts until a release runs well; its number.
    fn comes_up(self, card: &mut SimulatedCard) -> Lived<u64> {
        for _ in 0..MOST_RESTARTS {
            let start = boot::begin(card).map_err(|e| e.to_string())?;
            let release = started(card, start.slot)?;
            let behaviour = if release == OLD { Behaviour::Runs } else { self.behaviour };
            let went = match (behaviour, start.is_trial) {
                (Behaviour::Hangs, _) | (Behaviour::FailsLater, false) => continue,
                (Behaviour::FailsItsTrial, true) => boot::give_up(card, "its finding is another one"),
                (Behaviour::FailsItsTrial, false) => return Err("it was committed without passing its trial".into()),
                (Behaviour::Runs | Behaviour::FailsLater, true) => boot::commit(card),
                (Behaviour::Runs, false) => Ok(()),
            };
            went.map_err(|e| e.to_string())?;
            if behaviour == Behaviour::Runs {
                boot::mark_well(card).map_err(|e| e.to_string())?;
                return Ok(release);
            }
        }
        Err(format!("it does not come up in {MOST_RESTARTS} starts"))
    }

    /// What may run in the end.
    fn expected(self) -> u64 {
        if self.behaviour == Behaviour::Runs { NEW } else { OLD }
    }

    /// Checks a card after a cut: it comes up, and takes the update again.
    fn recovers(self, card: &mut SimulatedCard, file: &[u8]) -> Lived<()> {
        let release = self.comes_up(card)?;
        if release != OLD && release != self.expected() {
            return Err(format!("release {release} runs"));
        }
        let kept: Option<String> = CLINIC.read(card);
        if kept != Some(settings(OLD)) && kept != Some(settings(NEW)) {
            return Err(format!("the settings are {kept:?}"));
        }
        let release = self.lives(card, file)?;
        if release != self.expected() {
            return Err(format!("release {release} runs after the update was installed again"));
        }
        let state = State::read(card).ok_or("no state")?;
        let keys = Scenario::device().keys(&state);
        match self.has_keys && keys.keys.len() != 2 {
            true => Err("the keys that came with it do not count".into()),
            false => Ok(()),
        }
    }

    /// Cuts the power at every step, with every fate of what was not synced; `has_second` cuts it again at every step
    /// of the recovery.
    pub fn run(self, has_second: bool, mut progress: impl FnMut(usize, usize)) -> Result<Tried, Bricked> {
        let bricked = |cuts: &str, reason: String| Bricked { scenario: self, cuts: cuts.to_owned(), reason };
        let file = self.file().map_err(|e| bricked("no cut", e))?;
        let begin = self.card().map_err(|e| bricked("no cut", e))?;
        let mut uncut = begin.clone();
        let release = self.lives(&mut uncut, &file).map_err(|e| bricked("no cut", e))?;
        if release != self.expected() {
            return Err(bricked("no cut", format!("release {release} runs")));
        }
        let mut tried = Tried { scenario: self, steps: uncut.count, once: 0, twice: 0 };
        for step in 0..uncut.count {
            progress(step, uncut.count);
            let mut cut = begin.with_cut_after(step);
            if self.lives(&mut cut, &file).is_ok() {
                return Err(bricked(&format!("step {step}"), "the cut did not end it".into()));
            }
            for fate in Fate::all() {
                let name = format!("cut at step {step}, {fate:?}");
                let after = cut.after_cut(fate);
                self.recovers(&mut after.clone(), &file).map_err(|e| bricked(&name, e))?;
                tried.once += 1;
                if has_second {
                    tried.twice += self.second_cuts(&after, &file, &name)?;
                }
            }
        }
        Ok(tried)
    }

    fn second_cuts(self, card: &SimulatedCard, file: &[u8], first: &str) -> Result<usize, Bricked> {
        let mut states = 0;
        for step in 0.. {
            let mut cut = card.with_cut_after(step);
            if self.comes_up(&mut cut).is_ok() {
                return Ok(states);
            }
            for fate in [Fate::Lost, Fate::Kept, Fate::TornInSectors, Fate::ByChance(1)] {
                let name = format!("{first}; again at step {step}, {fate:?}");
                let recovered = self.recovers(&mut cut.after_cut(fate), file);
                recovered.map_err(|reason| Bricked { scenario: self, cuts: name, reason })?;
                states += 1;
            }
        }
        Ok(states)
    }
}

/// What a clinic sets.
fn settings(release: u64) -> String {
    format!("language = \"{release}\"")
}

/// The release that `slot` holds; one that is not whole is none.
fn started(card: &SimulatedCard, slot: Slot) -> Lived<u64> {
    let layout = Layout::read(card).map_err(|e| e.to_string())?;
    let state = State::read(card).ok_or("no state")?;
    let content = state.content(slot).ok_or("a slot was started that holds nothing")?;
    match is_whole(card, &layout, slot, content, |_| {}) {
        Ok(true) => Ok(content.release),
        Ok(false) => Err(format!("slot {slot} was started, and is not whole")),
        Err(e) => Err(e.to_string()),
    }
}

/// Tries every scenario; `progress` gets a scenario's number, and its steps done and in all.
pub fn run(is_full: bool, mut progress: impl FnMut(usize, usize, usize)) -> Result<Report, Bricked> {
    let mut report = Report::default();
    for (i, scenario) in Scenario::all().into_iter().enumerate() {
        let tried = scenario.run(is_full, |done, all| progress(i, done, all))?;
        report.states += tried.once + tried.twice;
        report.scenarios.push(tried);
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::ChangeError;
    use std::io::{Read, Seek, SeekFrom};

    #[test]
    fn a_device_comes_up_wherever_the_power_goes() {
        let report = run(false, |_, _, _| {}).unwrap();
        assert!(report.states > 3000, "{report:?}");
    }

    #[test]
    fn a_device_that_would_not_come_up_is_noticed() {
        let scenario = Scenario::all()[0];
        let mut card = scenario.card().unwrap();
        card.set(4 << 20, &[0; 200]);
        assert!(scenario.comes_up(&mut card).is_err());
        let mut card = scenario.card().unwrap();
        let layout = Layout::read(&card).unwrap();
        for slot in Slot::ALL {
            card.flip(layout.slot(slot).start);
        }
        assert!(scenario.comes_up(&mut card).is_err());
    }

    #[test]
    fn one_damaged_slot_gives_way_to_the_other() {
        let scenario = Scenario::all()[0];
        let mut card = scenario.card().unwrap();
        let layout = Layout::read(&card).unwrap();
        let mut unreadable = card.clone();
        card.flip(layout.slot(Slot::A).start);
        assert_eq!(boot::begin(&mut card).unwrap().slot, Slot::B);
        let slot = layout.slot(Slot::A);
        unreadable.unreadable = slot.start..slot.start + 512;
        assert_eq!(boot::begin(&mut unreadable).unwrap().slot, Slot::B);
    }

    #[test]
    fn a_card_that_cannot_be_written_starts_what_was_committed_and_takes_no_update() {
        let scenario = Scenario::all()[0];
        let mut card = scenario.card().unwrap();
        boot::begin(&mut card).unwrap();
        card.is_read_only = true;
        assert_eq!(boot::begin(&mut card).unwrap(), boot::Start { slot: Slot::A, is_trial: false });
        let file = scenario.file().unwrap();
        let refused = install(&mut card, &Scenario::device(), &mut Cursor::new(file), |_, _| {});
        assert!(matches!(refused, Err(UpdateError::State(ChangeError::Record(_)))), "{refused:?}");
    }

    /// Gives another file at its second reading.
    struct Swapped {
        files: [Cursor<Vec<u8>>; 2],
        reading: usize,
    }

    impl Read for Swapped {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.files[self.reading].read(into)
        }
    }

    impl Seek for Swapped {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            if matches!(to, SeekFrom::Start(_)) {
                self.reading = 1;
            }
            self.files[self.reading].seek(to)
        }
    }

    #[test]
    fn a_file_that_is_replaced_after_it_was_checked_is_not_tried() {
        for scenario in [Scenario::all()[0], Scenario::all()[8]] {
            let mut card = scenario.card().unwrap();
            let file = scenario.file().unwrap();
            let mut other = file.clone();
            *other.last_mut().unwrap() ^= 1;
            let mut swapped = Swapped { files: [file, other].map(Cursor::new), reading: 0 };
            let refused = install(&mut card, &Scenario::device(), &mut swapped, |_, _| {});
            assert!(matches!(refused, Err(UpdateError::Unfaithful)), "{refused:?}");
            assert_eq!(scenario.comes_up(&mut card), Ok(OLD));
        }
    }

    #[test]
    fn nothing_is_installed_while_an_update_is_tried() {
        let scenario = Scenario::all()[0];
        let mut card = scenario.card().unwrap();
        let file = scenario.file().unwrap();
        install(&mut card, &Scenario::device(), &mut Cursor::new(&file), |_, _| {}).unwrap();
        assert!(boot::begin(&mut card).unwrap().is_trial);
        let refused = install(&mut card, &Scenario::device(), &mut Cursor::new(&file), |_, _| {});
        assert!(matches!(refused, Err(UpdateError::Trying)), "{refused:?}");
        boot::commit(&mut card).unwrap();
        assert!(matches!(boot::commit(&mut card), Err(boot::StartError::NoTrial)));
    }

    #[test]
    fn a_card_that_forgets_is_noticed() {
        let scenario = Scenario::all()[0];
        let mut card = scenario.card().unwrap();
        let file = scenario.file().unwrap();
        let device = Scenario::device();
        card.forgets = true;
        let refused = install(&mut card, &device, &mut Cursor::new(&file), |_, _| {});
        assert!(matches!(refused, Err(UpdateError::Unfaithful)), "{refused:?}");
        card.forgets = false;
        assert_eq!(boot::begin(&mut card).unwrap(), boot::Start { slot: Slot::A, is_trial: false });
    }

    #[test]
    fn what_is_not_for_this_device_is_refused_before_anything_is_written() {
        let scenario = Scenario::all()[0];
        let card = scenario.card().unwrap();
        let content = bytes_of(NEW, 1000);
        let manifest = Manifest {
            boards: vec![BOARD.into()],
            target: TARGET.into(),
            kind: Kind::Application,
            release: NEW,
            version: "2".into(),
            length: content.len() as u64,
            sha256: Sha256::digest(&content).into(),
            interface: crate::INTERFACE,
            over: None,
            keys: None,
            key: String::new(),
        };
        let refusal = |manifest: &Manifest, key: &str| {
            let file = [manifest.clone().sign(&secret(key)).unwrap(), content.clone()].concat();
            let mut card = card.clone();
            let refused = install(&mut card, &Scenario::device(), &mut Cursor::new(file), |_, _| {}).unwrap_err();
            assert_eq!(card.count, 0, "{refused}");
            refused.to_string()
        };
        let with = |change: &dyn Fn(&mut Manifest)| {
            let mut other = manifest.clone();
            change(&mut other);
            refusal(&other, "first")
        };
        assert!(refusal(&manifest, "stranger").contains("does not know"));
        assert!(with(&|m| m.boards = vec!["another".into()]).contains("made for another"));
        assert!(with(&|m| m.target = "riscv".into()).contains("riscv"));
        assert!(with(&|m| m.release = 0).contains("older ones"));
        assert!(with(&|m| (m.release, m.over) = (0, Some(0))).contains("older ones"));
        assert!(with(&|m| m.interface += 1).contains("expects interface"));
        assert!(with(&|m| m.keys = Some(KeyRing::default())).contains("no key"));
        assert!(with(&|m| m.release = OLD).contains("installed already"));
        assert!(with(&|m| m.length = SLOT).contains("do not fit"));
        assert!(with(&|m| m.length -= 1).contains("longer than it says"));
        assert!(with(&|m| m.length += 1).contains("cut short"));
        assert!(with(&|m| m.sha256[0] ^= 1).contains("digest"));
    }
}
