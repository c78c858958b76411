//! A record as one line of JSON, which `docs/finding.md` specifies.

use super::rounded;
use crate::finding::{Answer, Cause, DISCLAIMER, Finding, ModelId, Outcome, Record, Refusal, Warning};
use crate::image::Format;
use crate::site::SiteId;
use crate::stages::{Stage, StageTimes};
use crate::suitability::Policy;
use chrono::{DateTime, Utc};
use serde::Serialize;

#[derive(Serialize)]
struct FindingLine<'a> {
    schema: u32,
    file: &'a str,
    time: String,
    sha256: &'a str,
    label: &'a str,
    probability: f32,
    threshold: f32,
    positive: bool,
    answer: Answer,
    distance: f32,
    uncertain: Option<[f32; 2]>,
    model: &'a ModelId,
    image: Image,
    warnings: Vec<Reason>,
    domain_distance: Option<f32>,
    policy: Policy,
    latency_ms: Latency,
    budget_ms: f64,
    within_budget: bool,
    board: &'a str,
    site: Option<&'a SiteId>,
    disclaimer: &'static str,
}

#[derive(Serialize)]
struct Image {
    width: u32,
    height: u32,
    format: Format,
    bits_used: u8,
    assumed: Vec<String>,
}

#[derive(Serialize)]
struct Reason {
    code: Warning,
    sentence: &'static str,
}

#[derive(Serialize)]
struct Latency {
    #[serde(flatten)]
    stages: StageTimes,
    total: f64,
}

#[derive(Serialize)]
struct RefusalLine<'a> {
    schema: u32,
    file: &'a str,
    refusal: RefusalEntry<'a>,
    error: &'a str,
    disclaimer: &'static str,
}

#[derive(Serialize)]
struct RefusalEntry<'a> {
    code: Code,
    cause: Cause,
    sentence: &'a str,
}

/// Why there is no finding.
#[derive(Serialize)]
#[serde(untagged)]
enum Code {
    Unsuitable(Warning),
    Unreadable(&'static str),
}

/// `record` as one line, without its end.
pub fn line(record: &Record) -> String {
    let Record { schema, file, outcome } = record;
    let line = match outcome {
        Outcome::Finding(finding) => serde_json::to_string(&finding_line(*schema, file, finding)),
        Outcome::Refusal(Refusal { cause, unsuitable, sentence }) => serde_json::to_string(&RefusalLine {
            schema: *schema,
            file,
            refusal: RefusalEntry {
                code: unsuitable.map_or(Code::Unreadable("unreadable"), Code::Unsuitable),
                cause: *cause,
                sentence,
            },
            error: sentence,
            disclaimer: DISCLAIMER,
        }),
    };
    line.expect("plain data always serialises")
}

/// RFC 3339, UTC.
pub(crate) fn time(seconds: i64) -> String {
    let time = DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn finding_line<'a>(schema: u32, file: &'a str, finding: &'a Finding) -> FindingLine<'a> {
    let mut stages = finding.latency_ms;
    for stage in Stage::ALL {
        stages[*stage] = rounded(stages[*stage]);
    }
    let image = &finding.image;
    FindingLine {
        schema,
        file,
        time: time(finding.time),
        sha256: &finding.sha256,
        label: &finding.label,
        probability: finding.probability,
        threshold: finding.operating_point.threshold,
        positive: finding.positive,
        answer: finding.answer,
        distance: finding.probability - finding.operating_point.threshold,
        uncertain: finding.uncertain,
        model: &finding.model,
        image: Image {
            width: image.width,
            height: image.height,
            format: image.origin.format,
            bits_used: image.origin.bits_used,
            assumed: image.origin.assumptions(),
        },
        warnings: finding.warnings.iter().map(|w| Reason { code: *w, sentence: w.sentence() }).collect(),
        domain_distance: finding.domain_distance,
        policy: finding.policy,
        latency_ms: Latency { stages, total: rounded(finding.latency_ms.total()) },
        budget_ms: finding.budget(),
        within_budget: finding.within_budget(),
        board: &finding.board,
        site: finding.site.as_ref(),
        disclaimer: DISCLAIMER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::tests::example;

    #[test]
    fn a_finding_has_its_keys_in_order() {
        let record = Record::new("a.jpeg".into(), Outcome::Finding(example(true).into()));
        let value: serde_json::Value = serde_json::from_str(&line(&record)).unwrap();
        let keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys.join(" "),
            "schema file time sha256 label probability threshold positive answer distance uncertain model image \
             warnings domain_distance policy latency_ms budget_ms within_budget board site disclaimer"
        );
        assert_eq!(value["latency_ms"]["total"], 42.0);
        assert_eq!(value["image"]["format"], "JPEG");
        assert_eq!(value["time"], "2026-11-27T07:00:00Z");
        let doubtful = Finding { warnings: vec![Warning::Inverted], ..example(false) };
        let record = Record::new("a.jpeg".into(), Outcome::Finding(doubtful.into()));
        let value: serde_json::Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!(value["warnings"][0]["code"], "inverted");
    }

    #[test]
    fn a_refusal_says_why() {
        let record = Record::refused("b.png".into(), "the file is empty".into());
        let value: serde_json::Value = serde_json::from_str(&line(&record)).unwrap();
        assert_eq!([&value["refusal"]["code"], &value["refusal"]["cause"]], ["unreadable"; 2]);
        assert_eq!([&value["refusal"]["sentence"], &value["error"]], ["the file is empty"; 2]);
        let refusal =
            Refusal { cause: Cause::Unsuitable, unsuitable: Some(Warning::NotAChest), sentence: "no chest".into() };
        let value: serde_json::Value =
            serde_json::from_str(&line(&Record::new("b.dcm".into(), Outcome::Refusal(refusal)))).unwrap();
        assert_eq!(value["refusal"]["code"], "not-a-chest");
    }
}
