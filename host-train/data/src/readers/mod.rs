//! Data sets as they are published: one layout a file. A new one is a file here and a line in [`LAYOUTS`].

mod chexpert;
mod kermany;
pub mod list;
mod nih;
mod rsna;
mod table;

pub(crate) use table::Table;

use crate::dataset::{DatasetError, Unreadable};
use crate::labels::Classes;
use crate::{Item, Split, Subject, paths};
use edge_runtime::image::{Sex, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is read from data sets, and how: a recipe's `[data]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reading {
    /// What images are told apart by.
    pub classes: Classes,
    /// What becomes of images that their readers were not sure about (CheXpert's −1).
    pub uncertain: Uncertain,
    /// Of a layout, by its name, only images of these classes.
    pub keep: BTreeMap<String, Vec<String>>,
    /// Images that validate and do not train: the name of groups that the data set has (`series`, `site`), and which of
    /// them.
    pub leave_out: BTreeMap<String, Vec<String>>,
}

/// What becomes of images of which it is uncertain whether they show what is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertain {
    /// They are left out.
    #[default]
    Ignore,
    /// They do not show it: they are used where `No Finding` is set, which is rare, and are images with other findings
    /// elsewhere.
    Zeros,
    /// They show it.
    Ones,
}

impl Reading {
    /// Says which value makes no sense, and what is possible.
    pub fn check(&self) -> Result<(), String> {
        for (layout, classes) in &self.keep {
            if !LAYOUTS.iter().any(|known| known.name() == layout) && layout != list::NAME {
                let known: Vec<&str> = LAYOUTS.iter().map(|known| known.name()).chain([list::NAME]).collect();
                return Err(format!("data.keep names the layout `{layout}`; there are {}", known.join(", ")));
            }
            if let Some(class) = classes.iter().find(|class| self.classes.parse(class).is_none()) {
                return Err(format!("data.keep.{layout} names the class `{class}`; there are {}", self.names()));
            }
        }
        Ok(())
    }

    /// True if images of these `groups`, a name and a value each, do not train.
    pub fn leaves_out(&self, groups: &[(String, String)]) -> bool {
        groups.iter().any(|(name, value)| self.leave_out.get(name).is_some_and(|values| values.contains(value)))
    }

    /// The names of all classes, for a person.
    pub fn names(&self) -> String {
        self.classes.labels().names().join(", ")
    }

    /// True if images of `label` in `layout` are used.
    fn keeps(&self, layout: &str, label: usize) -> bool {
        let kept = self.keep.get(layout);
        kept.is_none_or(|classes| classes.iter().any(|class| self.classes.parse(class) == Some(label)))
    }
}

/// Where a published data set has its images, and what it calls them.
pub trait Layout: Sync {
    /// What recipes call it.
    fn name(&self) -> &'static str;

    /// True if `root` has the files of this layout.
    fn recognises(&self, root: &Path) -> bool;

    /// All images under `root`, and what is not used of them.
    fn read(&self, root: &Path, reading: &Reading) -> Result<Listing, DatasetError>;

    /// Where images are looked for, for a person.
    fn places(&self) -> String;

    /// True if it tells images of `classes` apart.
    fn tells_apart(&self, classes: Classes) -> bool {
        classes == Classes::Pneumonia
    }

    /// True if every image under the root belongs to the data set, so that others are worth a word.
    fn owns_its_folder(&self) -> bool {
        false
    }
}

/// The layouts that are read; the first one that recognises a folder reads it.
pub static LAYOUTS: [&dyn Layout; 4] = [&nih::Nih, &chexpert::Chexpert, &rsna::Rsna, &kermany::Kermany];

/// The layout of `root`; the Kermany set's where none recognises it, so that its error names folders.
pub fn layout_of(root: &Path) -> &'static dyn Layout {
    LAYOUTS.into_iter().find(|layout| layout.recognises(root)).unwrap_or(&kermany::Kermany)
}

