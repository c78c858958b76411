//! RSNA Pneumonia Detection Challenge (Shih et al. 2019): `stage_2_train_labels.csv`, a row a box, DICOM files in
//! `stage_2_train_images/`, and `stage_2_detailed_class_info.csv`.

use super::table::Table;
use super::{Entry, Layout, Listing, Reading};
use crate::Subject;
use crate::dataset::{DatasetError, Unreadable};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

const LABELS: &str = "stage_2_train_labels.csv";
const DETAILS: &str = "stage_2_detailed_class_info.csv";
/// What the detailed classes are.
const CLASSES: [&str; 3] = ["Normal", "No Lung Opacity / Not Normal", "Lung Opacity"];
const IMAGES: &str = "stage_2_train_images";

/// The layout. Target 1 is PNEUMONIA; target 0 is NORMAL where the detailed classes say `Normal`, and otherwise not
/// used.
pub struct Rsna;

/// Target of each image, and the line of the first row that says so.
fn targets(root: &Path) -> Result<BTreeMap<String, bool>, DatasetError> {
    let mut table = Table::open(&root.join(LABELS))?;
    let id = table.column("patientId")?;
    let target = table.column("Target")?;
    let mut targets = BTreeMap::new();
    while let Some(row) = table.next()? {
        let is_ill = match row.get(target) {
            "0" => false,
            "1" => true,
            other => return Err(table.error(&row, format!("the target `{other}` is neither 0 nor 1"))),
        };
        let name = row.get(id);
        if name.contains(['/', '\\']) || name.is_empty() {
            return Err(table.error(&row, format!("`{name}` is no image's name")));
        }
        if *targets.entry(name.to_owned()).or_insert(is_ill) != is_ill {
            return Err(table.error(&row, format!("{name} has both targets")));
        }
    }
    Ok(targets)
}

/// The detailed class of each image; nothing where the table is not there.
fn details(root: &Path) -> Result<Option<HashMap<String, String>>, DatasetError> {
    let path = root.join(DETAILS);
    if !path.is_file() {
        return Ok(None);
    }
    let mut table = Table::open(&path)?;
    let id = table.column("patientId")?;
    let class = table.column("class")?;
    let mut details = HashMap::new();
    while let Some(row) = table.next()? {
        let class = row.get(class);
        let Some(known) = CLASSES.iter().find(|known| known.eq_ignore_ascii_case(class)) else {
            return Err(table.error(&row, format!("the class `{class}` is none of {}", CLASSES.join(", "))));
        };
        details.insert(row.get(id).to_owned(), (*known).to_owned());
    }
    Ok(Some(details))
}

fn image(root: &Path, name: &str) -> PathBuf {
    root.join(IMAGES).join(format!("{name}.dcm"))
}

impl Layout for Rsna {
    fn name(&self) -> &'static str {
        "rsna"
    }

    fn recognises(&self, root: &Path) -> bool {
        root.join(LABELS).is_file()
    }

    fn places(&self) -> String {
        format!("`{IMAGES}/`")
    }

    fn read(&self, root: &Path, _: &Reading) -> Result<Listing, DatasetError> {
        let details = details(root)?;
        let mut listing = Listing::default();
        let mut others = 0;
        let mut unknown = 0;
        for (name, is_ill) in targets(root)? {
            let class = details.as_ref().map(|all| all.get(&name).map(String::as_str));
            match class {
                Some(Some("Normal")) if is_ill => {
                    let reason = format!("{name} is `Normal`, and its target is 1 in {LABELS}");
                    return Err(DatasetError::Table { path: root.join(DETAILS), reason });
                }
                Some(None) if !is_ill => {
                    unknown += 1;
                    continue;
                }
                Some(Some(class)) if !is_ill && class != "Normal" => {
                    others += 1;
                    continue;
                }
                _ => {}
            }
            let path = image(root, &name);
            if !path.is_file() {
                let reason = format!("it is listed in {} and not there", root.join(LABELS).display());
                listing.unreadable.push(Unreadable { path, reason });
                continue;
            }
            let label = usize::from(is_ill);
            listing.entries.push(Entry {
                path,
                label,
                patient: name,
                split: None,
                subject: Subject::default(),
                groups: vec![],
            });
        }
        if others > 0 {
            listing.remarks.push(format!(
                "{others} images of {} are not used: they are not normal, and show no pneumonia.",
                root.display()
            ));
        }
        if unknown > 0 {
            let words = format!("{unknown} images without pneumonia are not used: {DETAILS} says nothing of them.");
            listing.remarks.push(words);
        }
        if details.is_none() {
            listing.remarks.push(format!(
                "{DETAILS} is not in {}: images without pneumonia are taken for normal, and some show other findings.",
                root.display()
            ));
        }
        Ok(listing)
    }
}
