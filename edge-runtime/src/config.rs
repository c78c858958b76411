//! What a clinic sets on its device: one TOML file. `edge-runtime config` prints it with its defaults and what each
//! means.

use crate::board::Board;
use crate::display::text::Language;
use crate::suitability::Policy;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where the configuration of a device is looked for.
pub const PATH: &str = "/etc/hilum/edge-runtime.toml";

/// The defaults, with what each means.
pub const DEFAULT: &str = include_str!("config.toml");

/// What a clinic sets on its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The board: a name of `boards list`, or a board file.
    pub board: String,
    /// A model instead of the embedded one.
    #[serde(default)]
    pub model: Option<PathBuf>,
    /// Public keys, one of which it is to be signed with.
    #[serde(default)]
    pub model_keys: Option<PathBuf>,
    /// The clinic's site profile.
    #[serde(default)]
    pub site: Option<PathBuf>,
    /// CPU threads for the network.
    pub threads: u32,
    /// What is done with radiographs that something speaks against.
    pub policy: Policy,
    /// The language of the screens until another one is chosen.
    pub language: Language,
    /// Where radiographs come from.
    pub inbox: Inbox,
    /// Where findings are kept.
    pub findings: Findings,
    /// The program that switches the device off, and its arguments; none where the kiosk only ends.
    pub off: Vec<String>,
}

/// Where radiographs come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inbox {
    /// Folders that are watched.
    pub folders: Vec<PathBuf>,
    /// Whether USB sticks are read.
    pub sticks: bool,
    /// Where they are mounted.
    pub mounts: PathBuf,
}

/// Where findings are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Findings {
    /// The folder of the log.
    pub folder: PathBuf,
    /// The clinic's key.
    pub key: PathBuf,
    /// Mebibytes that are kept.
    pub keep_mib: u32,
    /// What stands for names of files.
    pub names: Names,
}

/// What stands for names of files in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// A hash with the clinic's key.
    Hashed,
    /// The names.
    Kept,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: the configuration cannot be read ({reason}); `edge-runtime config` prints one to begin with")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The file is not understood.
    #[error("{path}, {place}{reason}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// `line N: `.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

impl Config {
    /// The defaults.
    pub fn defaults() -> Config {
        toml::from_str(DEFAULT).expect("the defaults are tested")
    }

    /// The configuration in `path`; the defaults where that is `None` and there is none at [`PATH`].
    pub fn open(path: Option<&Path>) -> Result<Config, ConfigError> {
        let (file, is_asked) = match path {
            Some(path) => (path, true),
            None => (Path::new(PATH), false),
        };
        match std::fs::read_to_string(file) {
            Ok(text) => Config::parse(&text, file),
            Err(e) if !is_asked && e.kind() == std::io::ErrorKind::NotFound => Ok(Config::defaults()),
            Err(reason) => Err(ConfigError::Unreadable { path: file.to_owned(), reason }),
        }
    }

