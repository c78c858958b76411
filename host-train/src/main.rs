//! `host-train`: see `--help`.

use std::process::ExitCode;

// Training allocates and frees large tensors all the time; the system allocator returns them to the kernel each time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    host_train::commands::run()
}
