//! The configuration of `edge-runtime ui`: what the clinic set when the card was written, and what the card itself
//! decides.

use crate::say;
use crate::system::{APPLICATION, DATA};
use anyhow::Context;
use slots::Disk;
use slots::record::CLINIC;
use std::path::{Path, PathBuf};

/// Where it is written.
const PATH: &str = "/run/hilum/edge-runtime.toml";

/// Writes the configuration; its path.
pub fn write(card: &Disk, is_emulated: bool, has_model: bool) -> anyhow::Result<PathBuf> {
    let clinic: Option<String> = CLINIC.read(card);
    let text = merged(clinic.as_deref().unwrap_or_default(), is_emulated, has_model);
    std::fs::write(PATH, text).with_context(|| format!("{PATH} cannot be written"))?;
    Ok(PATH.into())
}

/// What the clinic set, with what the card decides over it. Text that is no TOML was refused when the card was
/// written; here it is said and left out, so that the device still starts.
fn merged(clinic: &str, is_emulated: bool, has_model: bool) -> String {
    let mut table: toml::Table = clinic.parse().unwrap_or_else(|e| {
        say!("the clinic's settings are not understood, and left out: {e}");
        toml::Table::new()
    });
    let board = if is_emulated { "board-emulated.toml" } else { "board.toml" };
    let within = |folder: &str, name: &str| Path::new(folder).join(name).to_string_lossy().into_owned().into();
    table.insert("board".into(), within(APPLICATION, board));
    table.insert("off".into(), toml::Value::Array(vec![]));
    table.remove("model");
    if has_model {
        table.insert("model".into(), within(APPLICATION, "model.hilum"));
    }
    let mut section = |name: &str| match table.remove(name) {
        Some(toml::Value::Table(section)) => section,
        _ => toml::Table::new(),
    };
    let mut inbox = section("inbox");
    inbox.insert("folders".into(), toml::Value::Array(vec![]));
    inbox.insert("sticks".into(), true.into());
    inbox.insert("mounts".into(), "/run/hilum/sticks".into());
    let mut findings = section("findings");
    findings.insert("folder".into(), within(DATA, "findings"));
    findings.insert("key".into(), within(DATA, "clinic.key"));
    table.insert("inbox".into(), inbox.into());
    table.insert("findings".into(), findings.into());
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn the_clinic_sets_and_the_card_decides() {
        let text =
            merged("language = \"fr\"\nboard = \"host\"\n[findings]\nkeep_mib = 3\nfolder = \"/x\"\n", false, true);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["language"].as_str(), Some("fr"));
        assert_eq!(table["board"].as_str(), Some("/app/board.toml"));
        assert_eq!(table["model"].as_str(), Some("/app/model.hilum"));
        assert_eq!(table["findings"]["keep_mib"].as_integer(), Some(3));
        assert_eq!(table["findings"]["folder"].as_str(), Some("/data/findings"));
        assert!(merged("language =", true, false).contains("board-emulated.toml"));
    }
}
