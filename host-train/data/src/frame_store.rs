//! Frames at a network's size, decoded once: in memory while they are few, in a file where they are many or shall be
//! kept.
//!
//! The file holds records of one length: SHA-256 of the image, what decoding told of it, the frame, and the first eight
//! bytes of the record's own SHA-256. A record whose check does not match was cut off when something ended, and is made
//! anew.

use crate::dataset::{Dataset, Item, PixelStatistics, Subject};
use crate::frames::{ReadError, Seen, decoded, load_with};
use crate::{Split, frames};
use edge_runtime::image::preprocess::preprocess;
use edge_runtime::image::{GreyPlane, Sex, View};
use edge_runtime::model::contract::InputContract;
use edge_runtime::process::files::{hex, sha256};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of frames that are held in memory.
const IN_MEMORY: usize = 1 << 30;

const DIGEST: usize = 32;
/// Width, height, mean and deviation, age, sex, view.
const SEEN: usize = 4 * 5 + 2;
const CHECK: usize = 8;

/// Where frames go that are too many for memory, or that shall serve again.
#[derive(Debug, Clone, Copy)]
pub enum Keep<'a> {
    /// A nameless file in this folder, if they are too many.
    Folder(&'a Path),
    /// A file in this folder, for the next run too.
    Cache(&'a Path),
}

/// Frames of one size.
pub struct FrameStore {
    side: u32,
    place: Place,
}

enum Place {
    Memory(Vec<GreyPlane>),
    /// Slots in a file.
    File(FrameFile, Vec<u64>),
}

/// Frames, and which items of the data set they are of.
pub struct Loaded {
    /// Indices of items, in their order.
    pub items: Vec<usize>,
    /// A frame for each.
    pub frames: FrameStore,
    /// How many were in the cache already.
    pub cached: usize,
}

/// Why frames cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Their images do not serve.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Their file cannot be written or read.
    #[error("{path}: frames cannot be kept there ({source}): free some space, or choose another --frame-cache")]
    Io {
        /// The file's folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FrameStore {
    /// Frames that are in memory already; all of the same size.
    pub fn of(frames: Vec<GreyPlane>) -> FrameStore {
        FrameStore { side: frames.first().map_or(0, |frame| frame.width), place: Place::Memory(frames) }
    }

    /// Decodes the images of `splits`, as [`frames::load`] does, to the size of `input`.
    pub fn load(
        dataset: &mut Dataset,
        splits: &[Split],
        input: &InputContract,
        keep: Keep,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Loaded, StoreError> {
        let bytes = dataset.items.len() * (input.size * input.size) as usize;
        match keep {
            Keep::Folder(_) if bytes <= IN_MEMORY => {
                let frame =
                    |_: &Item, radiograph: &edge_runtime::image::Radiograph| preprocess(&radiograph.plane, input);
                let (items, frames) = frames::load(dataset, splits, progress, frame)?.into_iter().unzip();
                Ok(Loaded { items, frames: FrameStore { side: input.size, place: Place::Memory(frames) }, cached: 0 })
            }
            Keep::Folder(folder) | Keep::Cache(folder) => {
                let io = |source| StoreError::Io { path: folder.to_owned(), source };
                let file = match keep {
                    Keep::Folder(_) => FrameFile::nameless(folder, input.size),
                    Keep::Cache(_) => FrameFile::cache(folder, input),
                };
                file.map_err(io)?.load(dataset, splits, input, progress).map_err(|e| match e {
                    Trouble::Read(e) => StoreError::Read(e),
                    Trouble::Io(e) => io(e),
                })
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.place {
            Place::Memory(frames) => frames.len(),
            Place::File(_, slots) => slots.len(),
        }
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frame number `index`.
    pub fn get(&self, index: usize) -> io::Result<Cow<'_, GreyPlane>> {
        match &self.place {
            Place::Memory(frames) => Ok(Cow::Borrowed(&frames[index])),
            Place::File(file, slots) => file.frame(slots[index]).map(Cow::Owned),
        }
    }

    /// The frames with these numbers.
    pub fn take(&self, indices: impl IntoIterator<Item = usize>) -> io::Result<Vec<GreyPlane>> {
        indices.into_iter().map(|index| self.get(index).map(Cow::into_owned)).collect()
    }

    /// Stores of the `chosen` frames; none of them is chosen twice, and those that are not are dropped.
    pub fn select<const N: usize>(self, chosen: [&[usize]; N]) -> io::Result<[FrameStore; N]> {
        let side = self.side;
        let mut stores = Vec::with_capacity(N);
        match self.place {
            Place::Memory(frames) => {
                let mut frames: Vec<Option<GreyPlane>> = frames.into_iter().map(Some).collect();
                for indices in chosen {
                    let taken = indices.iter().filter_map(|i| frames[*i].take()).collect();
                    stores.push(FrameStore { side, place: Place::Memory(taken) });
                }
            }
            Place::File(file, slots) => {
                for indices in chosen {
                    let taken = indices.iter().map(|i| slots[*i]).collect();
                    stores.push(FrameStore { side, place: Place::File(file.try_clone()?, taken) });
                }
            }
        }
        stores.try_into().map_err(|_| io::Error::other("as many stores as were asked for"))
    }
}

/// What went wrong with a file of frames.
enum Trouble {
    Read(ReadError),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Trouble {
        Trouble::Io(e)
    }
}

/// A file of frames, and where in it each image is.
struct FrameFile {
    file: File,
    side: u32,
    known: HashMap<[u8; DIGEST], u64>,
    /// The first slot that was never written.
    next: AtomicU64,
}

impl FrameFile {
    /// One that goes with its last user.
    fn nameless(folder: &Path, side: u32) -> io::Result<FrameFile> {
        let path = folder.join(format!(".frames-{}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(FrameFile { file, side, known: HashMap::new(), next: AtomicU64::new(0) })
    }

    /// The one for `input` in `folder`; nameless while another process writes to that.
    fn cache(folder: &Path, input: &InputContract) -> io::Result<FrameFile> {
        std::fs::create_dir_all(folder)?;
        // Size and resizing make a frame; how it is normalised does not.
        let rule = serde_json::to_string(&input.resize).map_err(io::Error::other)?;
        let key = hex(&sha256(format!("{} {rule}", input.size).as_bytes())[..8]);
        let path = folder.join(format!("{key}.frames"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return FrameFile::nameless(folder, input.size),
            Err(TryLockError::Error(e)) => return Err(e),
        }
        let mut cache = FrameFile { file, side: input.size, known: HashMap::new(), next: AtomicU64::new(0) };
        let slots = cache.file.metadata()?.len().div_ceil(cache.length() as u64);
        for slot in 0..slots {
            if let Ok(record) = cache.record(slot) {
                let digest = record[..DIGEST].try_into().map_err(io::Error::other)?;
                cache.known.insert(digest, slot);
            }
        }
        cache.next = AtomicU64::new(slots);
        Ok(cache)
    }

    fn try_clone(&self) -> io::Result<FrameFile> {
        let next = AtomicU64::new(self.next.load(Ordering::Relaxed));
        Ok(FrameFile { file: self.file.try_clone()?, side: self.side, known: HashMap::new(), next })
    }

    fn pixels(&self) -> usize {
        (self.side * self.side) as usize
    }

    /// Bytes of a record.
    fn length(&self) -> usize {
        DIGEST + SEEN + self.pixels() + CHECK
    }

    /// The record in `slot`; an error where it is none.
    fn record(&self, slot: u64) -> io::Result<Vec<u8>> {
        let mut record = vec![0; self.length()];
        self.file.read_exact_at(&mut record, slot * self.length() as u64)?;
        let (content, check) = record.split_at(record.len() - CHECK);
        if sha256(content)[..CHECK] != *check {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame does not match its check"));
        }
        Ok(record)
    }

    fn frame(&self, slot: u64) -> io::Result<GreyPlane> {
        let start = DIGEST + SEEN;
        let mut pixels = vec![0; self.pixels()];
        self.file.read_exact_at(&mut pixels, slot * self.length() as u64 + start as u64)?;
        Ok(GreyPlane::square(self.side, pixels))
    }

    /// Writes a record into a new slot.
    fn push(&self, digest: &[u8; DIGEST], seen: &Seen, frame: &GreyPlane) -> io::Result<u64> {
        let slot = self.next.fetch_add(1, Ordering::Relaxed);
        let mut record = Vec::with_capacity(self.length());
        record.extend(digest);
        record.extend(encode(seen));
        record.extend(&frame.pixels);
        let check = sha256(&record);
        record.extend(&check[..CHECK]);
        self.file.write_all_at(&record, slot * self.length() as u64)?;
        Ok(slot)
    }

    fn load(
        self,
        dataset: &mut Dataset,
        splits: &[Split],
        input: &InputContract,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Result<Loaded, Trouble> {
        let cached = AtomicU64::new(0);
        let one = |item: &Item, path: &Path| {
            let digest = unhex(&item.sha256);
            if let Some(slot) = digest.and_then(|digest| self.known.get(&digest))
                && let Ok(record) = self.record(*slot)
            {
                cached.fetch_add(1, Ordering::Relaxed);
                return Ok((decode(&record[DIGEST..][..SEEN]), Ok(*slot)));
            }
            decoded(item, path, |radiograph| {
                let frame = preprocess(&radiograph.plane, input);
                // Without a digest nobody finds it again, and it serves this run all the same.
                self.push(&digest.unwrap_or([0; DIGEST]), &Seen::of(radiograph), &frame)
            })
        };
        let loaded = load_with(dataset, splits, progress, one).map_err(Trouble::Read)?;
        let mut items = Vec::with_capacity(loaded.len());
        let mut slots = Vec::with_capacity(loaded.len());
        for (item, slot) in loaded {
            items.push(item);
            slots.push(slot?);
        }
        let side = self.side;
        let cached = cached.into_inner() as usize;
        Ok(Loaded { items, frames: FrameStore { side, place: Place::File(self, slots) }, cached })
    }
}

fn unhex(text: &str) -> Option<[u8; DIGEST]> {
    let byte = |i: usize| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok();
    let bytes: Option<Vec<u8>> = (0..DIGEST).map(byte).collect();
    bytes?.try_into().ok()
}

const SEXES: [Option<Sex>; 3] = [None, Some(Sex::Female), Some(Sex::Male)];
const VIEWS: [Option<View>; 4] = [None, Some(View::Pa), Some(View::Ap), Some(View::Lateral)];

fn encode(seen: &Seen) -> Vec<u8> {
    let PixelStatistics { width, height, mean, std } = seen.pixels;
    let Subject { age_days, sex, view } = seen.subject;
    let words = [width, height, mean.to_bits(), std.to_bits(), age_days.unwrap_or(u32::MAX)];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.push(SEXES.iter().position(|known| *known == sex).unwrap_or(0) as u8);
    bytes.push(VIEWS.iter().position(|known| *known == view).unwrap_or(0) as u8);
    bytes
}

fn decode(bytes: &[u8]) -> Seen {
    let word = |i: usize| u32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
    let age = word(4);
    Seen {
        pixels: PixelStatistics {
            width: word(0),
            height: word(1),
            mean: f32::from_bits(word(2)),
            std: f32::from_bits(word(3)),
        },
        subject: Subject {
            age_days: (age < u32::MAX).then_some(age),
            sex: SEXES.get(usize::from(bytes[20])).copied().flatten(),
            view: VIEWS.get(usize::from(bytes[21])).copied().flatten(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reading;
    use edge_runtime::model::contract::ResizeRule;

    fn input() -> InputContract {
        InputContract { size: 16, channels: 1, resize: ResizeRule::Stretch, mean: vec![0.0], std: vec![1.0] }
    }

    /// A list of so many images of 40×40 pixels.
    fn data(images: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let mut list = "path,label,split\n".to_owned();
        for i in 0..images {
            let rgb = (0..1600).flat_map(|p| [((p * 7 + i * 13) % 251) as u8; 3]).collect();
            let picture = edge_runtime::image::Picture { width: 40, height: 40, rgb };
            std::fs::write(dir.path().join(format!("{i}.png")), picture.to_png().unwrap()).unwrap();
            list += &format!("{i}.png,{},{}\n", i % 2, ["train", "val"][i / 2 % 2]);
        }
        let path = dir.path().join("list.csv");
        std::fs::write(&path, list).unwrap();
        (dir, path)
    }

    fn load(list: &Path, keep: Keep) -> Loaded {
        let mut set = Dataset::index(&[list.to_owned()], &Reading::default(), 1, |_, _| ()).unwrap();
        FrameStore::load(&mut set, &Split::ALL, &input(), keep, |_, _| ()).unwrap()
    }

    #[test]
    fn frames_are_the_same_in_memory_in_a_file_and_from_the_cache() {
        let (dir, list) = data(12);
        let cache = dir.path().join("cache");
        let memory = load(&list, Keep::Folder(dir.path()));
        let first = load(&list, Keep::Cache(&cache));
        assert_eq!(first.cached, 0);
        drop(first);
        let second = load(&list, Keep::Cache(&cache));
        assert_eq!((second.cached, &second.items), (12, &memory.items));
        let busy = load(&list, Keep::Cache(&cache));
        assert_eq!(busy.cached, 0);
        for i in 0..12 {
            for other in [&second, &busy] {
                assert_eq!(memory.frames.get(i).unwrap(), other.frames.get(i).unwrap());
            }
        }
        for (store, third) in [(second.frames, 5), (memory.frames, 5)] {
            let fifth = store.get(third).unwrap().into_owned();
            let [even, odd] = store.select([&[0, 2, 4], &[1, 3, 5, 7]]).unwrap();
            assert_eq!((even.len(), odd.len()), (3, 4));
            assert_eq!(*odd.get(2).unwrap(), fifth);
        }
    }

    #[test]
    fn a_record_that_was_cut_or_changed_is_made_anew() {
        let (dir, list) = data(6);
        let cache = dir.path().join("cache");
        let frames = load(&list, Keep::Cache(&cache)).frames.take(0..6).unwrap();
        let path = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        let record = whole.len() / 6;
        let mut changed = whole[..whole.len() - 10].to_vec();
        changed[record + 100] ^= 1;
        std::fs::write(&path, changed).unwrap();
        let again = load(&list, Keep::Cache(&cache));
        assert_eq!(again.cached, 4);
        assert_eq!(again.frames.take(0..6).unwrap(), frames);
    }

    #[test]
    fn what_decoding_told_comes_back() {
        let pixels = PixelStatistics { width: 3000, height: 2500, mean: 12.25, std: 7.5 };
        for (age_days, sex, view) in [(None, None, None), (Some(1500), Some(Sex::Male), Some(View::Lateral))] {
            let subject = Subject { age_days, sex, view };
            let back = decode(&encode(&Seen { pixels, subject }));
            assert_eq!((back.pixels, back.subject), (pixels, subject));
        }
    }
}
