//! Installing an update: everything is checked before the slot that does not run is touched.

use crate::block::Block;
use crate::bundle::{BundleError, CHUNK, Kind, Manifest};
use crate::keys::KeyRing;
use crate::layout::{Layout, LayoutError, SECTOR, Slot};
use crate::record::RecordError;
use crate::state::{Content, State, Trial};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek};
use std::ops::Range;

/// A device as far as updates concern it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name of its board.
    pub board: String,
    /// Rust target triple of its program.
    pub target: String,
    /// The keys that came with the card.
    pub keys: KeyRing,
}

impl Device {
    /// The keys that count.
    pub fn keys(&self, state: &State) -> KeyRing {
        self.keys.clone().newer(state.keys.clone())
    }
}

/// Why an update is not installed. The release that runs is untouched in every case.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The card cannot be read or written.
    #[error("the card cannot be read or written ({0}): the release that runs is untouched; replace the card")]
    Card(#[from] io::Error),
    /// The card is none of ours.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file is refused.
    #[error(transparent)]
    File(#[from] BundleError),
    /// It is for other boards.
    #[error("it is made for {boards}, and this is {board}")]
    Board {
        /// Its boards.
        boards: String,
        /// This one.
        board: String,
    },
    /// It is for another processor.
    #[error("its program is made for {target}, and this device runs {own}")]
    Target {
        /// Its target.
        target: String,
        /// This one.
        own: String,
    },
    /// It is older.
    #[error("it is release {release}, and this device has had release {floor}: older ones are not installed")]
    Downgrade {
        /// Its release.
        release: u64,
        /// The newest that was committed.
        floor: u64,
    },
    /// It is there.
    #[error("release {0} is installed already")]
    Installed(u64),
    /// It is too large.
    #[error("its {length} bytes do not fit the slot of {room}")]
    TooLarge {
        /// Its bytes.
        length: u64,
        /// What there is room for.
        room: u64,
    },
    /// Both copies of the state are damaged.
    #[error("the card does not say what its slots hold: write it again with `boards flash`")]
    NoState,
    /// The card gives back something else.
    #[error("the card does not give back what was written: the release that runs is untouched; replace the card")]
    Unfaithful,
}

/// Installs the update in `file` and asks for its trial at the next start. `progress` gets bytes done and in all.
pub fn install(
    card: &mut impl Block,
    device: &Device,
    file: &mut (impl Read + Seek),
    mut progress: impl FnMut(u64, u64),
) -> Result<Manifest, UpdateError> {
    let layout = Layout::read(card)?;
    let mut state = State::read(card)?.ok_or(UpdateError::NoState)?;
    let running = state.committed;
    let begin = file.stream_position().map_err(BundleError::from)?;
    let manifest = Manifest::read(file, &device.keys(&state))?;
    let content_at = file.stream_position().map_err(BundleError::from)?;
    check(&manifest, device, &state, &layout, content_at - begin)?;
    let all = 3 * manifest.length;
    // All of it is read and believed before the slot is touched.
    manifest.content(file, |at, _| {
        progress(at, all);
        Ok(())
    })?;
    let idle = running.other();
    state.slots[idle.index()] = None;
    state.trial = None;
    state.write(card)?;
    let image = match manifest.kind {
        Kind::Model => {
            let image = state.content(running).cloned().ok_or(UpdateError::NoState)?;
            copy_image(card, &layout, running, image.length)?;
            let head_and_content = content_at - begin + manifest.length;
            file.seek(io::SeekFrom::Start(begin)).map_err(BundleError::from)?;
            let area = layout.model_area(idle);
            write(card, &area, file, head_and_content, |at| progress(manifest.length + at, all))?;
            image
        }
        Kind::Application => {
            file.seek(io::SeekFrom::Start(content_at)).map_err(BundleError::from)?;
            card.write_at(layout.model_area(idle).start, &[0; SECTOR as usize])?;
            let area = layout.image_area(idle);
            write(card, &area, file, manifest.length, |at| progress(manifest.length + at, all))?;
            Content {
                release: manifest.release,
                version: manifest.version.clone(),
                length: manifest.length,
                sha256: manifest.sha256,
            }
        }
    };
    card.sync()?;
    card.forget()?;
    let area = layout.image_area(idle);
    let found = digest(card, area.start, image.length, |at| progress(2 * manifest.length + at, all))?;
    let is_model_whole = manifest.kind != Kind::Model || {
        let at = layout.model_area(idle).start + (content_at - begin);
        digest(card, at, manifest.length, |_| {})? == manifest.sha256
    };
    if found != image.sha256 || !is_model_whole {
        return Err(UpdateError::Unfaithful);
    }
    state.slots[idle.index()] = Some(Content { release: manifest.release, version: manifest.version.clone(), ..image });
    let trial = Trial {
        slot: idle,
        kind: manifest.kind,
        release: manifest.release,
        keys: manifest.keys.clone(),
        is_started: false,
    };
    state.trial = Some(trial);
    state.write(card)?;
    progress(all, all);
    Ok(manifest)
}

/// Refuses what is not for this device; `head` are the bytes before what is installed.
fn check(manifest: &Manifest, device: &Device, state: &State, layout: &Layout, head: u64) -> Result<(), UpdateError> {
    if !manifest.boards.contains(&device.board) {
        return Err(UpdateError::Board { boards: manifest.boards.join(", "), board: device.board.clone() });
    }
    if manifest.target != device.target {
        return Err(UpdateError::Target { target: manifest.target.clone(), own: device.target.clone() });
    }
    let idle = state.committed.other();
    let (length, room) = match manifest.kind {
        Kind::Model => (head + manifest.length, layout.model_area(idle)),
        Kind::Application => (manifest.length, layout.image_area(idle)),
    };
    let room = room.end - room.start;
    if length > room {
        return Err(UpdateError::TooLarge { length, room });
    }
    let running = state.content(state.committed).map_or(0, |content| content.release);
    match (manifest.release, state.floor) {
        (release, _) if release == running => Err(UpdateError::Installed(release)),
        (release, floor) if release < floor && !manifest.allows_downgrade => {
            Err(UpdateError::Downgrade { release, floor })
        }
        _ => Ok(()),
    }
}

/// Writes `length` bytes of `file` to `area`: the first piece last, so that a slot that is written in part starts
/// nowhere.
fn write(
    card: &mut impl Block,
    area: &Range<u64>,
    file: &mut (impl Read + Seek),
    length: u64,
    mut done: impl FnMut(u64),
) -> Result<(), UpdateError> {
    let mut first = vec![0; CHUNK.min(length as usize)];
    file.read_exact(&mut first).map_err(BundleError::from)?;
    card.write_at(area.start, &vec![0; first.len()])?;
    card.sync()?;
    let mut buffer = vec![0; CHUNK];
    let mut at = first.len() as u64;
    while at < length {
        let piece = (length - at).min(CHUNK as u64) as usize;
        file.read_exact(&mut buffer[..piece]).map_err(BundleError::from)?;
        card.write_at(area.start + at, &buffer[..piece])?;
        at += piece as u64;
        done(at);
    }
    card.sync()?;
    card.write_at(area.start, &first)?;
    Ok(())
}

/// Copies the image of the slot that runs to the other one.
fn copy_image(card: &mut impl Block, layout: &Layout, running: Slot, length: u64) -> Result<(), UpdateError> {
    let from = layout.image_area(running);
    let to = layout.image_area(running.other());
    let first = CHUNK.min(length as usize);
    card.write_at(to.start, &vec![0; first])?;
    card.sync()?;
    let mut at = first as u64;
    while at < length {
        let piece = (length - at).min(CHUNK as u64) as usize;
        let bytes = card.bytes(from.start + at, piece)?;
        card.write_at(to.start + at, &bytes)?;
        at += piece as u64;
    }
    card.sync()?;
    let bytes = card.bytes(from.start, first)?;
    card.write_at(to.start, &bytes)?;
    Ok(())
}

/// SHA-256 of `length` bytes from `offset` on.
pub fn digest(card: &impl Block, offset: u64, length: u64, mut done: impl FnMut(u64)) -> io::Result<[u8; 32]> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        let piece = (length - at).min(CHUNK as u64) as usize;
        card.read_at(offset + at, &mut buffer[..piece])?;
        digest.update(&buffer[..piece]);
        at += piece as u64;
        done(at);
    }
    Ok(digest.finalize().into())
}
