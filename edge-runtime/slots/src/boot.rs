//! What happens at each start: which slot runs, whether as a trial, and how a trial ends.
//!
//! A trial is used up on the card before it begins. So one that hangs, or loses power, is followed by the release that
//! ran before it.

use crate::block::Block;
use crate::layout::{Layout, LayoutError, Slot};
use crate::record::RecordError;
use crate::state::{ChangeError, Outcome, State};
use crate::update::is_whole;

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
    /// The card is none of ours.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The state cannot be changed.
    #[error(transparent)]
    State(#[from] ChangeError),
    /// Neither slot is whole.
    #[error("neither slot of the card holds a whole release: write the card again with `boards flash`")]
    NothingWhole,
    /// There is nothing to commit.
    #[error("no update is being tried")]
    NoTrial,
}

/// Decides what runs. A slot whose image is not what the state says is not started. The decision stays on the card
/// before it is returned, as far as the card can be written: one that cannot still starts what was committed.
pub fn begin(card: &mut impl Block) -> Result<Start, StartError> {
    let layout = Layout::read(card)?;
    let state = State::read(card).ok_or(ChangeError::NoState)?;
    // What cannot be read is not whole.
    let is_whole = Slot::ALL.map(|slot| {
        state.content(slot).is_some_and(|held| is_whole(card, &layout, slot, held, |_| {}).unwrap_or(false))
    });
    let decided = State::change(card, |state| decide(state, is_whole));
    match decided {
        Err(StartError::State(ChangeError::Record(RecordError::Card(_)))) if is_whole[state.committed.index()] => {
            // Nothing stays on this card; a trial that would be tried again and again is none.
            Ok(Start { slot: state.committed, is_trial: false })
        }
        decided => decided,
    }
}

fn decide(state: &mut State, is_whole: [bool; 2]) -> Result<Start, StartError> {
    if let Some(trial) = &mut state.trial
        && !trial.is_started
    {
        if is_whole[trial.slot.index()] {
            trial.is_started = true;
            return Ok(Start { slot: trial.slot, is_trial: true });
        }
        note_failure(state, "the card does not give back what was written");
    } else {
        note_failure(state, "it did not come up, or the power went while it was tried");
    }
    state.starts = state.starts.saturating_add(1);
    let other = state.committed.other();
    // A trial that has just failed leaves nothing to fall back to.
    let is_there = |slot: Slot| is_whole[slot.index()] && state.content(slot).is_some();
    match (is_there(state.committed), is_there(other)) {
        (false, false) => return Err(StartError::NothingWhole),
        (true, true) if state.starts <= MOST_STARTS => {}
        (true, false) => {}
        (false, true) | (true, true) => {
            state.committed = other;
            state.starts = 0;
            state.outcome = Some(Outcome::FellBack);
        }
    }
    Ok(Start { slot: state.committed, is_trial: false })
}

fn note_failure(state: &mut State, reason: &str) {
    if let Some(trial) = state.trial.take() {
        state.slots[trial.slot.index()] = None;
        state.outcome = Some(Outcome::RolledBack { release: trial.release, reason: reason.to_owned() });
    }
}

/// The trial passed: what was tried runs from now on.
pub fn commit(card: &mut impl Block) -> Result<(), StartError> {
    State::change(card, |state| {
        let trial = state.trial.take().ok_or(StartError::NoTrial)?;
        state.committed = trial.slot;
        state.floor = state.floor.max(trial.release);
        state.starts = 0;
        state.outcome = Some(Outcome::Committed { release: trial.release });
        if let Some(keys) = trial.keys {
            state.keys = std::mem::take(&mut state.keys).newer(keys);
        }
        Ok(())
    })
}

/// The trial failed for `reason`: at the next start runs what ran before.
pub fn give_up(card: &mut impl Block, reason: &str) -> Result<(), StartError> {
    State::change(card, |state| {
        note_failure(state, reason);
        Ok(())
    })
}

/// The device is well: earlier starts are forgotten.
pub fn mark_well(card: &mut impl Block) -> Result<(), StartError> {
    State::change(card, |state| {
        state.starts = 0;
        Ok(())
    })
}

/// Somebody has seen how the last update ended.
pub fn mark_seen(card: &mut impl Block) -> Result<(), StartError> {
    State::change(card, |state| {
        state.outcome = None;
        Ok(())
    })
}

/// Whether an update waits for its trial.
pub fn waits_for_trial(card: &impl Block) -> bool {
    State::read(card).is_some_and(|state| state.trial.is_some_and(|trial| !trial.is_started))
}
