//! The site profile of a clinic: where it decides, after a study on its own radiographs. `host-train site-study` writes
//! one; it serves the one model that it was made with.

use crate::model::Model;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The version of the file.
pub const SCHEMA: u32 = 1;

/// Files with more bytes are none.
const MOST: u64 = 64 * 1024;

/// Longest name of a site.
const LONGEST_NAME: usize = 40;

/// A site profile, as its file says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteProfile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The clinic: 1 to 40 letters, digits, spaces and `-_.` of ASCII, which every display can show.
    pub site: String,
    /// When the study was made, RFC 3339.
    pub made: String,
    /// Name of the model.
    pub model: String,
    /// [`Model::digest`] of the one file that this serves.
    pub model_digest: String,
    /// Added to the logit of the probability, so that probabilities are those of this clinic ("recalibration in the
    /// large", TRIPOD+AI).
    pub intercept: f32,
    /// Positive from this probability on, the intercept included.
    pub threshold: f32,
    /// Probabilities, both included, that are too near to the threshold to call; the intercept included.
    #[serde(default)]
    pub uncertain: Option<[f32; 2]>,
    /// The rule that chose the threshold, in words.
    pub rule: String,
    /// Share of the people screened there who are ill, as the clinic says it.
    pub prevalence: f32,
    /// What the threshold was chosen on.
    pub chosen_on: Sample,
    /// What it was confirmed on; absent where it was not.
    #[serde(default)]
    pub confirmed_on: Option<Sample>,
}

/// How the threshold fared on radiographs of the clinic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Radiographs.
    pub images: u32,
    /// People.
    pub patients: u32,
    /// Radiographs of the ill.
    pub positives: u32,
    /// Share of those that are called so.
    pub sensitivity: f32,
    /// Its 95 % interval.
    pub sensitivity_ci95: [f32; 2],
    /// Share of the others that are not.
    pub specificity: f32,
    /// Its 95 % interval.
    pub specificity_ci95: [f32; 2],
}

/// Which site profile decided a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteId {
    /// The clinic.
    pub name: String,
    /// SHA-256 of the profile's file.
    pub digest: String,
    /// Whether a second sample confirmed it.
    pub is_confirmed: bool,
}

impl SiteId {
    /// The profile in words.
    pub fn in_words(&self) -> String {
        let confirmed = if self.is_confirmed { "confirmed" } else { "not confirmed" };
        format!("Operating point of site {} ({confirmed} on a second sample), profile {:.12}", self.name, self.digest)
    }
}

/// Why a site profile is refused.
#[derive(Debug, thiserror::Error)]
#[error("site profile {path} {reason}")]
pub struct SiteError {
    path: PathBuf,
    // Boxed: it is in every error of a model.
    reason: Box<Reason>,
}

/// The reason in a [`SiteError`].
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("cannot be read ({0}); check the path and its permissions")]
    Io(std::io::Error),
    #[error("is not one: `host-train site-study` writes it ({0})")]
    Syntax(String),
    #[error("makes no sense: {0}")]
    Value(String),
    #[error(
        "was made for model {made} ({made_digest:.12}), and this is {given} ({given_digest:.12}): a threshold serves \
         one model alone; make a study with this one"
    )]
    OtherModel { made: String, made_digest: String, given: String, given_digest: String },
}

