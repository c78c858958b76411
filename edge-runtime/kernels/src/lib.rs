//! The inner loops of the integer engine, behind one table that is chosen when the program starts.
//!
//! Every kernel gives bit for bit what [`portable`] gives; the property tests hold them to it. A kernel says
//! how it wants weights packed ([`Kernel::kr`]); everything else about it is its own business. `docs/kernel-names.md`
//! says what its names mean.
//!
//! All `unsafe` code of the device is in this crate. It depends on nothing, so that sanitizers and instruction counts
//! reach it without the rest.

#[cfg(target_arch = "aarch64")]
mod arm;
mod depthwise;
mod elementwise;
mod gemm;
mod image;
mod packing;
mod pool;
pub mod portable;
mod requantise;
pub mod scratch;
pub mod team;
#[cfg(test)]
mod tests;
pub mod winograd;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use depthwise::Depthwise;
pub use elementwise::{Product, Sum};
pub use gemm::{Gemm, Windows};
pub use image::{SlidingWindow, copy_pixels};
pub use packing::{Packed, Scaling};
pub use pool::MaxPool;
pub use requantise::Requantise;
use winograd::Winograd;

/// Output channels of a panel: columns of a product that are packed, and computed, together (XNNPACK's `nr`).
pub const NR: usize = 16;

/// The loops of one instruction set.
pub struct Kernel {
    /// Name for `HILUM_KERNEL` and reports.
    pub name: &'static str,
    /// Codes along the depth that are packed side by side.
    pub kr: usize,
    /// True if activations are multiplied as `code − 128`, for instructions that know signed bytes only.
    pub signed: bool,
    /// Fills `rows × columns` codes.
    pub gemm: fn(&Gemm, &mut [u8]),
    /// Fills output rows from a row of tiles on, as many as the slice holds; where it is faster than `gemm`.
    pub winograd: Option<fn(&Winograd, usize, &mut [u8])>,
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub depthwise: fn(&Depthwise, usize, &mut [u8]),
    /// Fills output rows from `first_row`, as many as the slice holds.
    pub max_pool: fn(&MaxPool, usize, &mut [u8]),
    /// Sums, code by code.
    pub add: fn(&Sum, &[u8], &[u8], &mut [u8]),
    /// Products, code by code.
    pub multiply: fn(&Product, &[u8], &[u8], &mut [u8]),
    /// Sum of products of codes and weights.
    pub dot: fn(&[u8], &[i8]) -> i32,
}

/// All kernels that this processor runs, best first.
pub fn available() -> Vec<&'static Kernel> {
    let mut found: Vec<&'static Kernel> = Vec::new();
    #[cfg(target_arch = "x86_64")]
    found.extend(x86::available());
    #[cfg(target_arch = "aarch64")]
    found.extend(arm::available());
    found.push(&portable::KERNEL);
    found
}

/// The best kernel that this processor runs.
pub fn best() -> &'static Kernel {
    available()[0]
}

/// This processor has no kernel of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKernel {
    /// What was asked for.
    pub name: String,
    /// What there is, best first.
    pub known: Vec<&'static str>,
}

impl std::fmt::Display for UnknownKernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: this processor has the kernels {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for UnknownKernel {}

/// The kernel of this processor that is called `name`.
pub fn find(name: &str) -> Result<&'static Kernel, UnknownKernel> {
    let available = available();
    let unknown = || UnknownKernel { name: name.to_owned(), known: available.iter().map(|k| k.name).collect() };
    available.iter().find(|k| k.name == name).copied().ok_or_else(unknown)
}
