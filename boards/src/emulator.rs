//! QEMU as a board: it starts the image that is flashed. QEMU has no firmware of a Raspberry Pi, so this takes its
//! part: it reads kernel, initramfs and command line from the card's first partition.

use crate::card::boot_partition::{COMMAND_LINE, INITRAMFS, KERNEL, file_of};
use anyhow::{Context, anyhow, bail, ensure};
use edge_runtime::board::card::{Card, Emulation};
use slots::{Block, Disk, Layout};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The card's file in the machine's folder.
pub const CARD: &str = "card.img";
/// The stick's.
pub const STICK: &str = "stick.img";
const QEMU: &str = "qemu-system-aarch64";

/// What a machine needs to start.
pub struct Setup {
    /// The card, which the machine writes to.
    pub card: PathBuf,
    /// The stick, if there is one.
    pub stick: Option<PathBuf>,
    /// Where files of the machine lie.
    pub folder: PathBuf,
    /// How it is emulated.
    pub emulation: Emulation,
    /// The name of the device tree on the card.
    pub device_tree: String,
}

impl Setup {
    /// Of a board's card: the files that its firmware would read are put into `folder`.
    pub fn new(card: PathBuf, stick: Option<PathBuf>, folder: PathBuf, board: &Card) -> anyhow::Result<Setup> {
        let tree = board.device_trees.first().context("the board has no device tree")?;
        let device_tree = Path::new(tree).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let setup = Setup { card, stick, folder, emulation: board.emulation.clone(), device_tree };
        setup.extract()?;
        Ok(setup)
    }

    fn extract(&self) -> anyhow::Result<()> {
        let card = Disk::open_to_read(&self.card).with_context(|| self.card.display().to_string())?;
        let boot = Layout::read(&card)?.partitions[0].clone();
        let mut bytes = card.bytes(boot.start, usize::try_from(boot.end - boot.start)?)?;
        for name in [KERNEL, INITRAMFS, COMMAND_LINE, &self.device_tree] {
            std::fs::write(self.folder.join(name), file_of(&mut bytes, name)?)?;
        }
        Ok(())
    }

    fn arguments(&self) -> anyhow::Result<Vec<String>> {
        let Emulation { machine, cpu, memory_mib, takes_device_tree, card, devices, has_watchdog, console, .. } =
            &self.emulation;
        // Relative to the folder: QEMU reads commas in names as its own.
        let path = |name: &str| name.to_owned();
        let told = std::fs::read_to_string(self.folder.join(COMMAND_LINE))?;
        // Of the board's consoles none is there.
        let told: Vec<&str> = told.split_whitespace().filter(|word| !word.starts_with("console=")).collect();
        let watchdog = if *has_watchdog { "" } else { " hilum.no-watchdog" };
        let told = format!("console={console} {} hilum.emulated{watchdog}", told.join(" "));
        let memory = format!("{memory_mib}M");
        let mut arguments = vec!["-M".into(), machine.clone(), "-m".into(), memory];
        // A device has no network, and its screen is read from QEMU.
        arguments.extend(["-nic", "none", "-display", "none"].map(String::from));
        arguments.extend(cpu.iter().flat_map(|cpu| ["-cpu".into(), cpu.clone()]));
        arguments.extend(["-kernel".into(), path(KERNEL), "-initrd".into(), path(INITRAMFS), "-append".into(), told]);
        if *takes_device_tree {
            arguments.extend(["-dtb".into(), path(&self.device_tree)]);
        }
        let disk = CARD;
        arguments.extend(card.iter().map(|argument| argument.replace("{card}", disk)));
        arguments.extend(devices.iter().cloned());
        if self.stick.is_some() {
            let drive = format!("if=none,id=stick,format=raw,readonly=on,file={STICK}");
            arguments.extend(["-drive".into(), drive, "-device".into(), "usb-storage,drive=stick".into()]);
        }
        let monitor = format!("unix:{},server,nowait", path("monitor"));
        arguments.extend(["-serial".into(), "stdio".into(), "-monitor".into(), monitor, "-no-reboot".into()]);
        Ok(arguments)
    }
}

/// A machine that runs.
pub struct Machine {
    child: Child,
    lines: Receiver<String>,
    begin: Instant,
    monitor: PathBuf,
    /// What it said on its serial line.
    pub log: Vec<String>,
}

/// How a machine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It switched itself off.
    Off,
    /// It restarts.
    Restart,
}

