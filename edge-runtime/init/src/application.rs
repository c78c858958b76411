//! The release of a slot: an archive (cpio, `newc`) that is unpacked into memory, and a model over it where one was
//! updated by itself.

use crate::system::APPLICATION;
use anyhow::{Context, bail};
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

/// Unpacks the release of `slot`, whose digests were checked.
pub fn unpack(card: &Disk, slot: Slot) -> anyhow::Result<Release> {
    let layout = Layout::read(card)?;
    let state = State::read(card).context("the card does not say what its slots hold")?;
    let content = state.content(slot).context("the slot holds nothing")?;
    let area = layout.image_area(slot);
    let image = Part { card, at: area.start, end: area.start + content.length };
    unpack_archive(BufReader::with_capacity(1 << 20, image)).context("the slot cannot be unpacked")?;
    if let Some(model) = &content.model {
        let at = layout.model_area(slot).start;
        let part = Part { card, at, end: at + model.length };
        unpack_archive(BufReader::with_capacity(1 << 20, part)).context("the model that was updated")?;
    }
    Ok(Release { number: content.release, version: content.version.clone(), has_model: content.model.is_some() })
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
