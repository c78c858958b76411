//! Scores of a clinic as CSV: `probability` and `reference` (or `label`), and `patient` if it is there. Any other
//! column is passed over.

use super::Scored;
use crate::dataset::DatasetError;
use crate::labels::Classes;
use crate::readers::Table;
use std::path::Path;

/// A table of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Scores {
    /// What it holds.
    pub scored: Scored,
    /// Whether it says whose each is; without, each row is taken for a person.
    pub has_patients: bool,
}

/// Reads scores of the classes `classes`.
pub fn read_scores(path: &Path, classes: Classes) -> Result<Scores, DatasetError> {
    if path.exists() && !path.is_file() {
        let reason = "it is no file of rows".to_owned();
        return Err(DatasetError::Table { path: path.to_owned(), reason });
    }
    let mut table = Table::open(path)?;
    let probability = table.column("probability")?;
    let reference = match table.find("reference") {
        Some(column) => column,
        None => table.column("label")?,
    };
    let patient = table.find("patient");
    let labels = classes.labels();
    let mut scored = Scored::default();
    while let Some(row) = table.next()? {
        let text = row.get(probability);
        let value = text.parse::<f32>().ok().filter(|p| (0.0..=1.0).contains(p));
        let value = value.ok_or_else(|| table.error(&row, format!("the probability `{text}` is none from 0 to 1")))?;
        let text = row.get(reference);
        let names = || labels.names().join(", ");
        let label = classes.parse(text).ok_or_else(|| table.error(&row, format!("`{text}` is none of {}", names())))?;
        let name = row.get_if(patient);
        if patient.is_some() && name.is_empty() {
            return Err(table.error(&row, "the patient is missing".into()));
        }
        scored.probabilities.push(value);
        scored.truths.push(labels.is_positive(label));
        scored.patients.push(if patient.is_some() { name.to_owned() } else { format!("row {}", row.line) });
    }
    Ok(Scores { scored, has_patients: patient.is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Scores, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scores.csv");
        std::fs::write(&path, text).unwrap();
        read_scores(&path, Classes::Pneumonia).map_err(|e| e.to_string())
    }

    #[test]
    fn scores_are_read_whatever_the_reference_is_called() {
        let Scores { scored, has_patients } =
            read("patient,probability,label,site\na,0.25,1,x\na,1,normal,y\n").unwrap();
        assert_eq!(
            (scored.probabilities.as_slice(), scored.truths.as_slice()),
            ([0.25, 1.0].as_slice(), [true, false].as_slice())
        );
        assert_eq!((scored.people(), scored.positives(), has_patients), (1, 1, true));
        let unnamed = read("probability,reference\n0.5,PNEUMONIA/VIRAL\n0.5,0\n").unwrap();
        assert_eq!((unnamed.scored.people(), unnamed.scored.positives(), unnamed.has_patients), (2, 1, false));
    }

    #[test]
    fn a_row_that_makes_no_sense_is_named() {
        for (text, words) in [
            ("probability,label\n1.2,1\n", "line 2: the probability `1.2`"),
            ("probability,label\nNaN,1\n", "line 2: the probability `NaN`"),
            ("probability,label\n0.2,maybe\n", "line 2: `maybe` is none of NORMAL, PNEUMONIA"),
            ("patient,probability,label\n,0.2,1\n", "line 2: the patient is missing"),
            ("score,label\n0.2,1\n", "`probability` is missing"),
            ("probability,outcome\n0.2,1\n", "`label` is missing"),
        ] {
            let e = read(text).unwrap_err();
            assert!(e.contains(words), "{e}");
        }
    }
}
