//! Lists `boards/*.toml` for embedding: a file's existence defines a board.

use std::fmt::Write;
use std::path::Path;

fn main() {
    let folder = Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../boards");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("boards/ lies beside edge-runtime/")
        .map(|e| e.expect("a readable folder").path())
        .filter(|p| p.extension().is_some_and(|e| e == "toml") && !p.ends_with("Cargo.toml"))
        .collect();
    files.sort();
    let mut code = String::from("&[\n");
    for file in files {
        let name = file.file_stem().and_then(|s| s.to_str()).expect("board names are ASCII");
        println!("cargo::rerun-if-changed={}", file.display());
        writeln!(code, "({name:?}, include_str!({:?})),", file.display().to_string()).expect("memory does not fail");
    }
    code.push(']');
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("boards.rs"), code).expect("OUT_DIR is writable");
}
