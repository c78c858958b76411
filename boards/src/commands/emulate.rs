//! `boards emulate`.

use crate::card::image::application_of;
use crate::emulator::{CARD, End, Machine, STICK, Setup};
use crate::sticks::stick;
use crate::tools::DEBUGFS;
use anyhow::{Context, anyhow, ensure};
use edge_runtime::board::{Board, Display};
use edge_runtime::keys::{SecretKey, read_secret};
use edge_runtime::log::{Folder, Log, export};
use edge_runtime::process::files::{check_outputs, write_atomically};
use edge_runtime::process::progress::Reporter;
use edge_runtime::process::{Failure, output};
use serde::Serialize;
use sha2::{Digest, Sha256};
use slots::bundle::{Kind, Manifest};
use slots::state::State;
use slots::{Block, Disk, Layout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// The image (`boards build` makes one); it is copied, and stays as it is
    image: PathBuf,
    /// Files on the stick that is plugged in: radiographs, or an update
    #[arg(long, value_name = "FILE", num_args = 1..)]
    stick: Vec<PathBuf>,
    /// Where the card, the serial line, the screen and the findings are written
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Findings that are waited for
    #[arg(long, default_value_t = 0)]
    findings: u64,
    /// The release that has to run in the end
    #[arg(long)]
    release: Option<u64>,
    /// Go on with the card in the output folder instead of a copy of the image
    #[arg(long)]
    go_on: bool,
    /// Take the power away this often, at random, while updates are installed and tried
    #[arg(long, value_name = "TIMES", requires = "key")]
    kills: Option<u32>,
    /// The secret key that those updates are signed with
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The board's file, where the image is for a board of your own
    #[arg(long, value_name = "FILE")]
    board: Option<String>,
    /// Seconds that anything may take
    #[arg(long, default_value_t = 240)]
    patience: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Report {
    board: String,
    machine: String,
    starts: Vec<Start>,
    /// Times that the power was taken away.
    kills: u32,
    /// Updates that were committed meanwhile.
    committed: u32,
    /// Findings that it said it kept.
    kept: u64,
    release: u64,
    slot: String,
    findings: Vec<serde_json::Value>,
    screen: Option<PathBuf>,
}

/// A start of the machine.
#[derive(Debug, Default, Clone, Serialize)]
struct Start {
    slot: String,
    is_trial: bool,
    /// Seconds from power to the first program.
    init_s: f64,
    /// Seconds from power to the idle screen.
    ready_s: Option<f64>,
    /// Seconds from power until all findings that were waited for were kept.
    findings_s: Option<f64>,
    committed: bool,
}

/// What the device says.
const SLOT: &str = "hilum: slot ";
const READY: &str = "hilum: ready after";
const COMMITTED: &str = "is committed";
/// How long a trial takes here from the first program on, about; the power goes within it.
const TRIAL_MS: u64 = 16_000;
/// How long the installation of an update takes here from the idle screen on, about.
const INSTALLATION_MS: u64 = 10_000;
const KEPT: &str = "edge-runtime: kept finding";

pub fn run(args: Args) -> Result<(), Failure> {
    let run = Run::new(&args)?;
    let mut report =
        Report { board: run.board.name.clone(), machine: run.setup.emulation.machine.clone(), ..Report::default() };
    let reporter = Reporter::new(false);
    if let Some(kills) = args.kills {
        run.kill(kills, &mut report, &reporter)?;
    }
    run.run_to_the_end(&mut report)?;
    drop(reporter);
    run.read_back(&mut report)?;
    if let Some(expected) = args.release
        && expected != report.release
    {
        return Err(Failure::work(anyhow!("release {} runs, and not {expected}", report.release)));
    }
    let found = report.findings.len() as u64;
    if found < args.findings {
        return Err(Failure::work(anyhow!("{found} findings are on the card, and not {}", args.findings)));
    }
    match args.json {
        true => output::json(&report, true),
        false => output::line(text(&report)),
    }
}

/// An emulation, checked.
struct Run<'a> {
    args: &'a Args,
    board: Board,
    setup: Setup,
    patience: Duration,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Run<'a>> {
        let folder = args.output.clone();
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
        let folder = std::fs::canonicalize(&folder)?;
        let card = folder.join(CARD);
        if !args.go_on {
            check_outputs(&[&card], &[&args.image]).context("--go-on goes on with the card in the output folder")?;
            std::fs::copy(&args.image, &card).with_context(|| format!("{} cannot be copied", args.image.display()))?;
        }
        let disk = Disk::open_to_read(&card).with_context(|| format!("{} cannot be read", card.display()))?;
        let (release, _) =
            application_of(&disk).with_context(|| format!("{} is no image of `boards build`", card.display()))?;
        let board = Board::find(args.board.as_deref().unwrap_or(&release.board))?;
        let wanted = board.card.clone().context("the board has no card")?;
        let plugged = (!args.stick.is_empty()).then(|| folder.join(STICK));
        if let Some(path) = &plugged {
            std::fs::write(path, stick(&args.stick)?)?;
        }
        let setup = Setup::new(card, plugged, folder, &wanted)?;
        Ok(Run { args, board, setup, patience: Duration::from_secs(args.patience) })
    }

    /// Starts the machine, and starts it again where it restarts, until it was switched off.
    fn run_to_the_end(&self, report: &mut Report) -> anyhow::Result<()> {
        let waits_for_update = self.args.stick.iter().any(|path| path.extension().is_some_and(|e| e == "hilum-update"));
        let before = report.starts.len();
        // An update takes two starts, and a third where its trial fails.
        for _ in 0..6 {
            let mut machine = Machine::start(&self.setup)?;
            let end = self.start(&mut machine, report, waits_for_update);
            report.kept += kept(&machine);
            let log = machine.log.join("\n") + "\n";
            write_atomically(&self.setup.folder.join(format!("serial-{}.log", report.starts.len())), log.as_bytes())?;
            if end? == End::Off {
                return Ok(());
            }
        }
        Err(anyhow!("the device restarted {} times without an end", report.starts.len() - before))
    }

    fn start(&self, machine: &mut Machine, report: &mut Report, waits_for_update: bool) -> anyhow::Result<End> {
        let (line, init) = machine.wait_for(&[SLOT], self.patience)?;
        let slot = line.split(SLOT).nth(1).unwrap_or_default();
        let is_trial = slot.contains("to be tried");
        let mut start =
            Start { slot: slot.chars().take(1).collect(), is_trial, init_s: init.as_secs_f64(), ..Start::default() };
        let (line, ready) = machine.wait_for(&[READY, "the trial failed"], self.patience)?;
        if line.contains("the trial failed") {
            report.starts.push(start);
            return machine.ended(self.patience);
        }
        start.ready_s = Some(ready.as_secs_f64());
        if is_trial {
            machine.wait_for(&[COMMITTED], self.patience)?;
            start.committed = true;
            report.committed += 1;
        }
        report.starts.push(start);
        // One that failed is not tried again while its stick stays in.
        let was_tried = report.starts.iter().any(|start| start.is_trial);
        if waits_for_update && !was_tried {
            // The device restarts by itself once the update is written; a refused one is said.
            let (line, _) =
                machine.wait_for(&["reboot: Restarting system", "the update is not installed"], self.patience)?;
            ensure!(!line.contains("not installed"), "{line}");
            return machine.ended(self.patience);
        }
        self.wait_for_findings(machine, report)?;
        // The screen is drawn after the finding is kept.
        std::thread::sleep(Duration::from_secs(2));
        if matches!(self.setup.emulation.display, Display::Drm { .. }) {
            let path = self.setup.folder.join("screen.png");
            write_atomically(&path, &machine.screen(&self.setup.folder)?)?;
            report.screen = Some(path);
        }
        self.switch_off(machine)
    }

    /// Waits for the findings that were not kept in an earlier start.
    fn wait_for_findings(&self, machine: &mut Machine, report: &mut Report) -> anyhow::Result<()> {
        while report.kept + kept(machine) < self.args.findings {
            let (_, age) = machine.wait_for(&[KEPT], self.patience)?;
            if let Some(start) = report.starts.last_mut() {
                start.findings_s = Some(age.as_secs_f64());
            }
        }
        Ok(())
    }

    /// Presses the power button until the device goes off: a keyboard may still be on its way.
    fn switch_off(&self, machine: &mut Machine) -> anyhow::Result<End> {
        let until = Instant::now() + self.patience;
        while Instant::now() < until {
            machine.press("power")?;
            if let Ok((_, _)) = machine.wait_for(&["reboot: "], Duration::from_secs(5)) {
                return machine.ended(self.patience);
            }
        }
        Err(anyhow!("the device does not go off when its button is pressed"))
    }

    /// Takes the power away at random, again and again, while updates are installed and tried. After each the next
    /// start is the proof: it has to come up, and is the next to lose its power.
    fn kill(&self, kills: u32, report: &mut Report, reporter: &Reporter) -> anyhow::Result<()> {
        let key = self.args.key.as_deref().context("no key")?;
        let secret = read_secret(key)?;
        // A device that restarts before its power goes is no kill; that happens now and then, not always.
        for _ in 0..4 * kills {
            if report.kills == kills {
                break;
            }
            let release = self.plug_update(&secret)?;
            reporter.step("killing", report.kills as usize, kills as usize, &format!("release {release} runs"));
            let mut machine = Machine::start(&self.setup)?;
            report.kills += u32::from(self.was_killed(&mut machine)?);
            report.committed += u32::from(machine.log.iter().any(|line| line.contains(COMMITTED)));
        }
        ensure!(report.kills == kills, "the power was taken away {} times only", report.kills);
        // The last start is to end in peace.
        let path = self.setup.stick.as_ref().context("no stick")?;
        Ok(std::fs::write(path, stick(&self.args.stick)?)?)
    }

    /// Takes the power away at a random moment of the trial, or of what follows the idle screen; false where the device
    /// restarted before.
    fn was_killed(&self, machine: &mut Machine) -> anyhow::Result<bool> {
        let (line, _) = machine.wait_for(&[SLOT], self.patience)?;
        let window = if line.contains("to be tried") {
            TRIAL_MS
        } else {
            machine.wait_for(&[READY], self.patience)?;
            INSTALLATION_MS
        };
        let until = Instant::now() + Duration::from_millis(random_below(window)?);
        while Instant::now() < until {
            if let Ok(None) = machine.line(until.saturating_duration_since(Instant::now())) {
                return Ok(false);
            }
        }
        machine.kill();
        Ok(true)
    }

    /// Puts an update to the next release on the stick.
    fn plug_update(&self, secret: &SecretKey) -> anyhow::Result<u64> {
        let card = Disk::open_to_read(&self.setup.card)?;
        let (release, archive) = application_of(&card)?;
        let state = State::read(&card).context("the card says nothing of its slots")?;
        let next = state.floor.max(release.release) + 1;
        let manifest = Manifest {
            boards: vec![release.board],
            target: release.target,
            kind: Kind::Application,
            release: next,
            version: next.to_string(),
            length: archive.len() as u64,
            sha256: Sha256::digest(&archive).into(),
            interface: slots::INTERFACE,
            over: None,
            keys: None,
            key: String::new(),
        };
        let mut update = manifest.sign(secret)?;
        update.extend(archive);
        let file = self.setup.folder.join("next.hilum-update");
        std::fs::write(&file, update)?;
        let path = self.setup.stick.as_ref().context("give a --stick: updates are put on it")?;
        std::fs::write(path, stick(&[file])?)?;
        Ok(next - 1)
    }

    /// Reads state and findings from the card that was switched off.
    fn read_back(&self, report: &mut Report) -> anyhow::Result<()> {
        let card = Disk::open_to_read(&self.setup.card)?;
        let state = State::read(&card).context("the card says nothing of its slots")?;
        report.release = state.content(state.committed).map_or(0, |content| content.release);
        report.slot = state.committed.to_string();
        let data = Layout::read(&card)?.partitions[3].clone();
        let system = tempfile::NamedTempFile::new()?;
        let mut to = Disk::open(system.path())?;
        let mut at = data.start;
        while at < data.end {
            let length = (data.end - at).min(4 << 20) as usize;
            to.write_at(at - data.start, &card.bytes(at, length)?)?;
            at += length as u64;
        }
        let folder = tempfile::tempdir()?;
        let read = |request: &str| DEBUGFS.run(|command| command.args(["-R", request]).arg(system.path()));
        read(&format!("rdump /findings {}", folder.path().display()))?;
        let log = Folder::existing(folder.path().join("findings")).context("no findings are on the card")?;
        let contents = Log::read(&log)?;
        report.findings = contents
            .entries
            .iter()
            .map(|entry| serde_json::from_str(&export::line(entry)))
            .collect::<Result<_, _>>()?;
        if matches!(self.setup.emulation.display, Display::Png { .. }) {
            let path = self.setup.folder.join("screen.png");
            read(&format!("dump /screen.png {}", path.display()))?;
            report.screen = Some(path);
        }
        Ok(())
    }
}

