//! NIH ChestX-ray14 (Wang et al. 2017): `Data_Entry_2017.csv` beside `images_001/images/` … or `images/`, and the
//! official `train_val_list.txt` and `test_list.txt`.

use super::table::{Row, Table};
use super::{Entry, Layout, Listing, Reading, age_days, sex, view};
use crate::dataset::{DatasetError, Unreadable};
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

    fn read(&self, root: &Path, _: &Reading) -> Result<Listing, DatasetError> {
        let path = table_of(root).unwrap_or_else(|| root.join(TABLES[0]));
        let mut table = Table::open(&path)?;
        let columns = Columns::of(&table)?;
        let files = images(root)?;
        let lists = Lists::read(root)?;
        let mut rows = HashMap::new();
        let mut counts = Counts::default();
        let mut listing = Listing::default();
        while let Some(row) = table.next()? {
            let name = row.get(columns.image);
            if let Some(line) = rows.insert(name.to_owned(), row.line) {
                return Err(table.error(&row, format!("{name} is in line {line} too")));
            }
            let Some(label) = label(&table, &row, row.get(columns.findings))? else {
                counts.others += 1;
                continue;
            };
            if row.get(columns.patient).is_empty() {
                return Err(table.error(&row, "the patient is missing".into()));
            }
            let Some(file) = files.get(name) else {
                let reason = format!("it is listed in {} and not there", path.display());
                listing.unreadable.push(Unreadable { path: root.join(name), reason });
                continue;
            };
            let split = lists.side(name).map_err(|reason| table.error(&row, reason))?;
            counts.without_side += usize::from(split.is_none());
            let age_days = age_days(row.get_if(columns.age));
            counts.ages += usize::from(age_days.is_none() && !row.get_if(columns.age).is_empty());
            let sex = sex(row.get_if(columns.sex));
            let view = view(row.get_if(columns.view));
            listing.entries.push(Entry {
                path: file.clone(),
                label,
                patient: row.get(columns.patient).to_owned(),
                split,
                subject: Subject { age_days, sex, view },
                groups: vec![],
            });
        }
        counts.unlisted = lists.names().filter(|name| !rows.contains_key(*name)).count();
        listing.remarks = counts.remarks(root, lists.are_there());
        Ok(listing)
    }
}

/// Columns of the table.
struct Columns {
    image: usize,
    findings: usize,
    patient: usize,
    age: Option<usize>,
    sex: Option<usize>,
    view: Option<usize>,
}

impl Columns {
    fn of(table: &Table) -> Result<Columns, DatasetError> {
        Ok(Columns {
            image: table.column("Image Index")?,
            findings: table.column("Finding Labels")?,
            patient: table.column("Patient ID")?,
            age: table.find("Patient Age"),
            sex: table.find("Patient Gender").or_else(|| table.find("Patient Sex")),
            view: table.find("View Position"),
        })
    }
}

/// The class of an image with `findings`; `None` where it shows others and no pneumonia.
fn label(table: &Table, row: &Row, findings: &str) -> Result<Option<usize>, DatasetError> {
    let found: Vec<&str> = findings.split('|').map(str::trim).collect();
    if let Some(unknown) = found.iter().find(|finding| !FINDINGS.contains(finding)) {
        return Err(table.error(row, format!("the finding `{unknown}` is none of the set's")));
    }
    if found.len() > 1 && found.contains(&"No Finding") {
        return Err(table.error(row, format!("`{findings}` is nothing and something")));
    }
    Ok(match found.as_slice() {
        _ if found.contains(&"Pneumonia") => Some(1),
        ["No Finding"] => Some(0),
        _ => None,
    })
}

/// The official lists.
struct Lists {
    train: HashSet<String>,
    test: HashSet<String>,
}

impl Lists {
    /// Both, or neither.
    fn read(root: &Path) -> Result<Lists, DatasetError> {
        let train = list(&root.join(TRAIN))?;
        let test = list(&root.join(TEST))?;
        if train.is_empty() != test.is_empty() {
            let missing = root.join(if train.is_empty() { TRAIN } else { TEST });
            let reason = "it is missing or empty beside the other list: give both, or neither".into();
            return Err(DatasetError::Table { path: missing, reason });
        }
        Ok(Lists { train, test })
    }

    fn are_there(&self) -> bool {
        !self.test.is_empty()
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        self.train.iter().chain(&self.test).filter(|name| !name.is_empty())
    }

    fn side(&self, name: &str) -> Result<Option<Split>, String> {
        match (self.test.contains(name), self.train.contains(name)) {
            (true, true) => Err(format!("{name} is in {TRAIN} and in {TEST}")),
            (true, false) => Ok(Some(Split::Test)),
            (false, true) => Ok(Some(Split::Train)),
            (false, false) => Ok(None),
        }
    }
}

/// What a person should know.
#[derive(Default)]
struct Counts {
    /// Images with other findings.
    others: usize,
    /// Images that the lists do not name.
    without_side: usize,
    /// Names in the lists that the table does not have.
    unlisted: usize,
    /// Ages that are none.
    ages: usize,
}

impl Counts {
    fn remarks(&self, root: &Path, has_lists: bool) -> Vec<String> {
        let root = root.display();
        let without_side = if has_lists { self.without_side } else { 0 };
        let remarks = [
            (self.others, format!("images of {root} are not used: they show other findings and no pneumonia.")),
            (without_side, format!("images of {root} are in neither of the official lists.")),
            (self.unlisted, format!("names of the official lists of {root} are not in its table.")),
            (self.ages, format!("ages in {root} are no ages of people, and not known.")),
        ];
        remarks.into_iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect()
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
