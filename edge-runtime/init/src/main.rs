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
    ($($part:tt)*) => { eprintln!("hilum: {}", format_args!($($part)*)) };
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
    let release = application::unpack(card, identity, start.slot)?;
    system::write_device(disk, identity, &release)?;
    data::mount(&disk.data);
    let config = settings::write(card, is_emulated, release.has_model)?;
    if start.is_trial {
        trial::scan(is_emulated).context("the self-test")?;
    }
    let mut supervisor = supervisor::Supervisor::new(config, watchdog)?;
    match supervisor.run(start.is_trial, |event| match event {
        supervisor::Event::Ready if start.is_trial => {
            boot::commit(card)?;
            say!("release {} is committed", release.number);
            Ok(())
        }
        supervisor::Event::Ready => Ok(()),
        supervisor::Event::Well => Ok(boot::is_well(card)?),
    })? {
        End::Off if boot::waits_for_trial(card)? => Ok(End::Restart),
        End::Off => {
            boot::is_well(card)?;
            Ok(End::Off)
        }
        End::Restart if start.is_trial => bail!("the release ended again and again"),
        End::Restart => Ok(End::Restart),
    }
}
