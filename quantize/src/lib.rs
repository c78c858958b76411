//! fp32 ONNX to int8: the canonical form, calibration, quantisation, the device bundle.

#![forbid(unsafe_code)]

pub mod activations;
pub mod analysis;
pub mod calibration;
pub mod canonical;
pub mod command;
pub mod correction;
pub mod foreign;
pub mod pixel_grid;
pub mod qdq;
pub mod qoperator;
pub mod sqnr;
pub mod standard;
