//! `edge-runtime`: see `--help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_runtime::commands::main()
}
