//! Paths as text that can be turned back: manifests are UTF-8, file names need not be.

use std::path::{Component, Path, PathBuf};

/// `path`, relative, with `/` between its parts. Bytes that are no UTF-8 are written as `\\x` and two hexadecimal
/// digits, a backslash as two.
pub fn to_text(path: &Path) -> String {
    let parts = path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    let texts: Vec<String> = parts.map(|c| part_to_text(c.as_os_str().as_encoded_bytes())).collect();
    texts.join("/")
}

fn part_to_text(mut bytes: &[u8]) -> String {
    let mut text = String::new();
    while !bytes.is_empty() {
        let (valid, rest) = match std::str::from_utf8(bytes) {
            Ok(valid) => (valid, &bytes[bytes.len()..]),
            Err(e) => {
                let (valid, rest) = bytes.split_at(e.valid_up_to());
                (std::str::from_utf8(valid).unwrap_or_default(), rest)
            }
        };
        text.push_str(&valid.replace('\\', "\\\\"));
        if let Some((byte, rest)) = rest.split_first() {
            text.push_str(&format!("\\x{byte:02x}"));
            bytes = rest;
        } else {
            bytes = rest;
        }
    }
    text
}

/// The path under `root` that [`to_text`] wrote as `text`.
pub fn join(root: &Path, text: &str) -> PathBuf {
    if !text.contains('\\') {
        return root.join(text);
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok().and_then(|d| u8::from_str_radix(d, 16).ok());
                match digits {
                    Some(byte) => {
                        bytes.push(byte);
                        rest = after;
                    }
                    None => bytes.push(b'\\'),
                }
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    root.join(from_bytes(bytes))
}

#[cfg(unix)]
fn from_bytes(bytes: Vec<u8>) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(not(unix))]
fn from_bytes(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        let root = Path::new("root");
        let names: [&[u8]; 6] =
            [b"a/b.png", b"caf\xe9.jpg", b"back\\slash", b"\xff\xfe/x\\x41", "Röntgen ✓".as_bytes(), b"50%"];
        for name in names {
            let path = from_bytes(name.to_vec());
            let text = to_text(&path);
            assert_eq!(join(root, &text), root.join(&path), "{text}");
        }
        assert_eq!(to_text(Path::new("train/NORMAL/a.png")), "train/NORMAL/a.png");
    }
}
