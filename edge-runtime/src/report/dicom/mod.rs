//! A finding as a clinic's archive takes it: a picture (Secondary Capture, PS3.3, A.8.1) and a text (Basic Text
//! Structured Report, PS3.3, A.35.1) in the patient's study, each in a new series.

mod data_set;
mod secondary_capture;
mod structured_report;

use crate::finding::Finding;
use crate::image::{Format, Picture, RadiographError, dicom};
use crate::process::files::write_together;
use chrono::{DateTime, Utc};
use data_set::DataSet;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Why a finding is not written as DICOM.
#[derive(Debug, thiserror::Error)]
pub enum DicomOutError {
    /// The radiograph names no patient and no study.
    #[error(
        "only a DICOM radiograph says whose study a report belongs to, and this one says nothing: no report is written"
    )]
    NoStudy,
    /// The radiograph's elements cannot be read again.
    #[error(transparent)]
    Source(#[from] RadiographError),
    /// A data set cannot be coded.
    #[error("the report cannot be written as DICOM: {0}")]
    Coding(String),
    /// A file cannot be written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is copied of the radiograph: whose it is, and which study.
const COPIED: [Tag; 11] = [
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::STUDY_ID,
    tags::ACCESSION_NUMBER,
    tags::STUDY_DESCRIPTION,
];

/// What names the radiograph itself.
const NAMES: [Tag; 3] = [tags::SERIES_INSTANCE_UID, tags::SOP_CLASS_UID, tags::SOP_INSTANCE_UID];

/// A radiograph's place in a clinic's archive.
struct Study {
    /// Patient and study.
    shared: InMemDicomObject,
    uid: String,
    /// The radiograph, if it has all of its names.
    radiograph: Option<Reference>,
}

/// An object of the study.
#[derive(Clone)]
struct Reference {
    series: String,
    class: String,
    instance: String,
}

/// A report's date, and where its identifiers come from.
struct Issue {
    time: DateTime<Utc>,
    seed: [u8; 32],
}

impl Issue {
    fn of(finding: &Finding) -> Issue {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut hash = Sha256::new();
        hash.update(&finding.sha256);
        hash.update(&finding.model.digest);
        hash.update(since.as_nanos().to_le_bytes());
        hash.update(std::process::id().to_le_bytes());
        Issue { time: now.into(), seed: hash.finalize().into() }
    }

    /// A new identifier for `what` (PS3.5, B.2: 2.25 and a UUID in decimal).
    fn uid(&self, what: &str) -> String {
        let digest = Sha256::new().chain_update(self.seed).chain_update(what).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        let uuid = u128::from_be_bytes(bytes);
        // Version 8 and variant 1 of RFC 9562.
        let uuid = uuid & !(0xF << 76) | 8 << 76;
        let uuid = uuid & !(3 << 62) | 2 << 62;
        format!("2.25.{uuid}")
    }

    fn reference(&self, class: &str, what: &str) -> Reference {
        Reference {
            series: self.uid(&format!("{what} series")),
            class: class.to_owned(),
            instance: self.uid(&format!("{what} instance")),
        }
    }
}

impl Study {
    fn read(bytes: &[u8]) -> Result<Study, DicomOutError> {
        if Format::detect(bytes) != Some(Format::Dicom) {
            return Err(DicomOutError::NoStudy);
        }
        let source = dicom::header(bytes)?;
        let text = |tag| {
            let value = source.element_opt(tag).ok().flatten().and_then(|e| e.to_str().ok());
            value.map(|v| v.trim_matches(['\0', ' ']).to_owned()).filter(|v| !v.is_empty())
        };
        let uid = text(tags::STUDY_INSTANCE_UID).ok_or(DicomOutError::NoStudy)?;
        let mut shared = DataSet::default();
        for tag in COPIED {
            shared.text(tag, &text(tag).unwrap_or_default());
        }
        let radiograph = match NAMES.map(text) {
            [Some(series), Some(class), Some(instance)] => Some(Reference { series, class, instance }),
            _ => None,
        };
        Ok(Study { shared: shared.into_inner(), uid, radiograph })
    }
}

/// Writes `finding` with its `picture` into `folder`, for the radiograph that the DICOM file `source` is; gives both
/// files, which are named by their identifiers.
pub fn write(
    source: &[u8],
    finding: &Finding,
    picture: &Picture,
    folder: &Path,
) -> Result<[PathBuf; 2], DicomOutError> {
    let study = Study::read(source)?;
    let issue = Issue::of(finding);
    let capture = issue.reference(secondary_capture::CLASS, "secondary capture");
    let report = issue.reference(structured_report::CLASS, "structured report");
    let files = [
        (&capture, secondary_capture::data_set(&study, &issue, &capture, finding, picture)),
        (&report, structured_report::data_set(&study, &issue, &report, &capture, finding)),
    ];
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| DicomOutError::Io { path, source }
    };
    std::fs::create_dir_all(folder).map_err(io(folder))?;
    let paths = files.each_ref().map(|(reference, _)| folder.join(format!("{}.dcm", reference.instance)));
    let [picture, text] = files.map(|(reference, data_set)| data_set.encode(reference));
    let picture = picture?;
    let text = text?;
    write_together(&[(&paths[0], &picture), (&paths[1], &text)])
        .map_err(|(path, source)| DicomOutError::Io { path, source })?;
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::tests::example;
    use dicom_object::OpenFileOptions;

    /// A radiograph that names patient and study.
    fn source() -> Vec<u8> {
        let mut set = DataSet::default();
        set.text(tags::PATIENT_NAME, "Müller^Änne");
        set.text(tags::PATIENT_ID, "17");
        set.text(tags::STUDY_INSTANCE_UID, "1.2.3");
        set.text(tags::SERIES_INSTANCE_UID, "1.2.3.4");
        set.text(tags::SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.1");
        set.text(tags::SOP_INSTANCE_UID, "1.2.3.4.5");
        set.text(tags::SPECIFIC_CHARACTER_SET, "ISO_IR 192");
        let reference = Issue::of(&example(true)).reference("1.2.840.10008.5.1.4.1.1.1", "source");
        set.encode(&reference).unwrap()
    }

    #[test]
    fn both_objects_are_of_the_patients_study_in_new_series() {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture { width: 5, height: 3, rgb: vec![7; 45] };
        let paths = write(&source(), &example(true), &picture, dir.path()).unwrap();
        let read = paths.each_ref().map(|path| OpenFileOptions::new().open_file(path).unwrap());
        let text = |i: usize, tag| read[i].element(tag).unwrap().to_str().unwrap().trim_end_matches('\0').to_owned();
        for i in 0..2 {
            assert_eq!(text(i, tags::PATIENT_NAME), "Müller^Änne");
            assert_eq!(text(i, tags::STUDY_INSTANCE_UID), "1.2.3");
        }
        let series = [text(0, tags::SERIES_INSTANCE_UID), text(1, tags::SERIES_INSTANCE_UID)];
        assert!(series[0] != series[1] && !series.contains(&"1.2.3.4".to_owned()), "{series:?}");
        assert!(series.iter().all(|uid| uid.len() <= 64 && uid.starts_with("2.25.")));
        let pixels = read[0].element(tags::PIXEL_DATA).unwrap().to_bytes().unwrap();
        assert_eq!(pixels.len(), 46);
    }

    #[test]
    fn a_file_without_a_study_gets_no_report() {
        let dir = tempfile::tempdir().unwrap();
        let picture = Picture { width: 1, height: 1, rgb: vec![0; 3] };
        let refused = write(b"\x89PNG", &example(true), &picture, dir.path());
        assert!(matches!(refused, Err(DicomOutError::NoStudy)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