impl SiteProfile {
    /// The profile as its file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain data serialises")
    }

    /// Reads the file and checks it.
    pub fn read(path: &Path) -> Result<SiteProfile, SiteError> {
        let (profile, _) =
            SiteProfile::load(path).map_err(|reason| SiteError { path: path.to_owned(), reason: reason.into() })?;
        Ok(profile)
    }

    /// Reads the file and its SHA-256, and checks it.
    fn load(path: &Path) -> Result<(SiteProfile, String), Reason> {
        // A pipe would be waited for without end, and a device never ends.
        if !std::fs::metadata(path).map_err(Reason::Io)?.is_file() {
            return Err(Reason::Syntax("no file".into()));
        }
        let mut text = String::new();
        let file = std::fs::File::open(path).map_err(Reason::Io)?;
        file.take(MOST + 1).read_to_string(&mut text).map_err(Reason::Io)?;
        if text.len() as u64 > MOST {
            return Err(Reason::Syntax(format!("more than {MOST} bytes")));
        }
        let profile = SiteProfile::parse(&text)?;
        Ok((profile, crate::process::files::sha256_hex(text.as_bytes())))
    }

    fn parse(text: &str) -> Result<SiteProfile, Reason> {
        let syntax = |e: toml::de::Error| {
            let line = e.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Reason::Syntax(format!("line {line}: {}", e.message().split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        let profile: SiteProfile = toml::from_str(text).map_err(syntax)?;
        profile.check().map_err(Reason::Value)?;
        Ok(profile)
    }

    /// Says what cannot be.
    pub fn check(&self) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} is of another version of Hilum; this one reads {SCHEMA}", self.schema));
        }
        check_name(&self.site)?;
        let words = [("made", &self.made), ("model", &self.model), ("rule", &self.rule)];
        if let Some((name, _)) = words.into_iter().find(|(_, text)| text.chars().any(char::is_control)) {
            return Err(format!("{name} holds characters that are no text"));
        }
        let shares = [("threshold", self.threshold), ("prevalence", self.prevalence)];
        if let Some((name, value)) = shares.into_iter().find(|(_, value)| !(*value > 0.0 && *value < 1.0)) {
            return Err(format!("{name} {value} does not lie between 0 and 1"));
        }
        if !(-20.0..=20.0).contains(&self.intercept) {
            return Err(format!("intercept {} does not lie between -20 and 20", self.intercept));
        }
        if let Some([low, high]) = self.uncertain
            && !(0.0 <= low && low <= self.threshold && self.threshold <= high && high <= 1.0)
        {
            return Err(format!("the uncertain probabilities {low} to {high} do not hold the threshold"));
        }
        [Some(&self.chosen_on), self.confirmed_on.as_ref()].into_iter().flatten().try_for_each(Sample::check)
    }
}

/// Refuses a name of a site that not every display can show.
pub fn check_name(name: &str) -> Result<(), String> {
    let serves = |c: char| c.is_ascii_alphanumeric() || " -_.".contains(c);
    match !name.trim().is_empty() && name.len() <= LONGEST_NAME && name.chars().all(serves) {
        true => Ok(()),
        false => Err(format!(
            "site \"{}\": a name has 1 to {LONGEST_NAME} letters (a to z), digits, spaces and - _ .",
            name.escape_debug()
        )),
    }
}

impl Sample {
    fn check(&self) -> Result<(), String> {
        let holds = |value: f32, [low, high]: [f32; 2]| 0.0 <= low && low <= value && value <= high && high <= 1.0;
        let are_shares =
            holds(self.sensitivity, self.sensitivity_ci95) && holds(self.specificity, self.specificity_ci95);
        let are_counts =
            0 < self.patients && self.patients <= self.images && 0 < self.positives && self.positives < self.images;
        match are_shares && are_counts {
            true => Ok(()),
            false => Err("a sample's figures contradict each other".into()),
        }
    }
}

