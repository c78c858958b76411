//! The command line of `boards`: one file for each subcommand.

mod build;
mod emulate;
mod flash;
mod install;
mod list;
mod packages;
mod power_cuts;
mod show;
mod sign;

use clap::{Parser, Subcommand};
use edge_runtime::finding::STATEMENT;
use edge_runtime::keys::Keygen;
use edge_runtime::process;
use edge_runtime::process::command_line::parse;
use std::path::PathBuf;
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; what was written was read back and is right
  1  not done, with the reason; or a device did not come up as it should
  2  the command line was not understood";

/// From a release to a clinic device: cards are built, written, emulated and updated.
#[derive(Parser)]
#[command(name = "boards", version, about, after_help = format!("{EXIT_CODES}\n\n{STATEMENT}"))]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All boards, a line each
    List(list::Args),
    /// One board, whole
    Show(show::Args),
    /// Make the image of a card for a board
    Build(build::Args),
    /// Write an image to a card, read it back and compare; without --to, list the cards that are there
    Flash(flash::Args),
    /// Start an image on an emulated board (QEMU), with files on a stick
    Emulate(emulate::Args),
    /// Make a key that updates are signed with
    Keygen(Keygen),
    /// Make a signed update of an image or of a model
    Sign(sign::Args),
    /// Lay the application and its unit over the root of another system, such as Raspberry Pi OS or L4T
    Install(install::Args),
    /// Cut the power at every write of updates, in simulation
    PowerCuts(power_cuts::Args),
    /// Show or renew the pinned packages that cards are made of
    Packages(packages::Args),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    process::main("boards", |_| {
        match parse::<Cli>()?.command {
            Command::List(args) => list::run(args),
            Command::Show(args) => show::run(args),
            Command::Build(args) => build::run(args),
            Command::Flash(args) => flash::run(args),
            Command::Emulate(args) => emulate::run(args),
            Command::Keygen(args) => args.run(),
            Command::Sign(args) => sign::run(args),
            Command::Install(args) => install::run(args),
            Command::PowerCuts(args) => power_cuts::run(args),
            Command::Packages(args) => packages::run(args),
        }?;
        Ok(0)
    })
}

/// Where packages are kept once they were fetched.
fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).unwrap_or_else(std::env::temp_dir);
    cache.join("hilum")
}