/// Reads `path`: a folder in one of the layouts, or a list of images.
pub(crate) fn read(path: &Path, reading: &Reading) -> Result<Source, DatasetError> {
    let (name, mut listing) = match path.is_file() {
        true => (list::NAME, list::read(path, reading)?),
        false => {
            let layout = layout_of(path);
            if !layout.tells_apart(reading.classes) {
                return Err(DatasetError::Classes { root: path.to_owned(), classes: reading.names() });
            }
            (layout.name(), layout.read(path, reading)?)
        }
    };
    let before = listing.entries.len();
    listing.entries.retain(|entry| reading.keeps(name, entry.label));
    let gone = before - listing.entries.len();
    if gone > 0 {
        let kept = reading.keep.get(name).map_or(String::new(), |kept| kept.join(", "));
        listing.remarks.push(format!("{gone} images are not used: of `{name}`, only {kept} shall be."));
    }
    Ok(Source { name, listing, honours_val: path.is_file() })
}

/// One of the sources of a data set.
pub(crate) struct Source {
    /// The layout's name.
    pub name: &'static str,
    /// Its images.
    pub listing: Listing,
    /// Whoever wrote it chose the validation images.
    pub honours_val: bool,
}

/// What a layout has.
#[derive(Default)]
pub struct Listing {
    /// The images.
    pub entries: Vec<Entry>,
    /// Files that do not serve, and why.
    pub unreadable: Vec<Unreadable>,
    /// What a person should know, a sentence each.
    pub remarks: Vec<String>,
}

/// An image file of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// Index of its class.
    pub label: usize,
    /// Who it is of.
    pub patient: String,
    /// The split that its publishers gave it.
    pub split: Option<Split>,
    /// What its publishers say of the patient.
    pub subject: Subject,
    /// Anything else they say: a name and a value each.
    pub groups: Vec<(String, String)>,
}

impl Entry {
    /// The entry as an item of a data set under `root`.
    pub(crate) fn item(&self, root: &Path, sha256: String) -> Item {
        let relative = self.path.strip_prefix(root).unwrap_or(&self.path);
        Item {
            file: paths::to_text(relative),
            label: self.label,
            patient: self.patient.clone(),
            sha256,
            pixels: None,
            subject: self.subject,
            groups: self.groups.clone(),
            split: Split::Train,
        }
    }
}

/// Oldest age in years that is believed: tables hold mistakes such as 411.
const OLDEST: u32 = 120;

/// Days of an age as tables write it: years, or a number and D, W, M or Y (DICOM's AS).
pub(crate) fn age_days(text: &str) -> Option<u32> {
    let text = text.trim();
    let (number, unit) = match text.char_indices().last()? {
        (at, unit) if unit.is_ascii_alphabetic() => (&text[..at], unit.to_ascii_uppercase()),
        _ => (text, 'Y'),
    };
    let number: f64 = number.trim().parse().ok()?;
    let days = match unit {
        'D' => 1.0,
        'W' => 7.0,
        'M' => 365.25 / 12.0,
        'Y' => 365.25,
        _ => return None,
    };
    let age = number * days;
    (age >= 0.0 && age <= f64::from(OLDEST) * 365.25).then_some(age.round() as u32)
}

/// A sex as tables write it.
pub(crate) fn sex(text: &str) -> Option<Sex> {
    match text.trim().to_ascii_lowercase().as_str() {
        "m" | "male" => Some(Sex::Male),
        "f" | "female" => Some(Sex::Female),
        _ => None,
    }
}

/// A view as tables write it.
pub(crate) fn view(text: &str) -> Option<View> {
    match text.trim().to_ascii_lowercase().as_str() {
        "pa" => Some(View::Pa),
        "ap" => Some(View::Ap),
        "lateral" | "ll" | "rl" | "lat" => Some(View::Lateral),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
