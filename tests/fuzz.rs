//! Readers of files against changed files: none may panic, hang or take all memory.
//!
//!     cargo run --release -p tests --example fuzz -- dicom --seconds 600
//!
//! Each target changes the fixtures of this repository at random, over and over. An input that breaks a reader is kept
//! in `--finds`; it becomes a fixture and a test. The input of the moment is always there as `TARGET-current`, for
//! readers that end the process.

use clap::{Parser, ValueEnum};
use edge_runtime::board::Board;
use edge_runtime::engine::{Compute, kernels};
use edge_runtime::image::Radiograph;
use edge_runtime::keys::SecretKey;
use edge_runtime::model::Model;
use edge_runtime::model::bundle::{HEADER, MAGIC, sign};
use edge_runtime::process::files::{sha256, sha256_hex};
use host_train::recipe::Recipe;
use quantize::canonical::canonical;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A reader that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(20);
/// Largest input that is made (bytes).
const LARGEST: usize = 1 << 20;

#[derive(Parser)]
struct Args {
    /// What is read
    target: Target,
    /// How long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Seed of all changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where inputs that break a reader are kept
    #[arg(long, default_value = "target/fuzz")]
    finds: PathBuf,
}

/// What is read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    Dicom,
    /// PNG, JPEG and TIFF.
    Pictures,
    /// Any model, by `edge-runtime` and by `quantize`.
    Onnx,
    /// Bundles whose digest is made right again, without a signature, with one, and with a wrong one.
    Bundle,
    Board,
    Recipe,
}

impl Target {
    /// Folders or files, below the workspace, that inputs are made from.
    fn seeds(self) -> &'static [&'static str] {
        match self {
            Target::Dicom => &["tests/fixtures/dicom"],
            Target::Pictures => &["tests/fixtures/jpeg", "tests/fixtures/folder", "tests/fixtures/images"],
            Target::Onnx => &["tests/fixtures/models"],
            Target::Bundle => &["edge-runtime/models"],
            Target::Board => &["boards"],
            Target::Recipe => &["host-train/recipes"],
        }
    }

    fn read(self, bytes: &[u8], compute: &Compute) {
        match self {
            Target::Dicom | Target::Pictures => drop(Radiograph::decode(bytes)),
            Target::Onnx => {
                drop(Model::from_bytes(bytes, Path::new("a.onnx"), compute));
                if let Ok(model) = edge_runtime::onnx::decode(bytes, Path::new("a.onnx")) {
                    drop(canonical(&model, Some(32)));
                }
            }
            Target::Bundle => {
                let mut bundle = with_digest(bytes);
                drop(Model::from_bytes(&bundle, Path::new("a.hilum"), compute));
                let is_signed = sign(&mut bundle, &SecretKey::of_random("fuzz", [7; 32]));
                // Behind a right signature the same is read, and behind a changed one nothing.
                drop(is_signed.map(|()| Model::from_bytes(&bundle, Path::new("a.hilum"), compute)));
                if let (Some(last), Some(first)) = (bundle.last_mut(), bytes.first()) {
                    *last ^= first | 1;
                }
                assert!(Model::from_bytes(&bundle, Path::new("a.hilum"), compute).is_err());
            }
            Target::Board => drop(std::str::from_utf8(bytes).map(|text| Board::parse("a", text, Path::new("a.toml")))),
            Target::Recipe => drop(std::str::from_utf8(bytes).map(|text| Recipe::parse(text, Path::new("a.toml")))),
        }
    }
}

/// A bundle with the payload of `bytes`, its length and digest as they should be.
fn with_digest(bytes: &[u8]) -> Vec<u8> {
    let payload = bytes.get(HEADER..).unwrap_or_default();
    let version = bytes.get(8..10).unwrap_or(&[2, 0]);
    [&MAGIC, version, &[0, 0], &(payload.len() as u32).to_le_bytes(), &sha256(payload), payload].concat()
}

