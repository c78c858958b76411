//! Writing an image to a card: the first sector last, and everything read back. A card whose writing did not end well
//! does not start.

pub mod devices;

use sha2::{Digest, Sha256};
use slots::Block;
use slots::keys::hex;
use slots::layout::{FIRST_PARTITION, SECTOR};
use slots::record::{CLINIC, RecordError};
use std::io;

/// Bytes that are written at a time.
const PIECE: u64 = 4 << 20;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The image is written.
    Writing,
    /// It is read back.
    ReadingBack,
}

/// Why a card is not what it should be, and in which state it is left.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The image cannot be read.
    #[error("the image cannot be read ({0}); the card is in part written, and does not start")]
    Image(io::Error),
    /// The card is too small.
    #[error("the card has {card} bytes, and the image {image}: take a larger one; the card is untouched")]
    TooSmall {
        /// Bytes of the card.
        card: u64,
        /// Bytes of the image.
        image: u64,
    },
    /// The card cannot be read at all.
    #[error("the card cannot be read ({0}); it is untouched")]
    Untouched(io::Error),
    /// The card cannot be written.
    #[error(
        "the card cannot be written at byte {at} ({reason}): is it write-protected, or was it taken out? It does \
             not start: write it again, or take another one"
    )]
    Write {
        /// Where.
        at: u64,
        /// Why.
        reason: io::Error,
    },
    /// What is read is not what was written.
    #[error(
        "the card does not give back what was written: it is faulty, or smaller than it says. It does not start: \
             take another one"
    )]
    Unfaithful,
    /// The settings do not fit.
    #[error("the clinic's settings: {0}; the card is untouched")]
    Settings(RecordError),
}

/// What stands on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// SHA-256 of it, over the length of the image.
    pub sha256: String,
    /// SHA-256 of the image that it is from.
    pub image_sha256: String,
    /// Bytes.
    pub bytes: u64,
}

/// Bytes in memory that begin as an image does.
struct Head(Vec<u8>);

impl Block for Head {
    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)?.get(..into.len()));
        into.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let to = usize::try_from(offset).ok().and_then(|at| self.0.get_mut(at..)?.get_mut(..bytes.len()));
        to.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `image` with a clinic's `settings` to `card`. `progress` gets what is done, bytes and all bytes.
pub fn write(
    image: &impl Block,
    settings: Option<&str>,
    card: &mut impl Block,
    mut progress: impl FnMut(Phase, u64, u64),
) -> Result<Written, FlashError> {
    let length = image.length().map_err(FlashError::Untouched)?;
    let room = card.length().map_err(FlashError::Untouched)?;
    if room < length || length < FIRST_PARTITION {
        return Err(FlashError::TooSmall { card: room, image: length.max(FIRST_PARTITION) });
    }
    let plain = image.bytes(0, FIRST_PARTITION as usize).map_err(FlashError::Untouched)?;
    let mut head = Head(plain.clone());
    if let Some(settings) = settings {
        CLINIC.write(&mut head, &settings.to_owned()).map_err(FlashError::Settings)?;
    }
    let written = write_all(image, &plain, &head.0, card, &mut progress);
    if written.is_err() {
        // Whatever failed, the card is not to start.
        let _ = card.write_at(0, &[0; SECTOR as usize]).and_then(|()| card.sync());
    }
    written
}

fn write_all(
    image: &impl Block,
    plain: &[u8],
    head: &[u8],
    card: &mut impl Block,
    progress: &mut impl FnMut(Phase, u64, u64),
) -> Result<Written, FlashError> {
    let at = |at| move |reason| FlashError::Write { at, reason };
    let length = image.length().map_err(FlashError::Image)?;
    card.write_at(0, &[0; SECTOR as usize]).and_then(|()| card.sync()).map_err(at(0))?;
    let mut of_image = Sha256::new_with_prefix(plain);
    let mut of_card = Sha256::new_with_prefix(head);
    let mut done = FIRST_PARTITION;
    while done < length {
        let bytes = image.bytes(done, (length - done).min(PIECE) as usize).map_err(FlashError::Image)?;
        card.write_at(done, &bytes).map_err(at(done))?;
        of_image.update(&bytes);
        of_card.update(&bytes);
        done += bytes.len() as u64;
        // Without this all would be written at the end, and the time that is left could not be told.
        if done % (8 * PIECE) < PIECE {
            card.sync().map_err(at(done))?;
        }
        progress(Phase::Writing, done, length);
    }
    let [first, rest] = [&head[..SECTOR as usize], &head[SECTOR as usize..]];
    card.write_at(SECTOR, rest).and_then(|()| card.sync()).map_err(at(SECTOR))?;
    let expected = of_card.finalize();
    if read_back(card, first, length, progress)?[..] != expected[..] {
        return Err(FlashError::Unfaithful);
    }
    card.write_at(0, first).and_then(|()| card.sync()).and_then(|()| card.forget()).map_err(at(0))?;
    if card.bytes(0, SECTOR as usize).map_err(at(0))? != first {
        return Err(FlashError::Unfaithful);
    }
    Ok(Written { sha256: hex(&expected), image_sha256: hex(&of_image.finalize()), bytes: length })
}

