//! Whether a model can say anything of a radiograph: what speaks against it, and what is done then.

use crate::domain::Change;
use crate::finding::Warning;
use crate::image::polarity::is_negative;
use crate::image::{GreyPlane, Radiograph, View};
use crate::model::contract::Contract;
use serde::{Deserialize, Serialize};

/// What is done with a radiograph that something speaks against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// No finding: a refusal with code, sentence and exit code 4
    Refuse,
    /// A finding with warnings
    #[default]
    Warn,
    /// A finding without; for evaluations
    Ignore,
}

/// What was looked at, and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suitability {
    /// What speaks against the radiograph, the most certain first.
    pub warnings: Vec<Warning>,
    /// Distance from the model's training images as a share of the limit; above 1 it is outside. `None` where the model
    /// does not know them.
    pub domain_distance: Option<f32>,
}

/// The 95th percentile of a picture's greys below which it is under-exposed, the 5th above which it is over-exposed.
const EXPOSURE: [u8; 2] = [50, 190];

/// What speaks against `radiograph`, whose `frame` a model with `contract` shall read.
pub fn suitability(radiograph: &Radiograph, frame: &GreyPlane, contract: &Contract) -> Suitability {
    let acquisition = &radiograph.acquisition;
    let domain = &contract.domain;
    let position = domain.position(frame);
    let change = position.and_then(|p| p.change);
    let [dark, bright] = exposure(frame);
    let plane = &radiograph.plane;
    let is_outside = position.is_some_and(|p| p.distance > 1.0);
    let doubts = [
        (Warning::NotAChest, acquisition.is_radiograph == Some(false) || acquisition.is_chest == Some(false)),
        (Warning::Lateral, acquisition.view == Some(View::Lateral)),
        (Warning::Inverted, change == Some(Change::Inverted) || change.is_none() && is_negative(plane)),
        (Warning::Rotated, change == Some(Change::Turned)),
        (Warning::UnderExposed, dark),
        (Warning::OverExposed, bright),
        (Warning::TooSmall, 2 * plane.width.min(plane.height) < contract.input.size),
        (Warning::AgeOutsideTraining, acquisition.age_days.is_some_and(|days| domain.excludes_age(days))),
        (Warning::OutsideTraining, is_outside),
    ];
    Suitability {
        warnings: doubts.into_iter().filter(|(_, applies)| *applies).map(|(warning, _)| warning).collect(),
        domain_distance: position.map(|p| p.distance),
    }
}

/// Whether `frame` is under-exposed, and over-exposed.
fn exposure(frame: &GreyPlane) -> [bool; 2] {
    let histogram = frame.histogram();
    let count = frame.pixels.len() as u32;
    let [dark, bright] = EXPOSURE.map(usize::from);
    let below = |level: usize| histogram[..level].iter().sum::<u32>();
    [20 * below(dark) > 19 * count, 20 * below(bright) < count]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::tests::around;
    use crate::image::preprocess::preprocess;
    use crate::model::contract::tests::example;

    fn chest() -> Radiograph {
        Radiograph::decode(include_bytes!("../../docs/phantom-chest.jpeg")).unwrap()
    }

    fn warnings(radiograph: &Radiograph, contract: &Contract) -> Vec<Warning> {
        suitability(radiograph, &preprocess(&radiograph.plane, &contract.input), contract).warnings
    }

    /// A model that was trained on pictures like the phantom.
    fn contract() -> Contract {
        let mut contract = example();
        let frame = preprocess(&chest().plane, &contract.input);
        contract.domain.images = Some(around(&frame, 0.5));
        contract.domain.ages = Some([1.0, 5.0]);
        contract
    }

    #[test]
    fn nothing_speaks_against_what_was_trained_on() {
        assert_eq!(warnings(&chest(), &contract()), []);
        let unknown = suitability(&chest(), &preprocess(&chest().plane, &example().input), &example());
        assert_eq!(unknown, Suitability::default());
    }

    #[test]
    fn what_is_wrong_has_its_code() {
        let changed = |change: &dyn Fn(&mut Radiograph)| {
            let mut radiograph = chest();
            change(&mut radiograph);
            warnings(&radiograph, &contract())
        };
        let has = |warning, change: &dyn Fn(&mut Radiograph)| {
            let found = changed(change);
            assert!(found.contains(&warning), "{warning:?} is not in {found:?}");
        };
        has(Warning::Rotated, &|r| r.plane.pixels.reverse());
        has(Warning::Inverted, &|r| r.plane.pixels.iter_mut().for_each(|p| *p = 255 - *p));
        has(Warning::UnderExposed, &|r| r.plane.pixels.iter_mut().for_each(|p| *p /= 8));
        has(Warning::OverExposed, &|r| r.plane.pixels.iter_mut().for_each(|p| *p = 220 + *p / 8));
        has(Warning::TooSmall, &|r| r.plane = GreyPlane { width: 7, height: 40, pixels: vec![9; 280] });
        has(Warning::OutsideTraining, &|r| r.plane.pixels.iter_mut().for_each(|p| *p = p.wrapping_mul(37)));
        has(Warning::Lateral, &|r| r.acquisition.view = Some(View::Lateral));
        has(Warning::NotAChest, &|r| r.acquisition.is_chest = Some(false));
        assert_eq!(changed(&|r| r.acquisition.age_days = Some(20_000)), [Warning::AgeOutsideTraining]);
    }
}