/// All files of `folder`, and below.
fn files(folder: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = std::fs::read(&path)
            && !path.extension().is_some_and(|e| e == "rs" || e == "md")
        {
            found.push(bytes);
        }
    }
}

/// Values that readers trip over.
const EDGES: [u32; 9] = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];

/// One of `seeds`, changed a little.
fn changed(seeds: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=6) {
        if bytes.is_empty() {
            break;
        }
        // Headers are small: half of the changes are among the first bytes.
        let reach = if rng.random_bool(0.5) { bytes.len().min(512) } else { bytes.len() };
        let at = rng.random_range(0..reach);
        let length = rng.random_range(1..=64).min(bytes.len() - at);
        let edge = *EDGES.choose(rng).expect("there are some");
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at] = edge as u8,
            3 => overwrite(&mut bytes, at, &(edge as u16).to_le_bytes()),
            4 => overwrite(&mut bytes, at, &edge.to_le_bytes()),
            5 => overwrite(&mut bytes, at, &edge.to_be_bytes()),
            6 => drop(bytes.drain(at..at + length)),
            7 => {
                let part = bytes[at..at + length].to_vec();
                bytes.splice(at..at, part);
            }
            _ if rng.random_bool(0.2) => bytes.truncate(at),
            _ => {
                let other = seeds.choose(rng).expect("there are some");
                let from = rng.random_range(0..other.len().max(1));
                let part: Vec<u8> = other[from.min(other.len())..].iter().take(length).copied().collect();
                overwrite(&mut bytes, at, &part);
            }
        }
    }
    bytes.truncate(LARGEST.max(bytes.len().min(4 * LARGEST)));
    bytes
}

fn overwrite(bytes: &mut [u8], at: usize, part: &[u8]) {
    for (to, from) in bytes[at..].iter_mut().zip(part) {
        *to = *from;
    }
}

/// Tries `count` inputs, or as many as fit into `seconds`; gives how many were tried and how many broke the reader.
fn fuzz(target: Target, seed: u64, finds: &Path, goes_on: impl Fn(u64) -> bool) -> std::io::Result<[u64; 2]> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut seeds = Vec::new();
    target.seeds().iter().for_each(|folder| files(&root.join(folder), &mut seeds));
    assert!(!seeds.is_empty(), "no fixtures for {target:?}");
    std::fs::create_dir_all(finds)?;
    let compute =
        Compute { kernel: kernels::best(), team: kernels::team::Team::new(1).map_err(std::io::Error::other)? };
    let current = finds.join(format!("{target:?}-current").to_lowercase());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut tried = 0;
    let mut broken = 0;
    while goes_on(tried) {
        let bytes = changed(&seeds, &mut rng);
        std::fs::write(&current, &bytes)?;
        let clock = Instant::now();
        let panics = catch_unwind(AssertUnwindSafe(|| target.read(&bytes, &compute))).is_err();
        if panics || clock.elapsed() > LONGEST {
            broken += 1;
            let name = format!("{target:?}-{}", &sha256_hex(&bytes)[..16]).to_lowercase();
            std::fs::write(finds.join(&name), &bytes)?;
            eprintln!("{}: {name}", if panics { "panic" } else { "hang" });
        }
        tried += 1;
    }
    std::fs::remove_file(&current)?;
    Ok([tried, broken])
}

fn main() -> std::io::Result<()> {
    let args = Args::parse();
    let clock = Instant::now();
    let goes_on = |_| clock.elapsed().as_secs() < args.seconds;
    let [tried, broken] = fuzz(args.target, args.seed, &args.finds, goes_on)?;
    println!("{:?}: {tried} inputs, {broken} broke their reader", args.target);
    if broken > 0 { Err(std::io::Error::other("readers broke")) } else { Ok(()) }
}

#[test]
fn no_reader_breaks_on_some_inputs() {
    let dir = tempfile::tempdir().unwrap();
    for target in Target::value_variants() {
        let [tried, broken] = fuzz(*target, 7, dir.path(), |tried| tried < 150).unwrap();
        assert_eq!((tried, broken), (150, 0), "{target:?}");
    }
}
