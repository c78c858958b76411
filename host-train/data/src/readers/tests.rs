//! Small sets in exactly the published layouts.

use super::*;
use crate::{Dataset, Split};
use std::fs;

/// Writes `files` (path, content) into a new folder.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    dir
}

fn listing(dir: &tempfile::TempDir, reading: &Reading) -> Listing {
    read(dir.path(), reading).unwrap().listing
}

fn refusal(dir: &tempfile::TempDir) -> String {
    match read(dir.path(), &Reading::default()) {
        Ok(_) => panic!("it was read"),
        Err(e) => e.to_string(),
    }
}

const NIH_HEAD: &str = concat!(
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,",
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
);

fn nih(rows: &str) -> tempfile::TempDir {
    let table = format!("{NIH_HEAD}{rows}");
    folder(&[
        ("Data_Entry_2017.csv", &table),
        ("images_001/images/00000001_000.png", "1"),
        ("images_002/images/00000002_000.png", "2"),
        ("images_002/images/00000003_000.png", "3"),
        ("train_val_list.txt", "00000001_000.png\n"),
        ("test_list.txt", "00000002_000.png\n"),
    ])
}

#[test]
fn nih_tells_pneumonia_from_nothing_and_counts_the_rest() {
    let dir = nih("00000001_000.png,No Finding,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n\
                   00000002_000.png,Effusion|Pneumonia,0,2,411,F,AP,2682,2749,0.143,0.143,\n\
                   00000003_000.png,Effusion,0,3,30,F,AP,2682,2749,0.143,0.143,\n\
                   00000004_000.png,No Finding,0,4,30,F,AP,2682,2749,0.143,0.143,\n");
    let listing = listing(&dir, &Reading::default());
    let seen: Vec<_> = listing.entries.iter().map(|e| (e.label, e.patient.as_str(), e.split)).collect();
    assert_eq!(seen, [(0, "1", Some(Split::Train)), (1, "2", Some(Split::Test))]);
    let subject = listing.entries[0].subject;
    assert_eq!((subject.age_days, subject.sex, subject.view), (Some(21185), Some(Sex::Male), Some(View::Pa)));
    assert_eq!(listing.entries[1].subject.age_days, None);
    assert!(listing.remarks[0].contains("1 images") && listing.remarks[0].contains("other findings"));
    assert!(listing.unreadable[0].path.ends_with("00000004_000.png"));
    assert!(listing.unreadable[0].reason.contains("not there"));
}

#[test]
fn what_nih_never_wrote_is_refused_with_its_line() {
    let unknown = nih("00000001_000.png,Plague,0,1,58,M,PA,1,1,1,1,\n");
    assert!(refusal(&unknown).contains("Data_Entry_2017.csv: line 2: the finding `Plague`"), "{}", refusal(&unknown));
    let missing = folder(&[("Data_Entry_2017.csv", "Image Index,Patient ID\n")]);
    assert!(refusal(&missing).contains("line 1: the column `Finding Labels` is missing"));
    let both = nih("00000001_000.png,No Finding,0,1,58,M,PA,1,1,1,1,\n");
    fs::write(both.path().join("test_list.txt"), "00000001_000.png\n").unwrap();
    assert!(refusal(&both).contains("line 2: 00000001_000.png is in train_val_list.txt and in test_list.txt"));
}

const CHEXPERT_HEAD: &str = concat!(
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,",
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
);

fn chexpert(rows: &str) -> tempfile::TempDir {
    let table = format!("{CHEXPERT_HEAD}{rows}");
    let valid = table.lines().next().unwrap().to_owned();
    let valid = format!(
        "{valid}\nCheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,1.0,,,,,,,,,,,,,\n"
    );
    let files: Vec<String> = (1..=5).map(|i| format!("train/patient0000{i}/study1/view1_frontal.jpg")).collect();
    let mut all: Vec<(&str, &str)> = files.iter().map(|f| (f.as_str(), f.as_str())).collect();
    all.extend([
        ("train.csv", table.as_str()),
        ("valid.csv", &valid),
        ("valid/patient64541/study1/view1_frontal.jpg", "v"),
    ]);
    folder(&all)
}

