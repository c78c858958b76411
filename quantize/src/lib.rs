//! fp32 ONNX to int8: calibration, quantisation, and the device bundle.

pub mod calibration;
