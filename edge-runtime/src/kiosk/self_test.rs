//! What a device can find out about itself.

use crate::display::screens::Check;
use crate::engine::{Compute, kernels};
use crate::finding::FIRST_DAY;
use crate::image::GreyPlane;
use crate::model::Model;
use crate::process::processor::ProcessorState;
use chrono::Utc;
use std::io::ErrorKind;
use std::path::Path;

/// How a check went.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Outcome {
    /// What was checked.
    #[serde(serialize_with = "name_of")]
    pub check: Check,
    /// Whether it is in order.
    pub passed: bool,
    /// What was found, and what to do where it is not in order.
    pub sentence: String,
}

fn name_of<S: serde::Serializer>(check: &Check, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(name(*check))
}

/// The name of a check in reports.
pub fn name(check: Check) -> &'static str {
    match check {
        Check::Model => "model",
        Check::Disk => "disk",
        Check::Clock => "clock",
        Check::Temperature => "temperature",
        Check::Display => "display",
        Check::Buttons => "buttons",
    }
}

/// True if the system's clock has been set.
pub fn is_clock_set() -> bool {
    Utc::now().timestamp() >= FIRST_DAY
}

/// The clock.
pub fn clock() -> Outcome {
    let passed = is_clock_set();
    let now = Utc::now().format("%Y-%m-%d %H:%M UTC");
    let sentence = match passed {
        true => format!("{now}"),
        false => {
            format!("{now} is before this program was made: set the clock, or give the device a network or a battery")
        }
    };
    Outcome { check: Check::Clock, passed, sentence }
}

/// The model: the kernel in use and the portable reference give the same for a test pattern, to the last bit.
pub fn model(model: &Model, again: impl Fn(&Compute) -> Result<Model, crate::model::ModelError>) -> Outcome {
    let outcome = |passed, sentence| Outcome { check: Check::Model, passed, sentence };
    let frame = GreyPlane::pattern(model.contract.input.size);
    let name = &model.contract.provenance.name;
    let advice = "the processor or its memory is faulty, or the program is damaged: do not use the device";
    let reference = kernels::find("portable")
        .map_err(|e| e.to_string())
        .and_then(|kernel| {
            let team = kernels::team::Team::new(1).map_err(|e| e.to_string())?;
            Ok(Compute { kernel, team })
        })
        .and_then(|compute| again(&compute).map_err(|e| e.to_string()));
    let reference = match reference {
        Ok(reference) => reference,
        Err(e) => return outcome(false, format!("{name} cannot be loaded a second time ({e}): free memory")),
    };
    let compared = match &model.network {
        None => "gives the same twice; it is float and has no reference",
        Some(_) if model.kernel() == reference.kernel() => "gives the same twice; the reference itself is in use",
        Some(_) => "gives what the reference gives",
    };
    match (model.infer(&frame), reference.infer(&frame)) {
        (Ok(a), Ok(b)) if a.logits == b.logits => {
            let site = model.site.as_ref().map_or(String::new(), |site| format!(", site {}", site.name));
            outcome(true, format!("{name} {:.8}{site} {compared}", model.digest))
        }
        (Ok(_), Ok(_)) => outcome(false, format!("{name} does not give what the reference gives: {advice}")),
        (Err(e), _) | (_, Err(e)) => outcome(false, format!("{name} failed ({e}): {advice}")),
    }
}

/// The disk: a file is written to `folder`, read back and removed.
pub fn disk(folder: &Path) -> Outcome {
    let tried = tempfile::NamedTempFile::new_in(folder).and_then(|file| {
        std::fs::write(file.path(), b"hilum")?;
        file.as_file().sync_all()?;
        Ok(std::fs::read(file.path())? == b"hilum")
    });
    let place = folder.display();
    let free = rustix::fs::statvfs(folder).map(|fs| (fs.f_bavail * fs.f_frsize) >> 20).unwrap_or(0);
    let (passed, sentence) = match tried {
        Err(e) if e.kind() == ErrorKind::NotFound => {
            (false, format!("{place} is not there: `edge-runtime ui` makes it, or create it and let the program write"))
        }
        Ok(true) if free >= 16 => (true, format!("{place} can be written, {free} MiB free")),
        Ok(true) => (false, format!("{place} has {free} MiB free: export the findings and free room")),
        Ok(false) => (false, format!("{place} does not give back what was written: replace the card")),
        Err(e) => {
            // The error's own words name a temporary file.
            let why = e.kind();
            (false, format!("{place} cannot be written ({why}): check its permissions, or replace the card"))
        }
    };
    Outcome { check: Check::Disk, passed, sentence }
}

/// The processor: its temperature and clock, and that nothing slows it down.
pub fn temperature() -> Outcome {
    let state = ProcessorState::now();
    Outcome { check: Check::Temperature, passed: state.slowed_by.is_empty(), sentence: state.in_words() }
}

/// How many input devices were found.
pub fn buttons(count: usize) -> Outcome {
    let (passed, sentence) = match count {
        0 => (false, "no buttons, keyboard or touch screen: connect one, or check the rights on /dev/input".to_owned()),
        n => (true, format!("{n} input devices")),
    };
    Outcome { check: Check::Buttons, passed, sentence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_model_gives_what_the_reference_gives() {
        let compute = Compute { kernel: kernels::best(), team: kernels::team::Team::new(1).unwrap() };
        let default = Model::embedded(&compute).unwrap();
        let outcome = model(&default, Model::embedded);
        assert!(outcome.passed, "{}", outcome.sentence);
        let outcome = model(&default, |compute| Model::load(Path::new("/nowhere.hilum"), compute));
        assert!(!outcome.passed && outcome.sentence.contains("a second time"), "{}", outcome.sentence);
    }

    #[test]
    fn a_disk_that_is_not_there_is_said() {
        assert!(disk(tempfile::tempdir().unwrap().path()).passed);
        let outcome = disk(Path::new("/nowhere/at/all"));
        assert!(!outcome.passed && outcome.sentence.contains("/nowhere/at/all is not there"), "{}", outcome.sentence);
    }
}
