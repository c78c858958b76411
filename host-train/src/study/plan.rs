//! The file of a study, and the recipes that follow from it.

use super::figures::Criterion;
use crate::recipe::{RECIPES, Recipe};
use crate::training::RunFolder;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Names that a study's folder has for other things.
const TAKEN: [&str; 4] = ["frames", "lock", "study.json", "begun.json"];

/// Why a study is refused.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the TOML of a study.
    #[error("{path}: line {line}: {reason}")]
    Syntax {
        /// The study.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What the parser said.
        reason: String,
    },
    /// Something else is where a run is to go.
    #[error("{folder} holds {by}: remove it, or give another --out")]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// What.
        by: &'static str,
    },
    /// What it asks for makes no sense.
    #[error("{path}: {reason}")]
    Value {
        /// The study.
        path: PathBuf,
        /// What, and what is possible.
        reason: String,
    },
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    #[serde(default)]
    base: Option<String>,
    seeds: Vec<u64>,
    #[serde(default = "one")]
    split_seed: u64,
    choose: Criterion,
    #[serde(default)]
    set: Table,
    variant: Vec<FileVariant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileVariant {
    name: String,
    #[serde(default)]
    recipe: Option<String>,
    #[serde(default)]
    teachers: Option<String>,
    #[serde(default)]
    set: Table,
}

fn one() -> u64 {
    1
}

/// A study, checked.
pub struct Plan {
    /// Its name.
    pub name: String,
    /// The figure that chooses.
    pub choose: Criterion,
    /// Seed of the split, which all runs share.
    pub split_seed: u64,
    /// What is compared.
    pub variants: Vec<Variant>,
}

/// One of the recipes that are compared, with every seed.
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The variant whose runs teach it.
    pub teachers: Option<usize>,
    /// Its runs, one a seed.
    pub runs: Vec<PlannedRun>,
}

/// One run.
pub struct PlannedRun {
    /// Its seed.
    pub seed: u64,
    /// Where it goes, under the study's folder.
    pub folder: PathBuf,
    /// What is trained.
    pub recipe: Recipe,
    /// The recipe's text.
    pub text: String,
}

impl Plan {
    /// Reads and checks the study in `path`; recipes that it names as files lie relative to it.
    pub fn load(path: &Path) -> Result<Plan, StudyError> {
        let text = std::fs::read_to_string(path).map_err(|source| StudyError::Io { path: path.into(), source })?;
        Plan::parse(&text, path)
    }

    /// As [`Plan::load`], of the file's text.
    pub fn parse(text: &str, path: &Path) -> Result<Plan, StudyError> {
        let file: File = toml::from_str(text).map_err(|e| StudyError::Syntax {
            path: path.into(),
            line: e.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
            reason: e.message().split_whitespace().collect::<Vec<_>>().join(" "),
        })?;
        let value = |reason: String| StudyError::Value { path: path.into(), reason };
        check(&file).map_err(value)?;
        let variant = |variant: &FileVariant| {
            let name = variant.recipe.as_ref().or(file.base.as_ref());
            let name = name.ok_or_else(|| value(format!("variant {}: no `recipe`, and no `base`", variant.name)))?;
            let base = recipe_text(name, path)?;
            let run = |seed: &u64| planned(&file, variant, &base, *seed).map_err(value);
            let teachers = teachers(&file, variant).map_err(value)?;
            Ok(Variant {
                name: variant.name.clone(),
                teachers,
                runs: file.seeds.iter().map(run).collect::<Result<_, _>>()?,
            })
        };
        let variants: Vec<Variant> = file.variant.iter().map(variant).collect::<Result<_, StudyError>>()?;
        compare(&variants, file.choose).map_err(value)?;
        Ok(Plan { variants, name: file.name.clone(), choose: file.choose, split_seed: file.split_seed })
    }

