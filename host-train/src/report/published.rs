//! What the published systems report (docs/reference-systems.md), by recipe.

use serde::Serialize;

/// Figures that a source states; what it leaves out is left out.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Published {
    /// On which images.
    pub images: &'static str,
    /// Share of right decisions.
    pub accuracy: Option<f64>,
    /// Share of the ill that are called so.
    pub sensitivity: Option<f64>,
    /// Share of the others that are not.
    pub specificity: Option<f64>,
    /// Share of those called ill that are.
    pub precision: Option<f64>,
    /// F1 of PNEUMONIA.
    pub f1: Option<f64>,
    /// Mean F1 of both classes.
    pub macro_f1: Option<f64>,
}

const NOTHING: Published = Published {
    images: "",
    accuracy: None,
    sensitivity: None,
    specificity: None,
    precision: None,
    f1: None,
    macro_f1: None,
};

/// System A: NIH and CheXpert, its own test images.
const fn of_a(precision: f64, sensitivity: f64, specificity: f64, f1: f64) -> Published {
    Published {
        images: "own test images of NIH and CheXpert",
        precision: Some(precision),
        sensitivity: Some(sensitivity),
        specificity: Some(specificity),
        f1: Some(f1),
        ..NOTHING
    }
}

const OFFICIAL: &str = "the official 624 test images";
const BALANCED: &str = "a balanced validation set";

const PUBLISHED: [(&str, Published); 11] = [
    ("a-resnet50-last20", of_a(0.9905, 0.8768, 0.9985, 0.9287)),
    ("a-resnet50-last50", of_a(0.9905, 0.8768, 0.9985, 0.9287)),
    ("a-densenet121-last20", of_a(0.7926, 0.9225, 0.9574, 0.8502)),
    ("a-densenet121-last50", of_a(0.7926, 0.9225, 0.9574, 0.8502)),
    ("a-custom-cnn", of_a(0.7911, 0.9085, 0.9574, 0.8457)),
    (
        "b-baseline-cnn",
        Published {
            images: OFFICIAL,
            accuracy: Some(0.72),
            sensitivity: Some(0.99),
            specificity: Some(0.27),
            macro_f1: Some(0.62),
            ..NOTHING
        },
    ),
    (
        "b-regularised-cnn",
        Published {
            images: OFFICIAL,
            accuracy: Some(0.86),
            sensitivity: Some(0.98),
            specificity: Some(0.65),
            macro_f1: Some(0.84),
            ..NOTHING
        },
    ),
    (
        "c-resnet50-last40",
        Published {
            images: "validation images",
            accuracy: Some(0.908),
            precision: Some(0.899),
            sensitivity: Some(0.962),
            ..NOTHING
        },
    ),
    (
        "d-resnet50-two-stage",
        Published {
            images: OFFICIAL,
            accuracy: Some(0.93),
            sensitivity: Some(0.94),
            specificity: Some(0.91),
            precision: Some(0.95),
            f1: Some(0.94),
            ..NOTHING
        },
    ),
    (
        "e-scratch-cnn",
        Published {
            images: BALANCED,
            accuracy: Some(0.84),
            precision: Some(0.91),
            sensitivity: Some(0.79),
            f1: Some(0.84),
            ..NOTHING
        },
    ),
    (
        "e-mobilenetv2",
        Published {
            images: BALANCED,
            accuracy: Some(0.90),
            precision: Some(0.94),
            sensitivity: Some(0.86),
            f1: Some(0.89),
            ..NOTHING
        },
    ),
];

/// The figures of the system that recipe `name` reproduces, if its source states any.
pub fn published(name: &str) -> Option<Published> {
    PUBLISHED.iter().find(|(recipe, _)| *recipe == name).map(|(_, published)| *published)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::RECIPES;

    #[test]
    fn every_published_figure_has_its_recipe() {
        for (name, _) in PUBLISHED {
            assert!(RECIPES.iter().any(|(recipe, _)| *recipe == name), "{name}");
        }
        assert!(published("phantom-cnn").is_none());
    }
}
