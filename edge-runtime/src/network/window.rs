//! Geometry of convolution and pooling windows.

use serde::{Deserialize, Serialize};

/// Geometry of a convolution or pooling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Rows and columns of the window.
    pub kernel: [u32; 2],
    /// Rows and columns between windows.
    pub stride: [u32; 2],
    /// Added at top, left, bottom, right: the zero point for a convolution, nothing for a pool.
    pub padding: [u32; 4],
    /// Rows and columns between the taps of a window; 1 is a window without holes.
    pub dilation: [u32; 2],
}

impl Window {
    /// One pixel.
    pub fn one() -> Window {
        Window { kernel: [1; 2], stride: [1; 2], padding: [0; 4], dilation: [1; 2] }
    }

    /// Rows and columns from the first tap of a window to its last, holes included.
    pub fn extent(&self) -> [u32; 2] {
        [0, 1].map(|i| self.kernel[i].saturating_sub(1).saturating_mul(self.dilation[i]).saturating_add(1))
    }

    /// `[height, width]` of the output for an input of `[height, width]`; `None` where the window does not fit.
    pub fn output(&self, input: [u32; 2]) -> Option<[u32; 2]> {
        let extent = self.extent();
        let side = |i: usize| {
            let padded = input[i].checked_add(self.padding[i])?.checked_add(self.padding[i + 2])?;
            Some(padded.checked_sub(extent[i])?.checked_div(self.stride[i])? + 1)
        };
        Some([side(0)?, side(1)?])
    }

    /// The window padded at its end so that windows that reach beyond the image count (`ceil_mode`), but not one that
    /// would begin there (ONNX operator specification, `MaxPool`).
    pub fn covering(mut self, input: [u32; 2]) -> Window {
        for (i, extent) in self.extent().into_iter().enumerate() {
            let before = u64::from(self.padding[i]);
            let stride = u64::from(self.stride[i]).max(1);
            let end = before + u64::from(input[i]);
            let span = (end + u64::from(self.padding[i + 2])).saturating_sub(u64::from(extent));
            let last = span.div_ceil(stride) * stride;
            let last = if last >= end { last.saturating_sub(stride) } else { last };
            let needed = (last + u64::from(extent)).saturating_sub(end);
            self.padding[i + 2] = self.padding[i + 2].max(u32::try_from(needed).unwrap_or(u32::MAX));
        }
        self
    }

    /// True if the window is sound and gives `output` from `input`.
    pub fn fits(&self, input: [u32; 2], output: [u32; 2]) -> bool {
        self.kernel.iter().chain(&self.stride).chain(&self.dilation).all(|d| (1..=4096).contains(d))
            && self.padding.iter().all(|p| *p <= 4096)
            && self.output(input) == Some(output)
    }

    /// As [`Window::fits`], for a pool, which must see at least one pixel in each window and has no holes.
    pub fn fits_pool(&self, input: [u32; 2], output: [u32; 2]) -> bool {
        let [top, left, bottom, right] = self.padding;
        self.dilation == [1, 1]
            && top.max(bottom) < self.kernel[0]
            && left.max(right) < self.kernel[1]
            && self.fits(input, output)
    }
}
