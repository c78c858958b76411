//! Image folders in the Kermany layout, and their split by patient.

use edge_runtime::radiograph::{Radiograph, read_file};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Class folders, negative first; the index is the class.
pub const LABELS: [&str; 2] = ["NORMAL", "PNEUMONIA"];
/// A given `val/` with fewer images is pooled with `train/` and split anew: at 100 images the standard error of a
/// sensitivity near 0.9 is three points.
pub const SMALLEST_USABLE_VAL: usize = 100;
/// Share of each class that is held out for validation where no usable `val/` is given.
pub const VAL_SHARE: f64 = 0.15;

/// Which images train, choose (threshold, best epoch) and judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training images.
    Train,
    /// Validation images: choose the epoch and the operating point.
    Val,
    /// Test images: seen once.
    Test,
}

impl Split {
    /// The split's folder and manifest name.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

/// One image of a data set; a row of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Path relative to the data folder, with `/`.
    pub file: String,
    /// Index in [`LABELS`].
    pub label: u8,
    /// Patient, from the file name.
    pub patient: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Mean grey level, 0 to 255.
    pub mean: f32,
    /// Standard deviation of the grey levels.
    pub std: f32,
    /// Where the image goes.
    pub split: Split,
}

/// A data set with its split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder that `Item::file` is relative to.
    pub root: PathBuf,
    /// All images, by path.
    pub items: Vec<Item>,
    /// Files that could not be read, each with the reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// What a person should know about the split, one sentence each.
    pub remarks: Vec<String>,
}

/// A file as an item with its given split, or the reason why it is none.
type Described = Result<(Item, Option<Split>), (PathBuf, String)>;

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A folder or manifest cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No `NORMAL` and `PNEUMONIA` folders.
    #[error("{0}: no images under `NORMAL/` and `PNEUMONIA/` (directly, or in `train/`, `val/`, `test/`)")]
    NoImages(PathBuf),
    /// The manifest is not what `prepare` writes.
    #[error("{path}: not a manifest of `host-train prepare` ({reason})")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What the CSV reader said.
        reason: String,
    },
    /// A split has no image of one class.
    #[error("{root}: the {split} split has no {label} image")]
    EmptyClass {
        /// The data set.
        root: PathBuf,
        /// The split.
        split: &'static str,
        /// The class.
        label: &'static str,
    },
}

/// Patient of a Kermany file name (`person12_bacteria_46` → `person12`, `IM-0115-0001` → `IM-0115`,
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

impl Dataset {
    /// Opens a folder (its `manifest.csv` if it has one) or a manifest file.
    pub fn open(path: &Path, seed: u64, progress: impl Fn(usize, usize) + Sync) -> Result<Dataset, DatasetError> {
        if path.is_file() {
            return Dataset::read_manifest(path);
        }
        let manifest = path.join("manifest.csv");
        if manifest.is_file() { Dataset::read_manifest(&manifest) } else { Dataset::scan(path, seed, progress) }
    }

    /// Reads every image under `root` and splits them. `progress(done, of)` is called for each file.
    pub fn scan(root: &Path, seed: u64, progress: impl Fn(usize, usize) + Sync) -> Result<Dataset, DatasetError> {
        // Absolute, so that a manifest serves wherever it is put.
        let root = &std::fs::canonicalize(root).map_err(|source| DatasetError::Io { path: root.to_owned(), source })?;
        let mut files = Vec::new();
        for given in [None, Some(Split::Train), Some(Split::Val), Some(Split::Test)] {
            for (label, name) in LABELS.iter().enumerate() {
                let mut folder = root.to_owned();
                folder.extend(given.map(Split::name));
                folder.push(name);
                if folder.is_dir() {
                    let found = edge_runtime::inputs::image_files(&folder)
                        .map_err(|source| DatasetError::Io { path: folder.clone(), source })?;
                    files.extend(found.into_iter().map(|f| (f, label as u8, given)));
                }
            }
        }
        let done = std::sync::atomic::AtomicUsize::new(0);
        let read: Vec<Described> = files
            .par_iter()
            .map(|(path, label, given)| {
                progress(done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1, files.len());
                describe(root, path, *label).map(|i| (i, *given)).map_err(|e| (path.clone(), e))
            })
            .collect();
        let mut items = Vec::new();
        let mut unreadable = Vec::new();
        for r in read {
            match r {
                Ok(i) => items.push(i),
                Err(e) => unreadable.push(e),
            }
        }
        if items.is_empty() {
            return Err(DatasetError::NoImages(root.to_owned()));
        }
        items.sort_by(|a, b| a.0.file.cmp(&b.0.file));
        let mut set = Dataset { root: root.to_owned(), items: vec![], unreadable, remarks: vec![] };
        set.split(items, seed);
        Ok(set)
    }

