//! The layout of *Chest X-Ray Images (Pneumonia)* (Kermany, Zhang, Goldbaum 2018): class folders, in `train/`,
//! `val/` and `test/` or directly; the patient stands in the file name.

use super::{Entry, Layout, Listing, Reading};
use crate::dataset::{DatasetError, Unreadable};
use crate::labels::Classes;
use crate::{Split, Subject};
use edge_runtime::image::folder::image_files;
use std::path::{Path, PathBuf};

/// Class folders; the index is the class.
const FOLDERS: [&str; 2] = ["NORMAL", "PNEUMONIA"];

/// What the groups are called that file names tell.
const SERIES: &str = "series";

/// The layout. Whether a pneumonia is bacterial or viral stands in the file name.
pub struct Kermany;

/// A class folder, and the split folder that it lies in.
struct ClassFolder {
    path: PathBuf,
    label: usize,
    split: Option<Split>,
}

/// Class folders under `root`.
fn class_folders(root: &Path) -> impl Iterator<Item = ClassFolder> {
    let splits = [None].into_iter().chain(Split::ALL.map(Some));
    let all = splits.flat_map(move |split| {
        let root = split.map_or(root.to_owned(), |split| root.join(split.name()));
        FOLDERS.iter().enumerate().map(move |(label, name)| ClassFolder { path: root.join(name), label, split })
    });
    all.filter(|folder| folder.path.is_dir())
}

impl Layout for Kermany {
    fn name(&self) -> &'static str {
        "kermany"
    }

    fn recognises(&self, root: &Path) -> bool {
        class_folders(root).next().is_some()
    }

    fn tells_apart(&self, _: Classes) -> bool {
        true
    }

    fn owns_its_folder(&self) -> bool {
        true
    }

    fn read(&self, root: &Path, reading: &Reading) -> Result<Listing, DatasetError> {
        let mut listing = Listing::default();
        for folder in class_folders(root) {
            let files =
                image_files(&folder.path).map_err(|source| DatasetError::Io { path: folder.path.clone(), source })?;
            for path in files {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let patient = patient_of(&stem);
                match label_of(&folder, &stem, reading.classes) {
                    Some(label) => {
                        let subject = Subject::default();
                        listing.entries.push(Entry {
                            path,
                            label,
                            patient,
                            split: folder.split,
                            subject,
                            groups: series_of(&stem).map(|name| (SERIES.into(), name.into())).into_iter().collect(),
                        });
                    }
                    None => {
                        let reason = "its name says neither `bacteria` nor `virus`".to_owned();
                        listing.unreadable.push(Unreadable { path, reason });
                    }
                }
            }
        }
        Ok(listing)
    }

    fn places(&self) -> String {
        let folders = FOLDERS.map(|name| format!("`{name}/`"));
        format!("{} (directly, or in `train/`, `val/`, `test/`)", folders.join(" and "))
    }
}

/// Index of the class of the file `stem` in `folder`.
fn label_of(folder: &ClassFolder, stem: &str, classes: Classes) -> Option<usize> {
    match classes {
        Classes::BacterialViral if folder.label == 1 => {
            let kinds = ["_bacteria", "_virus"];
            kinds.iter().position(|kind| stem.to_ascii_lowercase().contains(kind)).map(|kind| 1 + kind)
        }
        _ => Some(folder.label),
    }
}

/// Patient of a file name (`person12_bacteria_46` → `person12`, `IM-0115-0001` → `IM-0115`,
/// `NORMAL2-IM-0381-0001-0002` → `NORMAL2-IM-0381`); any other name is a patient of its own.
fn patient_of(stem: &str) -> String {
    if stem.starts_with("person")
        && let Some((person, _)) = stem.split_once('_')
    {
        return person.to_owned();
    }
    let (prefix, rest) = match stem.strip_prefix("NORMAL2-") {
        Some(rest) => ("NORMAL2-", rest),
        None => ("", stem),
    };
    match rest.strip_prefix("IM-").and_then(|r| r.split_once('-')) {
        Some((number, _)) => format!("{prefix}IM-{number}"),
        None => stem.to_owned(),
    }
}

/// The series that the file `stem` is of: file names of normal images were given in two ways, those of the others say
/// the pathogen.
fn series_of(stem: &str) -> Option<&'static str> {
    let lower = stem.to_ascii_lowercase();
    match () {
        () if lower.starts_with("normal2-im-") => Some("NORMAL2-IM"),
        () if lower.starts_with("im-") => Some("IM"),
        () if lower.contains("_bacteria") => Some("bacteria"),
        () if lower.contains("_virus") => Some("virus"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patients_are_read_from_file_names() {
        assert_eq!(patient_of("person12_bacteria_46"), "person12");
        assert_eq!(patient_of("IM-0115-0001"), "IM-0115");
        assert_eq!(patient_of("NORMAL2-IM-0381-0001-0002"), "NORMAL2-IM-0381");
        assert_eq!(patient_of("chest"), "chest");
    }

    #[test]
    fn series_are_read_from_file_names() {
        let names = ["person12_bacteria_46", "person3_virus_1", "IM-0115-0001", "NORMAL2-IM-0381-0001-0002", "chest"];
        assert_eq!(names.map(series_of), [Some("bacteria"), Some("virus"), Some("IM"), Some("NORMAL2-IM"), None]);
    }
}
