//! Nothing but decoding, for comparing pixels with another program: `decode FILE…` writes each file's grey plane to
//! `FILE.pgm`, or says why it is refused.

use edge_runtime::image::{GreyPlane, Radiograph};
use edge_runtime::process::files::write_atomically;
use std::path::Path;

fn main() {
    for file in std::env::args().skip(1) {
        match std::fs::read(&file).map(|bytes| Radiograph::decode(&bytes)) {
            Ok(Ok(radiograph)) => match write(&format!("{file}.pgm"), &radiograph.plane) {
                Ok(()) => println!("{file}: {:?}", radiograph.origin),
                Err(e) => println!("{file}: not written: {e}"),
            },
            Ok(Err(e)) => println!("{file}: refused: {e}"),
            Err(e) => println!("{file}: {e}"),
        }
    }
}

fn write(path: &str, plane: &GreyPlane) -> std::io::Result<()> {
    let mut bytes = format!("P5 {} {} 255\n", plane.width, plane.height).into_bytes();
    bytes.extend(&plane.pixels);
    write_atomically(Path::new(path), &bytes)
}
