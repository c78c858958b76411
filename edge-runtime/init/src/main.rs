//! The first program of a clinic device: it mounts, chooses a slot, starts `edge-runtime ui`, watches over it, and
//! switches the device off. There is no shell, no open port and no user.

#![forbid(unsafe_code)]

mod application;
mod card;
mod data;
mod modules;
mod settings;
mod supervisor;
mod system;
mod trial;
mod watchdog;

use anyhow::{Context, bail};
use rustix::system::{RebootCommand, reboot};
use slots::boot;
use std::process::ExitCode;
use std::time::Duration;
use supervisor::End;

/// What the first program says on the console; also what `boards emulate` waits for.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write;
        // A console that cannot be written is no reason for the first program to end.
        let _ = writeln!(std::io::stderr(), "hilum: {}", format_args!($($part)*));
    }};
}

fn main() -> ExitCode {
    if std::process::id() != 1 {
        eprintln!("hilum-init: this is the first program of a device, and does nothing on a running system");
        return ExitCode::from(2);
    }
    let end = run();
    if let Err(e) = &end {
        say!("{e:#}");
    }
    system::unmount();
    let command = match end {
        Ok(End::Off) => RebootCommand::PowerOff,
        Ok(End::Restart) => RebootCommand::Restart,
        Err(_) => {
            // Time to read the sentence; and no loop that wears the card.
            std::thread::sleep(Duration::from_secs(10));
            RebootCommand::Restart
        }
    };
    if let Err(e) = reboot(command) {
        say!("the device does not go off: {e}");
    }
    loop {
        std::thread::park();
    }
}

fn run() -> anyhow::Result<End> {
    system::mount()?;
    let identity = system::identity()?;
    let is_emulated = system::is_emulated();
    modules::load(is_emulated);
    let watchdog = watchdog::Watchdog::start();
    let (mut card, disk) = card::find(identity.disk_id)?;
    let start = boot::begin(&mut card)?;
    say!("slot {}{}", start.slot, if start.is_trial { ", to be tried" } else { "" });
    let ran = start_release(&mut card, &disk, &identity, start, is_emulated, watchdog);
    if start.is_trial
        && let Err(e) = &ran
    {
        say!("the trial failed: {e:#}");
        boot::give_up(&mut card, &format!("{e:#}"))?;
        return Ok(End::Restart);
    }
    ran
}

fn start_release(
    card: &mut slots::Disk,
    disk: &card::Names,
    identity: &system::Identity,
    start: boot::Start,
    is_emulated: bool,
    watchdog: watchdog::Watchdog,
) -> anyhow::Result<End> {
    let release = application::unpack(card, start.slot)?;
    system::write_device(disk, identity, &release)?;
    data::mount(&disk.data);
    let config = settings::write(card, is_emulated, release.has_model)?;
    if start.is_trial {
        watchdog.allow_for(trial::PATIENCE + Duration::from_secs(60));
        trial::scan(is_emulated).context("the self-test")?;
    }
    let mut supervisor = supervisor::Supervisor::new(config, watchdog)?;
    let end = supervisor.run(start.is_trial, || {
        if start.is_trial {
            boot::commit(card)?;
            say!("release {} is committed", release.number);
            return Ok(());
        }
        // A card that cannot be written any more is no reason to restart: the screen says what is not kept.
        if let Err(e) = boot::mark_well(card) {
            say!("{e}");
        }
        Ok(())
    })?;
    match end {
        End::Off if boot::waits_for_trial(card) => Ok(End::Restart),
        End::Restart if start.is_trial => bail!("the program ended"),
        end => Ok(end),
    }
}
