//! CheXpert (Irvin et al. 2019): `train.csv` and `valid.csv`, with the path, the patient in it, and for each finding 1,
//! 0, −1 (uncertain) or nothing.

use super::table::{Row, Table};
use super::{Entry, Layout, Listing, Reading, Uncertain, age_days, sex, view};
use crate::dataset::{DatasetError, Unreadable};
use crate::{Split, Subject};
use std::path::{Path, PathBuf};

const TRAIN: &str = "train.csv";
const VALID: &str = "valid.csv";

/// The layout. `No Finding` is NORMAL, `Pneumonia` PNEUMONIA; the others, and lateral views, are not used.
pub struct Chexpert;

/// Why images are not used, and how many.
#[derive(Default)]
struct Unused {
    lateral: usize,
    uncertain: usize,
    others: usize,
}

/// Columns of a table.
struct Columns {
    path: usize,
    none: usize,
    pneumonia: usize,
    sex: Option<usize>,
    age: Option<usize>,
    side: usize,
    projection: Option<usize>,
}

impl Columns {
    fn of(table: &Table) -> Result<Columns, DatasetError> {
        Ok(Columns {
            path: table.column("Path")?,
            none: table.column("No Finding")?,
            pneumonia: table.column("Pneumonia")?,
            sex: table.find("Sex"),
            age: table.find("Age"),
            side: table.column("Frontal/Lateral")?,
            projection: table.find("AP/PA"),
        })
    }
}

/// A finding's value.
#[derive(PartialEq)]
enum Value {
    Absent,
    Present,
    Uncertain,
}

fn value(table: &Table, row: &Row, column: usize) -> Result<Value, DatasetError> {
    match row.get(column).parse::<f32>() {
        _ if row.get(column).is_empty() => Ok(Value::Absent),
        Ok(0.0) => Ok(Value::Absent),
        Ok(1.0) => Ok(Value::Present),
        Ok(-1.0) => Ok(Value::Uncertain),
        _ => Err(table.error(row, format!("`{}` is none of 1, 0, -1 and nothing", row.get(column)))),
    }
}

/// The file that a table calls `path`: its first part is the name of the release, which `root` may have or not.
fn locate(root: &Path, path: &str) -> PathBuf {
    let whole = root.join(path);
    match path.split_once('/') {
        Some((_, rest)) if !whole.exists() => root.join(rest),
        _ => whole,
    }
}

/// `patient00001` of `CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg`.
fn patient_of(path: &str) -> Option<&str> {
    path.split('/').find(|part| part.len() > 7 && part.starts_with("patient"))
}

impl Layout for Chexpert {
    fn name(&self) -> &'static str {
        "chexpert"
    }

    fn recognises(&self, root: &Path) -> bool {
        let table = Table::open(&root.join(TRAIN)).or_else(|_| Table::open(&root.join(VALID)));
        table.is_ok_and(|table| table.find("Path").is_some() && table.find("Frontal/Lateral").is_some())
    }

    fn places(&self) -> String {
        "the folders that `train.csv` and `valid.csv` name".into()
    }

    fn read(&self, root: &Path, reading: &Reading) -> Result<Listing, DatasetError> {
        let mut listing = Listing::default();
        let mut unused = Unused::default();
        for (name, split) in [(TRAIN, Split::Train), (VALID, Split::Val)] {
            let path = root.join(name);
            if path.is_file() {
                read_table(&path, split, reading, &mut listing, &mut unused)?;
            }
        }
        let shown = root.display();
        let mut remark = |count: usize, why: &str| {
            if count > 0 {
                listing.remarks.push(format!("{count} images of {shown} are not used: {why}."));
            }
        };
        remark(unused.lateral, "they are lateral views");
        remark(unused.uncertain, "whether they show pneumonia is uncertain (-1), and such images are ignored");
        remark(unused.others, "they show other findings, or nothing is said of them");
        Ok(listing)
    }
}

fn read_table(
    path: &Path,
    split: Split,
    reading: &Reading,
    listing: &mut Listing,
    unused: &mut Unused,
) -> Result<(), DatasetError> {
    let root = path.parent().unwrap_or(Path::new(""));
    let mut table = Table::open(path)?;
    let columns = Columns::of(&table)?;
    while let Some(row) = table.next()? {
        let file = row.get(columns.path);
        match row.get(columns.side).to_ascii_lowercase().as_str() {
            "frontal" => {}
            "lateral" => {
                unused.lateral += 1;
                continue;
            }
            other => return Err(table.error(&row, format!("`{other}` is neither Frontal nor Lateral"))),
        }
        let pneumonia = value(&table, &row, columns.pneumonia)?;
        let none = value(&table, &row, columns.none)?;
        let label = match (pneumonia, reading.uncertain) {
            (Value::Present, _) | (Value::Uncertain, Uncertain::Ones) if none == Value::Present => {
                return Err(table.error(&row, format!("{file} has `No Finding` and `Pneumonia`")));
            }
            (Value::Present, _) | (Value::Uncertain, Uncertain::Ones) => 1,
            (Value::Uncertain, Uncertain::Ignore) => {
                unused.uncertain += 1;
                continue;
            }
            _ if none == Value::Present => 0,
            _ => {
                unused.others += 1;
                continue;
            }
        };
        let patient = patient_of(file).ok_or_else(|| table.error(&row, format!("no patient stands in `{file}`")))?;
        let located = locate(root, file);
        if !located.is_file() {
            let reason = format!("it is listed in {} and not there", path.display());
            listing.unreadable.push(Unreadable { path: located, reason });
            continue;
        }
        listing.entries.push(Entry {
            path: located,
            label,
            patient: patient.to_owned(),
            split: Some(split),
            subject: Subject {
                age_days: age_days(row.get_if(columns.age)),
                sex: sex(row.get_if(columns.sex)),
                view: view(row.get_if(columns.projection)),
            },
            groups: vec![],
        });
    }
    Ok(())
}