impl Machine {
    /// Switches it on.
    pub fn start(setup: &Setup) -> anyhow::Result<Machine> {
        let monitor = setup.folder.join("monitor");
        let _ = std::fs::remove_file(&monitor);
        let mut child = Command::new(QEMU)
            .args(setup.arguments()?)
            .current_dir(&setup.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("{QEMU} cannot be run: install Debian's package qemu-system-arm"))?;
        let serial = child.stdout.take().context("no serial line")?;
        let (to, lines) = channel();
        std::thread::spawn(move || {
            let mut serial = BufReader::new(serial);
            let mut line = Vec::new();
            while serial.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = to.send(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        });
        Ok(Machine { child, lines, begin: Instant::now(), monitor, log: vec![] })
    }

    /// Time since it was switched on.
    pub fn age(&self) -> Duration {
        self.begin.elapsed()
    }

    /// The next line, if one comes within `time`; `None` where the machine ended.
    pub fn line(&mut self, time: Duration) -> Result<Option<String>, RecvTimeoutError> {
        match self.lines.recv_timeout(time) {
            Ok(line) => {
                self.log.push(line.clone());
                Ok(Some(line))
            }
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Waits for a line that holds one of `parts`; gives it and its age.
    pub fn wait_for(&mut self, parts: &[&str], patience: Duration) -> anyhow::Result<(String, Duration)> {
        let until = Instant::now() + patience;
        loop {
            match self.line(until.saturating_duration_since(Instant::now())) {
                Ok(Some(line)) if parts.iter().any(|part| line.contains(part)) => return Ok((line, self.age())),
                Ok(Some(_)) => {}
                Ok(None) => bail!("the machine ended before it said `{}`{}", parts.join("` or `"), self.last_words()),
                Err(_) => {
                    let seconds = patience.as_secs();
                    bail!("no `{}` after {seconds} s{}", parts.join("` or `"), self.last_words());
                }
            }
        }
    }

    fn last_words(&self) -> String {
        let last: Vec<&str> = self.log.iter().rev().take(5).rev().map(String::as_str).collect();
        format!("; its last words:\n{}", last.join("\n"))
    }

    /// How it ended.
    pub fn ended(&mut self, patience: Duration) -> anyhow::Result<End> {
        let until = Instant::now() + patience;
        while let Ok(Some(_)) = self.line(until.saturating_duration_since(Instant::now())) {}
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < until, "the machine does not go off{}", self.last_words());
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = |words: &str| self.log.iter().rev().any(|line| line.contains(words));
        match (said("reboot: Power down"), said("reboot: Restarting system")) {
            (true, false) => Ok(End::Off),
            (false, true) => Ok(End::Restart),
            _ => bail!("the machine ended without switching itself off{}", self.last_words()),
        }
    }

    /// Takes its power away.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Presses a key of the keyboard, as QEMU names it.
    pub fn press(&self, key: &str) -> anyhow::Result<()> {
        self.tell(&format!("sendkey {key}"))
    }

    fn tell(&self, command: &str) -> anyhow::Result<()> {
        let mut monitor = UnixStream::connect(&self.monitor).context("QEMU's monitor")?;
        monitor.set_read_timeout(Some(Duration::from_secs(5)))?;
        read_prompt(&mut monitor)?;
        writeln!(monitor, "{command}")?;
        read_prompt(&mut monitor)
    }

    /// What its screen shows, as a PNG.
    pub fn screen(&self, folder: &Path) -> anyhow::Result<Vec<u8>> {
        let dump = folder.join("screen.ppm");
        self.tell("screendump screen.ppm")?;
        let bytes = std::fs::read(&dump).context("QEMU's picture of the screen")?;
        let _ = std::fs::remove_file(&dump);
        png_of_ppm(&bytes)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads to the monitor's prompt.
fn read_prompt(monitor: &mut UnixStream) -> anyhow::Result<()> {
    let mut said = Vec::new();
    let mut byte = [0];
    while !said.ends_with(b"(qemu) ") {
        monitor.read_exact(&mut byte).context("QEMU's monitor")?;
        said.push(byte[0]);
    }
    Ok(())
}

/// A binary PPM (`P6`, of 8 bits, as QEMU writes it) as a PNG.
fn png_of_ppm(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let head: Vec<&[u8]> = bytes.splitn(4, |byte| byte.is_ascii_whitespace()).collect();
    let [b"P6", width, height, rest] = head[..] else { bail!("QEMU's picture is no PPM") };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u32>().ok();
    let size = number(width).zip(number(height)).context("QEMU's picture has no size")?;
    let pixels = rest.strip_prefix(b"255\n").context("QEMU's picture has not 8 bits")?;
    let picture = image::RgbImage::from_raw(size.0, size.1, pixels.to_vec());
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = picture.ok_or_else(|| anyhow!("QEMU's picture is cut short"))?;
    picture.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(png.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_qemu_become_png() {
        let png = png_of_ppm(b"P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06").unwrap();
        let picture = image::load_from_memory(&png).unwrap().to_rgb8();
        assert_eq!(picture.into_raw(), [1, 2, 3, 4, 5, 6]);
        assert!(png_of_ppm(b"P5\n2 1\n255\n").is_err());
        assert!(png_of_ppm(b"P6\n2 2\n255\n\x01").is_err());
    }
}
