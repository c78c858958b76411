//! JPEGs of every sampling, restart interval and scan script, against libjpeg-turbo: sound ones are read as it reads
//! them, broken ones refused.

use edge_runtime::image::Radiograph;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tests::peers::python;

/// Largest difference of a grey level: two inverse transforms, and two ways from colour to grey.
const LEVELS: u8 = 2;
/// Kinds of damage that the entropy-coded data themselves may not show; of these most must be refused.
const SILENT: [&str; 3] = ["lost", "noise", "zeros"];

/// How many files there are of a kind, and how many of them were read.
#[derive(Default)]
struct Count {
    files: usize,
    read: usize,
}

#[test]
fn jpegs_are_read_as_libjpeg_turbo_reads_them_or_refused() {
    let Some(python) = python("numpy, PIL") else { return };
    if Command::new("cjpeg").arg("-version").output().is_err() {
        return eprintln!("skipped: no cjpeg (Debian's libjpeg-turbo-progs)");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("jpegs.py");
    let made = Command::new(python).arg(script).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut broken: BTreeMap<String, Count> = BTreeMap::new();
    let mut sound = 0;
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.extension().is_some_and(|e| e == "jpg")) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let decoded = Radiograph::decode(&std::fs::read(&path).unwrap());
        match name.trim_end_matches(".jpg").split_once(".broken.") {
            Some((_, kind)) => {
                let count = broken.entry(kind.to_owned()).or_default();
                count.files += 1;
                count.read += usize::from(decoded.is_ok());
            }
            None => {
                let plane = decoded.unwrap_or_else(|e| panic!("{name}: {e}")).plane;
                let theirs = std::fs::read(path.with_extension("grey")).unwrap();
                let size = [plane.width, plane.height].map(u32::to_le_bytes).concat();
                assert_eq!(theirs[..8], size, "{name}");
                let worst = plane.pixels.iter().zip(&theirs[8..]).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(worst.is_some_and(|w| w <= LEVELS), "{name}: {worst:?}");
                sound += 1;
            }
        }
    }
    assert!(sound > 100 && broken.len() == 9, "{sound}");
    for (kind, Count { files, read }) in &broken {
        let allowed = if SILENT.contains(&kind.as_str()) { files / 10 } else { 0 };
        assert!(*read <= allowed, "{kind}: {read} of {files} broken files were read");
    }
}
