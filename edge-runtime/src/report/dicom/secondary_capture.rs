//! The picture of a finding as an image of the study (PS3.3, A.8.1).

use super::data_set::DataSet;
use super::{Issue, Reference, Study};
use crate::finding::{DISCLAIMER, Finding};
use crate::image::Picture;
use dicom_dictionary_std::{tags, uids};

/// Its SOP class.
pub const CLASS: &str = uids::SECONDARY_CAPTURE_IMAGE_STORAGE;

/// The data set of `picture`, which shows `finding`.
pub fn data_set(study: &Study, issue: &Issue, own: &Reference, finding: &Finding, picture: &Picture) -> DataSet {
    let mut set = DataSet::default();
    set.copy(&study.shared);
    set.common(issue, own);
    set.text(tags::MODALITY, "OT");
    set.text(tags::CONVERSION_TYPE, "WSD");
    set.text(tags::SERIES_NUMBER, "901");
    set.text(tags::SERIES_DESCRIPTION, "Hilum screening support");
    set.text(tags::IMAGE_TYPE, "DERIVED\\SECONDARY");
    set.text(tags::PATIENT_ORIENTATION, "");
    set.text(tags::LATERALITY, "");
    set.text(tags::BURNED_IN_ANNOTATION, "YES");
    let model = &finding.model;
    let derivation = format!("Heat map of {} {} over the radiograph. {DISCLAIMER}.", model.name, model.version);
    set.text(tags::DERIVATION_DESCRIPTION, &derivation);
    if let Some(radiograph) = &study.radiograph {
        let mut item = DataSet::default();
        item.text(tags::REFERENCED_SOP_CLASS_UID, &radiograph.class);
        item.text(tags::REFERENCED_SOP_INSTANCE_UID, &radiograph.instance);
        set.items(tags::SOURCE_IMAGE_SEQUENCE, [item]);
    }
    set.number(tags::SAMPLES_PER_PIXEL, 3);
    set.text(tags::PHOTOMETRIC_INTERPRETATION, "RGB");
    set.number(tags::PLANAR_CONFIGURATION, 0);
    set.number(tags::ROWS, picture.height as u16);
    set.number(tags::COLUMNS, picture.width as u16);
    set.number(tags::BITS_ALLOCATED, 8);
    set.number(tags::BITS_STORED, 8);
    set.number(tags::HIGH_BIT, 7);
    set.number(tags::PIXEL_REPRESENTATION, 0);
    let mut pixels = picture.rgb.clone();
    // PS3.5, 8.1.1: an even number of bytes.
    pixels.resize(pixels.len().next_multiple_of(2), 0);
    set.bytes(tags::PIXEL_DATA, pixels);
    set
}
