//! Radiograph in, finding out.
//!
//! The ground floor of Hilum: the input contract, the device bundle, the integer engine on tract, the display and the
//! latency budgets. Training, calibration and device all meet in this crate, so that they see the same pixels.

#![forbid(unsafe_code)]

pub mod board;
pub mod commands;
pub mod config;
pub mod display;
pub mod domain;
pub mod engine;
pub mod explain;
pub mod finding;
pub mod image;
pub mod keys;
pub mod kiosk;
pub mod log;
pub mod lower;
pub mod model;
pub mod network;
pub mod onnx;
pub mod operators;
pub mod panel;
pub mod process;
pub mod report;
pub mod scan;
pub mod site;
pub mod stages;
pub mod suitability;
