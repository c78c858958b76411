//! A data set: its images, who they are of, and on which side of the split each is.

use crate::manifest;
use crate::paths;
use crate::readers::{self, Entry, LAYOUTS, Listing, Reading, Source, layout_of, list};
use crate::{Labels, Split};
use edge_runtime::image::folder::image_files;
use edge_runtime::image::source::read_file;
use edge_runtime::image::{Sex, View};
use edge_runtime::process::files::hex;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// One image of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Path relative to the data folder, with `/`, as [`paths`] writes it.
    pub file: String,
    /// Index in [`Dataset::labels`].
    pub label: usize,
    /// Who it is of.
    pub patient: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// What its pixels are like, once they have been decoded.
    pub pixels: Option<PixelStatistics>,
    /// What the data set says of the patient, or the file itself, once it has been decoded (DICOM).
    pub subject: Subject,
    /// What else the data set says: a name and a value each.
    pub groups: Vec<(String, String)>,
    /// Where the image goes.
    pub split: Split,
}

/// Who a radiograph is of and how it was taken, as far as its file says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Subject {
    /// Age in days.
    pub age_days: Option<u32>,
    /// Sex.
    pub sex: Option<Sex>,
    /// Which way the rays went.
    pub view: Option<View>,
}

impl Subject {
    /// This, and of `other` what this does not say.
    pub fn or(self, other: Subject) -> Subject {
        Subject {
            age_days: self.age_days.or(other.age_days),
            sex: self.sex.or(other.sex),
            view: self.view.or(other.view),
        }
    }
}

/// Size and grey levels of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelStatistics {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Mean grey level, 0 to 255.
    pub mean: f32,
    /// Standard deviation of the grey levels.
    pub std: f32,
}

/// A file that does not serve, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// Why, for a person.
    pub reason: String,
}

/// So many files with the same reason are named one by one.
const NAMED: usize = 5;

/// A line for each of `files`; where many have the same reason, one for all of them.
pub fn grouped(files: &[Unreadable]) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<&Path>> = BTreeMap::new();
    for file in files {
        by_reason.entry(&file.reason).or_default().push(&file.path);
    }
    let line = |(reason, paths): (&str, Vec<&Path>)| {
        let names = |paths: &[&Path]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        match paths.len() {
            0..=NAMED => names(&paths).iter().map(|path| format!("left out: {path}: {reason}")).collect(),
            count => vec![format!("left out: {count} files: {reason} ({}, …)", names(&paths[..3]).join(", "))],
        }
    };
    by_reason.into_iter().flat_map(line).collect()
}

/// A data set with its split.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The folder that `Item::file` is relative to.
    pub root: PathBuf,
    /// The classes.
    pub labels: Labels,
    /// All images, by path.
    pub items: Vec<Item>,
    /// Files that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// What a person should know about the split, one sentence each.
    pub remarks: Vec<String>,
    /// What the split is made from, while files that turn out to be no images may still leave.
    pub(crate) provisional: Option<Provisional>,
}

/// A split that is made anew when every file has been decoded.
#[derive(Debug, Clone)]
pub(crate) struct Provisional {
    /// The split folder that a file lies in.
    given: HashMap<String, Split>,
    seed: u64,
    /// What the readers had to say.
    remarks: Vec<String>,
    /// Validation images that are given are used, however few.
    honours_val: bool,
}

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
    /// A table that comes with the images is not what was published.
    #[error("{path}: {reason}")]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong, and in which line.
        reason: String,
    },
    /// The data set does not tell these classes apart.
    #[error("{root}: this data set does not tell {classes} apart")]
    Classes {
        /// The data set.
        root: PathBuf,
        /// The classes that were asked for.
        classes: String,
    },
    /// An image is listed more than once.
    #[error("{path}: the image is listed twice: leave one of the two out")]
    Twice {
        /// The image.
        path: PathBuf,
    },
    /// A manifest is given beside other data.
    #[error("{path} is a manifest of `host-train prepare`: it stands alone, and is not prepared again")]
    NotAlone {
        /// The manifest.
        path: PathBuf,
    },
    /// The data are told apart by other classes than is wanted.
    #[error(
        "{path} tells {found} apart, and the recipe {wanted}: prepare the data with --recipe, or give their folder"
    )]
    OtherClasses {
        /// The data.
        path: PathBuf,
        /// Their classes.
        found: String,
        /// Those of the recipe.
        wanted: String,
    },
    /// No image lies where the layout has them.
    #[error("{root}: no images under {folders}")]
    NoImages {
        /// The data set.
        root: PathBuf,
        /// The folders that were looked for.
        folders: String,
    },
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
        label: String,
    },
}

