//! Which images train, choose and judge. No patient is on two sides.

use crate::Item;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// A given `val/` with fewer images is pooled with `train/` and split anew: at 100 images the standard error of a
/// sensitivity near 0.9 is three points.
pub const SMALLEST_USABLE_VAL: usize = 100;
/// Share of each class that is held out for validation where no usable `val/` is given.
pub const VAL_SHARE: f64 = 0.15;

/// Which images train, choose (threshold, best epoch) and judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Training images.
    Train,
    /// Validation images: choose the epoch and the operating point.
    Val,
    /// Test images: seen once.
    Test,
}

impl Split {
    /// All splits.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// Names on the command line.
    pub const NAMES: [&str; 3] = ["train", "val", "test"];

    /// The split's folder, manifest and command line name.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

impl FromStr for Split {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> Result<Split, UnknownSplit> {
        Split::ALL.into_iter().find(|split| split.name() == name).ok_or(UnknownSplit)
    }
}

/// A name that no split has.
#[derive(Debug, thiserror::Error)]
#[error("no split is called so")]
pub struct UnknownSplit;

/// Images that a command is asked for: a split, or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// One split.
    Split(Split),
    /// Every image.
    All,
}

impl Selection {
    /// Names on the command line.
    pub const NAMES: [&str; 4] = ["train", "val", "test", "all"];
}

impl FromStr for Selection {
    type Err = UnknownSplit;

    fn from_str(name: &str) -> Result<Selection, UnknownSplit> {
        match name {
            "all" => Ok(Selection::All),
            split => split.parse().map(Selection::Split),
        }
    }
}

/// Splits `items` of `labels` classes, where some are `given` a side: gives each a side, and what a person should know
/// about it, one sentence each.
/// Validation images that are given are used where there are enough of them, or `honours_val` says so.
pub fn assign(
    items: &[Item],
    given: &[Option<Split>],
    labels: usize,
    honours_val: bool,
    seed: u64,
) -> (Vec<Split>, Vec<String>) {
    let mut remarks = Vec::new();
    let given_val = given.iter().filter(|g| **g == Some(Split::Val)).count();
    let use_val = given_val >= SMALLEST_USABLE_VAL || (honours_val && given_val > 0);
    if given_val > 0 && !use_val {
        remarks.push(format!(
            "The given val/ holds {given_val} images, too few to choose a threshold; they join train/, and {:.0} % of \
             the patients of each class are held out instead.",
            VAL_SHARE * 100.0
        ));
    }
    if given_val > 0 && given_val < SMALLEST_USABLE_VAL && honours_val {
        remarks.push(format!("{given_val} images are few to choose a threshold by: it will be uncertain."));
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, group) in groups_of(items).into_iter().enumerate() {
        groups.entry(group).or_default().push(i);
    }
    let mut splits: Vec<Split> = given.iter().map(|g| g.unwrap_or(Split::Train)).collect();
    let moved = hold_out_patients(&groups, use_val, &mut splits);
    if moved > 0 {
        remarks.push(format!("{moved} images moved to the held-out split that already holds their patient."));
    }
    if !use_val {
        (0..labels).for_each(|label| hold_out_share(items, &groups, label, seed, &mut splits));
    }
    (splits, remarks)
}

/// A patient seen in a given test (or usable val) split leaves the others. Gives the number of images that moved.
fn hold_out_patients(groups: &BTreeMap<usize, Vec<usize>>, use_val: bool, splits: &mut [Split]) -> usize {
    let mut moved = 0;
    for members in groups.values() {
        let any = |split: Split| members.iter().any(|m| splits[*m] == split);
        let held = match (any(Split::Test), use_val && any(Split::Val)) {
            (true, _) => Split::Test,
            (false, true) => Split::Val,
            (false, false) => continue,
        };
        for m in members {
            moved += usize::from(splits[*m] != held);
            splits[*m] = held;
        }
    }
    moved
}

