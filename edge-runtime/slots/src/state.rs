//! What a device knows about its slots, kept in [`crate::record::STATE`].

use crate::block::Block;
use crate::bundle::Kind;
use crate::keys::KeyRing;
use crate::layout::Slot;
use crate::record::{RecordError, STATE};
use serde::{Deserialize, Serialize};
use std::io;

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
    pub fn read(card: &impl Block) -> io::Result<Option<State>> {
        STATE.read(card)
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
