//! What a card is made of, and how it is put together.

pub mod application;
pub mod archive;
pub mod bill_of_materials;
pub mod boot_partition;
pub mod image;
pub mod kernel_modules;
pub mod programs;
