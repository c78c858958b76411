//! NIH ChestX-ray14 (Wang et al. 2017): `Data_Entry_2017.csv` beside `images_001/images/` … or `images/`, and the
//! official `train_val_list.txt` and `test_list.txt`.

use super::table::Table;
use super::{Entry, Layout, Listing, Reading, age_days, sex, view};
use crate::dataset::{DatasetError, Unreadable};
use crate::labels::Classes;
use crate::{Split, Subject};
use edge_runtime::image::folder::image_files;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

const TABLES: [&str; 2] = ["Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv"];
const TRAIN: &str = "train_val_list.txt";
const TEST: &str = "test_list.txt";

/// The layout. `No Finding` is NORMAL; whatever has `Pneumonia` among its findings is PNEUMONIA; the others are not
/// used.
pub struct Nih;

fn table_of(root: &Path) -> Option<PathBuf> {
    TABLES.iter().map(|name| root.join(name)).find(|path| path.is_file())
}

/// Where each image lies, by its file name.
fn images(root: &Path) -> Result<HashMap<String, PathBuf>, DatasetError> {
    let files = image_files(root).map_err(|source| DatasetError::Io { path: root.to_owned(), source })?;
    let mut named: HashMap<String, PathBuf> = HashMap::new();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(other) = named.get(&name) {
            let reason = format!("{} has the same name: the table names one of the two", other.display());
            return Err(DatasetError::Table { path, reason });
        }
        named.insert(name, path);
    }
    Ok(named)
}

/// The image names in a list of a split; none where there is no such list.
fn list(path: &Path) -> Result<HashSet<String>, DatasetError> {
    if !path.is_file() {
        return Ok(HashSet::new());
    }
    let io = |source| DatasetError::Io { path: path.to_owned(), source };
    Ok(std::fs::read_to_string(path).map_err(io)?.lines().map(|line| line.trim().to_owned()).collect())
}

impl Layout for Nih {
    fn name(&self) -> &'static str {
        "nih"
    }

    fn recognises(&self, root: &Path) -> bool {
        table_of(root).is_some()
    }

    fn places(&self) -> String {
        "the `images` folders beside `Data_Entry_2017.csv`".into()
    }

    fn read(&self, root: &Path, reading: &Reading) -> Result<Listing, DatasetError> {
        if reading.classes != Classes::Pneumonia {
            return Err(DatasetError::Classes { root: root.to_owned(), classes: reading.names() });
        }
        let path = table_of(root).unwrap_or_else(|| root.join(TABLES[0]));
        let mut table = Table::open(&path)?;
        let [image, findings, patient] = ["Image Index", "Finding Labels", "Patient ID"].map(|name| table.column(name));
        let [image, findings, patient] = [image?, findings?, patient?];
        let [age, gender, position] = ["Patient Age", "Patient Gender", "View Position"].map(|name| table.find(name));
        let gender = gender.or_else(|| table.find("Patient Sex"));
        let files = images(root)?;
        let train = list(&root.join(TRAIN))?;
        let test = list(&root.join(TEST))?;
        if train.is_empty() != test.is_empty() {
            let missing = root.join(if train.is_empty() { TRAIN } else { TEST });
            let reason = "it is missing or empty beside the other list: give both, or neither".into();
            return Err(DatasetError::Table { path: missing, reason });
        }
        let mut rows = HashMap::new();
        let mut without_side = 0;
        let mut ages = 0;
        let mut listing = Listing::default();
        let mut others = 0;
        while let Some(row) = table.next()? {
            let name = row.get(image);
            if let Some(line) = rows.insert(name.to_owned(), row.line) {
                return Err(table.error(&row, format!("{name} is in line {line} too")));
            }
            let found: Vec<&str> = row.get(findings).split('|').map(str::trim).collect();
            if let Some(unknown) = found.iter().find(|finding| !FINDINGS.contains(finding)) {
                return Err(table.error(&row, format!("the finding `{unknown}` is none of the set's")));
            }
            if found.len() > 1 && found.contains(&"No Finding") {
                return Err(table.error(&row, format!("`{}` is nothing and something", row.get(findings))));
            }
            if row.get(patient).is_empty() {
                return Err(table.error(&row, "the patient is missing".into()));
            }
            let label = match found.as_slice() {
                _ if found.contains(&"Pneumonia") => 1,
                ["No Finding"] => 0,
                _ => {
                    others += 1;
                    continue;
                }
            };
            let Some(file) = files.get(name) else {
                let reason = format!("it is listed in {} and not there", path.display());
                listing.unreadable.push(Unreadable { path: root.join(name), reason });
                continue;
            };
            let split = match (test.contains(name), train.contains(name)) {
                (true, true) => return Err(table.error(&row, format!("{name} is in {TRAIN} and in {TEST}"))),
                (true, false) => Some(Split::Test),
                (false, true) => Some(Split::Train),
                (false, false) => {
                    without_side += 1;
                    None
                }
            };
            let age_days = age_days(row.get_if(age));
            ages += usize::from(age_days.is_none() && !row.get_if(age).is_empty());
            listing.entries.push(Entry {
                path: file.clone(),
                label,
                patient: row.get(patient).to_owned(),
                split,
                subject: Subject { age_days, sex: sex(row.get_if(gender)), view: view(row.get_if(position)) },
                groups: vec![],
            });
        }
        if others > 0 {
            listing.remarks.push(format!(
                "{others} images of {} are not used: they show other findings and no pneumonia.",
                root.display()
            ));
        }
        let shown = root.display();
        if without_side > 0 && !test.is_empty() {
            listing.remarks.push(format!("{without_side} images of {shown} are in neither of the official lists."));
        }
        let unlisted = train.iter().chain(&test).filter(|name| !name.is_empty() && !rows.contains_key(*name)).count();
        if unlisted > 0 {
            let words = format!("{unlisted} names of the official lists of {shown} are not in its table.");
            listing.remarks.push(words);
        }
        if ages > 0 {
            listing.remarks.push(format!("{ages} ages in {shown} are no ages of people, and not known."));
        }
        Ok(listing)
    }
}

/// What `Finding Labels` may hold.
const FINDINGS: [&str; 15] = [
    "No Finding",
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
];