const CHEXPERT_ROWS: &str = "\
CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,,,,,0.0,,,,1.0
CheXpert-v1.0-small/train/patient00002/study1/view1_frontal.jpg,Male,40,Frontal,PA,,,,,,,,1.0,,,,,,
CheXpert-v1.0-small/train/patient00003/study1/view1_frontal.jpg,Male,41,Frontal,AP,,,,,,,,-1.0,,,,,,
CheXpert-v1.0-small/train/patient00004/study1/view2_lateral.jpg,Male,42,Lateral,,1.0,,,,,,,,,,,,,
CheXpert-v1.0-small/train/patient00005/study1/view1_frontal.jpg,Male,43,Frontal,AP,,,1.0,,,,,0.0,,,,,,
";

#[test]
fn chexpert_follows_its_policy_for_the_uncertain() {
    let dir = chexpert(CHEXPERT_ROWS);
    let with = |uncertain| listing(&dir, &Reading { uncertain, ..Reading::default() });
    let labels = |listing: &Listing| -> Vec<(usize, String)> {
        listing.entries.iter().map(|e| (e.label, e.patient.clone())).collect()
    };
    let found = |pairs: &[(usize, &str)]| -> Vec<(usize, String)> {
        pairs.iter().map(|(label, patient)| (*label, (*patient).to_owned())).collect()
    };
    let ignore = with(Uncertain::Ignore);
    assert_eq!(labels(&ignore), found(&[(0, "patient00001"), (1, "patient00002"), (0, "patient64541")]));
    assert_eq!(ignore.entries[2].split, Some(Split::Val));
    assert_eq!(ignore.remarks.len(), 3, "{:?}", ignore.remarks);
    let ones = with(Uncertain::Ones);
    assert_eq!(labels(&ones)[2], (1, "patient00003".to_owned()));
    assert_eq!(labels(&with(Uncertain::Zeros)).len(), 3);
}

#[test]
fn patients_of_other_ages_leave_and_are_counted() {
    let dir =
        nih("00000001_000.png,No Finding,0,1,005Y,M,PA,1,1,1,1,\n00000002_000.png,Pneumonia,0,2,6,M,PA,1,1,1,1,\n\
                   00000003_000.png,Pneumonia,0,3,999,M,PA,1,1,1,1,\n");
    let mut set = Dataset::index(&[dir.path().to_owned()], &Reading::default(), 1, |_, _| ()).unwrap();
    set.keep_ages([1.0, 5.0]);
    let patients: Vec<&str> = set.items.iter().map(|item| item.patient.as_str()).collect();
    // Five is in, six is not, and an age that nobody knows is not held against anybody.
    assert_eq!(patients, ["1", "3"]);
    assert!(set.remarks.iter().any(|r| r.starts_with("1 images are not used")), "{:?}", set.remarks);
}

#[test]
fn nih_contradictions_are_refused_with_both_lines() {
    let row = |finding: &str, patient: &str| format!("00000001_000.png,{finding},0,{patient},58,M,PA,1,1,1,1,\n");
    let twice = nih(&[row("No Finding", "1"), row("Effusion", "2")].concat());
    assert!(refusal(&twice).contains("line 3: 00000001_000.png is in line 2 too"), "{}", refusal(&twice));
    assert!(refusal(&nih(&row("No Finding|Pneumonia", "1"))).contains("nothing and something"));
    assert!(refusal(&nih(&row("Pneumonia|Plague", "1"))).contains("`Plague`"));
    assert!(refusal(&nih(&row("Pneumonia", ""))).contains("line 2: the patient is missing"));
    let alone = nih(&row("Pneumonia", "1"));
    fs::remove_file(alone.path().join("test_list.txt")).unwrap();
    assert!(refusal(&alone).contains("test_list.txt: it is missing or empty"));
}

#[test]
fn images_outside_of_a_lists_folder_are_found_where_they_are() {
    let (dir, _) = list("path,label\na.png,0\n");
    let other = tempfile::tempdir().unwrap();
    let path = other.path().join("list.csv");
    fs::write(&path, format!("path,label\n{},0\n", dir.path().join("a.png").display())).unwrap();
    let set = Dataset::index(&[path], &Reading::default(), 1, |_, _| ()).unwrap();
    assert_eq!(set.path(&set.items[0]), fs::canonicalize(dir.path().join("a.png")).unwrap());
}

