//! The release of a slot: an archive (cpio, `newc`) that is unpacked into memory, and a model over it where one was
//! updated by itself.

use crate::system::{APPLICATION, Identity};
use anyhow::{Context, bail};
use slots::bundle::{BundleError, MAGIC, Manifest};
use slots::layout::{Layout, Slot};
use slots::state::State;
use slots::{Block, Disk};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

/// A release that was unpacked.
pub struct Release {
    /// The number by which releases are ordered.
    pub number: u64,
    /// The same for people.
    pub version: String,
    /// Whether it has a model besides the one in the program.
    pub has_model: bool,
}

/// A part of the card as a stream.
struct Part<'a> {
    card: &'a Disk,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = (self.end - self.at).min(into.len() as u64) as usize;
        self.card.read_at(self.at, &mut into[..length])?;
        self.at += length as u64;
        Ok(length)
    }
}

/// Unpacks the release of `slot`, whose digest was checked.
pub fn unpack(card: &Disk, identity: &Identity, slot: Slot) -> anyhow::Result<Release> {
    let layout = Layout::read(card)?;
    let state = State::read(card)?.context("the card does not say what its slots hold")?;
    let content = state.content(slot).context("the slot holds nothing")?;
    let area = layout.image_area(slot);
    let image = Part { card, at: area.start, end: area.start + content.length };
    unpack_archive(BufReader::with_capacity(1 << 20, image)).context("the slot cannot be unpacked")?;
    let area = layout.model_area(slot);
    let mut head = [0; MAGIC.len()];
    card.read_at(area.start, &mut head)?;
    let has_model = head == MAGIC;
    if has_model {
        let keys = identity.keys.clone().newer(state.keys.clone());
        let mut part = BufReader::with_capacity(1 << 20, Part { card, at: area.start, end: area.end });
        unpack_model(&mut part, &keys).context("the model that was updated")?;
    }
    Ok(Release { number: content.release, version: content.version.clone(), has_model })
}

/// Checks a signed model, all of it, before any of it is used.
fn unpack_model(from: &mut impl Read, keys: &slots::keys::KeyRing) -> anyhow::Result<()> {
    let manifest = Manifest::read(from, keys)?;
    // The area is longer than what it holds.
    let mut held = Read::take(from, manifest.length);
    let mut archive = Vec::new();
    manifest.content(&mut held, |_, piece| {
        archive.extend_from_slice(piece);
        Ok::<(), BundleError>(())
    })?;
    unpack_archive(archive.as_slice())
}

fn unpack_archive(mut from: impl Read) -> anyhow::Result<()> {
    loop {
        let mut entry = cpio::newc::Reader::new(from)?;
        if entry.entry().is_trailer() {
            return Ok(());
        }
        let name = entry.entry().name().to_owned();
        let is_plain = Path::new(&name).components().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain {
            bail!("{name} would be written outside of {APPLICATION}");
        }
        let path = Path::new(APPLICATION).join(&name);
        let mode = entry.entry().mode() & 0o777;
        let mut file = File::create(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        io::copy(&mut entry, &mut file).with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        from = entry.finish()?;
    }
}
