//! A list of images as CSV: `path` (relative to the list) and `label`, and if they are there `patient`, `split`, `age`
//! (years, or as `058Y`), `sex` and `view`. Any further column is kept, and its values are judged apart.

use super::table::{Row, Table};
use super::{Entry, Listing, Reading, age_days, sex, view};
use crate::dataset::{DatasetError, Unreadable};
use crate::{Dataset, Item, Split, Subject};
use std::collections::HashMap;
use std::path::Path;

/// What recipes call it.
pub(crate) const NAME: &str = "list";

const KNOWN: [&str; 7] = ["path", "label", "patient", "split", "age", "sex", "view"];

/// What a list that [`write()`] makes begins with.
pub const HEAD: &str = "path,label,patient\n";

/// A list of `items` of `dataset`, to be read as data again wherever it lies.
pub fn write(dataset: &Dataset, items: &[&Item]) -> String {
    let mut writer = csv::Writer::from_writer(HEAD.as_bytes().to_vec());
    for item in items {
        let path = dataset.path(item).to_string_lossy().into_owned();
        let row = [path.as_str(), &dataset.labels.names()[item.label], &item.patient];
        // Into memory: nothing can go wrong.
        let _ = writer.write_record(row);
    }
    String::from_utf8_lossy(&writer.into_inner().unwrap_or_default()).into_owned()
}

pub(super) fn read(path: &Path, reading: &Reading) -> Result<Listing, DatasetError> {
    let root = path.parent().unwrap_or(Path::new(""));
    let mut table = Table::open(path)?;
    let [file, label] = ["path", "label"].map(|name| table.column(name));
    let [file, label] = [file?, label?];
    let [patient, split, age, gender, projection] =
        ["patient", "split", "age", "sex", "view"].map(|name| table.find(name));
    let is_further = |name: &String| !KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known));
    let further: Vec<(usize, String)> =
        table.names().iter().cloned().enumerate().filter(|(_, name)| is_further(name) && !name.is_empty()).collect();
    let mut listing = Listing::default();
    let mut rows: HashMap<String, u64> = HashMap::new();
    let mut unread = 0;
    let mut sides: HashMap<String, (Option<Split>, u64)> = HashMap::new();
    while let Some(row) = table.next()? {
        let located = root.join(row.get(file));
        if let Some(line) = rows.insert(row.get(file).to_owned(), row.line) {
            return Err(table.error(&row, format!("`{}` is in line {line} too", row.get(file))));
        }
        let class = row.get(label);
        let label = reading
            .classes
            .parse(class)
            .ok_or_else(|| table.error(&row, format!("the label `{class}` is none of {}", reading.names())))?;
        let split = side(&table, &row, row.get_if(split))?;
        let patient = match row.get_if(patient) {
            "" => row.get(file).to_owned(),
            patient => patient.to_owned(),
        };
        let (other, line) = *sides.entry(patient.clone()).or_insert((split, row.line));
        if other != split {
            return Err(
                table.error(&row, format!("patient `{patient}` is in another split in line {line}: choose one"))
            );
        }
        if !located.is_file() {
            let reason = format!("it is listed in {}, line {}, and not there", path.display(), row.line);
            listing.unreadable.push(Unreadable { path: located, reason });
            continue;
        }
        let subject = Subject {
            age_days: age_days(row.get_if(age)),
            sex: sex(row.get_if(gender)),
            view: view(row.get_if(projection)),
        };
        let is_unread = |text: &str, is_known: bool| usize::from(!text.is_empty() && !is_known);
        unread += is_unread(row.get_if(age), subject.age_days.is_some())
            + is_unread(row.get_if(gender), subject.sex.is_some())
            + is_unread(row.get_if(projection), subject.view.is_some());
        let groups = further.iter().filter(|(column, _)| !row.get(*column).is_empty());
        listing.entries.push(Entry {
            path: std::path::absolute(&located).unwrap_or(located),
            label,
            patient,
            split,
            subject,
            groups: groups.map(|(column, name)| (name.clone(), row.get(*column).to_owned())).collect(),
        });
    }
    if unread > 0 {
        let words = "ages, sexes or views in";
        listing.remarks.push(format!("{unread} {words} {} are not understood, and not known.", path.display()));
    }
    Ok(listing)
}

fn side(table: &Table, row: &Row, name: &str) -> Result<Option<Split>, DatasetError> {
    match name.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "valid" | "validation" => Ok(Some(Split::Val)),
        other => match other.parse() {
            Ok(split) => Ok(Some(split)),
            Err(_) => Err(table.error(row, format!("the split `{name}` is none of train, val, test"))),
        },
    }
}
