//! `edge-runtime`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    edge_runtime::commands::main()
}
