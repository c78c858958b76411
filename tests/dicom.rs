//! DICOM files of every transfer syntax and pixel form against pydicom and DCMTK: sound ones have the greys of
//! pydicom's pipeline, broken ones are refused.

use edge_runtime::image::Radiograph;
use std::path::Path;
use std::process::Command;
use tests::peers::python;

/// Largest difference of a grey level.
const LEVELS: u8 = 1;
/// The same where a lossy picture is decoded by another program, or colours become grey.
const LOSSY_LEVELS: u8 = 3;

#[test]
fn dicom_files_have_the_greys_of_pydicom_or_are_refused() {
    let Some(python) = python("numpy, pydicom, openjpeg") else { return };
    if Command::new("dcmcjpls").arg("--version").output().is_err() {
        return eprintln!("skipped: no dcmcjpls (Debian's dcmtk)");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("dicom_files.py");
    let made = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut wrong = Vec::new();
    let mut sound = 0;
    let mut broken = 0;
    let mut files: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files.iter().filter(|path| path.extension().is_some_and(|e| e == "dcm")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let decoded = Radiograph::decode(&std::fs::read(path).unwrap());
        if name.contains(".broken.") {
            broken += 1;
            wrong.extend(decoded.is_ok().then(|| format!("{name} was read")));
            continue;
        }
        sound += 1;
        wrong.extend(
            decoded.map_or_else(|e| Some(e.to_string()), |r| difference(&r, path)).map(|w| format!("{name}: {w}")),
        );
    }
    assert!(wrong.is_empty(), "{} of {sound} + {broken}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(sound > 60 && broken > 35, "{sound} {broken}");
}

/// What is wrong with the greys of `radiograph`, if anything is.
fn difference(radiograph: &Radiograph, path: &Path) -> Option<String> {
    let theirs = std::fs::read(path.with_extension("grey")).unwrap();
    let plane = &radiograph.plane;
    let size = [plane.width, plane.height].map(u32::to_le_bytes).concat();
    if theirs[..8] != size {
        return Some(format!("{}×{} pixels", plane.width, plane.height));
    }
    let name = path.to_string_lossy();
    let is_lossy = ["baseline", "lossy", "rgb"].iter().any(|word| name.contains(word));
    let worst = plane.pixels.iter().zip(&theirs[8..]).map(|(a, b)| a.abs_diff(*b)).max()?;
    (worst > if is_lossy { LOSSY_LEVELS } else { LEVELS }).then(|| format!("differs by {worst}"))
}
