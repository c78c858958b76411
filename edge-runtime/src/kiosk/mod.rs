//! The device as a workplace: radiographs arrive in a folder or on a stick, are scanned, shown and kept; three buttons
//! do the rest. [`state`] is what the screen shows and what buttons do, [`mod@run`] drives it.

mod in_work;
pub mod inbox;
pub mod input;
pub mod run;
pub mod self_test;
pub mod state;
pub mod sticks;
pub mod update;
mod worker;

pub use run::{Kiosk, KioskError, run};