/// Findings that a machine said it kept.
fn kept(machine: &Machine) -> u64 {
    machine.log.iter().filter(|line| line.contains(KEPT)).count() as u64
}

/// A number by chance below `limit`.
fn random_below(limit: u64) -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(u64::from_le_bytes(bytes) % limit)
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("{} on QEMU's {}", report.board, report.machine)];
    if report.kills > 0 {
        lines.push(format!(
            "the power was taken away {} times; {} updates were committed",
            report.kills, report.committed
        ));
    }
    lines.extend(report.starts.iter().map(|start| {
        let kind = if start.is_trial { " to be tried" } else { "" };
        let time = |what: &str, seconds: Option<f64>| seconds.map(|s| format!(", {what} {s:.1} s")).unwrap_or_default();
        let committed = if start.committed { ", committed" } else { "" };
        format!(
            "start of slot {}{kind}: first program {:.1} s{}{}{committed}",
            start.slot,
            start.init_s,
            time("idle screen", start.ready_s),
            time("findings kept", start.findings_s)
        )
    }));
    lines.push(format!("switched off; release {} in slot {}", report.release, report.slot));
    lines.push(format!("{} findings on the card", report.findings.len()));
    for finding in &report.findings {
        lines.push(format!("  {} {} {}", finding["time"], finding["answer"], finding["probability"]));
    }
    lines.extend(report.screen.iter().map(|path: &PathBuf| format!("screen: {}", Path::display(path))));
    lines.join("\n")
}
