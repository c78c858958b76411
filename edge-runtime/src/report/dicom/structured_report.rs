//! A finding in words, as a report of the study (PS3.3, A.35.1 and C.17). Concepts are of the DICOM dictionary (PS3.16,
//! Annex D).

use super::data_set::{Concept, DataSet};
use super::{Issue, Reference, Study};
use crate::finding::{Finding, STATEMENT};
use dicom_dictionary_std::{tags, uids};

/// Its SOP class.
pub const CLASS: &str = uids::BASIC_TEXT_SR_STORAGE;

const fn dcm(code: &'static str, meaning: &'static str) -> Concept {
    Concept { code, scheme: "DCM", meaning }
}

const TITLE: Concept = dcm("112000", "Chest CAD Report");
const FINDING: Concept = dcm("121071", "Finding");
const CERTAINTY: Concept = dcm("111012", "Certainty of Finding");
const ALGORITHM_NAME: Concept = dcm("111001", "Algorithm Name");
const ALGORITHM_VERSION: Concept = dcm("111003", "Algorithm Version");
const COMMENT: Concept = dcm("121106", "Comment");
const SOURCE: Concept = dcm("121112", "Source of Measurement");
const ILLUSTRATION: Concept = dcm("121080", "Best illustration of finding");

/// The data set of `finding`; `capture` is its picture.
pub fn data_set(study: &Study, issue: &Issue, own: &Reference, capture: &Reference, finding: &Finding) -> DataSet {
    let mut set = DataSet::default();
    set.copy(&study.shared);
    set.common(issue, own);
    set.text(tags::MODALITY, "SR");
    set.text(tags::SERIES_NUMBER, "902");
    set.text(tags::SERIES_DESCRIPTION, "Hilum screening support");
    set.items(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, []);
    set.items(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, []);
    set.text(tags::COMPLETION_FLAG, "COMPLETE");
    set.text(tags::VERIFICATION_FLAG, "UNVERIFIED");
    let shown: Vec<&Reference> = study.radiograph.iter().chain([capture]).collect();
    set.items(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, [evidence(&study.uid, &shown)]);
    set.text(tags::VALUE_TYPE, "CONTAINER");
    set.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, TITLE);
    set.text(tags::CONTINUITY_OF_CONTENT, "SEPARATE");
    let sources = study.radiograph.iter().map(|radiograph| image(SOURCE, radiograph));
    let content = words(finding).into_iter().chain(sources).chain([image(ILLUSTRATION, capture)]);
    set.items(tags::CONTENT_SEQUENCE, content);
    set
}

fn words(finding: &Finding) -> Vec<DataSet> {
    let point = &finding.operating_point;
    let certainty = format!(
        "Probability {:.3} of {}; operating point {:.3}",
        finding.probability, finding.looked_for, point.threshold
    );
    let model = &finding.model;
    let version = format!("{} (SHA-256 {})", model.version, model.digest);
    let mut items = vec![
        text(FINDING, &finding.in_words()),
        text(CERTAINTY, &certainty),
        text(ALGORITHM_NAME, &format!("Hilum {}", model.name)),
        text(ALGORITHM_VERSION, &version),
    ];
    items.extend(finding.warnings.iter().map(|warning| text(COMMENT, &format!("Warning: {}", warning.sentence()))));
    items.extend(finding.image.origin.assumptions().iter().map(|a| text(COMMENT, &format!("Assumed: {a}"))));
    items.extend(finding.site.iter().map(|site| text(COMMENT, &site.in_words())));
    items.push(text(COMMENT, STATEMENT));
    items
}

/// A content item that the report holds.
fn item(value_type: &str, concept: Concept) -> DataSet {
    let mut item = DataSet::default();
    item.text(tags::RELATIONSHIP_TYPE, "CONTAINS");
    item.text(tags::VALUE_TYPE, value_type);
    item.concept(tags::CONCEPT_NAME_CODE_SEQUENCE, concept);
    item
}

fn text(concept: Concept, value: &str) -> DataSet {
    let mut item = item("TEXT", concept);
    item.text(tags::TEXT_VALUE, value);
    item
}

fn image(concept: Concept, reference: &Reference) -> DataSet {
    let mut item = item("IMAGE", concept);
    item.items(tags::REFERENCED_SOP_SEQUENCE, [names(reference)]);
    item
}

fn names(reference: &Reference) -> DataSet {
    let mut names = DataSet::default();
    names.text(tags::REFERENCED_SOP_CLASS_UID, &reference.class);
    names.text(tags::REFERENCED_SOP_INSTANCE_UID, &reference.instance);
    names
}

/// What a report refers to, by study and series (PS3.3, C.17.2.1).
fn evidence(study: &str, references: &[&Reference]) -> DataSet {
    let series = |reference: &&Reference| {
        let mut series = DataSet::default();
        series.text(tags::SERIES_INSTANCE_UID, &reference.series);
        series.items(tags::REFERENCED_SOP_SEQUENCE, [names(reference)]);
        series
    };
    let mut evidence = DataSet::default();
    evidence.text(tags::STUDY_INSTANCE_UID, study);
    evidence.items(tags::REFERENCED_SERIES_SEQUENCE, references.iter().map(series));
    evidence
}
