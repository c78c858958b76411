//! The manifest: comments with the root folder and the classes, then CSV, one row an image.

use crate::dataset::{Dataset, DatasetError, Item, PixelStatistics, Subject};
use crate::split::Split;
use crate::{Classes, Labels};
use edge_runtime::image::{Sex, View};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a manifest begins with.
pub const HEAD: &str = "# root: ";
const ROOT: &str = HEAD;
/// Names of the classes, a JSON list; absent in manifests of 0.1 before there were several layouts.
const LABELS: &str = "# labels: ";
/// Name of the class that is looked for.
const POSITIVE: &str = "# positive: ";

/// A row. Columns of pixels are empty where an image was never decoded.
#[derive(Serialize, Deserialize)]
struct Row {
    file: String,
    label: usize,
    patient: String,
    sha256: String,
    width: Option<u32>,
    height: Option<u32>,
    mean: Option<f32>,
    std: Option<f32>,
    split: Split,
    #[serde(default)]
    age_days: Option<u32>,
    #[serde(default)]
    sex: Option<Sex>,
    #[serde(default)]
    view: Option<View>,
    /// A JSON object, or nothing.
    #[serde(default)]
    groups: String,
}

impl From<&Item> for Row {
    fn from(item: &Item) -> Row {
        let pixels = item.pixels;
        Row {
            file: item.file.clone(),
            label: item.label,
            patient: item.patient.clone(),
            sha256: item.sha256.clone(),
            width: pixels.map(|p| p.width),
            height: pixels.map(|p| p.height),
            mean: pixels.map(|p| p.mean),
            std: pixels.map(|p| p.std),
            split: item.split,
            age_days: item.subject.age_days,
            sex: item.subject.sex,
            view: item.subject.view,
            groups: match item.groups.as_slice() {
                [] => String::new(),
                groups => {
                    let map: BTreeMap<&String, &String> = groups.iter().map(|(name, value)| (name, value)).collect();
                    serde_json::to_string(&map).expect("plain data always serialises")
                }
            },
        }
    }
}

impl From<Row> for Item {
    fn from(row: Row) -> Item {
        let pixels = match (row.width, row.height, row.mean, row.std) {
            (Some(width), Some(height), Some(mean), Some(std)) => Some(PixelStatistics { width, height, mean, std }),
            _ => None,
        };
        let subject = Subject { age_days: row.age_days, sex: row.sex, view: row.view };
        Item {
            file: row.file,
            label: row.label,
            patient: row.patient,
            sha256: row.sha256,
            pixels,
            subject,
            // A column that was written by somebody else is no reason to refuse the rows.
            groups: serde_json::from_str::<BTreeMap<String, String>>(&row.groups)
                .unwrap_or_default()
                .into_iter()
                .collect(),
            split: row.split,
        }
    }
}

