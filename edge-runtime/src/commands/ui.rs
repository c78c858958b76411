//! `edge-runtime ui`.

use super::ModelSource;
use crate::board::Board;
use crate::config::Config;
use crate::display::text::Language;
use crate::kiosk::run::End;
use crate::kiosk::sticks::SystemMounts;
use crate::kiosk::update::Updates;
use crate::kiosk::{Kiosk, KioskError, input, run as run_kiosk, self_test};
use crate::log::Folder;
use crate::panel::{PanelError, Shown};
use crate::process::{Failure, Process};
use anyhow::{Context, anyhow};
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub struct Args {
    /// The configuration (`edge-runtime config` prints one) instead of /etc/hilum/edge-runtime.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Watch this folder instead of the configured ones and any stick
    #[arg(long, value_name = "DIR")]
    inbox: Option<PathBuf>,
    /// Keep findings, and the clinic's key, in this folder
    #[arg(long, value_name = "DIR")]
    findings: Option<PathBuf>,
    /// Use the display of this board (a name of `boards list`, or a board file)
    #[arg(long)]
    board: Option<String>,
    /// Where a display that is a PNG file is written
    #[arg(long, value_name = "OUT.png", default_value = "screen.png")]
    screen: PathBuf,
    /// The language of the screens until another one is chosen
    #[arg(long, value_enum)]
    language: Option<Language>,
    /// Read keys from standard input too: left, middle, right, quit, a line each
    #[arg(long)]
    keys: bool,
}

impl Args {
    /// The configuration with what the command line says over it.
    fn config(&self) -> Result<Config, Failure> {
        let mut config = Config::open(self.config.as_deref()).map_err(Failure::usage)?;
        if let Some(inbox) = &self.inbox {
            config.inbox.folders = vec![inbox.clone()];
            config.inbox.sticks = false;
        }
        if let Some(findings) = &self.findings {
            config.findings.folder = findings.clone();
            config.findings.key = findings.join("clinic.key");
        }
        if let Some(board) = &self.board {
            config.board = board.clone();
        }
        config.language = self.language.unwrap_or(config.language);
        Ok(config)
    }
}

/// How long a display may take to appear.
const DISPLAY_PATIENCE: Duration = Duration::from_secs(20);

/// The panel of `board`. A display that is not there yet is waited for: its driver may come late, or its plug.
fn open_panel(board: &Board, file: &Path) -> Result<Shown, Failure> {
    let begin = Instant::now();
    loop {
        match Shown::open(&board.display, file) {
            Err(PanelError::NotConnected { .. }) if begin.elapsed() < DISPLAY_PATIENCE => {
                std::thread::sleep(Duration::from_millis(200));
            }
            Err(e @ PanelError::NotConnected { .. }) => return Err(Failure::no_display(e)),
            opened => return opened.map_err(Failure::work),
        }
    }
}

pub fn run(args: Args, process: Process) -> Result<u8, Failure> {
    let config = args.config()?;
    let board = Board::find(&config.board).map_err(Failure::usage)?;
    let compute = process.compute(config.threads as usize)?;
    let source = ModelSource::of(&config);
    for folder in &config.inbox.folders {
        std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let folder = config.findings.folder.clone();
    let disk = Folder::create(folder.clone()).with_context(|| format!("{} cannot be made", folder.display()))?;
    // Now that they are there, by whatever links and dots they are named.
    config.check_folders().map_err(|reason| Failure::usage(anyhow!(reason)))?;
    let shown_in = args.screen.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(shown_in) = std::fs::canonicalize(shown_in)
        && config.inbox.folders.iter().any(|inbox| std::fs::canonicalize(inbox).is_ok_and(|i| shown_in.starts_with(i)))
    {
        return Err(Failure::usage(anyhow!(
            "--screen lies in a watched folder: it would be scanned; give another place"
        )));
    }
    let panel = open_panel(&board, &args.screen)?;
    let (to, inputs) = channel();
    let devices = input::read_devices(&to);
    if devices == 0 && !args.keys {
        eprintln!("hint: no buttons, keyboard or touch screen can be read; --keys reads keys from standard input");
    }
    if args.keys {
        let to = to.clone();
        std::thread::spawn(move || input::read_lines(std::io::stdin().lock(), &to));
    }
    let kiosk = Kiosk {
        config: &config,
        board: &board,
        disk,
        mounts: config.inbox.sticks.then_some(SystemMounts),
        updates: Updates::of_device(),
        panel,
        inputs,
    };
    let end =
        run_kiosk(kiosk, || source.load(&compute), |model| self_test::model(model, |compute| source.load(compute)))
            .map_err(|e| match e {
                KioskError::Model(e) => Failure::model(e),
                e => Failure::work(e),
            })?;
    // Held until here, so that the channel of keys stays open.
    drop(to);
    if end == End::Off
        && let Some((program, arguments)) = config.off.split_first()
    {
        let status = std::process::Command::new(program).args(arguments).status();
        let status = status.with_context(|| format!("{program} cannot be run to switch the device off"))?;
        if !status.success() {
            return Err(Failure::work(anyhow!("{program} did not switch the device off ({status})")));
        }
    }
    Ok(0)
}