#[test]
fn what_chexpert_never_wrote_is_refused_with_its_line() {
    let value = chexpert(&CHEXPERT_ROWS.replace("AP,1.0,,,,,,,,,0.0", "AP,1.0,,,,,,,2.0,,0.0"));
    assert!(refusal(&value).contains("train.csv: line 2: `2.0` is none of 1, 0, -1 and nothing"));
    let both = chexpert(&CHEXPERT_ROWS.replace("Frontal,PA,,,,,,,,1.0", "Frontal,PA,1.0,,,,,,,1.0"));
    assert!(refusal(&both).contains("line 3") && refusal(&both).contains("`No Finding` and `Pneumonia`"));
    let patient = chexpert(&CHEXPERT_ROWS.replace("patient00002", "p2"));
    assert!(refusal(&patient).contains("line 3: no patient stands in"));
}

#[test]
fn rsna_joins_its_boxes_and_leaves_the_abnormal_out() {
    let labels = "patientId,x,y,width,height,Target\na,,,,,0\nb,1,2,3,4,1\nb,5,6,7,8,1\nc,,,,,0\nd,,,,,0\n";
    let details =
        "patientId,class\na,Normal\nb,Lung Opacity\nb,Lung Opacity\nc,No Lung Opacity / Not Normal\nd,Normal\n";
    let images: Vec<String> = ["a", "b", "c"].iter().map(|id| format!("stage_2_train_images/{id}.dcm")).collect();
    let mut files: Vec<(&str, &str)> = images.iter().map(|f| (f.as_str(), f.as_str())).collect();
    files.push(("stage_2_train_labels.csv", labels));
    let without = folder(&files);
    files.push(("stage_2_detailed_class_info.csv", details));
    let dir = folder(&files);
    let seen: Vec<(usize, String)> =
        listing(&dir, &Reading::default()).entries.iter().map(|e| (e.label, e.patient.clone())).collect();
    assert_eq!(seen, [(0, "a".to_owned()), (1, "b".to_owned())]);
    assert_eq!(listing(&dir, &Reading::default()).unreadable.len(), 1);
    let assumed = listing(&without, &Reading::default());
    assert_eq!(assumed.entries.len(), 3);
    assert!(assumed.remarks[0].contains("taken for normal"));
    fs::write(without.path().join("stage_2_train_labels.csv"), labels.replace("b,5,6,7,8,1", "b,,,,,0")).unwrap();
    assert!(refusal(&without).contains("line 4: b has both targets"));
    fs::write(without.path().join("stage_2_train_labels.csv"), "patientId,Target\n../../etc/x,0\n").unwrap();
    assert!(refusal(&without).contains("line 2"));
}

#[test]
fn kermany_tells_bacteria_from_viruses_by_name() {
    let dir = folder(&[
        ("train/NORMAL/IM-0001-0001.jpeg", "a"),
        ("train/PNEUMONIA/person1_bacteria_1.jpeg", "b"),
        ("train/PNEUMONIA/person2_virus_4.jpeg", "c"),
        ("train/PNEUMONIA/other.jpeg", "d"),
    ]);
    let three = Reading { classes: Classes::BacterialViral, ..Reading::default() };
    let labels: Vec<usize> = listing(&dir, &three).entries.iter().map(|e| e.label).collect();
    assert_eq!(labels, [0, 1, 2]);
    assert!(listing(&dir, &three).unreadable[0].reason.contains("neither `bacteria` nor `virus`"));
    assert_eq!(listing(&dir, &Reading::default()).entries.len(), 4);
}

fn list(rows: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = folder(&[("a.png", "a"), ("b.png", "b"), ("c.png", "c"), ("list.csv", rows)]);
    let path = dir.path().join("list.csv");
    (dir, path)
}

