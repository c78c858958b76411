//! Data sets as they are published: one layout a file. A new one is a file here and a line in [`LAYOUTS`].

mod kermany;

pub use kermany::Kermany;

use crate::dataset::DatasetError;
use crate::{Item, Labels, Split, Subject, paths};
use std::path::{Path, PathBuf};

/// Where a published data set has its images, and what it calls them.
pub trait Layout: Sync {
    /// The classes.
    fn labels(&self) -> Labels;

    /// True if `root` has the folders of this layout.
    fn recognises(&self, root: &Path) -> bool;

    /// All image files under `root`.
    fn entries(&self, root: &Path) -> Result<Vec<Entry>, DatasetError>;

    /// Where images are looked for, for a person.
    fn places(&self) -> String;
}

/// The layouts that are read; the first one that recognises a folder reads it.
pub static LAYOUTS: [&dyn Layout; 1] = [&Kermany];

/// The layout of `root`; the first one where none recognises it, so that its error names folders.
pub fn layout_of(root: &Path) -> &'static dyn Layout {
    LAYOUTS.into_iter().find(|layout| layout.recognises(root)).unwrap_or(LAYOUTS[0])
}

/// An image file of a data set.
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// Index of its class.
    pub label: usize,
    /// Who it is of.
    pub patient: String,
    /// The split that its publishers gave it.
    pub split: Option<Split>,
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
            subject: Subject::default(),
            split: Split::Train,
        }
    }
}
