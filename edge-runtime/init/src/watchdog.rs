//! The hardware's watchdog: it restarts a device that hangs. It is fed as long as the supervisor says that all is well.

use crate::say;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const DEVICE: &str = "/dev/watchdog";
/// How often it is fed; hardware waits 10 seconds and more.
const FEED: Duration = Duration::from_secs(3);

/// The watchdog, fed until it is not well any more.
#[derive(Clone)]
pub struct Watchdog {
    begin: Instant,
    /// Seconds after `begin` until which all is taken to be well.
    until: Arc<AtomicU64>,
}

impl Watchdog {
    /// Starts it. Where there is none, that is said, and nothing restarts a device that hangs.
    pub fn start() -> Watchdog {
        let watchdog = Watchdog { begin: Instant::now(), until: Arc::new(AtomicU64::new(0)) };
        watchdog.allow_for(Duration::from_secs(180));
        if !crate::system::has_watchdog() {
            return watchdog;
        }
        match File::options().write(true).open(DEVICE) {
            Ok(device) => {
                let fed = watchdog.clone();
                std::thread::spawn(move || fed.feed(device));
            }
            Err(e) => say!("no watchdog ({e}): nothing restarts a device that hangs"),
        }
        watchdog
    }

    /// All may be silent for `time` from now on.
    pub fn allow_for(&self, time: Duration) {
        self.until.store((self.begin.elapsed() + time).as_secs(), Ordering::Relaxed);
    }

    fn feed(&self, mut device: File) {
        while self.begin.elapsed().as_secs() < self.until.load(Ordering::Relaxed) {
            let _ = device.write_all(b"\n");
            std::thread::sleep(FEED);
        }
        say!("the program does not answer: the watchdog restarts the device");
        // The file stays open, so that the hardware goes on counting.
        loop {
            std::thread::park();
        }
    }
}
