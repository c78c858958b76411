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
        let recipe: Recipe =
            toml::from_str(text).map_err(|e| RecipeError::Syntax { path: path.into(), reason: e.to_string() })?;
        recipe.check().map_err(|reason| RecipeError::Value { path: path.into(), reason })?;
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
        self.train.iter().try_for_each(|stage| stage.check(&self.network))?;
        if self.augment.mixup > 0.0 && self.train.iter().any(Train::is_cached) {
            return Err("augment.mixup needs fresh images: leave it out, or set train.variants = 0".into());
        }
        if self.population.ages.is_some_and(|[from, to]| !(0.0 <= from && from <= to && to < 200.0)) {
            return Err("population.ages must be the youngest and the oldest age in years".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
