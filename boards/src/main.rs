//! `boards`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    boards::command::main()
}
