//! From a release to a clinic device. What a device is stands in the files `*.toml` beside this crate's manifest; their
//! type is [`edge_runtime::board::Board`], because the device reads its own budget from them.

#![forbid(unsafe_code)]

pub mod card;
pub mod commands;
pub mod emulator;
pub mod flash;
pub mod packages;
pub mod sticks;
pub mod tools;
