//! Elements into a data set, and the data set into a file.

use super::{DicomOutError, Issue, Reference};
use dicom_core::dictionary::{DataDictionary, DataDictionaryEntry};
use dicom_core::header::Header;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{StandardDataDictionary, tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject};

/// This program as the writer of files (PS3.10, 7.1): a UUID of its own.
const IMPLEMENTATION: &str = "2.25.237906149562061431713462950203459237041";

/// A data set under construction.
pub struct DataSet(InMemDicomObject);

impl Default for DataSet {
    fn default() -> DataSet {
        DataSet(InMemDicomObject::new_empty())
    }
}

/// A coded concept (PS3.3, 8.8).
#[derive(Clone, Copy)]
pub struct Concept {
    /// Code value.
    pub code: &'static str,
    /// Coding scheme.
    pub scheme: &'static str,
    /// Code meaning.
    pub meaning: &'static str,
}

impl DataSet {
    /// Puts `text` as `tag`, with the value representation of the dictionary.
    pub fn text(&mut self, tag: Tag, text: &str) {
        let vr = StandardDataDictionary.by_tag(tag).map_or(VR::LO, |entry| entry.vr().relaxed());
        self.0.put(DataElement::new(tag, vr, PrimitiveValue::from(text)));
    }

    /// Puts the number `value` (US).
    pub fn number(&mut self, tag: Tag, value: u16) {
        self.0.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    }

    /// Puts bytes (OB).
    pub fn bytes(&mut self, tag: Tag, bytes: Vec<u8>) {
        self.0.put(DataElement::new(tag, VR::OB, PrimitiveValue::from(bytes)));
    }

    /// Puts a sequence.
    pub fn items(&mut self, tag: Tag, items: impl IntoIterator<Item = DataSet>) {
        let items: Vec<InMemDicomObject> = items.into_iter().map(|item| item.0).collect();
        self.0.put(DataElement::new(tag, VR::SQ, DataSetSequence::from(items)));
    }

    /// Puts a sequence of one coded concept.
    pub fn concept(&mut self, tag: Tag, concept: Concept) {
        let mut item = DataSet::default();
        item.text(tags::CODE_VALUE, concept.code);
        item.text(tags::CODING_SCHEME_DESIGNATOR, concept.scheme);
        item.text(tags::CODE_MEANING, concept.meaning);
        self.items(tag, [item]);
    }

    /// Copies all elements of `other`.
    pub fn copy(&mut self, other: &InMemDicomObject) {
        for element in other.iter().filter(|e| e.tag() != tags::SPECIFIC_CHARACTER_SET) {
            self.0.put(element.clone());
        }
    }

    /// What every object of ours says: its names, its maker and when it was made.
    pub fn common(&mut self, issue: &Issue, reference: &Reference) {
        self.text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192");
        self.text(tags::SOP_CLASS_UID, &reference.class);
        self.text(tags::SOP_INSTANCE_UID, &reference.instance);
        self.text(tags::SERIES_INSTANCE_UID, &reference.series);
        self.text(tags::INSTANCE_NUMBER, "1");
        self.text(tags::MANUFACTURER, "Hilum");
        self.text(tags::MANUFACTURER_MODEL_NAME, "edge-runtime");
        self.text(tags::SOFTWARE_VERSIONS, env!("CARGO_PKG_VERSION"));
        let date = issue.time.format("%Y%m%d").to_string();
        let time = issue.time.format("%H%M%S").to_string();
        self.text(tags::TIMEZONE_OFFSET_FROM_UTC, "+0000");
        for (day, clock) in
            [(tags::INSTANCE_CREATION_DATE, tags::INSTANCE_CREATION_TIME), (tags::CONTENT_DATE, tags::CONTENT_TIME)]
        {
            self.text(day, &date);
            self.text(clock, &time);
        }
    }

    /// The elements.
    pub fn into_inner(self) -> InMemDicomObject {
        self.0
    }

    /// The file of the object that `reference` names, Explicit VR Little Endian.
    pub fn encode(self, reference: &Reference) -> Result<Vec<u8>, DicomOutError> {
        let coding = |e: &dyn std::fmt::Display| DicomOutError::Coding(e.to_string());
        let meta = FileMetaTableBuilder::new()
            .media_storage_sop_class_uid(reference.class.as_str())
            .media_storage_sop_instance_uid(reference.instance.as_str())
            .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
            .implementation_class_uid(IMPLEMENTATION)
            .implementation_version_name("HILUM")
            .build()
            .map_err(|e| coding(&e))?;
        let mut bytes = Vec::new();
        self.0.with_exact_meta(meta).write_all(&mut bytes).map_err(|e| coding(&e))?;
        Ok(bytes)
    }
}
