//! The application of a slot: the program, its board, and a radiograph whose finding is known.

use super::archive::{Entry, archive};
use edge_runtime::board::Board;
use edge_runtime::engine::{Compute, kernels};
use edge_runtime::model::Model;
use edge_runtime::scan::{Setting, record, scan};
use edge_runtime::suitability::Policy;
use serde::{Deserialize, Serialize};
use slots::KNOWN_FINDING;
use std::path::Path;

/// The radiograph that a release is tested with: a synthetic chest.
const RADIOGRAPH: &[u8] = include_bytes!("../../../docs/phantom-chest.jpeg");
const RADIOGRAPH_NAME: &str = "self-test.jpeg";
/// What describes a release inside its archive.
pub const RELEASE: &str = "release.json";

/// A release, for whom it is, and how it is ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Name of the board.
    pub board: String,
    /// Rust target triple.
    pub target: String,
    /// The number by which releases are ordered.
    pub release: u64,
    /// The same for people.
    pub version: String,
}

/// The number of a version such as `1.2.3`, so that a later version has a higher one; `None` for another form.
pub fn release_of(version: &str) -> Option<u64> {
    let mut number = 0;
    let mut parts = version.split('.');
    for _ in 0..3 {
        number = number * 1000 + parts.next()?.parse::<u64>().ok().filter(|part| *part < 1000)?;
    }
    parts.next().is_none().then_some(number)
}

/// The archive of a slot.
pub fn application(release: &Release, program: Vec<u8>, board: &Board) -> anyhow::Result<Vec<u8>> {
    let on_card = with_display(board, board.card.as_ref().and_then(|card| card.display.clone()));
    let emulated = with_display(board, board.card.as_ref().map(|card| card.emulation.display.clone()));
    Ok(archive(&[
        Entry::program("edge-runtime", program),
        Entry::file("board.toml", toml::to_string(&on_card)?),
        Entry::file("board-emulated.toml", toml::to_string(&emulated)?),
        Entry::file(RADIOGRAPH_NAME, RADIOGRAPH),
        Entry::file("self-test.json", known_finding(&embedded()?)?),
        Entry::file(RELEASE, serde_json::to_string_pretty(release)?),
    ])?)
}

/// The archive of a model that is updated by itself.
pub fn model(path: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = std::fs::read(path)?;
    let model = Model::from_bytes(&bytes, path, &compute()?)?;
    Ok(archive(&[Entry::file("model.hilum", bytes), Entry::file("self-test.json", known_finding(&model)?)])?)
}

/// The model in the program.
pub fn embedded() -> anyhow::Result<Model> {
    Ok(Model::embedded(&compute()?)?)
}

fn compute() -> anyhow::Result<Compute> {
    Ok(Compute { kernel: kernels::best(), team: kernels::team::Team::new(1)? })
}

fn with_display(board: &Board, display: Option<edge_runtime::board::Display>) -> Board {
    let display = display.unwrap_or_else(|| board.display.clone());
    Board { display, name: String::new(), ..board.clone() }
}

/// What `model` finds on the radiograph that a release is tested with, as a line of JSON. Every processor gives the
/// same.
fn known_finding(model: &Model) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(RADIOGRAPH_NAME);
    std::fs::write(&path, RADIOGRAPH)?;
    let board = Board::find(edge_runtime::board::HOST)?;
    let scanned = scan(&path, Setting { model, board: &board, policy: Policy::Warn, on_stage: None });
    if let Err(e) = &scanned {
        anyhow::bail!("the radiograph of the self-test is refused: {e}");
    }
    let line = edge_runtime::report::json::line(&record(Path::new(RADIOGRAPH_NAME), &scanned));
    let mut finding: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line)?;
    // Times are another each time; a release made again is the same.
    finding.retain(|key, _| KNOWN_FINDING.contains(&key.as_str()));
    Ok(serde_json::to_string(&finding)?)
}

#[cfg(test)]
mod tests {
    use super::super::archive::find;
    use super::*;

    #[test]
    fn later_versions_have_higher_numbers() {
        let numbers = ["0.1.0", "0.1.1", "0.2.0", "1.0.0"].map(|version| release_of(version).unwrap());
        assert!(numbers.is_sorted());
        assert_eq!([release_of("1.0"), release_of("1.0.0.0"), release_of("1.0.1000"), release_of("a.b.c")], [None; 4]);
    }

    #[test]
    fn an_application_holds_its_boards_and_its_known_finding() {
        let board = Board::find("raspberry-pi-4").unwrap();
        let release =
            Release { board: board.name.clone(), target: board.target.clone(), release: 1, version: "1".into() };
        let bytes = application(&release, b"program".to_vec(), &board).unwrap();
        for name in ["board.toml", "board-emulated.toml"] {
            let text = String::from_utf8(find(&bytes, name).unwrap().unwrap()).unwrap();
            Board::parse("a", &text, Path::new(name)).unwrap();
        }
        let finding = find(&bytes, "self-test.json").unwrap().unwrap();
        let finding: serde_json::Value = serde_json::from_slice(&finding).unwrap();
        assert!(KNOWN_FINDING.iter().all(|key| !finding[*key].is_null()));
        assert_eq!(application(&release, b"program".to_vec(), &board).unwrap(), bytes);
    }
}