    /// Refused if a folder of a run in `out` holds something else: better now than hours later.
    pub fn check_folders(&self, out: &Path) -> Result<(), StudyError> {
        for run in self.variants.iter().flat_map(|variant| &variant.runs) {
            let folder = out.join(&run.folder);
            let old = std::fs::read_to_string(folder.join("recipe.toml")).unwrap_or_default();
            if old.is_empty() && RunFolder::is_occupied(&folder) {
                return Err(StudyError::Occupied { folder, by: "files that no study made" });
            }
            if !old.is_empty() && old != run.text {
                return Err(StudyError::Occupied { folder, by: "a run of another recipe" });
            }
        }
        Ok(())
    }

    /// All runs: the first seed of every variant, then the second, so that a study that is stopped has something of
    /// everything; those that are taught after all others. Each as the index of its variant and of its seed.
    pub fn order(&self) -> Vec<(usize, usize)> {
        let seeds = self.variants.first().map_or(0, |variant| variant.runs.len());
        let of = |are_taught: bool| {
            let variants = (0..self.variants.len()).filter(move |v| self.variants[*v].teachers.is_some() == are_taught);
            let variants: Vec<usize> = variants.collect();
            (0..seeds).flat_map(move |seed| variants.clone().into_iter().map(move |variant| (variant, seed)))
        };
        of(false).chain(of(true)).collect()
    }
}

/// Refuses variants that do not compare, and a figure that they do not have.
fn compare(variants: &[Variant], choose: Criterion) -> Result<(), String> {
    let ages = |variant: &Variant| variant.runs[0].recipe.population.ages;
    if let Some(other) = variants.iter().find(|variant| ages(variant) != ages(&variants[0])) {
        return Err(format!("variant {}: population.ages is another: runs on other people do not compare", other.name));
    }
    let leaves_out = |variant: &Variant| !variant.runs[0].recipe.data.leave_out.is_empty();
    if choose == Criterion::LeftOut && !variants.iter().any(leaves_out) {
        return Err("choose = \"left-out\", and no variant has data.leave_out".into());
    }
    Ok(())
}

fn check(file: &File) -> Result<(), String> {
    let seeds: HashSet<u64> = file.seeds.iter().copied().collect();
    if file.seeds.is_empty() || seeds.len() != file.seeds.len() {
        return Err("seeds must be one or more numbers, none of them twice".into());
    }
    let names: HashSet<&str> = file.variant.iter().map(|v| v.name.as_str()).collect();
    if file.variant.is_empty() || names.len() != file.variant.len() {
        return Err("there must be one [[variant]] or more, each with a name of its own".into());
    }
    let is_free = |name: &str| (1..=64).contains(&name.len()) && !TAKEN.contains(&name);
    let serves = |name: &str| is_free(name) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match file.variant.iter().find(|v| !serves(&v.name) || v.name.starts_with('.')) {
        Some(v) => Err(format!("variant name \"{}\": it names a folder: letters, digits, - _ and . serve", v.name)),
        None => Ok(()),
    }
}

/// The index of the variant that teaches `variant`.
fn teachers(file: &File, variant: &FileVariant) -> Result<Option<usize>, String> {
    let Some(name) = &variant.teachers else { return Ok(None) };
    let at = |reason: String| format!("variant {}: {reason}", variant.name);
    let teacher = file.variant.iter().position(|other| other.name == *name);
    let teacher = teacher.ok_or_else(|| at(format!("teachers = \"{name}\": there is no such variant")))?;
    match file.variant[teacher].teachers.is_some() || *name == variant.name {
        true => Err(at(format!("teachers = \"{name}\": a variant that is taught itself does not teach"))),
        false => Ok(Some(teacher)),
    }
}

/// The text of the built-in recipe `name`, or of the file beside `study`.
fn recipe_text(name: &str, study: &Path) -> Result<String, StudyError> {
    if let Some((_, text)) = RECIPES.iter().find(|(built_in, _)| *built_in == name) {
        return Ok((*text).to_owned());
    }
    let path = study.parent().unwrap_or(Path::new("")).join(name);
    std::fs::read_to_string(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => StudyError::Value {
            path: study.into(),
            reason: format!("{name}: neither a built-in recipe (`host-train recipes` lists them) nor a file beside it"),
        },
        _ => StudyError::Io { path, source },
    })
}

