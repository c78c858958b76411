//! Progress of long work on stderr: a bar where it is a terminal, a line now and then where it is not.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Seconds between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// An error and its causes as one sentence; causes that an outer message already quotes are not said twice.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Shows one stage after another; safe to call from any thread.
pub struct Reporter {
    state: Mutex<State>,
    terminal: bool,
    quiet: bool,
}

struct State {
    stage: String,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Reporter {
    /// A reporter on stderr; `quiet` silences it.
    pub fn new(quiet: bool) -> Reporter {
        Reporter {
            state: Mutex::new(State { stage: String::new(), bar: None, said: Instant::now() }),
            terminal: std::io::stderr().is_terminal(),
            quiet,
        }
    }

    /// `stage` is at `done` of `of`; `note` holds the figures of the moment.
    pub fn step(&self, stage: &str, done: usize, of: usize, note: &str) {
        if self.quiet {
            return;
        }
        let mut s = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if s.stage != stage {
            if let Some(bar) = s.bar.take() {
                bar.finish_and_clear();
            }
            s.stage = stage.to_owned();
            s.said = Instant::now();
            if self.terminal {
                let bar = ProgressBar::with_draw_target(Some(of as u64), ProgressDrawTarget::stderr_with_hz(8));
                let style = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {msg} {eta}");
                bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
                bar.set_prefix(stage.to_owned());
                s.bar = Some(bar);
            }
        }
        match &s.bar {
            Some(bar) => {
                bar.set_position((done as u64).max(bar.position()));
                bar.set_message(note.to_owned());
                if done >= of {
                    bar.finish_and_clear();
                }
            }
            None if !self.terminal && s.said.elapsed() >= LINE_EVERY => {
                s.said = Instant::now();
                eprintln!("{stage}: {done}/{of} {note}");
            }
            None => {}
        }
    }

    /// A line of its own, above any bar.
    pub fn line(&self, text: &str) {
        if self.quiet {
            return;
        }
        let s = self.state.lock().unwrap_or_else(|e| e.into_inner());
        match &s.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Ok(s) = self.state.get_mut()
            && let Some(bar) = s.bar.take()
        {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[test]
    fn a_quoted_cause_is_said_once() {
        let quoted = anyhow!("no such file").context("a.png: cannot be read (no such file)");
        assert_eq!(sentence(&quoted), "a.png: cannot be read (no such file)");
        let plain: anyhow::Result<()> = Err(anyhow!("no such file"));
        assert_eq!(sentence(&plain.context("a.png").unwrap_err()), "a.png: no such file");
    }
}
