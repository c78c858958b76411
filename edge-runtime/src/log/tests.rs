//! Nothing that was kept is ever lost.

use super::simulated::{Fate, SimulatedDisk};
use super::*;
use crate::finding::tests::example;
use crate::finding::{Cause, Outcome, Record, Refusal};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;

/// Segments of three entries, so that a few cuts meet every kind of step.
const LIMITS: Limits = Limits { segment: 1100, all: 1 << 20 };

fn draft(i: i64) -> Draft {
    let outcome = match i % 3 {
        2 => {
            let sentence = "the file is empty; copy it again".into();
            Outcome::Refusal(Refusal { cause: Cause::Empty, unsuitable: None, sentence })
        }
        _ => Outcome::Finding(example(i % 2 == 0).into()),
    };
    let record = Record::new(format!("patient-{i}.png"), outcome);
    Draft { time: i, is_clock_set: true, reference: format!("{i:016x}"), version: Version::default(), record }
}

fn times(entries: &[Entry]) -> Vec<i64> {
    entries.iter().map(|entry| entry.time).collect()
}

/// Appends until the power is cut; gives the disk and how many entries were said to be kept.
fn run(disk: SimulatedDisk, count: i64) -> (SimulatedDisk, i64) {
    let disk = Rc::new(RefCell::new(disk));
    let mut kept = 0;
    if let Ok((mut log, contents)) = Log::open(Rc::clone(&disk), LIMITS) {
        kept = contents.entries.len() as i64;
        while kept < count && log.append(draft(kept)).is_ok() {
            kept += 1;
        }
    }
    (Rc::try_unwrap(disk).unwrap().into_inner(), kept)
}

/// The power is cut at every byte and call of nine appends, and what was not synced meets every fate; then again at
/// every step of recovering and going on.
#[test]
fn a_cut_at_any_byte_loses_nothing_that_was_kept() {
    let mut states = 0;
    let whole = run(SimulatedDisk::default(), 9).0;
    assert_eq!(Log::<SimulatedDisk>::read(&whole).unwrap().entries.len(), 9);
    for steps in 0.. {
        let (cut, kept) = run(SimulatedDisk { steps: Some(steps), ..SimulatedDisk::default() }, 9);
        for fate in Fate::ALL {
            let disk = cut.after_cut(*fate);
            let (log, contents) = Log::open(disk.clone(), LIMITS).unwrap();
            drop(log);
            let found = times(&contents.entries);
            let expected: Vec<i64> = (0..found.len() as i64).collect();
            assert!(found == expected && found.len() as i64 >= kept, "{steps} {fate:?}: kept {kept}, found {found:?}");
            assert_eq!(contents.damaged, 0, "{steps} {fate:?}: a cut is no damage");
            states += 1;
            // A second cut, early in recovery and in the entry after it.
            for second in [0, 1, 2, 3, 4, 40, 300] {
                let (again, kept) = run(SimulatedDisk { steps: Some(second), ..disk.clone() }, 9);
                for fate in Fate::ALL {
                    let contents = Log::open(again.after_cut(*fate), LIMITS).unwrap().1;
                    let found = times(&contents.entries);
                    let whole = (0..found.len() as i64).eq(found.iter().copied());
                    let least = kept.max(expected.len() as i64);
                    assert!(whole && found.len() as i64 >= least, "{steps} {second} {fate:?}: {found:?}");
                    states += 1;
                }
            }
        }
        if kept == 9 {
            break;
        }
    }
    assert!(states > 100_000, "{states} states");
}

