//! Data sets as they are published: one layout a file.

pub mod kermany;