/// That no image of `roots` serves, and why the first file does not.
fn no_images(roots: &[PathBuf], first: Option<&Unreadable>) -> DatasetError {
    let root = roots.first().cloned().unwrap_or_default();
    let mut folders = match root.is_file() {
        true => "the paths that it lists".into(),
        false => match LAYOUTS.iter().find(|layout| layout.recognises(&root)) {
            Some(layout) => layout.places(),
            None => LAYOUTS.iter().map(|layout| layout.places()).collect::<Vec<_>>().join("; or "),
        },
    };
    if let Some(file) = first {
        folders.push_str(&format!(" ({}: {})", file.path.display(), file.reason));
    }
    DatasetError::NoImages { root, folders }
}

/// Files of `root` that lie in none of the folders of its layout, `places`.
fn elsewhere(root: &Path, listing: &Listing, places: &str) -> Result<Vec<Unreadable>, DatasetError> {
    let Listing { entries, unreadable, .. } = listing;
    let known: HashSet<&Path> =
        entries.iter().map(|e| e.path.as_path()).chain(unreadable.iter().map(|u| u.path.as_path())).collect();
    let files = image_files(root).map_err(|source| DatasetError::Io { path: root.to_owned(), source })?;
    let reason = format!("it lies outside of {places}");
    let others = files.into_iter().filter(|file| !known.contains(file.as_path()));
    Ok(others.map(|path| Unreadable { path, reason: reason.clone() }).collect())
}

/// Pictures that lie under several labels: nobody can say which is right, so each is left out.
fn contradictions(root: &Path, labels: &Labels, indexed: &[(Item, Option<Split>)]) -> Vec<Unreadable> {
    let mut by_digest: BTreeMap<&str, Vec<&Item>> = BTreeMap::new();
    for (item, _) in indexed {
        by_digest.entry(&item.sha256).or_default().push(item);
    }
    let reason = |other: &Item| {
        let label = &labels.names()[other.label];
        format!("the same picture is also labelled {label} ({}): one of the two is wrong", other.file)
    };
    let contradicts = |item: &&&Item, group: &[&Item]| group.iter().any(|other| other.label != item.label);
    let mut found = Vec::new();
    for group in by_digest.values() {
        for item in group.iter().filter(|i| contradicts(i, group)) {
            let other = group.iter().find(|o| o.label != item.label).unwrap_or(item);
            found.push(Unreadable { path: paths::join(root, &item.file), reason: reason(other) });
        }
    }
    found
}

/// True if the age of `item` is known and not one of `ages`, in years. The last year is whole: a child of five and a
/// half is five.
fn is_of_other_age(item: &Item, ages: [f32; 2]) -> bool {
    let [from, to] = ages.map(|years| f64::from(years) * 365.25);
    item.subject.age_days.is_some_and(|age| !(from..to + 365.25).contains(&f64::from(age)))
}

/// Entries of all `sources` in one list. Patients of different layouts are different people; those of two sources of
/// one layout may be the same.
fn merged(sources: Vec<Source>) -> Listing {
    let several = sources.len() > 1;
    let mut all = Listing::default();
    for Source { name, mut listing, .. } in sources {
        if several {
            for entry in &mut listing.entries {
                entry.patient = format!("{name}:{}", entry.patient);
                entry.groups.push(("source".into(), name.into()));
            }
        }
        all.entries.extend(listing.entries);
        all.unreadable.extend(listing.unreadable);
        all.remarks.extend(listing.remarks);
    }
    all
}

/// `patient` as its source named them, without what tells sources apart where there are several.
pub fn own_name(patient: &str) -> &str {
    let is_source = |name: &str| LAYOUTS.iter().any(|layout| layout.name() == name) || name == list::NAME;
    match patient.split_once(':') {
        Some((source, rest)) if is_source(source) => rest,
        _ => patient,
    }
}

