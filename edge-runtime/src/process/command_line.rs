//! The command line of this process, and the manual pages and shell completions that are made from it.

use super::files::write_atomically;
use super::{Failure, output};
use anyhow::Context;
use clap::builder::ValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command, CommandFactory, Parser};
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Name of the option that [`parse`] adds to every program.
const MANUALS: &str = "manuals";

/// Where each shell looks for completions below a prefix: the defaults of bash-completion, zsh and fish.
const COMPLETIONS: [(Shell, &str); 3] = [
    (Shell::Bash, "share/bash-completion/completions"),
    (Shell::Zsh, "share/zsh/site-functions"),
    (Shell::Fish, "share/fish/vendor_completions.d"),
];

/// The command line of this process as a `C`. With `--manuals PREFIX`, which stands alone, manual pages and completions
/// are written below it and the process ends with 0; it ends, too, after the help, the version, or a word that means
/// nothing. A file that cannot be written is a [`Failure::work`].
pub fn parse<C: Parser>() -> Result<C, Failure> {
    let option = format!("--{MANUALS}");
    let is_option = |arg: OsString| arg.to_string_lossy().split('=').next() == Some(&option);
    let asks_for_manuals = std::env::args_os().skip(1).any(is_option);
    // The manuals take the place of a subcommand, which help and errors otherwise ask for.
    let mut command = match asks_for_manuals {
        true => command::<C>().subcommand_required(false),
        false => command::<C>(),
    };
    let mut matches = command.clone().get_matches();
    if let Some(prefix) = matches.remove_one::<PathBuf>(MANUALS) {
        if matches.subcommand().is_some() {
            let reason = "the argument '--manuals <PREFIX>' cannot be used with a subcommand\n";
            command.error(ErrorKind::ArgumentConflict, reason).exit();
        }
        let files = write_manuals(&command, &prefix)?;
        let lines: Vec<String> = files.iter().map(|path| format!("wrote {}", path.display())).collect();
        output::line(lines.join("\n"))?;
        std::process::exit(0);
    }
    C::from_arg_matches_mut(&mut matches).map_err(|e| e.format(&mut command).exit())
}

/// `C` and `--manuals`.
fn command<C: CommandFactory>() -> Command {
    let manuals = Arg::new(MANUALS)
        .long(MANUALS)
        .value_name("PREFIX")
        .value_parser(ValueParser::path_buf())
        .exclusive(true)
        .help("Write manual pages and completions of bash, zsh and fish below PREFIX, such as ~/.local");
    C::command().arg(manuals)
}

/// Writes a page for the program and each of its subcommands and a file for each shell; gives their paths.
fn write_manuals(command: &Command, prefix: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut built = command.clone().disable_help_subcommand(true);
    built.build();
    let mut files = Vec::new();
    let pages = prefix.join("share/man/man1");
    for command in std::iter::once(&built).chain(built.get_subcommands().filter(|c| !c.is_hide_set())) {
        // Who reads the page of a subcommand looks for its exit codes there.
        let page = Man::new(match (command.get_after_help(), built.get_after_help()) {
            (None, Some(codes)) => command.clone().after_help(codes.clone()),
            _ => command.clone(),
        });
        let mut bytes = Vec::new();
        page.render(&mut bytes)?;
        files.push((pages.join(page.get_filename()), bytes));
    }
    for (shell, folder) in COMPLETIONS {
        let name = command.get_name();
        let mut bytes = Vec::new();
        generate(shell, &mut command.clone(), name, &mut bytes);
        if shell == Shell::Bash {
            bytes = with_one_name(&bytes, name);
        }
        files.push((prefix.join(folder).join(completion_name(shell, name)), bytes));
    }
    for (path, bytes) in &files {
        let named = || format!("{} cannot be written", path.display());
        std::fs::create_dir_all(path.parent().unwrap_or(prefix)).with_context(named)?;
        write_atomically(path, bytes).with_context(named)?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// clap_complete 4.6 writes the hyphens of a program's name in two ways, so that its script for bash finds no
/// subcommand. Gives the script with one of them.
fn with_one_name(script: &[u8], program: &str) -> Vec<u8> {
    let [wrong, right] = ["__subcmd__", "__"].map(|hyphen| program.replace('-', hyphen));
    String::from_utf8_lossy(script).replace(&wrong, &right).into_bytes()
}

/// The name under which `shell` finds the completions of a program.
fn completion_name(shell: Shell, program: &str) -> String {
    match shell {
        Shell::Zsh => format!("_{program}"),
        Shell::Fish => format!("{program}.fish"),
        _ => program.to_owned(),
    }
}
