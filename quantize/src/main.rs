//! `quantize`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    quantize::command::main()
}
