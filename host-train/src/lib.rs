//! Data sets to `model.onnx`: recipes, networks, training and evaluation.

pub mod augment;
pub mod commands;
pub mod export;
pub mod network;
pub mod phantom;
pub mod recipe;
pub mod training;