#[test]
fn a_list_keeps_what_else_it_says() {
    let (_dir, path) = list(
        "path,label,patient,split,age,sex,view,site\n\
         a.png,normal,p1,train,4,F,PA,north\nb.png,PNEUMONIA,p2,val,36M,M,AP,south\nc.png,1,,,,,,\nd.png,0,,,,,,\n",
    );
    let listing = super::read(&path, &Reading::default()).unwrap().listing;
    assert_eq!(listing.entries.iter().map(|e| e.label).collect::<Vec<_>>(), [0, 1, 1]);
    assert_eq!(listing.entries[0].groups, [("site".to_owned(), "north".to_owned())]);
    assert_eq!(listing.entries[1].subject.age_days, Some(1096));
    assert_eq!((listing.entries[2].patient.as_str(), listing.entries[2].split), ("c.png", None));
    assert_eq!(listing.unreadable.len(), 1);
}

#[test]
fn a_list_with_a_mistake_is_refused_with_its_line() {
    for (rows, words) in [
        ("path,label\na.png,ill\n", "line 2: the label `ill` is none of NORMAL, PNEUMONIA"),
        ("path,label,split\na.png,0,holdout\n", "line 2: the split `holdout`"),
        (
            "path,label,patient,split\na.png,0,p,train\nb.png,0,p,val\n",
            "line 3: patient `p` is in another split in line 2",
        ),
        ("path,label\na.png\n", "line: 2"),
        ("path,label\na.png,0\nb.png,1\na.png,0\n", "line 4: `a.png` is in line 2 too"),
        ("path;label\na.png;0\n", "separated by ';'"),
        ("path,label,label\na.png,0,1\n", "two columns `label`"),
        ("path,label\na.png,0\n\"b.png,1\n", "opened and never closed"),
        ("file,label\na.png,0\n", "the column `path` is missing"),
    ] {
        let (_dir, path) = list(rows);
        let e = match super::read(&path, &Reading::default()) {
            Ok(_) => panic!("{rows} was read"),
            Err(e) => e.to_string(),
        };
        assert!(e.contains(words), "{e}");
    }
}

#[test]
fn several_sources_are_one_data_set_whose_patients_do_not_meet() {
    let first =
        nih("00000001_000.png,No Finding,0,1,58,M,PA,1,1,1,1,\n00000002_000.png,Pneumonia,0,2,58,M,PA,1,1,1,1,\n");
    let second = chexpert(CHEXPERT_ROWS);
    let reading =
        Reading { keep: [("chexpert".to_owned(), vec!["PNEUMONIA".to_owned()])].into(), ..Reading::default() };
    let roots = [first.path().to_owned(), second.path().to_owned()];
    let set = Dataset::index(&roots, &reading, 1, |_, _| ()).unwrap();
    let mut patients: Vec<&str> = set.items.iter().map(|i| i.patient.as_str()).collect();
    patients.sort_unstable();
    assert_eq!(patients, ["chexpert:patient00002", "nih:1", "nih:2"]);
    assert!(set.items.iter().all(|i| set.path(i).is_file() && i.groups[0].0 == "source"));
    assert!(set.remarks.iter().any(|r| r.contains("of `chexpert`, only PNEUMONIA shall be")), "{:?}", set.remarks);
}

#[test]
fn ages_are_years_or_carry_their_unit() {
    let days = |text| age_days(text);
    assert_eq!([days("58"), days("058Y"), days("6M"), days("10D")], [Some(21185), Some(21185), Some(183), Some(10)]);
    assert_eq!([days("411"), days("-1"), days(""), days("old")], [None; 4]);
}

#[test]
fn what_is_kept_is_checked() {
    let keep = |layout: &str, class: &str| Reading {
        keep: [(layout.to_owned(), vec![class.to_owned()])].into(),
        ..Reading::default()
    };
    keep("nih", "NORMAL").check().unwrap();
    assert!(keep("nhi", "NORMAL").check().unwrap_err().contains("there are nih, chexpert, rsna, kermany, list"));
    assert!(keep("nih", "ILL").check().unwrap_err().contains("there are NORMAL, PNEUMONIA"));
    assert!(keep("nih", "NORMAL").keeps("nih", 0) && !keep("nih", "NORMAL").keeps("nih", 1));
    assert!(keep("nih", "NORMAL").keeps("kermany", 1));
}
