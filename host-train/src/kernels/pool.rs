//! Max and average pooling over square windows, `[n, h, w, c]`.

use super::{filled, vectorised};

/// A pooling's sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Images.
    pub n: usize,
    /// Input rows.
    pub h: usize,
    /// Input columns.
    pub w: usize,
    /// Channels.
    pub c: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Rows and columns between windows.
    pub stride: usize,
    /// Rows and columns around the image that never win (max); 0 for averages.
    pub padding: usize,
}

impl Geometry {
    /// Output rows and columns.
    pub fn output(&self) -> (usize, usize) {
        let side = |inner: usize| (inner + 2 * self.padding - self.kernel) / self.stride + 1;
        (side(self.h), side(self.w))
    }

    /// Calls `tap` with the first element of each pixel of the window at (`oy`, `ox`), within one image.
    #[inline(always)]
    fn each_tap(&self, oy: usize, ox: usize, mut tap: impl FnMut(usize)) {
        for ky in 0..self.kernel {
            let y = (oy * self.stride + ky).wrapping_sub(self.padding);
            for kx in 0..self.kernel {
                let x = (ox * self.stride + kx).wrapping_sub(self.padding);
                if y < self.h && x < self.w {
                    tap((y * self.w + x) * self.c);
                }
            }
        }
    }
}

/// Largest value of each window: `[n, out_h, out_w, c]`.
pub fn max(g: &Geometry, x: &[f32]) -> Vec<f32> {
    let (out_h, out_w) = g.output();
    filled(g.n * out_h * out_w * g.c, out_w * g.c, |row, y| {
        let x = &x[row / out_h * g.h * g.w * g.c..][..g.h * g.w * g.c];
        vectorised(|| {
            for (ox, y) in y.chunks_exact_mut(g.c).enumerate() {
                y.fill(f32::NEG_INFINITY);
                g.each_tap(row % out_h, ox, |at| {
                    y.iter_mut().zip(&x[at..at + g.c]).for_each(|(y, x)| *y = if *x > *y { *x } else { *y });
                });
            }
        });
    })
}

/// Gradient of [`max`]: each window's goes to its first largest value.
pub fn max_gradient(g: &Geometry, x: &[f32], y: &[f32], dy: &[f32]) -> Vec<f32> {
    let (out_h, out_w) = g.output();
    // Rows of windows that overlap no others can be taken apart; else whole images.
    let rows = if g.kernel == g.stride && g.padding == 0 && g.h == out_h * g.stride { g.stride } else { g.h };
    let windows = if rows == g.h { out_h } else { 1 };
    filled(x.len(), rows * g.w * g.c, |i, dx| {
        let out = windows * out_w * g.c;
        let x = &x[i * dx.len()..][..dx.len()];
        let y = &y[i * out..][..out];
        let dy = &dy[i * out..][..out];
        if windows == 1 && g.kernel == 2 && g.w == 2 * out_w {
            return vectorised(|| row_of_pairs(g.c, x, y, dy, dx));
        }
        let mut left = vec![0.0; g.c];
        vectorised(|| {
            for (window, (y, dy)) in y.chunks_exact(g.c).zip(dy.chunks_exact(g.c)).enumerate() {
                left.copy_from_slice(dy);
                g.each_tap(window / out_w, window % out_w, |at| {
                    let x = &x[at..at + g.c];
                    let dx = &mut dx[at..at + g.c];
                    for (((dx, x), y), left) in dx.iter_mut().zip(x).zip(y).zip(&mut left) {
                        let hit = *x == *y;
                        *dx += if hit { *left } else { 0.0 };
                        *left = if hit { 0.0 } else { *left };
                    }
                });
            }
        });
    })
}

/// [`max_gradient`] for one row of 2×2 windows side by side, which most networks have: all four taps at once.
#[inline(always)]
fn row_of_pairs(c: usize, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let (top, bottom) = x.split_at(x.len() / 2);
    let (dx_top, dx_bottom) = dx.split_at_mut(x.len() / 2);
    let inputs = top.chunks_exact(2 * c).zip(bottom.chunks_exact(2 * c));
    let gradients = dx_top.chunks_exact_mut(2 * c).zip(dx_bottom.chunks_exact_mut(2 * c));
    let outputs = y.chunks_exact(c).zip(dy.chunks_exact(c));
    for (((top, bottom), (dx_top, dx_bottom)), (y, dy)) in inputs.zip(gradients).zip(outputs) {
        let (x0, x1) = top.split_at(c);
        let (x2, x3) = bottom.split_at(c);
        let (d0, d1) = dx_top.split_at_mut(c);
        let (d2, d3) = dx_bottom.split_at_mut(c);
        let x0 = &x0[..c];
        let x1 = &x1[..c];
        let x2 = &x2[..c];
        let x3 = &x3[..c];
        let y = &y[..c];
        let dy = &dy[..c];
        let d0 = &mut d0[..c];
        let d1 = &mut d1[..c];
        let d2 = &mut d2[..c];
        let d3 = &mut d3[..c];
        for i in 0..c {
            let h0 = x0[i] == y[i];
            let h1 = x1[i] == y[i];
            let h2 = x2[i] == y[i];
            let h3 = x3[i] == y[i];
            d0[i] = if h0 { dy[i] } else { 0.0 };
            d1[i] = if h1 & !h0 { dy[i] } else { 0.0 };
            d2[i] = if h2 & !h1 & !h0 { dy[i] } else { 0.0 };
            d3[i] = if h3 & !h2 & !h1 & !h0 { dy[i] } else { 0.0 };
        }
    }
}

/// Mean of each window; without padding.
pub fn average(g: &Geometry, x: &[f32]) -> Vec<f32> {
    assert_eq!(g.padding, 0, "averages have no padding");
    let (out_h, out_w) = g.output();
    let share = 1.0 / (g.kernel * g.kernel) as f32;
    filled(g.n * out_h * out_w * g.c, out_w * g.c, |row, y| {
        let x = &x[row / out_h * g.h * g.w * g.c..][..g.h * g.w * g.c];
        vectorised(|| {
            for (ox, y) in y.chunks_exact_mut(g.c).enumerate() {
                g.each_tap(row % out_h, ox, |at| {
                    y.iter_mut().zip(&x[at..at + g.c]).for_each(|(y, x)| *y += x * share);
                });
            }
        });
    })
}

/// Gradient of [`average`].
pub fn average_gradient(g: &Geometry, dy: &[f32]) -> Vec<f32> {
    let (out_h, out_w) = g.output();
    let share = 1.0 / (g.kernel * g.kernel) as f32;
    filled(g.n * g.h * g.w * g.c, g.h * g.w * g.c, |n, dx| {
        let dy = &dy[n * out_h * out_w * g.c..][..out_h * out_w * g.c];
        vectorised(|| {
            for (window, dy) in dy.chunks_exact(g.c).enumerate() {
                g.each_tap(window / out_w, window % out_w, |at| {
                    dx[at..at + g.c].iter_mut().zip(dy).for_each(|(x, d)| *x += d * share);
                });
            }
        });
    })
}
