//! Depthwise convolutions: what a [`crate::Kernel::depthwise`] gets, and the border that most kernels ask for.

use crate::image::{SlidingWindow, copy_pixels};
use crate::{NR, Requantise, scratch};

/// A depthwise convolution.
pub struct Depthwise<'a> {
    /// Windows, input and output.
    pub window: SlidingWindow<'a>,
    /// The code that stands outside the image.
    pub zero_point: u8,
    /// `[taps][channels]`.
    pub weights: &'a [i8],
    /// How sums become codes; as long as `channels`, rounded up to [`NR`].
    pub requantise: Requantise<'a>,
}

/// Bytes of input lines that a depthwise convolution gives a border at a time; few in tests, whose images are small.
const PADDED_BYTES: usize = if cfg!(test) { 1024 } else { 96 * 1024 };

/// Some rows of a depthwise convolution whose windows all lie inside the input.
pub(crate) struct Interior<'a> {
    pub input: &'a [u8],
    /// Codes from the first tap of a window to each tap.
    pub taps: &'a [usize],
    /// Codes from one window to the one below.
    pub row_stride: usize,
    /// Codes from one window to the one on the right.
    pub column_stride: usize,
    pub rows: usize,
    pub channels: usize,
    pub out_width: usize,
    pub out_pixel_stride: usize,
    pub weights: &'a [i8],
    pub requantise: Requantise<'a>,
}

/// How the input of some rows lies: as it is, or as copies of its lines with a border.
struct Layout {
    /// Pixels of a line.
    width: usize,
    /// Codes from one pixel to the next.
    pixel_stride: usize,
    /// True if the input serves as it is.
    direct: bool,
}

impl Layout {
    /// Codes from one line to the next.
    fn line(&self) -> usize {
        self.width * self.pixel_stride
    }
}

impl Depthwise<'_> {
    /// Calls `work` with output rows from `first_row`, as many as `out` holds: over the input where all windows lie
    /// inside, else over copies of some lines with their border, which stay in the second-level cache.
    pub(crate) fn over_interior(&self, first_row: usize, out: &mut [u8], work: impl Fn(&Interior, &mut [u8])) {
        let window = &self.window;
        let rows = self.check(out);
        if rows == 0 {
            return;
        }
        let layout = self.layout(first_row, rows);
        let line = layout.line();
        scratch::with::<usize, _>(window.kernel[0] * window.kernel[1], |taps| {
            for (t, tap) in taps.iter_mut().enumerate() {
                let y = t / window.kernel[1] * window.dilation[0];
                let x = t % window.kernel[1] * window.dilation[1];
                *tap = y * line + x * layout.pixel_stride;
            }
            let work = |input: &[u8], rows: usize, out: &mut [u8]| {
                let interior = self.interior(input, taps, &layout, rows);
                assert!(input.len() >= interior.end(rows));
                work(&interior, out);
            };
            match layout.direct {
                true => work(&window.input[first_row * window.stride[0] * line..], rows, out),
                false => self.over_padded(&layout, first_row, rows, out, work),
            }
        });
    }

    /// Input lines that `rows` rows of outputs see.
    fn lines(&self, rows: usize) -> usize {
        (rows - 1) * self.window.stride[0] + self.window.extent()[0]
    }

    fn layout(&self, first_row: usize, rows: usize) -> Layout {
        let window = &self.window;
        let columns = (window.out_width - 1) * window.stride[1] + window.extent()[1];
        let last_line = first_row * window.stride[0] + self.lines(rows);
        let direct = window.padding == [0, 0] && last_line <= window.height && columns <= window.width;
        match direct {
            true => Layout { width: window.width, pixel_stride: window.pixel_stride, direct },
            false => {
                let width = columns.max(window.padding[1] + window.width);
                Layout { width, pixel_stride: window.channels, direct }
            }
        }
    }

    fn interior<'a>(&'a self, input: &'a [u8], taps: &'a [usize], layout: &Layout, rows: usize) -> Interior<'a> {
        let window = &self.window;
        Interior {
            input,
            taps,
            row_stride: window.stride[0] * layout.line(),
            column_stride: window.stride[1] * layout.pixel_stride,
            rows,
            channels: window.channels,
            out_width: window.out_width,
            out_pixel_stride: window.out_pixel_stride,
            weights: self.weights,
            requantise: self.requantise,
        }
    }

    /// [`Depthwise::over_interior`] over copies of some lines at a time with their border.
    fn over_padded(
        &self,
        layout: &Layout,
        first_row: usize,
        rows: usize,
        out: &mut [u8],
        work: impl Fn(&[u8], usize, &mut [u8]),
    ) {
        let window = &self.window;
        let line = layout.line();
        let at_once = (PADDED_BYTES / line).saturating_sub(window.extent()[0]) / window.stride[0] + 1;
        scratch::with::<u8, _>(self.lines(at_once.min(rows)) * line, |padded| {
            let blocks = out.chunks_mut(at_once * window.out_width * window.out_pixel_stride);
            for (i, out) in blocks.take(rows.div_ceil(at_once)).enumerate() {
                let from = (first_row + i * at_once) * window.stride[0];
                let rows = at_once.min(rows - i * at_once);
                let padded = &mut padded[..self.lines(rows) * line];
                for (y, to) in padded.chunks_exact_mut(line).enumerate() {
                    self.pad_line((from + y).checked_sub(window.padding[0]), to);
                }
                work(padded, rows, out);
            }
        });
    }

    /// Input line `y` with its border; `None` is a line above the image.
    fn pad_line(&self, y: Option<usize>, to: &mut [u8]) {
        let window = &self.window;
        let Some(y) = y.filter(|y| *y < window.height) else { return to.fill(self.zero_point) };
        let left = window.padding[1] * window.channels;
        let right = left + window.width * window.channels;
        to[..left].fill(self.zero_point);
        to[right..].fill(self.zero_point);
        let from = &window.input[y * window.width * window.pixel_stride..];
        copy_pixels(from, window.pixel_stride, &mut to[left..right], window.channels);
    }

    /// Checks what every kernel relies on; gives the number of rows in `out`.
    pub(crate) fn check(&self, out: &[u8]) -> usize {
        let filled = self.window.channels.next_multiple_of(NR);
        assert!(self.weights.len() >= self.window.kernel[0] * self.window.kernel[1] * self.window.channels);
        assert!(self.requantise.bias.len() >= filled && self.requantise.multiplier.len() >= filled);
        self.window.check(out)
    }
}

impl Interior<'_> {
    /// One past the last input code that the windows of the first `rows` rows see.
    fn end(&self, rows: usize) -> usize {
        let far = self.taps.iter().max().copied().unwrap_or(0);
        (rows - 1) * self.row_stride + (self.out_width - 1) * self.column_stride + far + self.channels
    }
}
