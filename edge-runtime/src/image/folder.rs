//! Files under folders, in a stable order. What a file is, its content tells: endings lie.

use super::Format;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Bytes that tell text from other files.
const HEAD: usize = 4096;

/// Files and folders that systems leave behind, lower case.
const LEFTOVERS: [&str; 7] =
    ["thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "system volume information"];

/// Endings of picture files, lower case: a file that has one and holds text is a broken picture.
const PICTURE_ENDINGS: [&str; 14] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "tif", "tiff", "dcm", "bmp", "gif", "webp", "jp2", "heic", "jxl"];

/// All files under `folder`, recursively, sorted by path, that could be radiographs: everything but hidden files, what
/// systems leave behind, texts and updates. Links are not followed into folders, so that no loop can arise.
pub fn image_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let (found, unreadable) = image_files_of_readable(folder);
    unreadable.into_iter().next().map_or(Ok(found), |(_, e)| Err(e))
}

/// As [`image_files`], with the folders that cannot be read beside the files of all others.
pub fn image_files_of_readable(folder: &Path) -> (Vec<PathBuf>, Vec<(PathBuf, io::Error)>) {
    let mut found = Vec::new();
    let mut unreadable = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
        let entries = match entries {
            Ok(entries) => entries,
            Err(e) => {
                unreadable.push((folder, e));
                continue;
            }
        };
        for entry in entries {
            let name = entry.file_name().to_string_lossy().to_lowercase();
            if name.starts_with('.') || LEFTOVERS.contains(&name.as_str()) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if is_file(&path) && !is_text_or_update(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    (found, unreadable)
}

/// False for pipes, sockets and devices, which wait for ever or never end, and for folders behind links. A link that
/// leads nowhere is true: reading it will say so.
fn is_file(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |there| there.is_file())
}

/// True for a text file that does not pretend to be a picture, and for an update of the device. One that cannot be
/// read is none: reading it will say why.
fn is_text_or_update(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    if ending.is_some_and(|e| PICTURE_ENDINGS.contains(&e.as_str())) {
        return false;
    }
    let mut head = Vec::with_capacity(HEAD);
    let read = std::fs::File::open(path).and_then(|f| f.take(HEAD as u64).read_to_end(&mut head));
    if head.starts_with(&slots::bundle::MAGIC) {
        return true;
    }
    if read.is_err() || head.is_empty() || Format::detect(&head).is_some() || head.contains(&0) {
        return false;
    }
    match std::str::from_utf8(&head) {
        Ok(_) => true,
        // A character that the head cuts.
        Err(e) => head.len() == HEAD && e.valid_up_to() + 4 > HEAD && e.error_len().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_by_content_and_leftovers_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let jpeg = b"\xff\xd8\xff\xe0";
        let files: [(&str, &[u8]); 12] = [
            ("b/2.PNG", b"\x89PNG\r\n\x1a\n"),
            ("a/1.jfif", jpeg),
            ("a/no-ending", jpeg),
            ("a/notes.txt", "Röntgen".as_bytes()),
            ("a/text.png", b"not a picture"),
            ("a/empty", b""),
            (".hidden/3.png", jpeg),
            ("._4.jpg", jpeg),
            ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
            ("__MACOSX/5.jpg", jpeg),
            ("0.dcm", b"\0\0\0\0"),
            ("2.hilum-update", &slots::bundle::MAGIC),
        ];
        for (name, content) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let names: Vec<_> = image_files(dir.path())
            .unwrap()
            .into_iter()
            .map(|p| p.strip_prefix(dir.path()).unwrap().display().to_string())
            .collect();
        assert_eq!(names, ["0.dcm", "a/1.jfif", "a/empty", "a/no-ending", "a/text.png", "b/2.PNG"]);
    }
}
