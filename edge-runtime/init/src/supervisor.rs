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
/// How long the program may be silent before the watchdog bites.
const SILENCE: Duration = Duration::from_secs(60);
/// How long it may take until it is ready.
const UNTIL_READY: Duration = Duration::from_secs(120);
/// How long it runs until the device is taken to be well.
const UNTIL_WELL: Duration = Duration::from_secs(10);
/// Ends in a row after which the device restarts.
const MOST_ENDS: u32 = 3;

/// How the program's time ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The device is to be switched off.
    Off,
    /// It is to be restarted.
    Restart,
}

/// What the program reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its idle screen.
    Ready,
    /// Some time without a fault.
    Well,
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

    /// Runs it until the device is to be switched off or restarted. A release that is tried gets one start.
    pub fn run(&mut self, is_trial: bool, mut reached: impl FnMut(Event) -> anyhow::Result<()>) -> anyhow::Result<End> {
        let mut ends = 0;
        loop {
            let (code, was_well) = self.run_once(&mut reached)?;
            if code == Some(0) {
                return Ok(End::Off);
            }
            ends = if was_well { 1 } else { ends + 1 };
            say!("the program ended ({code:?}), {ends} in a row");
            if is_trial || ends >= MOST_ENDS {
                return Ok(End::Restart);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn run_once(&self, reached: &mut impl FnMut(Event) -> anyhow::Result<()>) -> anyhow::Result<(Option<i32>, bool)> {
        let child = self.spawn()?;
        let begin = Instant::now();
        let mut ready: Option<Instant> = None;
        let mut is_well = false;
        let mut last = Instant::now();
        loop {
            if let Some(code) = ended(&child)? {
                return Ok((code, is_well));
            }
            let mut buffer = [0; 4096];
            if let Ok(length) = self.socket.recv(&mut buffer) {
                last = Instant::now();
                self.watchdog.is_well_for(SILENCE);
                let is_ready = buffer[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1");
                if is_ready && ready.is_none() {
                    ready = Some(Instant::now());
                    say!("ready after {} ms", begin.elapsed().as_millis());
                    reached(Event::Ready)?;
                }
            }
            if ready.is_none() && begin.elapsed() > UNTIL_READY {
                kill(&child);
                bail!("the program is not ready after {} s", UNTIL_READY.as_secs());
            }
            if ready.is_some() && last.elapsed() > SILENCE {
                kill(&child);
                say!("the program is silent: it is started again");
            }
            if !is_well && ready.is_some_and(|since| since.elapsed() > UNTIL_WELL) {
                is_well = true;
                reached(Event::Well)?;
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

fn kill(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// The exit code of `child` once it ended. The first program of a system is the parent of all that lost theirs, and
/// takes their ends too.
fn ended(child: &Child) -> anyhow::Result<Option<Option<i32>>> {
    while let Some((pid, status)) = wait(WaitOptions::NOHANG)? {
        if pid.as_raw_nonzero().get() as u32 == child.id() {
            return Ok(Some(status.exit_status()));
        }
    }
    Ok(None)
}
