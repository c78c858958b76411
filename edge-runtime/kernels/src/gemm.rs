//! Matrix products over windows of activations: what a [`crate::Kernel::gemm`] gets, and what it may rely on.

use crate::{NR, Packed, Requantise};

/// Where the codes of each sum lie: windows over activations, line by line. A window is some runs of codes that lie
/// side by side: the rows of a convolution window, or its taps where pixels lie apart.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// Windows in a line.
    pub width: usize,
    /// Codes from one window to the next in its line.
    pub column_stride: usize,
    /// Codes from one line of windows to the next.
    pub row_stride: usize,
    /// Codes from the first of a window to the first of each run.
    pub runs: &'a [usize],
}

impl Windows<'_> {
    /// Where window `i` begins.
    pub fn start(&self, i: usize) -> usize {
        i / self.width * self.row_stride + i % self.width * self.column_stride
    }

    /// One past the last code that `count` windows from `first` read, of each run `run` codes.
    pub fn end(&self, first: usize, count: usize, run: usize) -> usize {
        let Some(last) = (first + count).checked_sub(1).filter(|_| count > 0) else { return 0 };
        // The end of the line above may lie further.
        let above = (last / self.width > first / self.width).then(|| self.start(last / self.width * self.width - 1));
        let far = self.runs.iter().max().copied().unwrap_or(0);
        self.start(last).max(above.unwrap_or(0)) + far + run
    }

    /// The starts of window `first` and of those after it.
    #[inline(always)]
    pub(crate) fn starts(&self, first: usize) -> Starts {
        let wrap = self.row_stride.wrapping_sub((self.width - 1).wrapping_mul(self.column_stride));
        // Lines that follow one another like windows are one line.
        let (x, width) = if wrap == self.column_stride { (0, usize::MAX) } else { (first % self.width, self.width) };
        Starts { at: self.start(first), x, width, column_stride: self.column_stride, wrap }
    }
}

/// [`Windows::starts`].
pub(crate) struct Starts {
    at: usize,
    x: usize,
    width: usize,
    column_stride: usize,
    /// From the last window of a line to the first of the next.
    wrap: usize,
}

impl Starts {
    /// The next R.
    #[inline(always)]
    pub(crate) fn take<const R: usize>(&mut self) -> [usize; R] {
        if self.x + R >= self.width {
            return self.over_the_end();
        }
        let mut starts = [self.at; R];
        for r in 1..R {
            starts[r] = starts[r - 1].wrapping_add(self.column_stride);
        }
        self.at = starts[R - 1].wrapping_add(self.column_stride);
        self.x += R;
        starts
    }

    /// [`Starts::take`] where a line ends. By itself, so that the usual way is short.
    #[cold]
    #[inline(never)]
    fn over_the_end<const R: usize>(&mut self) -> [usize; R] {
        let mut starts = [0; R];
        for start in &mut starts {
            *start = self.at;
            self.x += 1;
            let line_ends = self.x == self.width;
            self.at = self.at.wrapping_add(if line_ends { self.wrap } else { self.column_stride });
            self.x = if line_ends { 0 } else { self.x };
        }
        starts
    }
}

/// Sums of products over windows of activations and panels of weights, requantised to codes.
pub struct Gemm<'a> {
    /// Activations. A run is read to the end of [`Packed::run`]; codes beyond the real ones count nothing.
    pub a: &'a [u8],
    /// Windows over them.
    pub windows: Windows<'a>,
    /// The first window.
    pub first: usize,
    /// Windows from there on: rows of the product.
    pub rows: usize,
    /// Weights.
    pub weights: &'a Packed,
    /// How sums become codes.
    pub requantise: Requantise<'a>,
    /// Codes from one row of the output to the next, at least `weights.columns`.
    pub out_row_stride: usize,
}

impl Gemm<'_> {
    /// Checks what every kernel relies on, of which `kr` codes go side by side: lengths of activations, weights,
    /// scaling and output.
    pub(crate) fn check(&self, out: &[u8], kr: usize) {
        let w = self.weights;
        let filled = w.columns.next_multiple_of(NR);
        assert!(w.run > 0 && w.run.is_multiple_of(kr) && !self.windows.runs.is_empty());
        assert!(w.depth == w.run * self.windows.runs.len() && w.codes.len() == filled * w.depth);
        assert!(self.requantise.bias.len() >= filled && self.requantise.multiplier.len() >= filled);
        assert!(self.windows.width > 0 && self.a.len() >= self.windows.end(self.first, self.rows, w.run));
        assert!(self.rows == 0 || out.len() >= (self.rows - 1) * self.out_row_stride + w.columns);
    }
}
