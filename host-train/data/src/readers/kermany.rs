//! The layout of *Chest X-Ray Images (Pneumonia)* (Kermany, Zhang, Goldbaum 2018): class folders, in `train/`,
//! `val/` and `test/` or directly; the patient stands in the file name.

use crate::dataset::DatasetError;
use crate::{Item, Labels, Split, paths};
use edge_runtime::image::folder::image_files;
use std::path::{Path, PathBuf};

/// Class folders; the index is the class.
const FOLDERS: [&str; 2] = ["NORMAL", "PNEUMONIA"];

/// The classes of this layout: NORMAL, and PNEUMONIA, which is looked for.
pub fn labels() -> Labels {
    Labels::new(FOLDERS.map(String::from).to_vec(), 1).expect("two names, and the second of them")
}

/// An image file of the data set.
pub struct Entry {
    /// Where it lies.
    pub path: PathBuf,
    /// Index of its class folder.
    pub label: usize,
    /// The split folder that it lies in.
    pub split: Option<Split>,
}

/// All image files under the class folders of `root`.
pub fn entries(root: &Path, labels: &Labels) -> Result<Vec<Entry>, DatasetError> {
    let mut entries = Vec::new();
    for split in [None].into_iter().chain(Split::ALL.map(Some)) {
        for (label, name) in labels.names().iter().enumerate() {
            let mut folder = root.to_owned();
            folder.extend(split.map(Split::name));
            folder.push(name);
            if folder.is_dir() {
                let io = |source| DatasetError::Io { path: folder.clone(), source };
                let files = image_files(&folder).map_err(io)?;
                entries.extend(files.into_iter().map(|path| Entry { path, label, split }));
            }
        }
    }
    Ok(entries)
}

/// `root` has no image where this layout has them.
pub fn no_images(root: PathBuf, labels: &Labels) -> DatasetError {
    let folders: Vec<String> = labels.names().iter().map(|n| format!("`{n}/`")).collect();
    DatasetError::NoImages { root, folders: folders.join(" and ") }
}

impl Entry {
    /// The entry as an item of a data set under `root`.
    pub fn item(&self, root: &Path, sha256: String) -> Item {
        let relative = self.path.strip_prefix(root).unwrap_or(&self.path);
        Item {
            file: paths::to_text(relative),
            label: self.label,
            patient: patient_of(&self.path.file_stem().unwrap_or_default().to_string_lossy()),
            sha256,
            pixels: None,
            split: Split::Train,
        }
    }
}

/// Patient of a file name (`person12_bacteria_46` → `person12`, `IM-0115-0001` → `IM-0115`,
/// `NORMAL2-IM-0381-0001-0002` → `NORMAL2-IM-0381`); any other name is a patient of its own.
pub fn patient_of(stem: &str) -> String {
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
}
