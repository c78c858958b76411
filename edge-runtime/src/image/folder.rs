//! Image files under folders, in a stable order.

use super::Format;
use std::io;
use std::path::{Path, PathBuf};

/// All image files under `folder`, recursively, sorted by path. Hidden entries are passed over; links are not followed
/// into folders, so that no loop can arise.
pub fn image_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if Format::has_ending(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order_and_hidden_entries_skipped() {
        let dir = tempfile::tempdir().unwrap();
        for f in ["b/2.PNG", "a/1.jpeg", "a/notes.txt", ".hidden/3.png", "0.jpg"] {
            let path = dir.path().join(f);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let names: Vec<_> = image_files(dir.path())
            .unwrap()
            .into_iter()
            .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["0.jpg", "a/1.jpeg", "b/2.PNG"]);
    }
}
