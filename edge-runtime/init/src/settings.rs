//! The configuration of `edge-runtime ui`: what the clinic set when the card was written, and what the card itself
//! decides.

use crate::say;
use crate::system::{APPLICATION, DATA};
use anyhow::Context;
use slots::Disk;
use slots::record::{CLINIC, SITE_PROFILE};
use std::path::{Path, PathBuf};

/// Where it is written.
const PATH: &str = "/run/hilum/edge-runtime.toml";

/// Where the site profile is, if the clinic has one.
const SITE: &str = "/run/hilum/site.toml";

/// What the application is given.
struct Merged {
    settings: String,
    site_profile: Option<String>,
}

/// Writes the configuration; its path.
pub fn write(card: &Disk, is_emulated: bool, has_model: bool) -> anyhow::Result<PathBuf> {
    let clinic: Option<String> = CLINIC.read(card);
    let merged = merged(clinic.as_deref().unwrap_or_default(), is_emulated, has_model);
    if let Some(profile) = &merged.site_profile {
        std::fs::write(SITE, profile).with_context(|| format!("{SITE} cannot be written"))?;
    }
    std::fs::write(PATH, merged.settings).with_context(|| format!("{PATH} cannot be written"))?;
    Ok(PATH.into())
}

/// What the clinic set, with what the card decides over it. Text that is no TOML was refused when the card was
/// written; here it is said and left out, so that the device still starts.
fn merged(clinic: &str, is_emulated: bool, has_model: bool) -> Merged {
    let mut table: toml::Table = clinic.parse().unwrap_or_else(|e| {
        say!("the clinic's settings are not understood, and left out: {e}");
        // But for a site profile: without it another threshold would decide, and nobody would know.
        let profile = clinic.contains(SITE_PROFILE).then(|| (SITE_PROFILE.to_owned(), false.into()));
        toml::Table::from_iter(profile)
    });
    let board = if is_emulated { "board-emulated.toml" } else { "board.toml" };
    let within = |folder: &str, name: &str| Path::new(folder).join(name).to_string_lossy().into_owned().into();
    table.insert("board".into(), within(APPLICATION, board));
    table.insert("off".into(), toml::Value::Array(vec![]));
    table.remove("model");
    if has_model {
        table.insert("model".into(), within(APPLICATION, "model.hilum"));
    }
    // A path of the machine that wrote the card means nothing here.
    table.remove("site");
    let profile = table.remove(SITE_PROFILE);
    if profile.is_some() {
        table.insert("site".into(), SITE.into());
    }
    // What is no text is written as none, so that the application refuses it instead of deciding otherwise.
    let site_profile = profile.map(|profile| profile.as_str().unwrap_or_default().to_owned());
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
    Merged { settings: table.to_string(), site_profile }
}

#[cfg(test)]
mod tests {
    use super::merged;

    #[test]
    fn the_clinic_sets_and_the_card_decides() {
        let text =
            merged("language = \"fr\"\nboard = \"host\"\n[findings]\nkeep_mib = 3\nfolder = \"/x\"\n", false, true);
        let table: toml::Table = text.settings.parse().unwrap();
        assert_eq!(table["language"].as_str(), Some("fr"));
        assert_eq!(table["board"].as_str(), Some("/app/board.toml"));
        assert_eq!(table["model"].as_str(), Some("/app/model.hilum"));
        assert_eq!(table["findings"]["keep_mib"].as_integer(), Some(3));
        assert_eq!(table["findings"]["folder"].as_str(), Some("/data/findings"));
        assert!(text.site_profile.is_none() && table.get("site").is_none());
        assert!(merged("language =", true, false).settings.contains("board-emulated.toml"));
    }
    #[test]
    fn the_site_profile_is_a_file_of_its_own() {
        let clinic = "policy = \"refuse\"\nsite = \"/home/a/site.toml\"\nsite_profile = \"schema = 1\\n\"\n";
        let merged = super::merged(clinic, false, false);
        let settings: toml::Table = merged.settings.parse().unwrap();
        assert_eq!((settings["site"].as_str(), settings["policy"].as_str()), (Some(super::SITE), Some("refuse")));
        assert!(settings.get("site_profile").is_none());
        assert_eq!(merged.site_profile.as_deref(), Some("schema = 1\n"));
    }

    #[test]
    fn a_site_profile_that_is_lost_is_no_reason_to_decide_otherwise() {
        for broken in ["language =\nsite_profile = \"a\"\n", "site_profile = 3\n"] {
            let merged = super::merged(broken, false, false);
            let settings: toml::Table = merged.settings.parse().unwrap();
            assert_eq!(settings["site"].as_str(), Some(super::SITE), "{broken}");
            assert_eq!(merged.site_profile.as_deref(), Some(""), "{broken}");
        }
    }
}
