//! Starts `edge-runtime ui` and watches over it: it says when it is ready and that it goes on, as it does to systemd
//! (`sd_notify(3)`), and is started again where it ends.

use crate::say;
use crate::system::APPLICATION;
use crate::watchdog::Watchdog;
use anyhow::{Context, bail};
use rustix::process::{WaitOptions, wait};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const SOCKET: &str = "/run/hilum/notify";
/// How long the program may be silent before it is ended and started again.
const SILENCE: Duration = Duration::from_secs(45);
/// How long it may take until it is ready.
const UNTIL_READY: Duration = Duration::from_secs(120);
/// What the watchdog waits longer than that, so that it bites only where this program hangs too.
const MARGIN: Duration = Duration::from_secs(45);
/// How long it runs until the device is taken to be well.
const UNTIL_WELL: Duration = Duration::from_secs(10);
/// Ends in a row after which the device restarts.
const MOST_ENDS: u32 = 3;
/// The exit code of a program that has no display to show anything on (`edge-runtime ui --help`).
const NO_DISPLAY: i32 = 6;

/// How the program's time ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The device is to be switched off.
    Off,
    /// It is to be restarted.
    Restart,
}

/// How one run of the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// Its exit code; none where a signal ended it.
    code: Option<i32>,
    was_ready: bool,
    was_well: bool,
}

/// Watches over the program.
pub struct Supervisor {
    config: PathBuf,
    socket: UnixDatagram,
    watchdog: Watchdog,
}

impl Supervisor {
    /// Of a program with this configuration.
    pub fn new(config: PathBuf, watchdog: Watchdog) -> anyhow::Result<Supervisor> {
        let socket = UnixDatagram::bind(SOCKET).context("the socket of the program cannot be made")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        Ok(Supervisor { config, socket, watchdog })
    }

    /// Runs it until the device is to be switched off or restarted; `is_well` is called once it has run well for a
    /// while. A release that is tried gets one start.
    pub fn run(&mut self, is_trial: bool, mut is_well: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<End> {
        let mut ends = 0;
        loop {
            let run = self.run_once(&mut is_well)?;
            // Off before anything was shown is no wish of a person.
            if run.code == Some(0) && run.was_ready {
                return Ok(End::Off);
            }
            if run.code == Some(NO_DISPLAY) && !is_trial {
                say!("no display is connected: connect one");
                ends = 0;
                std::thread::sleep(Duration::from_secs(2));
                continue;
            }
            ends = if run.was_well { 1 } else { ends + 1 };
            say!("the program ended ({:?}), {ends} in a row", run.code);
            if is_trial || ends >= MOST_ENDS {
                return Ok(End::Restart);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn run_once(&self, is_well: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Run> {
        let mut child = Running { child: self.spawn()?, is_over: false };
        self.watchdog.allow_for(UNTIL_READY + MARGIN);
        let begin = Instant::now();
        let mut heard = begin;
        let mut ready: Option<Instant> = None;
        let mut was_well = false;
        loop {
            if let Some(code) = ended(&child.child)? {
                child.is_over = true;
                return Ok(Run { code, was_ready: ready.is_some(), was_well });
            }
            let mut buffer = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut buffer) {
                heard = Instant::now();
                if ready.is_none() && buffer[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
                    ready = Some(heard);
                    say!("ready after {} ms", begin.elapsed().as_millis());
                }
                if ready.is_some() {
                    self.watchdog.allow_for(SILENCE + MARGIN);
                }
            }
            match ready {
                None if begin.elapsed() > UNTIL_READY => {
                    bail!("the program is not ready after {} s", UNTIL_READY.as_secs())
                }
                Some(_) if heard.elapsed() > SILENCE => {
                    say!("the program is silent: it is started again");
                    child.end();
                    return Ok(Run { code: None, was_ready: true, was_well });
                }
                Some(since) if !was_well && since.elapsed() > UNTIL_WELL => {
                    was_well = true;
                    is_well()?;
                }
                _ => {}
            }
        }
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        Command::new(Path::new(APPLICATION).join("edge-runtime"))
            .args(["ui", "--screen", "/data/screen.png", "--config"])
            .arg(&self.config)
            .env("NOTIFY_SOCKET", SOCKET)
            .current_dir("/run/hilum")
            .spawn()
            .context("the program cannot be started")
    }
}

/// A program that ends with its supervision.
struct Running {
    child: Child,
    is_over: bool,
}

impl Running {
    fn end(&mut self) {
        // Its number may be another program's once it is over.
        if !std::mem::replace(&mut self.is_over, true) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// The exit code of `child` once it ended. The first program of a system is the parent of all that lost theirs, and
/// takes their ends too.
fn ended(child: &Child) -> anyhow::Result<Option<Option<i32>>> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_nonzero().get().cast_unsigned() == child.id() => {
                return Ok(Some(status.exit_status()));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(e) => bail!("the program's end cannot be waited for: {e}"),
        }
    }
}
