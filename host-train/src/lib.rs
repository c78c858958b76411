//! Data sets to `model.onnx`: recipes, networks, training and evaluation.

pub mod augment;
pub mod commands;
pub mod device;
pub mod explain;
pub mod export;
pub mod kernels;
pub mod network;
pub mod operators;
pub mod optimizer;
pub mod phantom;
pub mod recipe;
pub mod report;
pub mod site;
pub mod study;
pub mod trained;
pub mod training;
