//! Windows that slide over an image of activations, and copies of its pixels.

/// Windows that slide over an image, and where what is computed from them goes.
#[derive(Debug, Clone, Copy)]
pub struct SlidingWindow<'a> {
    /// Input codes.
    pub input: &'a [u8],
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Codes from one pixel of the input to the next.
    pub pixel_stride: usize,
    /// Channels of input and output.
    pub channels: usize,
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Rows and columns from one window to the next.
    pub stride: [usize; 2],
    /// Rows and columns from one tap to the next.
    pub dilation: [usize; 2],
    /// Rows that the first windows lie above the image, columns that they lie left of it.
    pub padding: [usize; 2],
    /// Columns of the output.
    pub out_width: usize,
    /// Codes from one pixel of the output to the next.
    pub out_pixel_stride: usize,
}

impl SlidingWindow<'_> {
    /// Output rows that `out` holds.
    fn rows(&self, out: &[u8]) -> usize {
        (out.len() + self.out_pixel_stride - self.channels) / (self.out_width * self.out_pixel_stride)
    }

    /// Checks what every kernel relies on; gives the number of rows in `out`.
    pub(crate) fn check(&self, out: &[u8]) -> usize {
        assert!(self.height > 0 && self.width > 0);
        assert!(self.pixel_stride >= self.channels && self.out_pixel_stride >= self.channels);
        assert!(self.input.len() >= (self.height * self.width - 1) * self.pixel_stride + self.channels);
        self.rows(out)
    }

    /// Rows (`axis` 0) or columns of window `at` that lie inside the image, `side` long; the window has no holes.
    pub(crate) fn valid(&self, at: usize, axis: usize, side: usize) -> std::ops::Range<usize> {
        let start = at * self.stride[axis];
        let padding = self.padding[axis];
        let end = (start + self.kernel[axis]).saturating_sub(padding).min(side);
        start.saturating_sub(padding).min(end)..end
    }

    /// Input rows and columns, holes included, that a window spans.
    pub(crate) fn extent(&self) -> [usize; 2] {
        [0, 1].map(|i| (self.kernel[i] - 1) * self.dilation[i] + 1)
    }
}

/// Copies pixels of `channels` codes, which lie `pixel_stride` apart in `from`, side by side to `to`.
pub fn copy_pixels(from: &[u8], pixel_stride: usize, to: &mut [u8], channels: usize) {
    if pixel_stride == channels {
        return to.copy_from_slice(&from[..to.len()]);
    }
    for (i, to) in to.chunks_exact_mut(channels).enumerate() {
        to.copy_from_slice(&from[i * pixel_stride..][..channels]);
    }
}