    fn split(&mut self, items: Vec<(Item, Option<Split>)>, seed: u64) {
        let given_val = items.iter().filter(|(_, g)| *g == Some(Split::Val)).count();
        let use_val = given_val >= SMALLEST_USABLE_VAL;
        if given_val > 0 && !use_val {
            self.remarks.push(format!(
                "The given val/ holds {given_val} images, too few to choose a threshold; they join train/, and {:.0} % of the \
                 patients of each class are held out instead.",
                VAL_SHARE * 100.0
            ));
        }
        let groups = groups_of(&items);
        let mut of_group: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, g) in groups.iter().enumerate() {
            of_group.entry(*g).or_default().push(i);
        }
        let mut splits: Vec<Split> = items.iter().map(|(_, given)| given.unwrap_or(Split::Train)).collect();
        // A patient seen in a given test (or usable val) split leaves the others: no patient is on two sides.
        let mut moved = 0;
        for members in of_group.values() {
            let held = if members.iter().any(|m| splits[*m] == Split::Test) {
                Some(Split::Test)
            } else if use_val && members.iter().any(|m| splits[*m] == Split::Val) {
                Some(Split::Val)
            } else {
                None
            };
            if let Some(held) = held {
                for m in members {
                    moved += usize::from(splits[*m] != held);
                    splits[*m] = held;
                }
            }
        }
        if moved > 0 {
            self.remarks.push(format!("{moved} images moved to the held-out split that already holds their patient."));
        }
        if !use_val {
            for label in 0..LABELS.len() as u8 {
                let of_label = |i: &usize| items[*i].0.label == label;
                let mut pool: Vec<(&Vec<usize>, [u8; 32])> = of_group
                    .values()
                    .filter(|m| splits[m[0]] != Split::Test && of_label(&m[0]))
                    .map(|m| (m, keyed(seed, &items[m[0]].0.patient)))
                    .collect();
                pool.sort_by_key(|p| p.1);
                let total: usize = pool.iter().map(|(m, _)| m.len()).sum();
                let want = (total as f64 * VAL_SHARE).round() as usize;
                let mut held = 0;
                for (members, _) in pool {
                    let split = if held < want { Split::Val } else { Split::Train };
                    held += members.len();
                    members.iter().for_each(|m| splits[*m] = split);
                }
            }
        }
        self.items = items.into_iter().zip(splits).map(|((item, _), split)| Item { split, ..item }).collect();
    }

    /// Reads a manifest written by [`Dataset::manifest`]; its files lie beside it, or under the folder in its first comment.
    pub fn read_manifest(path: &Path) -> Result<Dataset, DatasetError> {
        let bad = |reason: String| DatasetError::Manifest { path: path.to_owned(), reason };
        let text =
            std::fs::read_to_string(path).map_err(|source| DatasetError::Io { path: path.to_owned(), source })?;
        let (first, _) = text.split_once('\n').unwrap_or((&text, ""));
        let root = first.strip_prefix("# root: ").ok_or_else(|| bad("its first line names no root".into()))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
        let items: Result<Vec<Item>, _> = reader.deserialize().collect();
        let items = items.map_err(|e| bad(e.to_string()))?;
        if items.is_empty() || items.iter().any(|i| usize::from(i.label) >= LABELS.len()) {
            return Err(bad("no rows, or a label that is neither 0 nor 1".into()));
        }
        Ok(Dataset { root: folder.join(root.trim()), items, unreadable: vec![], remarks: vec![] })
    }

    /// The manifest: a comment with the root folder, then CSV, one row an image.
    pub fn manifest(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for item in &self.items {
            writer.serialize(item).expect("rows of plain values serialise");
        }
        let rows =
            String::from_utf8(writer.into_inner().expect("memory does not fail")).expect("CSV of UTF-8 is UTF-8");
        format!("# root: {}\n{rows}", self.root.display())
    }

    /// SHA-256 over file names, labels, digests and splits: the same for the same data, wherever it lies.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for i in &self.items {
            hash.update(format!("{}\t{}\t{}\t{}\n", i.file, i.label, i.sha256, i.split.name()));
        }
        edge_runtime::files::hex(&hash.finalize())
    }

    /// The images of `split`.
    pub fn of(&self, split: Split) -> Vec<&Item> {
        self.items.iter().filter(|i| i.split == split).collect()
    }

    /// The images of `split`, refused unless every class is there.
    pub fn require(&self, split: Split) -> Result<Vec<&Item>, DatasetError> {
        let items = self.of(split);
        for (label, name) in LABELS.iter().enumerate() {
            if !items.iter().any(|i| usize::from(i.label) == label) {
                return Err(DatasetError::EmptyClass { root: self.root.clone(), split: split.name(), label: name });
            }
        }
        Ok(items)
    }

    /// Groups of files with the same content.
    pub fn duplicates(&self) -> Vec<Vec<&Item>> {
        let mut by_digest: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
        for i in &self.items {
            by_digest.entry(&i.sha256).or_default().push(i);
        }
        by_digest.into_values().filter(|g| g.len() > 1).collect()
    }
}

