//! How far a model's probabilities can be believed, and what to do with them.

use super::contract::OperatingPoint;
use serde::{Deserialize, Serialize};

/// What validation images say of a model's probabilities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Logits are divided by this before they become probabilities (temperature scaling, Guo et al. 2017); 1 leaves
    /// them.
    pub temperature: f32,
    /// Added to the logit of the probability afterwards. No model carries one: it is of a [site](crate::site).
    #[serde(skip)]
    pub intercept: f32,
    /// Probabilities, both included, that are too near to the operating point to call: a reader has to decide.
    pub uncertain: Option<[f32; 2]>,
    /// Operating points for other purposes than the model's own.
    pub profiles: Vec<Profile>,
    /// True if all of this, and the operating point, were chosen on shifted validation images too.
    pub shifted: bool,
}

/// An operating point by the name of its purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    /// `triage`, `balanced`, `rule-in` or another.
    pub name: String,
    /// The operating point.
    pub point: OperatingPoint,
}

impl Default for Calibration {
    fn default() -> Calibration {
        Calibration { temperature: 1.0, intercept: 0.0, uncertain: None, profiles: vec![], shifted: false }
    }
}

impl Calibration {
    /// Refuses one that cannot be: says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if !(0.01..=100.0).contains(&self.temperature) {
            return Err(format!("temperature {}", self.temperature));
        }
        let is_share = |p: f32| (0.0..=1.0).contains(&p);
        if self.uncertain.is_some_and(|[low, high]| !(is_share(low) && is_share(high) && low <= high)) {
            return Err(format!("uncertain probabilities {:?}", self.uncertain.unwrap_or_default()));
        }
        for (i, Profile { name, point }) in self.profiles.iter().enumerate() {
            if name.is_empty() || self.profiles[..i].iter().any(|other| other.name == *name) {
                return Err(format!("a second or nameless profile `{name}`"));
            }
            if !is_share(point.threshold) {
                return Err(format!("threshold {} of profile {name}", point.threshold));
            }
        }
        Ok(())
    }

    /// The operating point called `name`.
    pub fn profile(&self, name: &str) -> Option<&OperatingPoint> {
        self.profiles.iter().find(|p| p.name == name).map(|p| &p.point)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let good = Calibration::default();
        assert_eq!(good.check(), Ok(()));
        for bad in [
            Calibration { temperature: 0.0, ..good.clone() },
            Calibration { temperature: f32::NAN, ..good.clone() },
            Calibration { uncertain: Some([0.6, 0.4]), ..good.clone() },
            Calibration { uncertain: Some([0.6, f32::NAN]), ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
