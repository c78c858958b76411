//! Records as people and machines read them.

#[cfg(feature = "dicom")]
pub mod dicom;
pub mod html;
pub mod json;
pub mod plots;
pub mod text;

/// Thousandths: what milliseconds are printed in.
pub fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
