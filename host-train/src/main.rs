//! `host-train`: see `--help`.

use std::process::ExitCode;

// Training allocates and frees large tensors all the time. An allocator that gives their pages back has the kernel
// clear them anew in every step, which took half of the forward pass.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in mimalloc's header: milliseconds until freed pages go back to the system; −1 keeps them.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets one of the allocator's options; it takes any number.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    host_train::commands::main()
}