/// The run of `variant`, a change of the recipe `base`, with `seed`.
fn planned(file: &File, variant: &FileVariant, base: &str, seed: u64) -> Result<PlannedRun, String> {
    let at = |reason: String| format!("variant {}: {reason}", variant.name);
    let mut table: Table = toml::from_str(base).map_err(|e| at(e.message().to_owned()))?;
    merge(&mut table, &file.set, "").map_err(at)?;
    merge(&mut table, &variant.set, "").map_err(at)?;
    for given in ["seed", "name"] {
        if file.set.contains_key(given) || variant.set.contains_key(given) {
            return Err(at(format!("`{given}` is the study's own, and cannot be set")));
        }
    }
    let recipe_name = table.get("name").and_then(Value::as_str).unwrap_or("recipe").to_owned();
    table.insert("name".into(), Value::String(format!("{recipe_name}-{}", variant.name)));
    table.insert("seed".into(), Value::Integer(i64::try_from(seed).map_err(|_| at(format!("seed {seed}")))?));
    // Every run is judged on shifted images, so its operating point follows from those as well.
    let shifted = Table::from_iter([("shifted".to_owned(), Value::Boolean(true))]);
    merge(&mut table, &Table::from_iter([("validation".to_owned(), Value::Table(shifted))]), "").map_err(at)?;
    let text = toml::to_string(&table).map_err(|e| at(e.to_string()))?;
    let (recipe, text) = Recipe::parse(&text, Path::new("")).map_err(|e| at(unplaced(&e.to_string())))?;
    match (variant.teachers.is_some(), recipe.distillation.share > 0.0) {
        (true, false) => return Err(at("it has teachers, and no distillation.share".into())),
        (false, true) => return Err(at("it has a distillation.share, and no teachers".into())),
        _ => {}
    }
    let folder = Path::new(&variant.name).join(format!("seed-{seed}"));
    Ok(PlannedRun { seed, folder, recipe, text })
}

/// The reason of a recipe that has no file: its lines are nobody's.
fn unplaced(error: &str) -> String {
    let reason = error.trim_start_matches(": ");
    match reason.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((_, reason)) => reason.to_owned(),
        None => reason.to_owned(),
    }
}

