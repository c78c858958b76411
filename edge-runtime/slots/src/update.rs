//! Installing an update: everything is checked before the slot that does not run is touched.

use crate::block::Block;
use crate::bundle::{BundleError, CHUNK, Kind, Manifest};
use crate::keys::KeyRing;
use crate::layout::{Layout, LayoutError, Slot};
use crate::state::{ChangeError, Content, Part, State, Trial};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::{self, Read, Seek};

/// A device as far as updates concern it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Name of its board.
    pub board: String,
    /// Rust target triple of its program.
    pub target: String,
    /// What its first program understands ([`crate::INTERFACE`]).
    pub interface: u32,
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
    /// The state cannot be changed.
    #[error(transparent)]
    State(#[from] ChangeError),
    /// The card's first program is another one.
    #[error("it expects interface {expected} of the card, which has {own}: write the card anew with `boards flash`")]
    Interface {
        /// What it expects.
        expected: u32,
        /// What the card has.
        own: u32,
    },
    /// An update is in its trial.
    #[error("another update is being tried: wait until the device says how that ended")]
    Trying,
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
    let state = State::read(card).ok_or(ChangeError::NoState)?;
    let manifest = Manifest::read(file, &device.keys(&state))?;
    check(&manifest, device, &state, &layout)?;
    let content_at = file.stream_position().map_err(BundleError::from)?;
    let all = 3 * manifest.length;
    // All of it is read and believed before the slot is touched.
    manifest.content(file, |at, _| {
        progress(at, all);
        Ok(())
    })?;
    let running = state.committed;
    let idle = running.other();
    State::change(card, |state| {
        refuse_trial(state, running)?;
        state.slots[idle.index()] = None;
        state.trial = None;
        Ok::<(), UpdateError>(())
    })?;
    file.seek(io::SeekFrom::Start(content_at)).map_err(BundleError::from)?;
    let mut file = file.take(manifest.length);
    let content = match manifest.kind {
        Kind::Application => {
            let area = layout.image_area(idle);
            write(card, area.start, &mut file, |done| progress(manifest.length + done, all))?;
            Content {
                release: manifest.release,
                version: manifest.version.clone(),
                length: manifest.length,
                sha256: manifest.sha256,
                model: None,
            }
        }
        Kind::Model => {
            let image = state.content(running).cloned().ok_or(ChangeError::NoState)?;
            copy(card, layout.image_area(running).start, layout.image_area(idle).start, image.length)?;
            let area = layout.model_area(idle);
            write(card, area.start, &mut file, |done| progress(manifest.length + done, all))?;
            let model = Some(Part { length: manifest.length, sha256: manifest.sha256 });
            Content { release: manifest.release, version: manifest.version.clone(), model, ..image }
        }
    };
    card.sync()?;
    card.forget()?;
    if !is_whole(card, &layout, idle, &content, |done| progress(2 * manifest.length + done, all))? {
        return Err(UpdateError::Unfaithful);
    }
    State::change(card, |state| {
        refuse_trial(state, running)?;
        state.slots[idle.index()] = Some(content);
        state.trial = Some(Trial {
            slot: idle,
            kind: manifest.kind,
            release: manifest.release,
            keys: manifest.keys.clone(),
            is_started: false,
        });
        Ok::<(), UpdateError>(())
    })?;
    progress(all, all);
    Ok(manifest)
}

/// Refuses to write a slot that may be running: while another update is tried, or after it was committed.
fn refuse_trial(state: &State, running: Slot) -> Result<(), UpdateError> {
    let is_tried = state.trial.as_ref().is_some_and(|trial| trial.is_started);
    if is_tried || state.committed != running { Err(UpdateError::Trying) } else { Ok(()) }
}

/// Refuses what is not for this device.
fn check(manifest: &Manifest, device: &Device, state: &State, layout: &Layout) -> Result<(), UpdateError> {
    if !manifest.boards.contains(&device.board) {
        return Err(UpdateError::Board { boards: manifest.boards.join(", "), board: device.board.clone() });
    }
    if manifest.target != device.target {
        return Err(UpdateError::Target { target: manifest.target.clone(), own: device.target.clone() });
    }
    if manifest.interface != device.interface {
        return Err(UpdateError::Interface { expected: manifest.interface, own: device.interface });
    }
    if let Some(keys) = &manifest.keys {
        keys.validate().map_err(BundleError::from)?;
    }
    refuse_trial(state, state.committed)?;
    let idle = state.committed.other();
    let room = match manifest.kind {
        Kind::Model => layout.model_area(idle),
        Kind::Application => layout.image_area(idle),
    };
    let room = room.end - room.start;
    if manifest.length > room {
        return Err(UpdateError::TooLarge { length: manifest.length, room });
    }
    let running = state.content(state.committed).map_or(0, |content| content.release);
    let is_older = manifest.release < state.floor && manifest.over.is_none_or(|over| over < state.floor);
    match manifest.release {
        release if release == running => Err(UpdateError::Installed(release)),
        release if is_older => Err(UpdateError::Downgrade { release, floor: state.floor }),
        _ => Ok(()),
    }
}

/// Writes all of `from` to the card.
fn write(card: &mut impl Block, to: u64, from: &mut impl Read, mut done: impl FnMut(u64)) -> Result<(), UpdateError> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let length = from.read(&mut buffer).map_err(BundleError::from)?;
        if length == 0 {
            return Ok(());
        }
        card.write_at(to + at, &buffer[..length])?;
        at += length as u64;
        done(at);
    }
}

fn copy(card: &mut impl Block, from: u64, to: u64, length: u64) -> io::Result<()> {
    let mut at = 0;
    while at < length {
        let bytes = card.bytes(from + at, (length - at).min(CHUNK as u64) as usize)?;
        card.write_at(to + at, &bytes)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Whether `slot` holds `content`, both its image and its model.
pub fn is_whole(
    card: &impl Block,
    layout: &Layout,
    slot: Slot,
    content: &Content,
    mut done: impl FnMut(u64),
) -> io::Result<bool> {
    let image = layout.image_area(slot);
    let model = layout.model_area(slot);
    let is_image_whole = content.length <= image.end - image.start
        && digest(card, image.start, content.length, &mut done)? == content.sha256;
    let is_model_whole = match &content.model {
        Some(part) if part.length <= model.end - model.start => {
            digest(card, model.start, part.length, |_| {})? == part.sha256
        }
        Some(_) => false,
        None => true,
    };
    Ok(is_image_whole && is_model_whole)
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
