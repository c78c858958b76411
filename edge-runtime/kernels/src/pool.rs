//! Max pooling.

use crate::image::SlidingWindow;

/// The largest code in each window, clamped. Only what lies inside the image counts, and each window has a code there.
pub struct MaxPool<'a> {
    /// Windows, input and output; no dilation.
    pub window: SlidingWindow<'a>,
    /// Smallest code.
    pub low: u8,
    /// Largest code.
    pub high: u8,
}