    /// The configuration that `text` says; what it leaves out has its default. `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let wrong = |place: Option<std::ops::Range<usize>>, reason: &str| ConfigError::Wrong {
            path: path.to_owned(),
            place: place.map_or_else(String::new, |at| format!("line {}: ", line_of(text, at.start))),
            reason: reason.to_owned(),
        };
        let given: toml::Table = toml::from_str(text).map_err(|e| wrong(e.span(), e.message()))?;
        let mut table: toml::Table = toml::from_str(DEFAULT).expect("the defaults are tested");
        merge(&mut table, given);
        let merged = toml::to_string(&table).map_err(|e| wrong(None, &e.to_string()))?;
        let config: Config = toml::from_str(&merged).map_err(|e| {
            // The line in the merged text names the key, and the key finds the line in the file.
            let unknown = e.message().split('`').nth(1).unwrap_or_default();
            let line = e.span().map_or(0, |at| line_of(&merged, at.start));
            let line = merged.lines().nth(line.saturating_sub(1)).unwrap_or_default();
            let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
            wrong(place_of(text, unknown).or_else(|| place_of(text, key)), e.message())
        })?;
        config.check().map_err(|(key, reason)| wrong(place_of(text, key), &reason))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        if !(1..=64).contains(&self.threads) {
            return Err(("threads", format!("threads = {}: 1 to 64", self.threads)));
        }
        if !(1..=64).contains(&self.findings.keep_mib) {
            return Err(("keep_mib", format!("keep_mib = {}: 1 to 64", self.findings.keep_mib)));
        }
        Board::find(&self.board).map_err(|e| ("board", e.to_string()))?;
        if self.off.first().is_some_and(String::is_empty) {
            return Err(("off", "off begins with no program: [] for none".into()));
        }
        if self.inbox.folders.is_empty() && !self.inbox.sticks {
            return Err(("folders", "nothing can arrive: name a folder, or read sticks".into()));
        }
        let paths = [("mounts", &self.inbox.mounts), ("folder", &self.findings.folder), ("key", &self.findings.key)];
        let folders = self.inbox.folders.iter().map(|folder| ("folders", folder));
        let models = [("model", &self.model), ("model_keys", &self.model_keys), ("site", &self.site)];
        let models = models.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        if let Some((key, _)) =
            paths.into_iter().chain(folders).chain(models).find(|(_, path)| path.as_os_str().is_empty())
        {
            return Err((key, format!("{key} is empty: give a path")));
        }
        self.check_folders().map_err(|reason| ("folders", reason))
    }

    /// Refuses to keep findings in a folder that is watched, and to watch one in which they are kept.
    pub fn check_folders(&self) -> Result<(), String> {
        let real = |path: &PathBuf| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
        let folder = real(&self.findings.folder);
        let inboxes = self.inbox.folders.iter().map(real);
        match inboxes.into_iter().any(|inbox| inbox.starts_with(&folder) || folder.starts_with(&inbox)) {
            true => Err("a watched folder and the folder of the findings lie within one another".into()),
            false => Ok(()),
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at.min(text.len())].matches('\n').count() + 1
}

/// Where `key` is set in `text`.
fn place_of(text: &str, key: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let name = line.trim_start().trim_start_matches('[');
        let rest = name.strip_prefix(key).filter(|_| !key.is_empty());
        if rest.is_some_and(|rest| rest.trim_start().starts_with(['=', ']'])) {
            return Some(start..start + line.len());
        }
        start += line.len();
    }
    None
}

/// `given` over `table`, key by key.
fn merge(table: &mut toml::Table, given: toml::Table) {
    for (key, value) in given {
        match (table.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text, Path::new("clinic.toml")).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_sound_and_what_is_left_out_has_them() {
        let defaults = Config::defaults();
        assert_eq!(defaults.check(), Ok(()));
        let config = Config::parse("language = \"sw\"\n[findings]\nkeep_mib = 3\n", Path::new("a")).unwrap();
        let findings = Findings { keep_mib: 3, ..defaults.findings.clone() };
        assert_eq!(config, Config { language: Language::Swahili, findings, ..defaults });
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(error("threads = 1\nlanguage = \n").starts_with("clinic.toml, line 2: "));
        assert!(error("\nlanguag = \"en\"\n").starts_with("clinic.toml, line 2: unknown field `languag`"));
        assert!(error("\n\nthreads = 99\n").starts_with("clinic.toml, line 3: threads = 99: 1 to 64"));
        assert!(error("\nlanguage = \"xx\"\n").starts_with("clinic.toml, line 2: unknown variant `xx`"));
        let wrong_type = error("\n[findings]\nkeep_mib = \"2\"\n");
        assert!(wrong_type.starts_with("clinic.toml, line 3: invalid type"), "{wrong_type}");
        assert!(error("board = \"raspberry-pi-9\"\n").contains("line 1: no board `raspberry-pi-9`"));
        assert!(error("off = [\"\"]\n").starts_with("clinic.toml, line 1: off begins"));
        assert!(
            error("[inbox]\nfolders = []\nsticks = false\n").starts_with("clinic.toml, line 2: nothing can arrive")
        );
        assert!(error("[findings]\nkey = \"\"\n").starts_with("clinic.toml, line 2: key is empty"));
        assert!(error("[findings]\nfolder = \"/a/b\"\n[inbox]\nfolders = [\"/a\"]\n").contains("line 4: a watched"));
    }
}