#[test]
fn numbers_are_never_given_twice_and_names_do_not_stand_in_the_log() {
    let (mut log, _) = Log::open(SimulatedDisk::default(), LIMITS).unwrap();
    for i in 0..7 {
        assert_eq!(log.append(draft(i)).unwrap().sequence, i as u64 + 1);
    }
    let disk = log.disk;
    for name in disk.list().unwrap() {
        let bytes = disk.read(&name).unwrap();
        assert!(!bytes.windows(7).any(|w| w == b"patient"));
    }
    let (mut log, contents) = Log::open(disk, LIMITS).unwrap();
    assert_eq!(times(&contents.entries), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(log.append(draft(7)).unwrap().sequence, 8);
}

#[test]
fn a_full_or_read_only_disk_is_said_and_survived() {
    let (mut log, _) = Log::open(SimulatedDisk::default(), LIMITS).unwrap();
    for i in 0..4 {
        log.append(draft(i)).unwrap();
    }
    log.disk.room = Some(log.disk.list().unwrap().iter().map(|n| log.disk.read(n).unwrap().len()).sum::<usize>() + 20);
    for _ in 0..3 {
        assert!(matches!(log.append(draft(9)), Err(AppendError::Full)));
    }
    log.disk.room = None;
    assert_eq!(log.append(draft(4)).unwrap().sequence, 5);
    log.disk.is_read_only = true;
    assert!(matches!(log.append(draft(9)), Err(AppendError::Unwritable(_))));
    log.disk.is_read_only = false;
    log.append(draft(5)).unwrap();
    let contents = Log::open(log.disk, LIMITS).unwrap().1;
    assert_eq!((times(&contents.entries), contents.damaged, contents.torn), (vec![0, 1, 2, 3, 4, 5], 0, 0));
}

#[test]
fn the_oldest_segments_go_first() {
    let limits = Limits { segment: 1100, all: 3000 };
    let (mut log, _) = Log::open(SimulatedDisk::default(), limits).unwrap();
    for i in 0..40 {
        log.append(draft(i)).unwrap();
    }
    let total: usize = log.disk.list().unwrap().iter().map(|name| log.disk.read(name).unwrap().len()).sum();
    assert!(total <= 3000 + 1100, "{total}");
    let count = log.count();
    let contents = Log::open(log.disk, limits).unwrap().1;
    let found = times(&contents.entries);
    assert_eq!(found.len() as u64, count);
    assert!(found.len() > 4 && found.windows(2).all(|w| w[1] == w[0] + 1) && found.last() == Some(&39), "{found:?}");
}

/// A whole entry of another program is never taken for what a cut left.
#[test]
fn an_entry_that_is_whole_and_not_understood_is_not_removed() {
    let mut disk = SimulatedDisk::default();
    let body = [9u8; 20];
    let mut bytes = frame::HEADER.to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(crc32fast::hash(&[&(body.len() as u32).to_le_bytes()[..], &body].concat()).to_le_bytes());
    bytes.extend(body);
    disk.create("findings-000000000001.log", &bytes).unwrap();
    let disk = Rc::new(RefCell::new(disk));
    assert!(matches!(Log::open(Rc::clone(&disk), LIMITS), Err(OpenError::Later(_))));
    assert_eq!(disk.borrow().read("findings-000000000001.log").unwrap(), bytes);
}

#[test]
fn a_disk_that_is_read_only_from_the_start_is_read() {
    let (disk, _) = run(SimulatedDisk::default(), 4);
    let (mut log, contents) = Log::open(SimulatedDisk { is_read_only: true, ..disk }, LIMITS).unwrap();
    assert_eq!(contents.entries.len(), 4);
    assert!(matches!(log.append(draft(4)), Err(AppendError::Unwritable(_))));
    log.disk.is_read_only = false;
    assert_eq!(log.append(draft(4)).unwrap().sequence, 5);
}

/// The form of version 1, which later programs have to read: SHA-256 of a segment with three entries.
#[test]
fn the_bytes_of_version_1_stay() {
    let (disk, _) = run(SimulatedDisk::default(), 2);
    let bytes = disk.read("findings-000000000001.log").unwrap();
    let digest = crate::process::files::sha256_hex(&bytes);
    assert_eq!(&digest[..16], "49dffa22cd8b1471", "the format changed: another version, and a reader for this one");
}

/// Programs before sites wrote findings without their last field, and read those of today without it.
#[test]
fn entries_that_know_no_site_are_read() {
    let entries: Vec<Entry> = (0..4).map(|i| draft(i).numbered(i as u64 + 1)).collect();
    let segment = without_sites(&entries);
    let digest = crate::process::files::sha256_hex(&without_sites(&entries[..2]));
    assert_eq!(&digest[..16], "a2936ad29e47fb98", "what those programs wrote");
    let mut disk = SimulatedDisk::default();
    disk.create("findings-000000000001.log", &segment).unwrap();
    let (mut log, contents) = Log::open(disk, LIMITS).unwrap();
    assert_eq!(contents.entries, entries);
    assert_eq!(log.append(draft(4)).unwrap().sequence, 5);
}

/// A segment as programs before sites wrote it.
fn without_sites(entries: &[Entry]) -> Vec<u8> {
    let mut segment = frame::HEADER.to_vec();
    for entry in entries {
        let mut body = postcard::to_stdvec(entry).unwrap();
        if matches!(entry.record.outcome, Outcome::Finding(_)) {
            assert_eq!(body.pop(), Some(0), "`site` is the last field of an entry with a finding");
        }
        segment.extend(frame::framed(&body));
    }
    segment
}

#[test]
fn two_programs_do_not_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = Folder::create(dir.path().join("f")).unwrap();
    assert!(Folder::create(dir.path().join("f")).unwrap_err().to_string().contains("another edge-runtime"));
    drop(first);
    Folder::create(dir.path().join("f")).unwrap();
}