/// Lets the profile in `path` decide what `model` finds from now on. Its named operating points go: they are of another
/// population.
pub fn apply(path: &Path, model: &mut Model) -> Result<(), SiteError> {
    let refused = |reason: Reason| SiteError { path: path.to_owned(), reason: reason.into() };
    let (profile, digest) = SiteProfile::load(path).map_err(refused)?;
    if profile.model_digest != model.digest {
        return Err(refused(Reason::OtherModel {
            made: profile.model,
            made_digest: profile.model_digest,
            given: model.contract.provenance.name.clone(),
            given_digest: model.digest.clone(),
        }));
    }
    let calibration = &mut model.contract.calibration;
    calibration.intercept = profile.intercept;
    calibration.uncertain = profile.uncertain;
    calibration.profiles.clear();
    let point = &mut model.contract.operating_point;
    point.threshold = profile.threshold;
    point.rule = profile.rule;
    let sample = profile.confirmed_on.unwrap_or(profile.chosen_on);
    point.sensitivity = sample.sensitivity;
    point.specificity = sample.specificity;
    point.images = sample.images;
    let is_confirmed = profile.confirmed_on.is_some();
    model.site = Some(SiteId { name: profile.site, digest, is_confirmed });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Compute;

    fn model() -> Model {
        Model::embedded(&Compute::default()).unwrap()
    }

    fn profile(model: &Model) -> SiteProfile {
        let sample = Sample {
            images: 400,
            patients: 380,
            positives: 120,
            sensitivity: 0.975,
            sensitivity_ci95: [0.95, 0.99],
            specificity: 0.88,
            specificity_ci95: [0.84, 0.92],
        };
        SiteProfile {
            schema: SCHEMA,
            site: "Kisumu East 2".into(),
            made: "2026-11-28T12:00:00Z".into(),
            model: model.contract.provenance.name.clone(),
            model_digest: model.digest.clone(),
            intercept: -1.5,
            threshold: 0.22,
            uncertain: Some([0.1, 0.4]),
            rule: "highest threshold".into(),
            prevalence: 0.08,
            chosen_on: sample,
            confirmed_on: None,
        }
    }

    fn applied(text: &str) -> Result<Model, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("site.toml");
        std::fs::write(&path, text).unwrap();
        let mut model = model();
        apply(&path, &mut model).map_err(|e| e.to_string())?;
        Ok(model)
    }

    #[test]
    fn a_profile_decides_and_moves_probabilities() {
        let plain = model();
        let site = applied(&profile(&plain).to_toml()).unwrap();
        assert_eq!(site.contract.operating_point.threshold, 0.22);
        assert_eq!(site.contract.calibration.uncertain, Some([0.1, 0.4]));
        assert!(site.contract.calibration.profiles.is_empty());
        let id = site.site.unwrap();
        assert_eq!((id.name.as_str(), id.is_confirmed), ("Kisumu East 2", false));
        let logit = |p: f32| (p / (1.0 - p)).ln();
        for logits in [[-1.0, 2.0], [0.5, 0.0]] {
            let moved = logit(site.contract.probability(&logits)) - logit(plain.contract.probability(&logits));
            assert!((moved + 1.5).abs() < 1e-4, "{moved}");
        }
    }

    #[test]
    fn a_profile_that_does_not_serve_is_one_sentence() {
        let good = profile(&model());
        let text = good.to_toml();
        for (bad, words) in [
            (SiteProfile { model_digest: "ab".repeat(32), ..good.clone() }.to_toml(), "serves one model alone"),
            (SiteProfile { schema: 2, ..good.clone() }.to_toml(), "another version"),
            (SiteProfile { site: "Zürich".into(), ..good.clone() }.to_toml(), "a name has 1 to 40"),
            (SiteProfile { threshold: 1.5, ..good.clone() }.to_toml(), "threshold 1.5"),
            (SiteProfile { threshold: f32::NAN, ..good.clone() }.to_toml(), "threshold NaN"),
            (SiteProfile { intercept: f32::INFINITY, ..good.clone() }.to_toml(), "intercept"),
            (SiteProfile { uncertain: Some([0.3, 0.4]), ..good.clone() }.to_toml(), "do not hold the threshold"),
            (SiteProfile { rule: "a\u{1b}[2J".into(), ..good.clone() }.to_toml(), "no text"),
            (text.replace("patients = 380", "patients = 0"), "contradict"),
            (text.replace("sensitivity_ci95 = [0.95", "sensitivity_ci95 = [0.98"), "contradict"),
            (text.replace("threshold", "treshold"), "treshold"),
            (String::new(), "is not one"),
        ] {
            let e = applied(&bad).err().unwrap();
            assert!(e.contains(words) && !e.contains('\n'), "{e}");
        }
    }
}