/// The innermost folder that holds all of `folders` and all of `entries`.
fn common(folders: Vec<PathBuf>, entries: &[Entry]) -> PathBuf {
    let mut root = folders.first().cloned().unwrap_or_default();
    let others = folders.iter().map(PathBuf::as_path).chain(entries.iter().map(|entry| entry.path.as_path()));
    for path in others {
        while !path.starts_with(&root) && root.pop() {}
    }
    root
}

impl Dataset {
    /// Opens folders (a single one by its `manifest.csv`, if it has one), lists of images, or a manifest file. Files
    /// are read for their digests, and not decoded.
    pub fn open(
        paths: &[PathBuf],
        reading: &Reading,
        seed: u64,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Dataset, DatasetError> {
        if let [path] = paths {
            let inside = path.join("manifest.csv");
            let manifest = if inside.is_file() { &inside } else { path };
            if manifest::is_manifest(manifest) {
                return manifest::read(manifest);
            }
        }
        Dataset::index(paths, reading, seed, progress)
    }

    /// Lists the images under `roots`, each in whichever of the published layouts it has. Their split is final once
    /// [`crate::frames::load`] has decoded them, since a file that is no image has no side. `progress(done, of)` is
    /// called for each file.
    pub fn index(
        roots: &[PathBuf],
        reading: &Reading,
        seed: u64,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Dataset, DatasetError> {
        // Absolute, so that a manifest serves wherever it is put.
        let absolute = |root: &PathBuf| {
            let io = |source| DatasetError::Io { path: root.clone(), source };
            std::fs::canonicalize(root).map_err(io)
        };
        let roots: Vec<PathBuf> = roots.iter().map(absolute).collect::<Result<_, _>>()?;
        let folder = |root: &PathBuf| match root.is_file() {
            true => root.parent().unwrap_or(Path::new("/")).to_owned(),
            false => root.clone(),
        };
        let folders: Vec<PathBuf> = roots.iter().map(folder).collect();
        if let Some(path) = roots.iter().find(|path| manifest::is_manifest(path)) {
            return Err(DatasetError::NotAlone { path: path.clone() });
        }
        let labels = reading.classes.labels();
        let mut unreadable = Vec::new();
        let mut sources = Vec::new();
        for path in &roots {
            let source = readers::read(path, reading)?;
            if path.is_dir() && layout_of(path).owns_its_folder() {
                unreadable.extend(elsewhere(path, &source.listing, &layout_of(path).places())?);
            }
            sources.push(source);
        }
        let honours_val = sources.iter().any(|source| source.honours_val);
        let Listing { entries, unreadable: unusable, remarks } = merged(sources);
        unreadable.extend(unusable);
        let mut seen = HashSet::new();
        if let Some(twice) = entries.iter().find(|entry| !seen.insert(&entry.path)) {
            return Err(DatasetError::Twice { path: twice.path.clone() });
        }
        let root = common(folders, &entries);
        let done = AtomicUsize::new(0);
        let digest = |entry: &Entry| {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, entries.len());
            let unreadable = |e: edge_runtime::image::RadiographError| Unreadable {
                path: entry.path.clone(),
                reason: e.to_string(),
            };
            read_file(&entry.path).map(|source| source.sha256).map_err(unreadable)
        };
        let digests: Vec<Result<String, Unreadable>> = entries.par_iter().map(digest).collect();
        let mut indexed = Vec::new();
        for (entry, digest) in entries.into_iter().zip(digests) {
            match digest {
                Ok(sha256) => indexed.push((entry.item(&root, sha256), entry.split)),
                Err(e) => unreadable.push(e),
            }
        }
        if indexed.is_empty() {
            return Err(no_images(&roots, unreadable.first()));
        }
        indexed.sort_by(|a, b| a.0.file.cmp(&b.0.file));
        let contradictions = contradictions(&root, &labels, &indexed);
        let gone: HashSet<&Path> = contradictions.iter().map(|c| c.path.as_path()).collect();
        indexed.retain(|(item, _)| !gone.contains(paths::join(&root, &item.file).as_path()));
        unreadable.extend(contradictions);
        let side = |(item, split): &(Item, Option<Split>)| split.map(|split| (item.file.clone(), split));
        let given = indexed.iter().filter_map(side).collect();
        let items = indexed.into_iter().map(|(item, _)| item).collect();
        let provisional = Some(Provisional { given, seed, remarks, honours_val });
        let mut dataset = Dataset { root, labels, items, unreadable, remarks: vec![], provisional };
        dataset.assign();
        Ok(dataset)
    }

    /// Gives each image its side, if the split is provisional.
    fn assign(&mut self) {
        let Some(Provisional { given, seed, remarks: read, honours_val }) = &self.provisional else { return };
        let given: Vec<Option<Split>> = self.items.iter().map(|i| given.get(&i.file).copied()).collect();
        let (splits, remarks) = crate::split::assign(&self.items, &given, self.labels.len(), *honours_val, *seed);
        self.items.iter_mut().zip(splits).for_each(|(item, split)| item.split = split);
        self.remarks = read.iter().cloned().chain(remarks).collect();
    }

    /// Leaves out the files in `unreadable`. All others have been decoded: the split is final now.
    pub(crate) fn settle(&mut self, unreadable: Vec<Unreadable>) -> Result<(), DatasetError> {
        let gone: HashSet<&Path> = unreadable.iter().map(|u| u.path.as_path()).collect();
        let root = &self.root;
        self.items.retain(|i| !gone.contains(paths::join(root, &i.file).as_path()));
        self.unreadable.extend(unreadable);
        if self.items.is_empty() {
            return Err(no_images(std::slice::from_ref(&self.root), self.unreadable.first()));
        }
        self.assign();
        self.provisional = None;
        Ok(())
    }

    /// The file of `item`.
    pub fn path(&self, item: &Item) -> PathBuf {
        paths::join(&self.root, &item.file)
    }

    /// Refused unless the data are told apart by the classes of `reading`; `path` is only named.
    pub fn require_classes(&self, reading: &Reading, path: &Path) -> Result<(), DatasetError> {
        let wanted = reading.classes.labels();
        if self.labels == wanted {
            return Ok(());
        }
        let names = |labels: &Labels| labels.names().join(", ");
        Err(DatasetError::OtherClasses { path: path.to_owned(), found: names(&self.labels), wanted: names(&wanted) })
    }

    /// Leaves out images of patients whose age is known and not one of `ages`, in years.
    pub fn keep_ages(&mut self, ages: [f32; 2]) {
        let gone = self.count_other_ages(ages);
        self.items.retain(|item| !is_of_other_age(item, ages));
        if gone > 0 {
            let [from, to] = ages;
            let remark = format!("{gone} images are not used: their patients are not aged {from} to {to}.");
            match &mut self.provisional {
                Some(provisional) => provisional.remarks.push(remark),
                None => self.remarks.push(remark),
            }
            self.assign();
        }
    }

    /// Gives each image the side that it has in `other`, and leaves out those that are not there.
    pub fn adopt_split(&mut self, other: &Dataset) {
        let sides: HashMap<&str, Split> = other.items.iter().map(|item| (item.file.as_str(), item.split)).collect();
        self.items.retain(|item| sides.contains_key(item.file.as_str()));
        for item in &mut self.items {
            item.split = sides[item.file.as_str()];
        }
        self.provisional = None;
    }

    /// Images of patients whose age is known and not one of `ages`, in years.
    pub fn count_other_ages(&self, ages: [f32; 2]) -> usize {
        self.items.iter().filter(|item| is_of_other_age(item, ages)).count()
    }

    /// SHA-256 over file names, labels, digests and splits: the same for the same data, wherever it lies.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for i in &self.items {
            hash.update(format!("{}\t{}\t{}\t{}\n", i.file, i.label, i.sha256, i.split.name()));
        }
        hex(&hash.finalize())
    }

    /// The images of `split`.
    pub fn of(&self, split: Split) -> Vec<&Item> {
        self.items.iter().filter(|i| i.split == split).collect()
    }

    /// The images of `split`, refused unless every class is there.
    pub fn require(&self, split: Split) -> Result<Vec<&Item>, DatasetError> {
        let items = self.of(split);
        for (label, name) in self.labels.names().iter().enumerate() {
            if !items.iter().any(|i| i.label == label) {
                let label = name.clone();
                return Err(DatasetError::EmptyClass { root: self.root.clone(), split: split.name(), label });
            }
        }
        Ok(items)
    }

    /// True for each of `items` that has the label that is looked for.
    pub fn truths(&self, items: &[&Item]) -> Vec<bool> {
        self.labels.truths(items.iter().map(|i| i.label))
    }

    /// A line for each file that was left out; where many have the same reason, one for all of them.
    pub fn left_out(&self) -> Vec<String> {
        grouped(&self.unreadable)
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
