//! What a clinic device is. The definitions are the files `*.toml` beside this crate's manifest; their type is
//! [`edge_runtime::board::Board`], because the device reads its own budget from them.

#![forbid(unsafe_code)]

pub mod command;
