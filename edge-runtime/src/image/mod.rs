//! Files to grey planes.
//!
//! Every file is hostile until decoded: its size, its declared dimensions and its contrast are bounded before anything
//! is believed. Decoding is stages: container ([`Format`]) → samples ([`samples`]) → depth and polarity ([`depth`]) →
//! an 8-bit [`GreyPlane`], which with its [`Origin`] is a [`Radiograph`].

pub mod decode;
pub mod depth;
#[cfg(feature = "dicom")]
pub(crate) mod dicom;
pub mod folder;
mod format;
pub mod guard;
mod jpeg;
mod picture;
mod plane;
mod png;
pub mod polarity;
pub mod preprocess;
pub mod samples;
pub mod source;
mod tiff;

pub use decode::{Acquisition, Origin, Radiograph, RadiographError, Sex, View, Windowing};
pub use depth::{Basis, Photometric};
pub use format::Format;
pub use picture::Picture;
pub use plane::{GreyPlane, Rectangle};
