//! Recipes: one TOML file says everything that shapes a training run.

mod augment;
mod input;
mod network;
mod shipped;
mod train;

pub use augment::Augment;
pub use input::Input;
pub use network::{HeadSpec, NetworkSpec, Output, Pooling};
pub use shipped::RECIPES;
pub use train::{Keep, Monitor, Sampling, Schedule, Stages, Train, Trainable};

use data::Reading;
use data::operating_point::OperatingPointRule;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A training recipe. Every field that is not given has the default stated here.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Name of the model.
    pub name: String,
    /// Seed of the split, the initial weights, the order of images, augmentation and dropout.
    #[serde(default = "one")]
    pub seed: u64,
    /// The network's input.
    pub input: Input,
    /// The network.
    pub network: NetworkSpec,
    /// What follows its convolutions.
    #[serde(default)]
    pub head: HeadSpec,
    /// Random changes to training images.
    #[serde(default)]
    pub augment: Augment,
    /// What it learns from other models.
    #[serde(default)]
    pub distillation: Distillation,
    /// The optimisation: one stage, or several, `[[train]]`, one after the other.
    pub train: Stages,
    /// How the threshold is chosen on the validation split.
    pub operating_point: OperatingPointRule,
    /// What the model is judged on.
    #[serde(default)]
    pub validation: Validation,
    /// Whose images it is trained on.
    #[serde(default)]
    pub population: Population,
    /// What is read from data sets.
    #[serde(default)]
    pub data: Reading,
}

/// What a model learns from others besides the labels.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Distillation {
    /// Share of the target that is what the teachers say; 0 has none.
    pub share: f32,
}

/// What a model is judged on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Validation {
    /// Temperature and operating points are chosen on shifted validation images too: those of other hospitals are
    /// shifted, and a threshold from images like the training images promises too much.
    pub shifted: bool,
}

/// Whose images a model is trained on.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Population {
    /// Youngest and oldest, in years.
    pub ages: Option<[f32; 2]>,
}

fn one() -> u64 {
    1
}

/// Why a recipe is refused.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The recipe.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not the TOML of a recipe.
    #[error("{path}: {reason}")]
    Syntax {
        /// The recipe.
        path: PathBuf,
        /// What the parser said, with the line.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{path}: {reason}")]
    Value {
        /// The recipe.
        path: PathBuf,
        /// Which value, and what is possible.
        reason: String,
    },
}

impl Recipe {
    /// Reads and checks a recipe; also returns its text, which the model carries.
    pub fn load(path: &Path) -> Result<(Recipe, String), RecipeError> {
        let text = std::fs::read_to_string(path).map_err(|source| RecipeError::Io { path: path.into(), source })?;
        Recipe::parse(&text, path)
    }

    /// Reads and checks a recipe's text; `path` is only named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<(Recipe, String), RecipeError> {
        let syntax = |e: toml::de::Error| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            let reason = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
            RecipeError::Syntax { path: path.into(), reason: format!("line {line}: {reason}") }
        };
        let recipe: Recipe = toml::from_str(text).map_err(syntax)?;
        let value = |reason: String| {
            let line = line_of(text, &reason).map_or(String::new(), |line| format!("line {line}: "));
            RecipeError::Value { path: path.into(), reason: format!("{line}{reason}") }
        };
        recipe.check().map_err(value)?;
        Ok((recipe, text.to_owned()))
    }

    /// Says which value makes no sense, and what is possible.
    pub fn check(&self) -> Result<(), String> {
        self.input.check()?;
        self.network.check(self.input.size)?;
        self.head.check()?;
        self.data.check()?;
        if self.head.output == Output::Sigmoid && self.data.classes.labels().len() != 2 {
            return Err("head.output = \"sigmoid\" is for two classes, and data.classes are more".into());
        }
        self.augment.check()?;
        let at_least = match self.operating_point {
            OperatingPointRule::Sensitivity { at_least }
            | OperatingPointRule::SensitivityBound { at_least }
            | OperatingPointRule::Specificity { at_least } => at_least,
            OperatingPointRule::Youden => 1.0,
        };
        if !(at_least > 0.0 && at_least <= 1.0) {
            return Err("operating_point.at_least must be above 0 and at most 1".into());
        }
        self.train.iter().try_for_each(|stage| stage.check(&self.network))?;
        if self.augment.mixup > 0.0 && self.train.iter().any(Train::is_cached) {
            return Err("augment.mixup needs fresh images: leave it out, or set train.variants = 0".into());
        }
        if !(0.0..=1.0).contains(&self.distillation.share) {
            return Err("distillation.share must lie between 0 and 1".into());
        }
        if self.distillation.share > 0.0 && self.train.iter().any(Train::is_cached) {
            return Err("distillation.share needs fresh images: leave it out, or set train.variants = 0".into());
        }
        if self.population.ages.is_some_and(|[from, to]| !(0.0 <= from && from <= to && to < 200.0)) {
            return Err("population.ages must be the youngest and the oldest age in years".into());
        }
        Ok(())
    }
}

/// The line of the first key that `reason` names, as `section.key`.
fn line_of(text: &str, reason: &str) -> Option<usize> {
    let name = reason.split([' ', ',', ':']).find(|word| word.contains('.'))?;
    let (section, key) = name.split_once('.')?;
    let mut here = String::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            here = line.trim_matches(['[', ']']).to_owned();
        }
        if here == section && line.split('=').next().is_some_and(|word| word.trim() == key) {
            return Some(i + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_one_line_with_its_line() {
        let (_, text) = RECIPES.iter().find(|(name, _)| *name == "phantom-cnn").unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (from, to, words) in [
            ("learning_rate = 5e-3", "learning_rate = 5", "train.learning_rate must"),
            ("learning_rate = 5e-3", "learning_rat = 5", "learning_rat"),
            ("rule = \"youden\"", "rule = \"sensitivity\"\nat_least = 95", "operating_point.at_least must"),
            ("rotation = 5", "rotation = 1e30", "augment.rotation"),
            ("channels = [8, 16, 32]", "channels = [4000000000, 8]", "network.channels"),
        ] {
            let line = 1 + lines.iter().position(|line| *line == from).unwrap() + to.matches('\n').count();
            let e = Recipe::parse(&text.replace(from, to), Path::new("r.toml")).unwrap_err().to_string();
            assert!(e.starts_with(&format!("r.toml: line {line}: ")) && e.contains(words) && !e.contains('\n'), "{e}");
        }
    }

    #[test]
    fn every_shipped_recipe_loads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let (recipe, _) = Recipe::load(&path).unwrap();
            assert_eq!(Some(recipe.name.as_str()), path.file_stem().unwrap().to_str());
            names.push(recipe.name);
        }
        names.sort();
        assert_eq!(names, RECIPES.map(|(name, _)| name));
    }
}
