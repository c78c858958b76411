//! What all of Hilum's programs do as processes: settings read and checked once, exit codes, errors in a sentence.

pub mod command_line;
pub mod files;
pub mod measure;
pub mod ordered;
pub mod output;
pub mod processor;
pub mod progress;

use crate::engine::{Compute, kernels};
use crate::image::guard;
use anyhow::anyhow;
use progress::sentence;
use std::process::ExitCode;
use std::time::Instant;

/// Why a program ended early, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    error: anyhow::Error,
}

impl Failure {
    /// Something could not be read, computed or written: exit code 1.
    pub fn work(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 1, error: error.into() }
    }

    /// The command line or the environment was not understood: exit code 2.
    pub fn usage(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 2, error: error.into() }
    }

    /// No display is connected: exit code 6.
    pub fn no_display(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 6, error: error.into() }
    }

    /// The model was refused: exit code 3.
    pub fn model(error: impl Into<anyhow::Error>) -> Failure {
        Failure { code: 3, error: error.into() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&sentence(&self.error))
    }
}

impl std::error::Error for Failure {}

/// A failure that came through `anyhow` keeps its exit code; any other error is one of the work.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        error.downcast::<Failure>().unwrap_or_else(Failure::work)
    }
}

/// This process.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    /// When it started.
    pub start: Instant,
}

impl Process {
    /// On what networks run here: the kernel that `HILUM_KERNEL` names, else the best one, and `threads` threads. A
    /// name that no kernel of this processor has is a [`Failure::usage`].
    pub fn compute(&self, threads: usize) -> Result<Compute, Failure> {
        let kernel = match std::env::var_os("HILUM_KERNEL").filter(|name| !name.is_empty()) {
            None => kernels::best(),
            Some(name) => {
                let found = kernels::find(&name.to_string_lossy());
                found.map_err(|e| Failure::usage(anyhow!("HILUM_KERNEL={e}")))?
            }
        };
        let team = kernels::team::Team::new(threads).map_err(Failure::work)?;
        Ok(Compute { kernel, team })
    }
}

/// Runs `work` as the program `name`, and says on stderr why it ended early.
pub fn main(name: &str, work: impl FnOnce(Process) -> Result<u8, Failure>) -> ExitCode {
    let process = Process { start: Instant::now() };
    if let Some(code) = guard::serve() {
        return ExitCode::from(code);
    }
    // A reader that has seen enough (`| head`) ends the program, as it ends others, without a word.
    sigpipe::reset();
    match work(process) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::from(failure.code)
        }
    }
}
