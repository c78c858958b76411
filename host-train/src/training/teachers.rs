//! Networks that teach another: their mean probabilities are a share of what the loss compares with (distillation,
//! Hinton et al. 2015), on the very view of an image that the pupil sees (Beyer et al. 2022).

use data::Labels;
use edge_runtime::engine::{Compute, EngineError};
use edge_runtime::image::GreyPlane;
use edge_runtime::model::contract::Activation;
use edge_runtime::model::{Model, ModelError};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Why a model does not teach.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// It is refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It tells other classes apart.
    #[error("{path}: a teacher has to tell {wanted} apart, and this model tells {found}")]
    Classes {
        /// The model.
        path: PathBuf,
        /// The classes of the data.
        wanted: String,
        /// The model's.
        found: String,
    },
    /// The recipe has no use for it.
    #[error("the recipe takes no teacher: set distillation.share, or leave --teacher out")]
    Unused,
    /// The recipe needs one.
    #[error("the recipe learns from others (distillation.share): give their models with --teacher")]
    Missing,
}

/// Models that teach.
#[derive(Default)]
pub struct Teachers(Vec<Model>);

impl Teachers {
    /// Loads those in `paths`, for data with `labels`; as many as a recipe with this `share` has a use for.
    pub fn load(paths: &[PathBuf], labels: &Labels, share: f32, compute: &Compute) -> Result<Teachers, TeacherError> {
        match (paths.is_empty(), share > 0.0) {
            (false, false) => return Err(TeacherError::Unused),
            (true, true) => return Err(TeacherError::Missing),
            _ => {}
        }
        let load = |path: &PathBuf| Teachers::one(path, labels, compute);
        Ok(Teachers(paths.iter().map(load).collect::<Result<_, _>>()?))
    }

    fn one(path: &Path, labels: &Labels, compute: &Compute) -> Result<Model, TeacherError> {
        let model = Model::load(path, compute)?;
        let contract = &model.contract;
        if contract.labels != labels.names() || contract.activation == Activation::Independent {
            let wanted = labels.names().join(", ");
            return Err(TeacherError::Classes { path: path.into(), wanted, found: contract.labels.join(", ") });
        }
        Ok(model)
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who they are, for the model's history.
    pub fn names(&self) -> Vec<String> {
        let name = |model: &Model| format!("{} ({:.12})", model.contract.provenance.name, model.digest);
        self.0.iter().map(name).collect()
    }

    /// The mean probability of each class, of `plane`; `None` without teachers.
    pub fn say(&self, plane: &GreyPlane) -> Result<Option<Vec<f32>>, EngineError> {
        let mut mean: Option<Vec<f32>> = None;
        for model in &self.0 {
            let size = model.contract.input.size;
            let seen = match (plane.width, plane.height) == (size, size) {
                true => Cow::Borrowed(plane),
                false => Cow::Owned(plane.resized(size, size)),
            };
            let said = probabilities(model, &model.infer(&seen)?.logits);
            let mean = mean.get_or_insert_with(|| vec![0.0; said.len()]);
            mean.iter_mut().zip(said).for_each(|(mean, p)| *mean += p / self.0.len() as f32);
        }
        Ok(mean)
    }
}

/// The probability of each label of `model`.
fn probabilities(model: &Model, logits: &[f32]) -> Vec<f32> {
    if let [logit] = logits {
        // One logit is that of the second label.
        let p = 1.0 / (1.0 + (-logit / model.contract.calibration.temperature).exp());
        return vec![1.0 - p, p];
    }
    let temperature = model.contract.calibration.temperature;
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| ((logit - top) / temperature).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../edge-runtime/models/default.hilum");

    fn labels() -> Labels {
        data::Classes::Pneumonia.labels()
    }

    #[test]
    fn teachers_say_what_their_models_say() {
        let compute = Compute::default();
        let two = Teachers::load(&[MODEL.into(), MODEL.into()], &labels(), 0.5, &compute).unwrap();
        let plane = GreyPlane::pattern(160);
        let model = Model::load(Path::new(MODEL), &compute).unwrap();
        let alone = model.infer(&plane).unwrap().probability;
        let said = two.say(&plane).unwrap().unwrap();
        assert!((said[1] - alone).abs() < 1e-5 && (said.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{said:?} {alone}");
        // A pupil with another input shows its own view.
        assert!(two.say(&GreyPlane::pattern(96)).unwrap().is_some());
        assert_eq!(Teachers::default().say(&plane).unwrap(), None);
        assert_eq!(two.names().len(), 2);
    }

    #[test]
    fn teachers_and_recipe_belong_together() {
        let compute = Compute::default();
        let refused = |paths: &[PathBuf], labels: &Labels, share: f32| {
            Teachers::load(paths, labels, share, &compute).err().unwrap().to_string()
        };
        assert!(refused(&[MODEL.into()], &labels(), 0.0).contains("takes no teacher"));
        assert!(refused(&[], &labels(), 0.5).contains("--teacher"));
        let three = data::Classes::BacterialViral.labels();
        assert!(refused(&[MODEL.into()], &three, 0.5).contains("a teacher has to tell NORMAL, PNEUMONIA/BACTERIAL"));
    }
}
