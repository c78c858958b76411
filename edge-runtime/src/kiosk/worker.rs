//! Scanning in a thread of its own, so that the screen and the buttons never wait.

use super::in_work::InWork;
use super::state::Pictures;
use crate::board::Board;
use crate::display::layout::{full_picture_side, picture_side};
use crate::explain::{Heat, overlay};
use crate::finding::{Cause, Outcome, Record, Refusal};
use crate::model::Model;
use crate::scan::{Scan, ScanError, Setting, record, scan};
use crate::stages::Stage;
use crate::suitability::Policy;
use embedded_graphics::prelude::Size;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

/// What the worker says.
pub(super) enum Report {
    /// The radiograph reached a stage.
    Stage(Stage),
    /// It is done.
    Done(Box<Done>),
}

/// What came of a file.
pub(super) struct Done {
    pub(super) path: PathBuf,
    pub(super) record: Record,
    pub(super) pictures: Option<Pictures>,
}

/// What the worker works with.
pub(super) struct Worker {
    pub(super) model: Arc<Model>,
    pub(super) board: Board,
    pub(super) policy: Policy,
    pub(super) size: Size,
    /// Holds what is being scanned, for the next start if this one ends in it.
    pub(super) in_work: PathBuf,
}

impl Worker {
    /// Scans what comes until no more can come.
    pub(super) fn work(&self, jobs: &Receiver<(PathBuf, InWork)>, to: &Sender<Report>) {
        for (path, in_work) in jobs {
            // Not synced: it has to survive this program alone.
            let _ = std::fs::write(&self.in_work, in_work.to_string());
            let done = catch_unwind(AssertUnwindSafe(|| self.scan(&path, to)));
            let _ = std::fs::remove_file(&self.in_work);
            let done = done.unwrap_or_else(|_| Done { record: decoder_failed(&path), pictures: None, path });
            if to.send(Report::Done(done.into())).is_err() {
                return;
            }
        }
    }

    fn scan(&self, path: &Path, to: &Sender<Report>) -> Done {
        let to = std::sync::Mutex::new(to.clone());
        let tell = |stage| {
            let _ = to.lock().unwrap_or_else(|e| e.into_inner()).send(Report::Stage(stage));
        };
        let setting = Setting { model: &self.model, board: &self.board, policy: self.policy, on_stage: Some(&tell) };
        let mut scanned: Result<Scan, ScanError> = scan(path, setting);
        let pictures = scanned.as_mut().ok().map(|scan| {
            tell(Stage::Explain);
            self.draw(scan)
        });
        Done { path: path.to_owned(), record: record(path, &scanned), pictures }
    }

    fn draw(&self, scan: &mut Scan) -> Pictures {
        let finding = &mut scan.finding;
        let evidence = &scan.evidence;
        let input = &self.model.contract.input;
        let threshold = finding.operating_point.threshold;
        finding.latency_ms.time(Stage::Explain, || {
            let heat = Heat::of(&evidence.inference, threshold);
            let plane = &evidence.radiograph.plane;
            let full = full_picture_side(self.size);
            Pictures {
                small: picture_side(self.size).map(|side| overlay(plane, heat.as_ref(), input, side)),
                plain: overlay(plane, None, input, full),
                with_map: overlay(plane, heat.as_ref(), input, full),
            }
        })
    }
}

/// The record of a file that the decoder did not survive.
pub(super) fn decoder_failed(path: &Path) -> Record {
    let sentence = "the file could not be decoded: the decoder failed; export the radiograph in another format";
    let refusal = Refusal { cause: Cause::DecoderFailed, unsuitable: None, sentence: sentence.into() };
    Record::new(path.display().to_string(), Outcome::Refusal(refusal))
}
