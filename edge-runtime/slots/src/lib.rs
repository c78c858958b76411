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

pub use block::{Block, Disk};
pub use layout::{Layout, Slot};