/// The digest of what the card holds, with `first` for its first sector.
fn read_back(
    card: &mut impl Block,
    first: &[u8],
    length: u64,
    progress: &mut impl FnMut(Phase, u64, u64),
) -> Result<Vec<u8>, FlashError> {
    let unread = |reason| FlashError::Write { at: 0, reason };
    card.forget().map_err(unread)?;
    let mut digest = Sha256::new_with_prefix(first);
    let mut done = SECTOR;
    while done < length {
        let piece = (length - done).min(PIECE) as usize;
        digest.update(card.bytes(done, piece).map_err(|_| FlashError::Unfaithful)?);
        done += piece as u64;
        progress(Phase::ReadingBack, done, length);
    }
    Ok(digest.finalize().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use slots::simulated::{Fate, SimulatedCard};

    fn image() -> Head {
        Head((0..FIRST_PARTITION + (6 << 20)).map(|i| (i * 7 + i / 4093) as u8).collect())
    }

    fn starts(card: &SimulatedCard) -> bool {
        card.bytes(0, SECTOR as usize).unwrap() == image().0[..SECTOR as usize]
    }

    #[test]
    fn what_is_written_is_read_back_with_the_settings() {
        let image = image();
        let mut card = SimulatedCard::of_length(image.0.len() + 512);
        let written = write(&image, Some("language = \"fr\""), &mut card, |_, _, _| {}).unwrap();
        assert!(starts(&card));
        assert_eq!(CLINIC.read::<String>(&card).as_deref(), Some("language = \"fr\""));
        assert_eq!(written.image_sha256, hex(&Sha256::digest(&image.0)));
        let there = card.bytes(0, image.0.len()).unwrap();
        assert_eq!(written.sha256, hex(&Sha256::digest(&there)));
        let end = FIRST_PARTITION as usize;
        assert_eq!(there[end..], image.0[end..]);
    }

    #[test]
    fn a_card_that_fails_lies_or_is_too_small_is_not_called_good_and_does_not_start() {
        let image = image();
        let length = image.0.len();
        let mut small = SimulatedCard::of_length(length - 1);
        assert!(matches!(write(&image, None, &mut small, |_, _, _| {}), Err(FlashError::TooSmall { .. })));
        assert_eq!(small.count, 0);
        let mut protected = SimulatedCard::of_length(length);
        protected.is_read_only = true;
        assert!(matches!(write(&image, None, &mut protected, |_, _, _| {}), Err(FlashError::Write { .. })));
        let mut lying = SimulatedCard::of_length(length);
        lying.forgets = true;
        assert!(matches!(write(&image, None, &mut lying, |_, _, _| {}), Err(FlashError::Unfaithful)));
        assert!(!starts(&lying));
        let mut settled = SimulatedCard::of_length(length);
        let settings = "x".repeat(40_000);
        assert!(matches!(write(&image, Some(&settings), &mut settled, |_, _, _| {}), Err(FlashError::Settings(_))));
        assert_eq!(settled.count, 0);
    }

    #[test]
    fn a_cut_anywhere_leaves_a_card_that_does_not_start_or_is_whole() {
        let image = image();
        let settings = Some("language = \"fr\"");
        let mut uncut = SimulatedCard::of_bytes(&image.0);
        write(&image, settings, &mut uncut, |_, _, _| {}).unwrap();
        let whole = uncut.bytes(0, image.0.len()).unwrap();
        for step in (0..uncut.count).step_by(97).chain(uncut.count - 6..uncut.count) {
            let mut cut = SimulatedCard::of_bytes(&image.0).with_cut_after(step);
            assert!(write(&image, settings, &mut cut, |_, _, _| {}).is_err());
            for fate in [Fate::Lost, Fate::Kept, Fate::TornInSectors, Fate::ByChance(1)] {
                let card = cut.after_cut(fate);
                // Before its first write stays, a card is what it was.
                let is_untouched = step < 2 && card.bytes(0, image.0.len()).unwrap() == image.0;
                let is_whole = card.bytes(0, image.0.len()).unwrap() == whole;
                assert!(!starts(&card) || is_whole || is_untouched, "step {step}, {fate:?}");
            }
        }
    }
}
