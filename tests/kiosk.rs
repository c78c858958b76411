//! The device as a workplace, through its real binary: what arrives, what is shown, what is kept.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use tests::{assert_sentence, binary, json, ok, run};

/// A device that runs in a folder of its own.
struct Device {
    folder: tempfile::TempDir,
    child: Child,
    keys: ChildStdin,
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn phantom() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/phantom-chest.jpeg")
}

fn start(folder: &Path, options: &[&str]) -> (Child, ChildStdin) {
    let mut child = Command::new(binary("edge-runtime"))
        .args(["ui", "--inbox", "inbox", "--findings", "findings", "--keys"])
        .args(options)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(std::fs::File::options().append(true).create(true).open(folder.join("said")).expect("a file"))
        .spawn()
        .expect("the binary starts");
    let keys = child.stdin.take().expect("a pipe");
    (child, keys)
}

impl Device {
    fn new(options: &[&str]) -> Device {
        let folder = tempfile::tempdir().unwrap();
        let (child, keys) = start(folder.path(), options);
        let device = Device { folder, child, keys };
        device.wait_for("a screen", |d| d.path("screen.png").exists() && d.path("inbox").exists());
        device
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn wait_for(&self, what: &str, is_there: impl Fn(&Device) -> bool) {
        let start = Instant::now();
        while !is_there(self) {
            assert!(start.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts a file into the inbox as careful programs do.
    fn arrives(&self, name: &str, bytes: &[u8]) {
        let whole = self.path("arriving");
        std::fs::write(&whole, bytes).unwrap();
        std::fs::rename(whole, self.path("inbox").join(name)).unwrap();
    }

    fn findings(&self) -> Vec<serde_json::Value> {
        let text = ok("edge-runtime", &["export", "--findings", "findings", "--json"], self.folder.path());
        text.lines().filter(|l| !l.is_empty()).map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for_findings(&self, count: usize) -> Vec<serde_json::Value> {
        self.wait_for(&format!("{count} findings"), |device| device.findings().len() >= count);
        let findings = self.findings();
        assert_eq!(findings.len(), count);
        findings
    }

    /// Whether it has said `words` on its standard error.
    fn said(&self, words: &str) -> bool {
        std::fs::read_to_string(self.path("said")).is_ok_and(|text| text.contains(words))
    }

    fn press(&mut self, key: &str) {
        let before = std::fs::read(self.path("screen.png")).unwrap();
        writeln!(self.keys, "{key}").unwrap();
        self.wait_for("another screen", |device| std::fs::read(device.path("screen.png")).unwrap() != before);
    }

    fn screen(&self) -> Vec<u8> {
        std::fs::read(self.path("screen.png")).unwrap()
    }

    /// Ends it as a cut of power ends it, and starts it again.
    fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.keys) = start(self.folder.path(), &[]);
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_arrives_is_scanned_shown_and_kept_without_its_name() {
    let mut device = Device::new(&[]);
    device.wait_for("the findings", |d| d.path("findings/clinic.key").exists());
    device.arrives("Jane-Doe-1970.jpeg", &std::fs::read(phantom()).unwrap());
    let kept = &device.wait_for_findings(1)[0];
    let phantom = phantom();
    let scanned = json("edge-runtime", &["scan", "--json", phantom.to_str().unwrap()], device.folder.path());
    for key in ["probability", "threshold", "answer", "sha256", "warnings"] {
        assert_eq!(kept[key], scanned[key], "{key}");
    }
    assert_eq!(kept["file"].as_str().unwrap().len(), 16);
    for entry in std::fs::read_dir(device.path("findings")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(4).any(|w| w == b"Jane"), "a patient's name is on the disk");
    }
    let named = ["export", "--findings", "findings", "--file", "Jane-Doe-1970.jpeg", "--json"];
    assert!(ok("edge-runtime", &named, device.folder.path()).contains(kept["file"].as_str().unwrap()));
    let other = run("edge-runtime", &["export", "--findings", "findings", "--file", "other"], device.folder.path());
    assert_eq!(other.code, Some(1));
    assert_sentence(&other.stderr);
    // Map and back, findings and back, another language.
    device.wait_for("the result", |d| d.screen().len() > 2000);
    for key in ["middle", "middle", "left", "left", "left", "middle", "left", "left", "right"] {
        device.press(key);
    }
    writeln!(device.keys, "quit").unwrap();
    assert!(device.child.wait().unwrap().success());
}

#[test]
fn a_device_that_loses_power_has_its_findings_and_scans_nothing_twice() {
    let mut device = Device::new(&[]);
    let image = std::fs::read(phantom()).unwrap();
    device.arrives("a.jpeg", &image);
    let first = device.wait_for_findings(1);
    device.restart();
    device.arrives("b.jpeg", &image[..image.len() / 2]);
    let second = device.wait_for_findings(2);
    assert_eq!(second[0], first[0]);
    assert_eq!((&second[1]["sequence"], &second[1]["refusal"]["cause"]), (&2.into(), &"damaged".into()));
    // The same image under another name is known.
    device.arrives("c.jpeg", &image);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(device.findings().len(), 2);
}

#[test]
fn a_file_that_ended_the_program_is_refused_from_then_on() {
    let mut device = Device::new(&[]);
    device.arrives("a.jpeg", &std::fs::read(phantom()).unwrap());
    let reference = device.wait_for_findings(1)[0]["file"].as_str().unwrap().to_owned();
    device.child.kill().unwrap();
    device.child.wait().unwrap();
    let image = device.path("inbox/a.jpeg");
    std::fs::write(&image, b"\xff\xd8\xff\xe0 another image").unwrap();
    let there = std::fs::metadata(&image).unwrap();
    let changed = there.modified().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let in_work = format!("{}\n{}\n{changed}\n2\n{reference}\n", boot.trim(), there.len());
    std::fs::write(device.path("findings/in-work"), in_work).unwrap();
    (device.child, device.keys) = start(device.folder.path(), &[]);
    let findings = device.wait_for_findings(2);
    assert_eq!((&findings[1]["file"], &findings[1]["refusal"]["cause"]), (&reference.into(), &"decoder-failed".into()));
    assert!(!device.path("findings/in-work").exists());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(device.findings().len(), 2, "it is not opened again");
}

/// A file on a disk that does not answer: the screen says so, other things go on, the finding comes when it answers.
/// The disk is one whose file another program holds a lease on (fcntl(2)): whoever opens it waits.
#[test]
fn a_disk_that_hangs_is_said_and_keeps_the_device_from_nothing() {
    let Some(python) = tests::peers::python("fcntl") else { return };
    let mut device = Device::new(&[]);
    device.wait_for("the findings", |d| d.path("findings/clinic.key").exists());
    let whole = device.path("held");
    std::fs::copy(phantom(), &whole).unwrap();
    let hold = "import fcntl, os, signal, sys, time; signal.signal(signal.SIGIO, signal.SIG_IGN); \
                file = os.open(sys.argv[1], os.O_RDWR); fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK); \
                print('held', flush=True); sys.stdin.read()";
    let mut holder = Command::new(python)
        .args(["-c", hold, whole.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = [0; 4];
    let is_held = std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut said).is_ok();
    // Not all file systems make who opens a leased file wait.
    const NONBLOCK: i32 = 0o4000;
    let opened = std::fs::File::options().read(true).custom_flags(NONBLOCK).open(&whole);
    if !is_held || !opened.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock) {
        eprintln!("skipped: files cannot be leased here");
        drop(holder.stdin.take());
        holder.wait().unwrap();
        return;
    }
    std::fs::rename(&whole, device.path("inbox/held.jpeg")).unwrap();
    device.wait_for("word of the disk", |device| device.said("its disk does not answer"));
    assert!(device.findings().is_empty());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    device.wait_for_findings(1);
    device.press("left");
    writeln!(device.keys, "quit").unwrap();
    assert!(device.child.wait().unwrap().success());
}

#[test]
fn many_files_and_files_of_all_kinds_are_survived() {
    let device = Device::new(&["--language", "ar"]);
    let image = std::fs::read(phantom()).unwrap();
    for i in 0..40u8 {
        let mut bytes = image.clone();
        // Still whole: what comes after the end of a JPEG is not read, and every digest is another.
        bytes.push(i);
        device.arrives(&format!("{i}.jpeg"), &bytes);
    }
    device.arrives("empty.png", b"");
    device.arrives("noise.dcm", &image.iter().rev().copied().collect::<Vec<u8>>());
    device.wait_for("all findings", |device| device.findings().len() == 42);
    let refused = device.findings().iter().filter(|finding| finding["refusal"].is_object()).count();
    assert_eq!(refused, 2);
}

#[test]
fn a_table_has_a_row_a_finding() {
    let device = Device::new(&[]);
    device.arrives("a.jpeg", &std::fs::read(phantom()).unwrap());
    device.wait_for_findings(1);
    ok("edge-runtime", &["export", "--findings", "findings", "-o", "out.csv"], device.folder.path());
    let table = std::fs::read_to_string(device.path("out.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("sequence,time,clock_set,reference,answer,probability,"), "{table}");
    assert!(lines[1].contains("not a diagnosis"), "{table}");
}

#[test]
fn a_configuration_that_is_wrong_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("clinic.toml"), "language = \"en\"\nthread = 2\n").unwrap();
    for command in [["ui", "--config", "clinic.toml"], ["doctor", "--config", "clinic.toml"]] {
        let r = run("edge-runtime", &command, folder.path());
        assert_eq!(r.code, Some(2), "{}", r.stderr);
        assert_sentence(&r.stderr);
        assert!(r.stderr.contains("clinic.toml, line 2: unknown field `thread`"), "{}", r.stderr);
    }
    let r = run("edge-runtime", &["ui", "--inbox", "a", "--findings", "a/b"], folder.path());
    assert_eq!(r.code, Some(2));
    assert_sentence(&r.stderr);
    let defaults = ok("edge-runtime", &["config"], folder.path());
    std::fs::write(folder.path().join("own.toml"), &defaults).unwrap();
    let checked = json("edge-runtime", &["config", "--check", "own.toml", "--json"], folder.path());
    assert_eq!(checked, json("edge-runtime", &["config", "--json"], folder.path()));
}

#[test]
fn the_doctor_says_what_is_wrong_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = "[findings]\nfolder = \"nowhere\"\n";
    std::fs::write(folder.path().join("clinic.toml"), config).unwrap();
    let r = run("edge-runtime", &["doctor", "--config", "clinic.toml", "--json"], folder.path());
    assert_eq!(r.code, Some(1), "{}", r.stderr);
    let report: serde_json::Value = serde_json::from_str(&r.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let of = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap();
    assert_eq!((&of("model")["passed"], &of("disk")["passed"]), (&true.into(), &false.into()));
    assert!(of("disk")["sentence"].as_str().unwrap().contains("nowhere is not there: `edge-runtime ui` makes it"));
}

#[test]
fn a_budget_that_is_enforced_has_an_exit_code_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let board = ok("boards", &["show", "host", "--json"], folder.path());
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    assert_eq!(board["display"]["kind"], "png");
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards/host.toml")).unwrap();
    let (head, _) = text.split_once("[budget_ms]").unwrap();
    let stages = ["read", "decode", "preprocess", "infer", "explain", "render"].map(|s| format!("{s} = 0.0001\n"));
    std::fs::write(folder.path().join("hurry.toml"), format!("{head}[budget_ms]\n{}", stages.concat())).unwrap();
    let phantom = phantom();
    let scan = ["scan", phantom.to_str().unwrap(), "--board", "hurry.toml"];
    let r = run("edge-runtime", &scan, folder.path());
    assert!(r.code == Some(0) && r.stdout.contains("OVER the 0 ms budget"), "{}", r.stdout);
    assert_eq!(run("edge-runtime", &[&scan[..], &["--enforce-budget"]].concat(), folder.path()).code, Some(5));
}