/// Holds out [`VAL_SHARE`] of the images of `label` that are not tested, whole patients in an order that follows from
/// the seed.
fn hold_out_share(items: &[Item], groups: &BTreeMap<usize, Vec<usize>>, label: usize, seed: u64, splits: &mut [Split]) {
    // A patient with images of several classes counts for the last of them, which is the rarer one.
    let class = |members: &Vec<usize>| members.iter().map(|m| items[*m].label).max();
    let free = groups.values().filter(|m| splits[m[0]] != Split::Test && class(m) == Some(label));
    let mut pool: Vec<_> = free.map(|members| (keyed(seed, &items[members[0]].patient), members)).collect();
    pool.sort_by_key(|(key, _)| *key);
    let total: usize = pool.iter().map(|(_, members)| members.len()).sum();
    let want = (total as f64 * VAL_SHARE).round() as usize;
    let mut held = 0;
    for (_, members) in pool {
        let split = if held < want { Split::Val } else { Split::Train };
        held += members.len();
        members.iter().for_each(|m| splits[*m] = split);
    }
}

fn keyed(seed: u64, patient: &str) -> [u8; 32] {
    Sha256::digest(format!("{seed}:{patient}")).into()
}

/// Union of images by patient and by content: each image's group, by the index of its first member.
fn groups_of(items: &[Item]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..items.len()).collect();
    fn find(group: &mut [usize], mut i: usize) -> usize {
        while group[i] != i {
            group[i] = group[group[i]];
            i = group[i];
        }
        i
    }
    let mut first: HashMap<String, usize> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        for key in [format!("p{}", item.patient), format!("s{}", item.sha256)] {
            let other = *first.entry(key).or_insert(i);
            let a = find(&mut group, i);
            let b = find(&mut group, other);
            group[a.max(b)] = a.min(b);
        }
    }
    (0..items.len()).map(|i| find(&mut group, i)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(label: usize, patient: &str, sha: usize) -> Item {
        Item {
            file: format!("{label}/{patient}-{sha}"),
            label,
            patient: patient.into(),
            sha256: sha.to_string(),
            pixels: None,
            subject: Default::default(),
            groups: vec![],
            split: Split::Train,
        }
    }

    fn split(items: &[Item], given: &[Option<Split>]) -> (Vec<Split>, Vec<String>) {
        assign(items, given, 2, false, 7)
    }

    #[test]
    fn neither_patients_nor_duplicates_cross_splits() {
        let mut items: Vec<_> = (0..600).map(|i| item(usize::from(i % 3 > 0), &format!("p{}", i / 3), i)).collect();
        items[5].sha256 = items[590].sha256.clone();
        let (splits, _) = split(&items, &[Some(Split::Train); 600]);
        let mut side: HashMap<String, Split> = HashMap::new();
        for (item, split) in items.iter().zip(&splits) {
            for key in [format!("{}{}", item.label, item.patient), item.sha256.clone()] {
                assert_eq!(side.entry(key).or_insert(*split), split, "{item:?}");
            }
        }
        for label in 0..2 {
            let of_label = || items.iter().zip(&splits).filter(|(i, _)| i.label == label);
            let all = of_label().count() as f64;
            let val = of_label().filter(|(_, s)| **s == Split::Val).count() as f64;
            assert!((val / all - VAL_SHARE).abs() < 0.02, "{val} of {all}");
        }
    }

    #[test]
    fn a_tiny_val_is_pooled_and_said_so() {
        let items: Vec<_> = (0..200).map(|i| item(i % 2, &format!("p{i}"), i)).collect();
        let mut given = [Some(Split::Train); 200];
        given[..16].fill(Some(Split::Val));
        let (splits, remarks) = split(&items, &given);
        assert_eq!(splits.iter().filter(|s| **s == Split::Val).count(), 30);
        assert!(remarks[0].contains("16 images"), "{remarks:?}");
    }

    #[test]
    fn a_patient_of_the_test_split_leaves_training() {
        let items: Vec<_> = (0..40).map(|i| item(i % 2, &format!("p{}", i / 4), i)).collect();
        let mut given = [Some(Split::Train); 40];
        given[0] = Some(Split::Test);
        let (splits, _) = split(&items, &given);
        let first = items.iter().zip(&splits).filter(|(i, _)| i.patient == "p0" && i.label == 0);
        assert!(first.clone().count() > 1 && first.map(|(_, s)| *s).all(|s| s == Split::Test));
    }

    #[test]
    fn selections_are_the_splits_and_all() {
        let selections = Selection::NAMES.map(|name| name.parse::<Selection>().unwrap());
        assert_eq!(selections[..3], Split::NAMES.map(|name| Selection::Split(name.parse().unwrap())));
        assert_eq!(selections[3], Selection::All);
        assert_eq!(Split::NAMES, Split::ALL.map(Split::name));
        assert!("All".parse::<Selection>().is_err());
    }
}
