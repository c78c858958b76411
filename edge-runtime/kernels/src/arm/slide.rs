//! Windows of 3×3 that slide over an image and keep the columns that they share with the one before.

use crate::depthwise::Interior;
use std::ops::Range;

/// So many columns of the grid of taps a window moves, if the taps are a grid of 3×3 and windows move by whole columns.
pub fn stride(d: &Interior) -> Option<usize> {
    let &[first, beside, _, below, ..] = d.taps else { return None };
    let grid = |(t, tap): (usize, &usize)| *tap == t / 3 * below + t % 3 * beside;
    let is_grid = first == 0 && d.taps.len() == 9 && d.taps.iter().enumerate().all(grid);
    (is_grid && beside > 0 && d.column_stride.is_multiple_of(beside)).then(|| d.column_stride / beside)
}

/// Output rows, some at a time: so many that preparing the weights of a block does not count, and no more, so that they
/// are still in the first-level cache for the next block; an even number.
pub fn some_rows(d: &Interior) -> impl Iterator<Item = Range<usize>> + use<> {
    let some = (128 / d.out_width).max(1).next_multiple_of(2);
    let rows = d.rows;
    (0..rows).step_by(some).map(move |first| first..rows.min(first + some))
}

/// Calls `window` with where each window of an output row writes its codes, and its three columns: `column` gives that
/// which begins so many codes from the row's first. STRIDE is what [`stride`] says, 1 or 2.
///
/// Columns change their places by name, not by moving, so that they stay in their registers.
#[inline(always)]
pub fn columns<C: Copy, const STRIDE: usize>(
    d: &Interior,
    column: impl Fn(usize) -> C,
    mut window: impl FnMut(usize, [C; 3]),
) {
    let beside = d.taps[1];
    let step = d.out_pixel_stride;
    let end = d.out_width * step;
    let mut to = 0;
    if STRIDE == 2 {
        let mut from = beside;
        let mut first = column(0);
        while to + 2 * step <= end {
            let last = column(from + beside);
            window(to, [first, column(from), last]);
            first = column(from + 3 * beside);
            window(to + step, [last, column(from + 2 * beside), first]);
            from += 4 * beside;
            to += 2 * step;
        }
        if to < end {
            window(to, [first, column(from), column(from + beside)]);
        }
        return;
    }
    let mut from = 2 * beside;
    let mut left = column(0);
    let mut middle = column(beside);
    while to + 3 * step <= end {
        let right = column(from);
        window(to, [left, middle, right]);
        left = column(from + beside);
        window(to + step, [middle, right, left]);
        middle = column(from + 2 * beside);
        window(to + 2 * step, [right, left, middle]);
        from += 3 * beside;
        to += 3 * step;
    }
    while to < end {
        let right = column(from);
        window(to, [left, middle, right]);
        (left, middle) = (middle, right);
        from += beside;
        to += step;
    }
}
