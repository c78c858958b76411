//! x86-64: AVX2, AVX-VNNI and AVX-512 VNNI.

mod avx2;
mod vnni;

use crate::Kernel;

/// The kernels of this family that this processor runs, best first.
pub(crate) fn available() -> Vec<&'static Kernel> {
    let entries = [
        (&vnni::AVX512, vnni::has_avx512 as fn() -> bool),
        (&vnni::AVX, vnni::has_avx),
        (&avx2::KERNEL, avx2::is_there),
    ];
    entries.into_iter().filter(|(_, is_there)| is_there()).map(|(kernel, _)| kernel).collect()
}
