//! DICOM (PS3): single-frame radiographs of machines, and secondary captures.
//!
//! Stages are those of every file: container ([`object`]) → stored values ([`pixels`]) → greys ([`greys`]) → the right
//! way up ([`geometry`]). Nothing of a file is repeated in messages: it is a patient's.

mod geometry;
mod greys;
mod jpeg_ls;
mod lengths;
mod object;
mod pixels;
mod rle;
mod syntax;

use super::decode::{Acquisition, Sex, View};
use super::{Basis, Format, GreyPlane, Origin, Photometric, Radiograph, RadiographError, Windowing};
use dicom_dictionary_std::tags;
use object::Object;
use pixels::{Colour, Layout};

fn unsupported(kind: &'static str) -> RadiographError {
    RadiographError::Unsupported { format: Format::Dicom, kind }
}

fn damaged(reason: &'static str) -> RadiographError {
    RadiographError::Damaged { format: Format::Dicom, reason: reason.to_owned() }
}

fn truncated() -> RadiographError {
    RadiographError::Truncated(Format::Dicom)
}

/// Decodes the file `bytes`. A parser that panics is a file that is refused.
pub fn read(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
    std::panic::catch_unwind(|| decode(bytes)).unwrap_or_else(|_| Err(damaged("its decoder gave up")))
}

fn decode(bytes: &[u8]) -> Result<Radiograph, RadiographError> {
    let object = Object::read(bytes)?;
    let layout = Layout::of(&object)?;
    let values = pixels::read(&object, &layout)?;
    let (plane, windowing) = match layout.colour {
        Colour::BlackIsZero | Colour::WhiteIsZero => greys::render(&object, &layout, &values)?,
        Colour::Palette => (greys::of_palette(&object, &layout, &values)?, Windowing::FullRange),
        Colour::Rgb | Colour::Ybr | Colour::Transformed => (of_colours(&layout, values), Windowing::FullRange),
    };
    let plane = geometry::oriented(&object, geometry::square(&object, plane));
    let photometric = match layout.colour {
        Colour::WhiteIsZero => Photometric::WhiteIsZero,
        _ => Photometric::BlackIsZero,
    };
    let origin = Origin {
        format: Format::Dicom,
        bits_used: layout.stored as u8,
        offset: 0,
        depth_basis: Basis::Stored,
        photometric,
        windowing,
    };
    Ok(Radiograph { plane, origin, acquisition: acquisition(&object) })
}

fn of_colours(layout: &Layout, values: super::samples::Values) -> GreyPlane {
    let pixels = match values {
        super::samples::Values::Eight(values) => values,
        super::samples::Values::Sixteen(values) => values.into_iter().map(|v| (v >> 8) as u8).collect(),
    };
    GreyPlane { width: layout.width, height: layout.height, pixels }
}

/// Parts of `BodyPartExamined` (PS3.16, Annex L) that are no chest. Words that are in no list say nothing.
const ELSEWHERE: [&str; 22] = [
    "ABDOMEN", "PELVIS", "HEAD", "SKULL", "NECK", "SPINE", "HAND", "WRIST", "FINGER", "ELBOW", "FOREARM", "HUMERUS",
    "SHOULDER", "HIP", "FEMUR", "KNEE", "LEG", "ANKLE", "FOOT", "TOE", "BREAST", "JAW",
];

/// What the file says of how the radiograph was taken.
fn acquisition(object: &Object) -> Acquisition {
    let is_chest = object.word(tags::BODY_PART_EXAMINED).and_then(|part| match part.as_str() {
        "CHEST" | "THORAX" | "LUNG" | "LUNGS" | "RIB" | "RIBS" => Some(true),
        other => ELSEWHERE.iter().any(|name| other.contains(name)).then_some(false),
    });
    let view = object.word(tags::VIEW_POSITION).and_then(|view| match view.as_str() {
        "PA" => Some(View::Pa),
        "AP" => Some(View::Ap),
        "LL" | "RL" | "ML" | "LM" => Some(View::Lateral),
        other if other.contains("LAT") => Some(View::Lateral),
        _ => None,
    });
    let is_radiograph = object.word(tags::MODALITY).map(|modality| {
        matches!(modality.as_str(), "CR" | "DX" | "DR" | "XR" | "DF" | "RF" | "RG" | "XA" | "OT" | "SC" | "XC")
    });
    let sex = object.word(tags::PATIENT_SEX).and_then(|sex| match sex.as_str() {
        "F" => Some(Sex::Female),
        "M" => Some(Sex::Male),
        _ => None,
    });
    Acquisition { is_radiograph, is_chest, view, sex, age_days: object.word(tags::PATIENT_AGE).and_then(|a| days(&a)) }
}

/// Days of an age string (PS3.5, 6.2, `AS`): three digits and a unit.
fn days(age: &str) -> Option<u32> {
    let (number, unit) = age.split_at_checked(age.len().checked_sub(1)?)?;
    let number: u32 = number.parse().ok().filter(|n| *n < 1000)?;
    match unit {
        "D" => Some(number),
        "W" => Some(number * 7),
        "M" => Some(number * 30),
        "Y" => Some(number * 365),
        _ => None,
    }
}
