//! The findings as files for people and programs: a JSON line each as `scan --json` prints them, or a table.

use super::Entry;
use crate::finding::{Answer, DISCLAIMER, Outcome};
use crate::report::json::{self, time};
use serde_json::{Map, Value, json};

/// The columns of a table.
const COLUMNS: [&str; 14] = [
    "sequence",
    "time",
    "clock_set",
    "reference",
    "answer",
    "probability",
    "threshold",
    "warnings",
    "refusal",
    "model",
    "model_digest",
    "image_sha256",
    "site",
    "disclaimer",
];

/// `entry` as a line of JSON: what `scan --json` prints, with `sequence`, `kept` (when) and `clock_set` before it.
pub fn line(entry: &Entry) -> String {
    let mut line = Map::new();
    line.insert("sequence".into(), json!(entry.sequence));
    line.insert("kept".into(), json!(time(entry.time)));
    line.insert("clock_set".into(), json!(entry.is_clock_set));
    if let Ok(Value::Object(record)) = serde_json::from_str(&json::line(&entry.record)) {
        line.extend(record);
    }
    Value::Object(line).to_string()
}

/// The head of a table (RFC 4180).
pub fn table_head() -> String {
    COLUMNS.join(",")
}

/// `entry` as a row of a table.
pub fn table_row(entry: &Entry) -> String {
    let mut fields =
        vec![entry.sequence.to_string(), time(entry.time), entry.is_clock_set.to_string(), entry.record.file.clone()];
    match &entry.record.outcome {
        Outcome::Finding(f) => {
            let answer = match f.answer {
                Answer::Positive => "positive",
                Answer::Negative => "negative",
                Answer::Uncertain => "uncertain",
            };
            let warnings: Vec<&str> = f.warnings.iter().map(|w| w.in_words()).collect();
            fields.extend([
                answer.to_owned(),
                format!("{:.4}", f.probability),
                format!("{:.4}", f.operating_point.threshold),
                warnings.join("; "),
                String::new(),
                format!("{} {}", f.model.name, f.model.version),
                f.model.digest.clone(),
                f.sha256.clone(),
                f.site.as_ref().map_or(String::new(), |site| site.name.clone()),
            ]);
        }
        Outcome::Refusal(refusal) => {
            fields.extend(["refused".to_owned(), String::new(), String::new(), String::new()]);
            fields.push(refusal.sentence.clone());
            fields.extend([String::new(), String::new(), String::new(), String::new()]);
        }
    }
    fields.push(DISCLAIMER.to_owned());
    fields.iter().map(|f| quoted(f)).collect::<Vec<_>>().join(",")
}

/// A field that no program takes for two fields or a formula.
fn quoted(field: &str) -> String {
    let safe = match field.starts_with(['=', '+', '-', '@', '\t']) {
        true => format!("'{field}"),
        false => field.to_owned(),
    };
    match safe.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", safe.replace('"', "\"\"")),
        false => safe,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Record;
    use crate::finding::tests::example;

    fn entry(outcome: Outcome) -> Entry {
        Entry {
            sequence: 3,
            time: 0,
            is_clock_set: false,
            version: Default::default(),
            record: Record::new("=cmd".into(), outcome),
        }
    }

    #[test]
    fn a_row_has_a_field_a_column_and_no_formula() {
        let finding = entry(Outcome::Finding(example(true).into()));
        let row = table_row(&finding);
        assert_eq!(row.matches(',').count(), table_head().matches(',').count() + 1, "the disclaimer's comma is quoted");
        assert!(row.starts_with("3,1970-01-01T00:00:00Z,false,'=cmd,positive,0.9300,0.4100,"), "{row}");
        let refusal = entry(Record::refused("a".into(), "cut, it is".into()).outcome);
        assert!(table_row(&refusal).contains(",refused,,,,\"cut, it is\",,,,"), "{}", table_row(&refusal));
    }

    #[test]
    fn a_line_is_that_of_scan_with_its_number() {
        let value: Value = serde_json::from_str(&line(&entry(Outcome::Finding(example(false).into())))).unwrap();
        assert_eq!((&value["sequence"], &value["answer"]), (&json!(3), &json!("negative")));
    }
}