/// Puts the values of `changes` into `table`, tables into tables; `place` is where both are, for errors.
fn merge(table: &mut Table, changes: &Table, place: &str) -> Result<(), String> {
    for (key, change) in changes {
        let here = format!("{place}{key}");
        match (table.get_mut(key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if !is_choice(old, new) => {
                merge(old, new, &format!("{here}."))?;
            }
            (Some(Value::Array(_)), Value::Table(_)) => {
                return Err(format!("`{here}` has several stages: set all of them, [[variant.set.{here}]]"));
            }
            _ => {
                table.insert(key.clone(), change.clone());
            }
        }
    }
    Ok(())
}

/// True if one table takes another's place as a whole: those that say by `kind` or `rule` what they are, and are
/// another one.
fn is_choice(old: &Table, new: &Table) -> bool {
    ["kind", "rule"].iter().any(|key| new.get(*key).is_some_and(|value| old.get(*key) != Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Schedule;

    const STUDY: &str = r#"
name = "crops"
base = "phantom-cnn"
seeds = [1, 2]
choose = "worst-shift"
set.train.epochs = 2

[[variant]]
name = "plain"

[[variant]]
name = "crops"
[variant.set.augment]
crop = 0.3
[variant.set.train]
schedule = "cosine"
"#;

    #[test]
    fn variants_are_the_base_with_what_they_set() {
        let plan = Plan::parse(STUDY, Path::new("s.toml")).unwrap();
        let recipe = |variant: usize, seed: usize| &plan.variants[variant].runs[seed].recipe;
        assert_eq!((plan.variants.len(), recipe(0, 0).seed, recipe(1, 1).seed), (2, 1, 2));
        assert_eq!((recipe(0, 0).augment.crop, recipe(1, 0).augment.crop), (0.0, 0.3));
        assert!(plan.variants.iter().flat_map(|v| &v.runs).all(|run| run.recipe.train[0].epochs == 2));
        assert!(plan.variants.iter().flat_map(|v| &v.runs).all(|run| run.recipe.validation.shifted));
        assert_eq!(recipe(1, 0).train[0].schedule, Schedule::Cosine);
        assert_eq!(recipe(1, 0).name, "phantom-cnn-crops");
        assert_eq!(plan.variants[1].runs[0].folder, Path::new("crops/seed-1"));
        assert_eq!(plan.order(), [(0, 0), (1, 0), (0, 1), (1, 1)]);
    }

    #[test]
    fn every_shipped_study_loads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("studies");
        for entry in std::fs::read_dir(folder).unwrap() {
            Plan::load(&entry.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn pupils_come_after_all_teachers() {
        let study =
            STUDY.replace("name = \"plain\"", "name = \"plain\"\nteachers = \"crops\"\nset.distillation.share = 0.5");
        let plan = Plan::parse(&study, Path::new("s.toml")).unwrap();
        assert_eq!((plan.variants[0].teachers, plan.variants[1].teachers), (Some(1), None));
        assert_eq!(plan.order(), [(1, 0), (1, 1), (0, 0), (0, 1)]);
    }

    #[test]
    fn a_recipe_of_a_run_is_read_again_as_it_is() {
        let plan = Plan::parse(STUDY, Path::new("s.toml")).unwrap();
        let run = &plan.variants[1].runs[1];
        let (again, _) = Recipe::parse(&run.text, Path::new("")).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", run.recipe));
    }

    #[test]
    fn another_kind_of_network_or_rule_takes_the_place_of_the_old() {
        let study = STUDY.replace(
            "[variant.set.augment]\ncrop = 0.3\n[variant.set.train]\nschedule = \"cosine\"\n",
            "[variant.set]\nnetwork = { kind = \"mobilenet-v2\", blocks = 2, last = 64 }\n\
             operating_point = { rule = \"sensitivity\", at_least = 0.9 }\n",
        );
        Plan::parse(&study, Path::new("s.toml")).unwrap();
    }

    #[test]
    fn a_study_that_makes_no_sense_is_one_sentence() {
        for (from, to, words) in [
            ("seeds = [1, 2]", "seeds = [1, 1]", "none of them twice"),
            ("seeds = [1, 2]", "seeds = []", "one or more"),
            ("choose = \"worst-shift\"", "choose = \"luck\"", "line 5: unknown variant `luck`"),
            ("base = \"phantom-cnn\"", "base = \"nothing\"", "nothing: neither a built-in recipe"),
            ("base = \"phantom-cnn\"\n", "", "no `recipe`, and no `base`"),
            ("crop = 0.3", "crop = 7.0", "variant crops: augment.crop"),
            ("crop = 0.3", "crp = 0.3", "variant crops: unknown field `crp`"),
            ("name = \"plain\"", "name = \"../plain\"", "it names a folder"),
            ("name = \"plain\"", "name = \"frames\"", "it names a folder"),
            ("crop = 0.3", "crop = 0.3\n[variant.set.population]\nages = [1, 5]", "population.ages is another"),
            ("worst-shift", "left-out", "no variant has data.leave_out"),
            ("name = \"plain\"", "name = \"crops\"", "a name of its own"),
            ("set.train.epochs = 2", "set.seed = 2", "`seed` is the study's own"),
            ("base = \"phantom-cnn\"", "base = \"d-resnet50-two-stage\"", "several stages"),
            ("name = \"plain\"", "name = \"plain\"\nteachers = \"crop\"", "there is no such variant"),
            ("name = \"plain\"", "name = \"plain\"\nteachers = \"crops\"", "no distillation.share"),
            ("crop = 0.3", "crop = 0.3\n[variant.set.distillation]\nshare = 0.5", "no teachers"),
        ] {
            let Err(e) = Plan::parse(&STUDY.replace(from, to), Path::new("s.toml")) else { panic!("{to}") };
            let e = e.to_string();
            assert!(e.starts_with("s.toml: ") && e.contains(words) && !e.contains('\n'), "{e}");
        }
    }
}
