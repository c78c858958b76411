//! Armv8-A: baseline NEON, the dot-product extension, the matrix extension.

mod dotprod;
mod i8mm;
mod neon;
mod slide;

use crate::Kernel;

/// The kernels of this family that this processor runs, best first.
pub(crate) fn available() -> Vec<&'static Kernel> {
    let mut found: Vec<&'static Kernel> = Vec::new();
    let has_dotprod = std::arch::is_aarch64_feature_detected!("dotprod");
    if has_dotprod && std::arch::is_aarch64_feature_detected!("i8mm") {
        found.push(&i8mm::KERNEL);
    }
    if has_dotprod {
        found.push(&dotprod::KERNEL);
    }
    // Every aarch64 processor has NEON (Arm Architecture Reference Manual, Advanced SIMD of Armv8-A on Linux).
    found.push(&neon::KERNEL);
    found
}
