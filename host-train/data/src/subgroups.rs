//! Metrics of parts of a data set: by age, sex and view, where the files say them.

use crate::metrics::Metrics;
use crate::{Item, Subject};
use edge_runtime::image::{Sex, View};
use serde::Serialize;
use std::collections::BTreeMap;

/// Smaller parts are left out: their figures say nothing.
pub const SMALLEST: usize = 10;

/// Days of a year.
const YEAR: u32 = 365;

/// A part of a data set, and how a model did on it.
#[derive(Debug, Clone, Serialize)]
pub struct Subgroup {
    /// What its images have in common.
    pub name: String,
    /// Of its images.
    pub metrics: Metrics,
}

/// Who belongs to a part.
type Part = (&'static str, fn(&Subject) -> bool);

/// True for ages in years from `from` to below `to`.
fn is_aged(subject: &Subject, from: u32, to: u32) -> bool {
    subject.age_days.is_some_and(|days| (from * YEAR..to * YEAR).contains(&days))
}

const PARTS: [Part; 10] = [
    ("age below 1", |s| is_aged(s, 0, 1)),
    ("age 1 to 5", |s| is_aged(s, 1, 6)),
    ("age 6 to 17", |s| is_aged(s, 6, 18)),
    ("age 18 to 64", |s| is_aged(s, 18, 65)),
    ("age 65 and above", |s| is_aged(s, 65, 1000)),
    ("female", |s| s.sex == Some(Sex::Female)),
    ("male", |s| s.sex == Some(Sex::Male)),
    ("view PA", |s| s.view == Some(View::Pa)),
    ("view AP", |s| s.view == Some(View::Ap)),
    ("view lateral", |s| s.view == Some(View::Lateral)),
];

/// A name that the data set gives to parts of its own is split by no more values than this: more are no groups.
const MOST_VALUES: usize = 20;

/// The parts of `items` that are large enough, decided at `threshold`; each item has a probability and a truth.
pub fn subgroups(items: &[&Item], probabilities: &[f32], truths: &[bool], threshold: f32) -> Vec<Subgroup> {
    let part = |(name, members): (String, Vec<usize>)| {
        let probabilities: Vec<f32> = members.iter().map(|i| probabilities[*i]).collect();
        let truths: Vec<bool> = members.iter().map(|i| truths[*i]).collect();
        Subgroup { name, metrics: Metrics::new(&probabilities, &truths, threshold) }
    };
    parts(items).into_iter().map(part).collect()
}

/// The parts of `items` that are large enough, and which items are in each: besides age, sex and view these are the
/// parts that the data set names itself.
pub fn parts(items: &[&Item]) -> Vec<(String, Vec<usize>)> {
    let known = PARTS.iter().map(|(name, belongs)| {
        let members = (0..items.len()).filter(|i| belongs(&items[*i].subject)).collect();
        ((*name).to_owned(), members)
    });
    known.chain(named(items)).filter(|(_, members): &(String, Vec<usize>)| members.len() >= SMALLEST).collect()
}

/// Parts that the data set names, as "name value", and their members.
fn named(items: &[&Item]) -> Vec<(String, Vec<usize>)> {
    let mut by_name: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        for (name, value) in &item.groups {
            by_name.entry(name).or_default().entry(value).or_default().push(i);
        }
    }
    let few = by_name.into_iter().filter(|(_, values)| values.len() <= MOST_VALUES);
    few.flat_map(|(name, values)| values.into_iter().map(move |(value, members)| (format!("{name} {value}"), members)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Split;

    #[test]
    fn parts_are_those_of_the_subjects_and_large_enough() {
        let item = |i: usize| Item {
            file: format!("{i}.dcm"),
            label: i % 2,
            patient: i.to_string(),
            sha256: String::new(),
            pixels: None,
            subject: Subject {
                age_days: Some(if i < 12 { 4 * YEAR } else { 40 * YEAR }),
                sex: (i >= 12).then_some(Sex::Male),
                view: None,
            },
            groups: vec![("site".into(), if i < 12 { "north" } else { "south" }.into())],
            split: Split::Test,
        };
        let items: Vec<Item> = (0..20).map(item).collect();
        let items: Vec<&Item> = items.iter().collect();
        let truths: Vec<bool> = (0..20).map(|i| i % 2 == 1).collect();
        let probabilities: Vec<f32> = truths.iter().map(|t| if *t { 0.9 } else { 0.1 }).collect();
        let parts = subgroups(&items, &probabilities, &truths, 0.5);
        let names: Vec<&str> = parts.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["age 1 to 5", "site north"]);
        assert_eq!((parts[0].metrics.n, parts[0].metrics.auroc), (12, Some(1.0)));
    }
}