fn keyed(seed: u64, patient: &str) -> [u8; 32] {
    Sha256::digest(format!("{seed}:{patient}")).into()
}

/// Union of images by patient (within a class) and by content: each image's group, by the index of its first member.
fn groups_of(items: &[(Item, Option<Split>)]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..items.len()).collect();
    fn find(group: &mut [usize], mut i: usize) -> usize {
        while group[i] != i {
            group[i] = group[group[i]];
            i = group[i];
        }
        i
    }
    let mut first: HashMap<String, usize> = HashMap::new();
    for (i, (item, _)) in items.iter().enumerate() {
        for key in [format!("p{}:{}", item.label, item.patient), format!("s{}", item.sha256)] {
            let other = *first.entry(key).or_insert(i);
            let (a, b) = (find(&mut group, i), find(&mut group, other));
            group[a.max(b)] = a.min(b);
        }
    }
    (0..items.len()).map(|i| find(&mut group, i)).collect()
}

fn describe(root: &Path, path: &Path, label: u8) -> Result<Item, String> {
    let source = read_file(path).map_err(|e| e.to_string())?;
    let radiograph = Radiograph::decode(&source.bytes).map_err(|e| e.to_string())?;
    let n = radiograph.pixels.len() as f64;
    let mean = radiograph.pixels.iter().map(|p| f64::from(*p)).sum::<f64>() / n;
    let variance = radiograph.pixels.iter().map(|p| (f64::from(*p) - mean).powi(2)).sum::<f64>() / n;
    let relative = path.strip_prefix(root).unwrap_or(path);
    let file = relative.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/");
    Ok(Item {
        file,
        label,
        patient: patient_of(&path.file_stem().unwrap_or_default().to_string_lossy()),
        sha256: source.sha256,
        width: radiograph.width,
        height: radiograph.height,
        mean: (mean * 100.0).round() as f32 / 100.0,
        std: (variance.sqrt() * 100.0).round() as f32 / 100.0,
        split: Split::Train,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(label: u8, patient: &str, sha: usize) -> (Item, Option<Split>) {
        let item = Item {
            file: format!("{label}/{patient}-{sha}"),
            label,
            patient: patient.into(),
            sha256: sha.to_string(),
            width: 1,
            height: 1,
            mean: 0.0,
            std: 0.0,
            split: Split::Train,
        };
        (item, Some(Split::Train))
    }

    fn split(items: Vec<(Item, Option<Split>)>) -> Dataset {
        let mut set = Dataset { root: "".into(), items: vec![], unreadable: vec![], remarks: vec![] };
        set.split(items, 7);
        set
    }

    #[test]
    fn patients_are_read_from_kermany_names() {
        assert_eq!(patient_of("person12_bacteria_46"), "person12");
        assert_eq!(patient_of("IM-0115-0001"), "IM-0115");
        assert_eq!(patient_of("NORMAL2-IM-0381-0001-0002"), "NORMAL2-IM-0381");
        assert_eq!(patient_of("chest"), "chest");
    }

    #[test]
    fn neither_patients_nor_duplicates_cross_splits() {
        let mut items: Vec<_> = (0..600).map(|i| item((i % 3 > 0) as u8, &format!("p{}", i / 3), i)).collect();
        items[5].0.sha256 = items[590].0.sha256.clone();
        let set = split(items);
        let mut side: HashMap<String, Split> = HashMap::new();
        for i in &set.items {
            for key in [format!("{}{}", i.label, i.patient), i.sha256.clone()] {
                assert_eq!(*side.entry(key).or_insert(i.split), i.split, "{i:?}");
            }
        }
        for label in 0..2u8 {
            let all = set.items.iter().filter(|i| i.label == label).count() as f64;
            let val = set.of(Split::Val).iter().filter(|i| i.label == label).count() as f64;
            assert!((val / all - VAL_SHARE).abs() < 0.02, "{val} of {all}");
        }
    }

    #[test]
    fn a_tiny_val_is_pooled_and_said_so() {
        let mut items: Vec<_> = (0..200).map(|i| item(i % 2, &format!("p{i}"), i as usize)).collect();
        items.iter_mut().take(16).for_each(|i| i.1 = Some(Split::Val));
        let set = split(items);
        assert_eq!(set.of(Split::Val).len(), 30);
        assert!(set.remarks[0].contains("16 images"), "{:?}", set.remarks);
    }

    #[test]
    fn a_patient_of_the_test_split_leaves_training() {
        let mut items: Vec<_> = (0..40).map(|i| item(i % 2, &format!("p{}", i / 4), i as usize)).collect();
        items[0].1 = Some(Split::Test);
        let set = split(items);
        assert!(set.items.iter().filter(|i| i.patient == "p0" && i.label == 0).all(|i| i.split == Split::Test));
    }
}