#[test]
fn a_segment_of_a_later_version_is_left_alone() {
    let mut disk = SimulatedDisk::default();
    disk.create("findings-000000000001.log", b"HILUMF\x02\n....").unwrap();
    assert!(matches!(Log::open(disk, LIMITS), Err(OpenError::Later(_))));
}

#[test]
fn a_folder_keeps_what_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let folder = || Folder::create(dir.path().join("findings")).unwrap();
    let (mut log, _) = Log::open(folder(), LIMITS).unwrap();
    for i in 0..5 {
        log.append(draft(i)).unwrap();
    }
    let name = log.segments.last().unwrap().name.clone();
    drop(log);
    let path = dir.path().join("findings").join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 3);
    std::fs::write(&path, bytes).unwrap();
    let (mut log, contents) = Log::open(folder(), LIMITS).unwrap();
    assert_eq!(times(&contents.entries), [0, 1, 2, 3]);
    assert!(contents.torn > 0);
    log.append(draft(4)).unwrap();
    let existing = Folder::existing(dir.path().join("findings")).unwrap();
    assert_eq!(times(&Log::read(&existing).unwrap().entries), [0, 1, 2, 3, 4]);
}

proptest! {
    /// Whatever changes in a segment, the entries that it does not hit are read.
    #[test]
    fn damage_costs_only_the_entries_that_it_hits(at in 8usize..2000, value: u8) {
        let limits = Limits { segment: 1 << 20, all: 1 << 30 };
        let (mut log, _) = Log::open(SimulatedDisk::default(), limits).unwrap();
        for i in 0..6 {
            log.append(draft(i)).unwrap();
        }
        let name = log.segments[0].name.clone();
        let bytes = log.disk.bytes_mut(&name);
        let at = at % bytes.len();
        prop_assume!(at >= 8 && bytes[at] != value);
        bytes[at] = value;
        let contents = Log::read(&log.disk).unwrap();
        prop_assert_eq!(contents.entries.len(), 5);
        prop_assert!(contents.damaged + contents.torn > 0);
    }

    /// No bytes make reading panic.
    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut disk = SimulatedDisk::default();
        disk.create("findings-000000000001.log", &bytes).unwrap();
        let _ = Log::open(disk, LIMITS);
    }
}
