//! What happens at each start: which slot runs, whether as a trial, and how a trial ends.
//!
//! A trial is used up on the card before it begins. So one that hangs, or loses power, is followed by the release that
//! ran before it.

use crate::block::Block;
use crate::layout::{Layout, LayoutError, Slot};
use crate::record::RecordError;
use crate::state::{Outcome, State};
use crate::update::digest;
use std::io;

/// Starts of a release, none of which ended well, after which the other slot runs.
pub const MOST_STARTS: u32 = 5;

/// What runs at this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The slot.
    pub slot: Slot,
    /// True where it runs to be tested; [`commit`] or [`give_up`] follows.
    pub is_trial: bool,
}

/// Why nothing can be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The card cannot be read or written.
    #[error("the card cannot be read or written ({0}): replace it")]
    Card(#[from] io::Error),
    /// The card is none of ours.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Neither slot is whole.
    #[error("neither slot of the card holds a whole release: write the card again with `boards flash`")]
    NothingWhole,
}

/// Decides what runs. A slot whose image is not what the state says is not started. The decision stays on the card
/// before it is returned, as far as the card can be written: one that cannot still starts what was committed.
pub fn begin(card: &mut impl Block) -> Result<Start, StartError> {
    let layout = Layout::read(card)?;
    let mut state = State::read(card)?.ok_or(StartError::NothingWhole)?;
    if let Some(trial) = &mut state.trial
        && !trial.is_started
    {
        trial.is_started = true;
        let slot = trial.slot;
        match state.write(card) {
            Ok(()) if is_whole(card, &layout, &state, slot)? => return Ok(Start { slot, is_trial: true }),
            Ok(()) => note_failure(&mut state, "the card does not give back what was written"),
            // A trial that would be tried again and again is none.
            Err(_) => state.trial = None,
        }
    } else if state.trial.is_some() {
        note_failure(&mut state, "it did not come up, or the power went while it was tried");
    }
    state.starts += 1;
    let other = state.committed.other();
    let is_committed_whole = is_whole(card, &layout, &state, state.committed)?;
    if !is_committed_whole || state.starts > MOST_STARTS {
        if is_whole(card, &layout, &state, other)? {
            fall_back(&mut state);
        } else if !is_committed_whole {
            return Err(StartError::NothingWhole);
        }
    }
    let start = Start { slot: state.committed, is_trial: false };
    match state.write(card) {
        Ok(()) | Err(RecordError::Card(_)) => Ok(start),
        Err(e) => Err(e.into()),
    }
}

/// Whether `slot` holds what the state says.
fn is_whole(card: &impl Block, layout: &Layout, state: &State, slot: Slot) -> io::Result<bool> {
    let Some(content) = state.content(slot) else { return Ok(false) };
    let area = layout.image_area(slot);
    if content.length > area.end - area.start {
        return Ok(false);
    }
    Ok(digest(card, area.start, content.length, |_| {})? == content.sha256)
}

fn note_failure(state: &mut State, reason: &str) {
    if let Some(trial) = state.trial.take() {
        state.slots[trial.slot.index()] = None;
        state.outcome = Some(Outcome::RolledBack { release: trial.release, reason: reason.to_owned() });
    }
}

/// What was committed gives way to the other slot, and is not started again.
fn fall_back(state: &mut State) {
    let failed = state.committed;
    state.slots[failed.index()] = None;
    state.committed = failed.other();
    state.starts = 0;
    state.outcome = Some(Outcome::FellBack);
}

/// The trial passed: what was tried runs from now on.
pub fn commit(card: &mut impl Block) -> Result<(), StartError> {
    let mut state = State::read(card)?.ok_or(StartError::NothingWhole)?;
    if let Some(trial) = state.trial.take() {
        state.committed = trial.slot;
        state.floor = trial.release;
        state.starts = 0;
        state.outcome = Some(Outcome::Committed { release: trial.release });
        if let Some(keys) = trial.keys {
            state.keys = std::mem::take(&mut state.keys).newer(keys);
        }
    }
    Ok(state.write(card)?)
}

/// The trial failed for `reason`: at the next start runs what ran before.
pub fn give_up(card: &mut impl Block, reason: &str) -> Result<(), StartError> {
    let mut state = State::read(card)?.ok_or(StartError::NothingWhole)?;
    note_failure(&mut state, reason);
    Ok(state.write(card)?)
}

/// The device is well: earlier starts are forgotten.
pub fn is_well(card: &mut impl Block) -> Result<(), StartError> {
    let mut state = State::read(card)?.ok_or(StartError::NothingWhole)?;
    if state.starts == 0 {
        return Ok(());
    }
    state.starts = 0;
    Ok(state.write(card)?)
}

/// Whether an update waits for its trial.
pub fn waits_for_trial(card: &impl Block) -> io::Result<bool> {
    Ok(State::read(card)?.is_some_and(|state| state.trial.is_some_and(|trial| !trial.is_started)))
}
