//! `quantize`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A reader that has seen enough (`| head`) ends the program, as it ends others, without a word.
    sigpipe::reset();
    quantize::command::run()
}
