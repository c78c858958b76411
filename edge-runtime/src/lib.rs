//! Radiograph in, finding out.
//!
//! The ground floor of Hilum: the input contract, the device bundle, the integer engine on tract, the display and the
//! latency budgets. Training, calibration and device all meet in this crate, so that they see the same pixels.

pub mod board;
pub mod bundle;
pub mod commands;
pub mod contract;
pub mod engine;
pub mod files;
pub mod heatmap;
pub mod inputs;
pub mod lower;
pub mod measure;
pub mod model;
pub mod network;
pub mod onnx;
pub mod prediction;
pub mod preprocess;
pub mod progress;
pub mod radiograph;
pub mod scan;
pub mod screen;
