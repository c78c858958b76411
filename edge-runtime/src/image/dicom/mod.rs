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
use chrono::NaiveDate;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
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

/// All elements of the file `bytes`, for reports about it. A parser that panics is a file that is refused.
pub fn header(bytes: &[u8]) -> Result<InMemDicomObject, RadiographError> {
    let read = || Object::read(bytes).map(Object::into_elements);
    std::panic::catch_unwind(read).unwrap_or_else(|_| Err(damaged("its decoder gave up")))
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
    // A picture of a finding of ours must not become another finding.
    let is_own_report = object.word(tags::MANUFACTURER).is_some_and(|maker| maker == "HILUM");
    let is_radiograph = object.word(tags::MODALITY).map(|modality| {
        !is_own_report
            && matches!(modality.as_str(), "CR" | "DX" | "DR" | "XR" | "DF" | "RF" | "RG" | "XA" | "OT" | "SC" | "XC")
    });
    let sex = object.word(tags::PATIENT_SEX).and_then(|sex| match sex.as_str() {
        "F" => Some(Sex::Female),
        "M" => Some(Sex::Male),
        _ => None,
    });
    let age_days = object.word(tags::PATIENT_AGE).and_then(|age| days(&age)).or_else(|| days_since_birth(object));
    Acquisition { is_radiograph, is_chest, view, sex, age_days }
}

/// Days from the date of birth to that of the study.
fn days_since_birth(object: &Object) -> Option<u32> {
    let date = |tag| NaiveDate::parse_from_str(&object.word(tag)?, "%Y%m%d").ok();
    let days = date(tags::STUDY_DATE)?.signed_duration_since(date(tags::PATIENT_BIRTH_DATE)?).num_days();
    u32::try_from(days).ok().filter(|days| *days < 130 * 366)
}

/// Days of an age string (PS3.5, 6.2, `AS`): three digits and a unit. A number alone, which the standard does not know
/// and machines write, is of years.
fn days(age: &str) -> Option<u32> {
    if let Ok(years) = age.parse::<u32>() {
        return (years < 130).then_some(years * 365);
    }
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

#[cfg(test)]
mod tests {
    use super::days;

    #[test]
    fn ages_have_units_or_are_of_years() {
        let read = ["004Y", "018M", "003W", "010D", "62", "999", "abc", "Y", ""].map(days);
        assert_eq!(read, [Some(1460), Some(540), Some(21), Some(10), Some(62 * 365), None, None, None, None]);
    }
}
