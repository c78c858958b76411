//! Training kernels on plain slices: convolution, batch normalisation and pooling, forward and backward, float32,
//! channels-last.
//!
//! An image batch is `[n, h, w, c]` in row-major order: the channels of one pixel lie side by side. Then a pointwise
//! convolution is one matrix product, a depthwise one works on whole vectors of channels, and a normalisation reads a
//! vector of scales for each pixel. Matrix products come from the `gemm` crate, vector width from `pulp`; work is split
//! over rayon's threads. [`crate::operators`] hangs these kernels into burn's autodiff.

pub mod conv;
mod depthwise;
pub mod norm;
pub mod pool;

use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;
use std::ops::Range;

/// What follows a convolution or a normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing (a linear bottleneck).
    None,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

impl Activation {
    /// Smallest and largest value.
    pub fn bounds(self) -> (f32, f32) {
        match self {
            Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
        }
    }

    /// `gradient` where the activation let its input through, else 0; `output` is what it gave.
    #[inline(always)]
    fn gate((low, high): (f32, f32), output: f32, gradient: f32) -> f32 {
        if output > low && output < high { gradient } else { 0.0 }
    }
}

/// Runs `f` compiled for the widest vectors this processor has. What `f` calls must be inlined into it.
#[inline(always)]
pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    struct Run<F>(F);
    impl<R, F: FnOnce() -> R> NullaryFnOnce for Run<F> {
        type Output = R;
        #[inline(always)]
        fn call(self) -> R {
            (self.0)()
        }
    }
    Arch::new().dispatch(Run(f))
}

/// `total` in as many nearly equal ranges as there are threads: sums over them are the same in every run on as many
/// threads.
fn parts(total: usize) -> Vec<Range<usize>> {
    let n = rayon::current_num_threads().clamp(1, total.max(1));
    (0..n).map(|i| total * i / n..total * (i + 1) / n).collect()
}

/// A vector of `len` elements, written chunk by chunk on all threads: `fill` gets a chunk's number and the chunk,
/// zeroed where its thread has just touched it.
fn filled(len: usize, chunk: usize, fill: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    values.spare_capacity_mut()[..len].par_chunks_mut(chunk.max(1)).enumerate().for_each(|(i, places)| {
        places.iter_mut().for_each(|place| {
            place.write(0.0);
        });
        // SAFETY: every element of the chunk was written just above.
        fill(i, unsafe { places.assume_init_mut() });
    });
    // SAFETY: the chunks cover all `len` elements, and each was written.
    unsafe { values.set_len(len) };
    values
}

/// Adds up vectors of equal length, in their order.
fn sum(parts: Vec<Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut total = parts.next().unwrap_or_default();
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, p)| *t += p);
    }
    total
}

/// A matrix somewhere in a slice; strides in elements.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix { values, rows, columns, strides: (columns, 1) }
    }

    fn transposed(self) -> Self {
        Matrix { rows: self.columns, columns: self.rows, strides: (self.strides.1, self.strides.0), ..self }
    }
}

/// `out` = (`add` ? `out` : 0) + `a`·`b`, on this thread; `out` is row-major with `stride` elements from row to row.
fn product(out: &mut [f32], stride: usize, add: bool, a: Matrix, b: Matrix) {
    let m = a.rows;
    let n = b.columns;
    let k = a.columns;
    if m == 0 || n == 0 {
        return;
    }
    let last = |x: &Matrix| (x.rows - 1) * x.strides.0 + (x.columns - 1) * x.strides.1;
    assert_eq!(k, b.rows, "inner sizes of a matrix product");
    assert!(k > 0 && stride >= n && (m - 1) * stride + n <= out.len(), "the product fits its place");
    assert!(last(&a) < a.values.len() && last(&b) < b.values.len(), "the factors lie inside their slices");
    // SAFETY: the assertions above keep every element of the three matrices inside its slice; `out` is borrowed
    // mutably, so it overlaps neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            stride as isize,
            add,
            a.values.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.values.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