/// Reads a manifest; its files lie beside it, or under the folder in its first comment.
pub fn read(path: &Path) -> Result<Dataset, DatasetError> {
    let bad = |reason: String| DatasetError::Manifest { path: path.to_owned(), reason };
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(io)?;
    let text = text.trim_start_matches('\u{feff}');
    let comment = |key: &str| text.lines().take_while(|l| l.starts_with('#')).find_map(|l| l.strip_prefix(key));
    let root = comment(ROOT).ok_or_else(|| bad("no comment at its head names a root".into()))?;
    // Comments are at the head alone: a file's name may begin like one.
    let comments: usize = text.split_inclusive('\n').take_while(|l| l.starts_with('#')).map(str::len).sum();
    let mut reader = csv::Reader::from_reader(&text.as_bytes()[comments..]);
    let rows: Result<Vec<Row>, _> = reader.deserialize().collect();
    let items: Vec<Item> = rows.map_err(|e| bad(e.to_string()))?.into_iter().map(Item::from).collect();
    check(&items).map_err(bad)?;
    let labels = match (comment(LABELS), comment(POSITIVE)) {
        (Some(names), Some(positive)) => {
            labels(names, positive).ok_or_else(|| bad("its classes cannot be read".into()))?
        }
        _ => Classes::default().labels(),
    };
    if items.is_empty() || items.iter().any(|i| i.label >= labels.len()) {
        return Err(bad(format!("no rows, or a label that is none of 0 to {}", labels.len() - 1)));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    Ok(Dataset {
        root: folder.join(root.trim()),
        labels,
        items,
        unreadable: vec![],
        remarks: vec![],
        provisional: None,
    })
}

/// Refuses a file that is there twice, and a patient or a picture on two sides of the split.
fn check(items: &[Item]) -> Result<(), String> {
    let mut files = HashSet::new();
    let mut sides: HashMap<(&str, &str), &Item> = HashMap::new();
    for item in items {
        if !files.insert(&item.file) {
            return Err(format!("`{}` is there twice", item.file));
        }
        for key in [("patient", item.patient.as_str()), ("picture", item.sha256.as_str())] {
            let other = sides.entry(key).or_insert(item);
            if other.split != item.split {
                let [a, b] = [&item.file, &other.file];
                return Err(format!("`{a}` and `{b}` are of the same {} and in different splits", key.0));
            }
        }
    }
    Ok(())
}

/// True if `path` is a file that begins as [`write()`] does.
pub fn is_manifest(path: &Path) -> bool {
    let mut head = [0; ROOT.len() + 3];
    let read = File::open(path).and_then(|mut file| file.read(&mut head)).unwrap_or(0);
    let head = head[..read].strip_prefix("\u{feff}".as_bytes()).unwrap_or(&head[..read]);
    head.starts_with(ROOT.as_bytes())
}

/// Classes called as the JSON list `names` says.
fn labels(names: &str, positive: &str) -> Option<Labels> {
    let names: Vec<String> = serde_json::from_str(names).ok()?;
    let positive = names.iter().position(|name| name == positive.trim_end())?;
    Labels::new(names, positive)
}

/// The text of the manifest of `dataset`.
pub fn write(dataset: &Dataset) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for item in &dataset.items {
        writer.serialize(Row::from(item)).expect("rows of plain values serialise");
    }
    let rows = String::from_utf8(writer.into_inner().expect("memory does not fail")).expect("CSV of UTF-8 is UTF-8");
    let labels = &dataset.labels;
    let root = dataset.root.display();
    let names = serde_json::to_string(labels.names()).expect("plain data always serialises");
    let positive = &labels.names()[labels.positive()];
    format!("{ROOT}{root}\n{LABELS}{names}\n{POSITIVE}{positive}\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_round_trips_with_and_without_pixels() {
        let dir = tempfile::tempdir().unwrap();
        let item = |file: &str, label, pixels| Item {
            file: file.into(),
            label,
            patient: format!("p, \"q\" {label}"),
            sha256: label.to_string().repeat(64),
            pixels,
            subject: Subject { age_days: Some(1500), sex: Some(Sex::Female), view: None },
            groups: vec![("site".into(), "north, \"old\" wing".into())],
            split: Split::Val,
        };
        let known = PixelStatistics { width: 3, height: 4, mean: 127.25, std: 9.5 };
        let items = vec![item("#a.png", 0, Some(known)), item("b.png", 1, None)];
        let labels = Labels::new(["none", "old, healed", "acute"].map(String::from).to_vec(), 1).unwrap();
        let set =
            Dataset { root: dir.path().into(), labels, items, unreadable: vec![], remarks: vec![], provisional: None };
        let path = dir.path().join("manifest.csv");
        std::fs::write(&path, write(&set)).unwrap();
        let back = read(&path).unwrap();
        assert_eq!((&back.items, &back.labels), (&set.items, &set.labels));
        // A patient, or a picture, on two sides; a file twice.
        let refused = |change: &dyn Fn(&mut Vec<Item>)| {
            let mut set = set.clone();
            change(&mut set.items);
            std::fs::write(&path, write(&set)).unwrap();
            read(&path).unwrap_err().to_string()
        };
        assert!(refused(&|items| items[1].file = items[0].file.clone()).contains("twice"));
        let other_side = |items: &mut Vec<Item>| items[1].split = Split::Train;
        assert!(
            refused(&|items| {
                other_side(items);
                items[1].patient = items[0].patient.clone()
            })
            .contains("same patient")
        );
        assert!(
            refused(&|items| {
                other_side(items);
                items[1].sha256 = items[0].sha256.clone()
            })
            .contains("same picture")
        );
        // A manifest that names no classes has those of the first layout.
        let old: Vec<String> =
            write(&set).lines().filter(|l| !l.starts_with("# l") && !l.starts_with("# p")).map(String::from).collect();
        std::fs::write(&path, old.join("\n")).unwrap();
        assert_eq!(read(&path).unwrap().labels, Classes::default().labels());
    }
}
