//! fp32 ONNX to int8: calibration, quantisation, the device bundle, and the measures that say what it cost.
//!
//! Data sets and metrics live here because the quantiser judges its own result; training imports them from here.

pub mod calibration;
pub mod canonical;
pub mod command;
pub mod dataset;
pub mod evaluation;
pub mod foreign;
pub mod metrics;
pub mod qdq;
