//! Cards through the real binaries: keys, updates, writing, and every refusal. Images are made here from a program that
//! is none, so that no package has to be fetched; `.ci/run` builds and starts real ones.

use boards::card::application::{Release, application};
use boards::card::archive::Entry;
use boards::card::image::{Parts, description_path, write};
use edge_runtime::board::Board;
use slots::boot;
use slots::keys::KeyRing;
use slots::layout::{Layout, Slot};
use slots::record::CLINIC;
use slots::state::{Outcome, State};
use slots::{Block, Disk};
use std::fs::File;
use std::path::{Path, PathBuf};
use tests::{Run, assert_sentence, ok, run};

const BOARD: &str = "raspberry-pi-4";
const TARGET: &str = "aarch64-unknown-linux-musl";

/// A folder with two keys, an image of release 1000 as a device's card, and what the device's first program leaves.
struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    fn new() -> Workshop {
        let workshop = Workshop { folder: tempfile::tempdir().unwrap() };
        workshop.ok("boards", &["keygen", "clinic", "--secret", "clinic.key", "--keys", "keys.toml"]);
        workshop.ok("boards", &["keygen", "stranger", "--secret", "stranger.key", "--keys", "others.toml"]);
        workshop.image("card.img", 1000);
        workshop.image("next.img", 2000);
        let keys = workshop.keys("keys.toml");
        let device = serde_json::json!({
            "card": workshop.path("card.img"),
            "device": { "board": BOARD, "target": TARGET, "interface": slots::INTERFACE, "keys": keys },
            "release": 1000,
            "version": "0.1.0",
        });
        std::fs::write(workshop.path("device.json"), device.to_string()).unwrap();
        workshop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ok(&self, program: &str, args: &[&str]) -> String {
        ok(program, args, self.folder.path())
    }

    fn run(&self, program: &str, args: &[&str]) -> Run {
        run(program, args, self.folder.path())
    }

    fn keys(&self, name: &str) -> KeyRing {
        toml::from_str(&std::fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }

    fn image(&self, name: &str, release: u64) {
        let board = Board::find(BOARD).unwrap();
        let release =
            Release { board: BOARD.into(), target: TARGET.into(), release, version: format!("release {release}") };
        let archive = application(&release, format!("program {}", release.release).into_bytes(), &board).unwrap();
        let model = boards::card::application::embedded().unwrap();
        let boot = [Entry::file("config.txt", *b"a=1\n")];
        let keys = self.keys("keys.toml");
        let parts =
            Parts { release: &release, boot: &boot, application: &archive, keys: &keys, model: &model, limits: "none" };
        let path = self.path(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let description = write(&parts, file).unwrap();
        std::fs::write(description_path(&path), serde_json::to_string(&description).unwrap()).unwrap();
    }

    fn sign(&self, output: &str, key: &str, more: &[&str]) {
        let args = [&["sign", "next.img", "--key", key, "-o", output], more].concat();
        self.ok("boards", &args);
    }

    fn update(&self, file: &str) -> Run {
        self.run("edge-runtime", &["update", file, "--device", "device.json"])
    }

    fn state(&self) -> State {
        State::read(&self.card()).unwrap()
    }

    fn card(&self) -> Disk {
        Disk::open(&self.path("card.img")).unwrap()
    }
}

/// One refusal with what was said, and the card as it was.
fn refused(workshop: &Workshop, file: &str, says: &str) {
    let before = std::fs::read(workshop.path("card.img")).unwrap();
    let run = workshop.update(file);
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert_sentence(&run.stderr);
    assert!(run.stderr.contains(says), "{} does not say `{says}`", run.stderr);
    assert!(before == std::fs::read(workshop.path("card.img")).unwrap(), "the card was touched");
}

#[test]
fn an_update_is_installed_tried_and_committed() {
    let workshop = Workshop::new();
    workshop.sign("2.hilum-update", "clinic.key", &[]);
    let said = workshop.update("2.hilum-update");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert!(said.stdout.contains("release 2000") && said.stdout.contains("release 1000 runs again"), "{}", said.stdout);
    let mut card = workshop.card();
    assert_eq!(boot::begin(&mut card).unwrap(), boot::Start { slot: Slot::B, is_trial: true });
    boot::commit(&mut card).unwrap();
    assert_eq!(workshop.state().outcome, Some(Outcome::Committed { release: 2000 }));
    let text = workshop.ok("boards", &["sign", "card.img", "--key", "clinic.key", "-o", "again.hilum-update"]);
    assert!(text.contains("release 2000"), "{text}");
    refused(&workshop, "again.hilum-update", "installed already");
    refused(&workshop, "2.hilum-update", "installed already");
    workshop.sign("3.hilum-update", "clinic.key", &["--release", "1500"]);
    refused(&workshop, "3.hilum-update", "older ones are not installed");
    workshop.sign("4.hilum-update", "clinic.key", &["--release", "1500", "--over", "2000"]);
    assert_eq!(workshop.update("4.hilum-update").code, Some(0));
}

#[test]
fn what_is_no_update_for_this_device_is_refused_and_the_card_stays_as_it_was() {
    let workshop = Workshop::new();
    workshop.sign("good.hilum-update", "clinic.key", &[]);
    let good = std::fs::read(workshop.path("good.hilum-update")).unwrap();
    workshop.sign("unknown.hilum-update", "stranger.key", &[]);
    refused(&workshop, "unknown.hilum-update", "a key that this device does not know");
    let changed = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        std::fs::write(workshop.path(name), bytes).unwrap();
    };
    changed("cut.hilum-update", &|bytes| bytes.truncate(bytes.len() - 1));
    refused(&workshop, "cut.hilum-update", "cut short");
    changed("flipped.hilum-update", &|bytes| *bytes.last_mut().unwrap() ^= 1);
    refused(&workshop, "flipped.hilum-update", "its digest is another one");
    changed("resigned.hilum-update", &|bytes| bytes[20] ^= 1);
    refused(&workshop, "resigned.hilum-update", "its signature is wrong");
    refused(&workshop, "card.img", "no update of Hilum");
    let run = workshop.update("nowhere.hilum-update");
    assert!(run.code == Some(1) && run.stderr.contains("cannot be opened"), "{}", run.stderr);
    let device = std::fs::read_to_string(workshop.path("device.json")).unwrap();
    for (from, to, says) in [
        ("raspberry-pi-4", "raspberry-pi-3b", "made for raspberry-pi-4, and this is raspberry-pi-3b"),
        (TARGET, "x86_64-unknown-linux-musl", "this device runs x86_64"),
    ] {
        std::fs::write(workshop.path("device.json"), device.replace(from, to)).unwrap();
        refused(&workshop, "good.hilum-update", says);
    }
    std::fs::write(workshop.path("device.json"), "{}").unwrap();
    refused(&workshop, "good.hilum-update", "no device that runs from a card");
}

#[test]
fn a_revoked_key_is_refused_once_the_update_that_revokes_it_runs() {
    let workshop = Workshop::new();
    let more = ["keygen", "second", "--secret", "second.key", "--keys", "keys.toml", "--revoke", "clinic"];
    workshop.ok("boards", &more);
    workshop.sign("2.hilum-update", "clinic.key", &["--keys", "keys.toml"]);
    assert_eq!(workshop.update("2.hilum-update").code, Some(0));
    let mut card = workshop.card();
    assert!(boot::begin(&mut card).unwrap().is_trial);
    boot::commit(&mut card).unwrap();
    workshop.sign("3.hilum-update", "clinic.key", &["--release", "3000"]);
    refused(&workshop, "3.hilum-update", "a key that was revoked");
    workshop.sign("4.hilum-update", "second.key", &["--release", "3000"]);
    assert_eq!(workshop.update("4.hilum-update").code, Some(0));
    let same = workshop.run("boards", &["keygen", "x", "--secret", "same.toml", "--keys", "same.toml"]);
    assert_eq!(same.code, Some(2), "{}", same.stderr);
    std::fs::write(workshop.path("last.toml"), "version = 4294967295\nkeys = []\n").unwrap();
    let last = workshop.run("boards", &["keygen", "x", "--secret", "x.key", "--keys", "last.toml"]);
    assert_eq!(last.code, Some(2), "{}", last.stderr);
    assert!(!workshop.path("x.key").exists());
    let run = workshop.run("boards", &["keygen", "x", "--secret", "second.key", "--keys", "keys.toml"]);
    assert!(run.code == Some(1) && run.stderr.contains("second.key"), "a secret was written over: {}", run.stderr);
}

#[test]
fn a_model_is_updated_by_itself() {
    let workshop = Workshop::new();
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../edge-runtime/models/default.hilum");
    let sign = |output: &str, board: &str| {
        let args = ["sign", model, "--key", "clinic.key", "-o", output, "--board", board, "--release", "1001"];
        workshop.ok("boards", &args);
    };
    sign("model.hilum-update", BOARD);
    sign("other.hilum-update", "raspberry-pi-3b");
    refused(&workshop, "other.hilum-update", "made for raspberry-pi-3b");
    let run = workshop.update("model.hilum-update");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let card = workshop.card();
    let layout = Layout::read(&card).unwrap();
    let update = std::fs::read(workshop.path("model.hilum-update")).unwrap();
    let held = workshop.state().content(Slot::B).unwrap().model.clone().unwrap().length as usize;
    assert!(card.bytes(layout.model_area(Slot::B).start, held).unwrap() == update[update.len() - held..]);
    let length = workshop.state().content(Slot::A).unwrap().length as usize;
    let image = |slot| card.bytes(layout.image_area(slot).start, length).unwrap();
    assert!(image(Slot::A) == image(Slot::B));
    assert_eq!(workshop.state().trial.unwrap().release, 1001);
}

#[test]
fn a_card_is_written_read_back_and_recorded() {
    let workshop = Workshop::new();
    std::fs::write(workshop.path("clinic.toml"), "language = \"sw\"\n").unwrap();
    let args = ["flash", "card.img", "--to", "written.img", "--yes", "--settings", "clinic.toml", "--record", "r.json"];
    let said = workshop.ok("boards", &args);
    assert!(said.contains("good: written.img holds the image"), "{said}");
    let card = Disk::open_to_read(&workshop.path("written.img")).unwrap();
    assert_eq!(CLINIC.read::<String>(&card).as_deref(), Some("language = \"sw\"\n"));
    let record: serde_json::Value = serde_json::from_slice(&std::fs::read(workshop.path("r.json")).unwrap()).unwrap();
    assert_eq!(record["is_image_described"], true);
    assert_eq!(record["description"]["release"], 1000);
    assert!(record["verdict"].as_str().unwrap().starts_with("good"));
}

#[test]
fn nothing_wrong_is_written_or_called_good() {
    let workshop = Workshop::new();
    let refuse = |args: &[&str], code: i32, says: &str| {
        let run = workshop.run("boards", &[&["flash"], args].concat());
        assert_eq!(run.code, Some(code), "{}", run.stderr);
        assert!(run.stderr.contains(says) && !run.stdout.contains("good"), "{}", run.stderr);
    };
    refuse(&["card.img", "--to", "new.img"], 2, "--yes");
    assert!(!workshop.path("new.img").exists());
    refuse(&["card.img", "--to", "card.img", "--yes"], 2, "it is an input");
    std::fs::hard_link(workshop.path("card.img"), workshop.path("same.img")).unwrap();
    refuse(&["card.img", "--to", "same.img", "--yes"], 2, "it is an input");
    refuse(&["card.img", "--to", "new.img", "--yes", "--record", "new.img"], 2, "different names");
    std::fs::write(workshop.path("noise.img"), vec![7; 20 << 20]).unwrap();
    refuse(&["noise.img", "--to", "new.img", "--yes"], 1, "no image of `boards build`");
    refuse(&["nowhere.img", "--to", "new.img", "--yes"], 1, "nowhere.img cannot be read");
    File::create(workshop.path("small.img")).unwrap().set_len(1 << 20).unwrap();
    refuse(&["card.img", "--to", "small.img", "--yes"], 1, "take a larger one");
    refuse(&["card.img", "--to", "/dev/full", "--yes"], 1, "neither a disk nor a file");
    std::fs::write(workshop.path("wrong.toml"), "threads = 1\nlanguage = \"xx\"\n").unwrap();
    refuse(&["card.img", "--to", "new2.img", "--yes", "--settings", "wrong.toml"], 2, "line 2");
    std::fs::write(workshop.path("next.img.json"), "{").unwrap();
    refuse(&["next.img", "--to", "new.img", "--yes"], 1, "is damaged");
    // An image that is not what its description says is of unknown origin.
    let mut image = std::fs::read(workshop.path("card.img")).unwrap();
    image[100 << 20] ^= 1;
    std::fs::write(workshop.path("card.img"), image).unwrap();
    refuse(&["card.img", "--to", "other.img", "--yes"], 1, "does not start");
    assert!(std::fs::read(workshop.path("other.img")).unwrap()[..512].iter().all(|byte| *byte == 0));
}

#[test]
fn a_system_of_another_maker_gets_the_program_and_its_unit() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["install", BOARD, "--root", "root", "--application", "program"];
    let install = || tests::run("boards", &args, folder.path());
    let root = folder.path().join("root");
    let run = install();
    assert!(run.code == Some(1) && run.stderr.contains("no root of a Linux system"), "{}", run.stderr);
    std::fs::create_dir_all(root.join("usr/bin")).unwrap();
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/os-release"), "ID=debian\n").unwrap();
    std::fs::copy(tests::binary("edge-runtime"), folder.path().join("program")).unwrap();
    let run = install();
    assert!(run.code == Some(1) && run.stderr.contains("no static program"), "{}", run.stderr);
    assert!(!root.join("usr/bin/edge-runtime").exists());
    // The head of a program for AArch64 (183) that asks for nothing.
    let mut program = [0; 64];
    program[..6].copy_from_slice(b"\x7fELF\x02\x01");
    program[18] = 183;
    std::fs::write(folder.path().join("program"), program).unwrap();
    let run = install();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let configuration = root.join("etc/hilum/edge-runtime.toml");
    assert!(std::fs::read_to_string(&configuration).unwrap().contains("board = \"raspberry-pi-4\""));
    assert!(root.join("usr/lib/systemd/system/hilum.service").exists());
    assert!(root.join("etc/systemd/system/multi-user.target.wants/hilum.service").is_symlink());
    // A link of the other system does not lead out of it.
    std::fs::create_dir_all(folder.path().join("evil/etc")).unwrap();
    std::fs::write(folder.path().join("evil/etc/os-release"), "").unwrap();
    std::fs::create_dir_all(folder.path().join("evil/usr")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("root/usr/bin"), folder.path().join("evil/usr/bin")).unwrap();
    let evil = tests::run("boards", &["install", BOARD, "--root", "evil", "--application", "program"], folder.path());
    assert!(evil.code == Some(1) && evil.stderr.contains("leads out of"), "{}", evil.stderr);
    // What a clinic has set stays.
    std::fs::write(&configuration, "language = \"sw\"\n").unwrap();
    assert_eq!(install().code, Some(0));
    assert_eq!(std::fs::read_to_string(&configuration).unwrap(), "language = \"sw\"\n");
}

#[test]
fn the_power_is_cut_by_a_command() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report: serde_json::Value = serde_json::from_str(&ok("boards", &["power-cuts", "--json"], folder)).unwrap();
    assert!(report["states"].as_u64().unwrap() > 3000, "{report}");
}
