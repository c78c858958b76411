//! What a device knows about its slots, kept in [`crate::record::STATE`].

use crate::block::Block;
use crate::bundle::Kind;
use crate::keys::KeyRing;
use crate::layout::Slot;
use crate::record::{RecordError, STATE};
use serde::{Deserialize, Serialize};

/// What a slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The number by which releases are ordered.
    pub release: u64,
    /// The same for people.
    pub version: String,
    /// Bytes of the image.
    pub length: u64,
    /// SHA-256 of the image.
    pub sha256: [u8; 32],
    /// A model that was updated by itself, in the slot's last quarter.
    pub model: Option<Part>,
}

/// Bytes that are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How many.
    pub length: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
}

/// An update that was written and not yet committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Where it lies.
    pub slot: Slot,
    /// What kind of update it is.
    pub kind: Kind,
    /// Its release.
    pub release: u64,
    /// Keys that come with it, and count once it is committed.
    pub keys: Option<KeyRing>,
    /// True from just before its first start on.
    pub is_started: bool,
}

/// How the last update ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It runs.
    Committed {
        /// Its release.
        release: u64,
    },
    /// It did not pass, and the release before it runs again.
    RolledBack {
        /// Its release.
        release: u64,
        /// Why, in a sentence.
        reason: String,
    },
    /// A committed release did not start, and the other slot runs.
    FellBack,
}

/// Why the state is not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Both copies of it are damaged.
    #[error("the card does not say what its slots hold: write it again with `boards flash`")]
    NoState,
    /// It cannot be written.
    #[error(transparent)]
    Record(RecordError),
}

/// What a device knows about its slots.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The slot that runs.
    pub committed: Slot,
    /// What the slots hold; `None` for one that holds nothing whole.
    pub slots: [Option<Content>; 2],
    /// The highest release that was ever committed: nothing older is installed.
    pub floor: u64,
    /// An update that waits for its trial, or is in it.
    pub trial: Option<Trial>,
    /// Starts since the device was last well.
    pub starts: u32,
    /// Keys that came with an update.
    pub keys: KeyRing,
    /// How the last update ended.
    pub outcome: Option<Outcome>,
}

impl State {
    /// The state of a card of which nothing is known but that `slot` runs, and holds `content`.
    pub fn of_running(slot: Slot, content: Content) -> State {
        let mut slots = [None, None];
        let floor = content.release;
        slots[slot.index()] = Some(content);
        State { committed: slot, slots, floor, trial: None, starts: 0, keys: KeyRing::default(), outcome: None }
    }

    /// What the card says; `None` where both copies are damaged.
    pub fn read(card: &impl Block) -> Option<State> {
        STATE.read(card)
    }

    /// Changes what the card says, and returns once that stays. No other process changes it meanwhile.
    pub fn change<T, E: From<ChangeError>>(
        card: &mut impl Block,
        change: impl FnOnce(&mut State) -> Result<T, E>,
    ) -> Result<T, E> {
        card.lock().map_err(|e| ChangeError::Record(e.into()))?;
        let changed = State::read(card).ok_or(ChangeError::NoState.into()).and_then(|before| {
            let mut state = before.clone();
            let result = change(&mut state)?;
            if state != before {
                state.write(card).map_err(ChangeError::Record)?;
            }
            Ok(result)
        });
        card.unlock();
        changed
    }

    /// Writes it, and returns once it stays.
    pub fn write(&self, card: &mut impl Block) -> Result<(), RecordError> {
        STATE.write(card, self)
    }

    /// What `slot` holds.
    pub fn content(&self, slot: Slot) -> Option<&Content> {
        self.slots[slot.index()].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first program of a card stays what it is; what later releases write has to be what it reads.
    #[test]
    fn the_state_is_written_as_cards_in_the_field_read_it() {
        let part = Part { length: 300, sha256: [7; 32] };
        let content = Content { release: 1000, version: "1".into(), length: 5, sha256: [9; 32], model: Some(part) };
        let trial = Trial { slot: Slot::B, kind: Kind::Model, release: 1001, keys: None, is_started: true };
        let mut state = State::of_running(Slot::A, content);
        state.trial = Some(trial);
        state.outcome = Some(Outcome::RolledBack { release: 3, reason: "r".into() });
        let bytes = postcard::to_stdvec(&state).unwrap();
        let expected = [
            &[0, 1, 0xe8, 7, 1, b'1', 5][..],
            &[9; 32],
            &[1, 0xac, 2],
            &[7; 32],
            &[0, 0xe8, 7],
            &[1, 1, 1, 0xe9, 7, 0, 1],
            &[0, 0, 0, 0, 1, 1, 3, 1, b'r'],
        ];
        assert_eq!(bytes, expected.concat());
    }
}
