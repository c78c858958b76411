//! What a study said before its first run, kept in its folder, so that nobody chooses the figure after the results; and
//! a lock, so that one program at a time works on it.

use super::figures::Criterion;
use super::plan::Plan;
use edge_runtime::process::files::write_atomically;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// The file in a study's folder.
const FILE: &str = "begun.json";

/// What a study said when it began, with what was added since.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Begun {
    choose: Criterion,
    split_seed: u64,
    variants: Vec<String>,
    seeds: Vec<u64>,
}

/// Why a study does not go on.
#[derive(Debug, thiserror::Error)]
pub enum BegunError {
    /// Its folder cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// What it said cannot be read.
    #[error("{path}: not what a study keeps ({reason}); give another --out")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Another program is at work.
    #[error("{0}: another program is at work on this study")]
    Busy(PathBuf),
    /// It said something else.
    #[error("{path}: this study began with {what} = {old}; with {new} it is another one: give another --out")]
    Another {
        /// Its folder.
        path: PathBuf,
        /// What.
        what: &'static str,
        /// As it was.
        old: String,
        /// As it would be.
        new: String,
    },
}

/// What somebody wants of a study's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// To work on it, alone.
    Work,
    /// To look, whoever else is at work; nothing is written.
    Look,
}

/// A study that goes on; nobody else works on it while this is there.
pub struct Held {
    _lock: Option<File>,
    /// What was there when the study began and is not any more, a sentence each.
    pub remarks: Vec<String>,
}

/// Begins the study of `plan` in `folder`, which is there, or goes on with it.
pub fn begin(plan: &Plan, folder: &Path, access: Access) -> Result<Held, BegunError> {
    let lock = match access {
        Access::Work => Some(lock(folder)?),
        Access::Look => None,
    };
    let mut begun = now(plan);
    let path = folder.join(FILE);
    let mut remarks = Vec::new();
    if let Some(old) = read(&path)? {
        refuse_another(folder, &old, &begun)?;
        remarks = gone(&old, &begun);
        let Begun { variants, seeds, .. } = old;
        variants.into_iter().for_each(|name| add(&mut begun.variants, name));
        seeds.into_iter().for_each(|seed| add(&mut begun.seeds, seed));
    }
    if access == Access::Work {
        let text = serde_json::to_string_pretty(&begun).expect("plain data serialises");
        write_atomically(&path, text.as_bytes()).map_err(|source| BegunError::Io { path, source })?;
    }
    Ok(Held { _lock: lock, remarks })
}

fn lock(folder: &Path) -> Result<File, BegunError> {
    let path = folder.join("lock");
    let io = |source| BegunError::Io { path: path.clone(), source };
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(BegunError::Busy(folder.to_owned())),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

fn add<T: PartialEq>(all: &mut Vec<T>, one: T) {
    if !all.contains(&one) {
        all.push(one);
    }
}

fn now(plan: &Plan) -> Begun {
    let mut seeds = Vec::new();
    plan.variants.iter().flat_map(|variant| &variant.runs).for_each(|run| add(&mut seeds, run.seed));
    Begun {
        choose: plan.choose,
        split_seed: plan.split_seed,
        variants: plan.variants.iter().map(|variant| variant.name.clone()).collect(),
        seeds,
    }
}

fn read(path: &Path) -> Result<Option<Begun>, BegunError> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|e| BegunError::Damaged { path: path.to_owned(), reason: e.to_string() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BegunError::Io { path: path.to_owned(), source }),
    }
}

fn refuse_another(folder: &Path, old: &Begun, new: &Begun) -> Result<(), BegunError> {
    let another = |what: &'static str, old: String, new: String| {
        Err(BegunError::Another { path: folder.to_owned(), what, old, new })
    };
    if old.choose != new.choose {
        return another("choose", old.choose.name().into(), new.choose.name().into());
    }
    match old.split_seed == new.split_seed {
        true => Ok(()),
        false => another("split_seed", old.split_seed.to_string(), new.split_seed.to_string()),
    }
}

fn gone(old: &Begun, new: &Begun) -> Vec<String> {
    let variants: Vec<&str> =
        old.variants.iter().filter(|name| !new.variants.contains(name)).map(String::as_str).collect();
    let seeds: Vec<String> =
        old.seeds.iter().filter(|seed| !new.seeds.contains(seed)).map(ToString::to_string).collect();
    let sentence = |what: &str, names: String| format!("The study had {what} {names} before, which are left out now.");
    let variants = (!variants.is_empty()).then(|| sentence("the variants", variants.join(", ")));
    let seeds = (!seeds.is_empty()).then(|| sentence("the seeds", seeds.join(", ")));
    variants.into_iter().chain(seeds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(choose: &str, names: &[&str]) -> Plan {
        let variants: String = names.iter().map(|name| format!("[[variant]]\nname = \"{name}\"\n")).collect();
        let text = format!("name = \"s\"\nbase = \"phantom-cnn\"\nseeds = [1, 2]\nchoose = \"{choose}\"\n{variants}");
        Plan::parse(&text, Path::new("s.toml")).unwrap()
    }

    #[test]
    fn the_figure_is_not_chosen_after_the_results_and_what_is_dropped_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let first = begin(&plan("plain", &["a", "b"]), dir.path(), Access::Work).unwrap();
        assert!(first.remarks.is_empty());
        let busy = begin(&plan("plain", &["a", "b"]), dir.path(), Access::Work).err().unwrap().to_string();
        assert!(busy.contains("another program"), "{busy}");
        assert!(begin(&plan("plain", &["a", "b"]), dir.path(), Access::Look).unwrap().remarks.is_empty());
        drop(first);
        let other = begin(&plan("worst-shift", &["a", "b"]), dir.path(), Access::Work).err().unwrap().to_string();
        assert!(other.contains("began with choose = plain; with worst shift"), "{other}");
        let more = begin(&plan("plain", &["a", "c"]), dir.path(), Access::Work).unwrap();
        assert_eq!(more.remarks, ["The study had the variants b before, which are left out now."]);
        drop(more);
        // What was dropped once stays known.
        let again = begin(&plan("plain", &["a", "c"]), dir.path(), Access::Work).unwrap();
        assert_eq!(again.remarks.len(), 1);
    }
}
