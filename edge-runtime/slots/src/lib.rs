//! A clinic device's card, and how it is updated so that it starts whenever the power goes.
//!
//! The card has an area of its own before the first partition (records of two copies), two slots of applications, and
//! a partition of findings. An update is written to the slot that does not run, tried once, and committed by writing
//! one record. The format, byte by byte, is in `docs/card.md`.

#![forbid(unsafe_code)]

pub mod block;
pub mod boot;
pub mod bundle;
pub mod keys;
pub mod layout;
#[cfg(any(test, feature = "simulated"))]
pub mod power_cuts;
pub mod record;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
pub mod state;
pub mod update;

/// What passes between a card's first program, which stays until the card is written anew, and the application, which
/// is updated: the state, `device.json`, the options that the application is started with and what its exit codes mean.
/// An update that expects another one is refused.
pub const INTERFACE: u32 = 1;

/// What has to be the same in the finding on the radiograph that a release is tested with.
pub const KNOWN_FINDING: [&str; 4] = ["probability", "positive", "threshold", "sha256"];

pub use block::{Block, Disk};
pub use layout::{Layout, Slot};
