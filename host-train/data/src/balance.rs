//! As many images of every class.

use crate::Item;
use sha2::{Digest, Sha256};

/// Indices of as many of `items` of each of `labels` classes as there are of the rarest, in order. Which they are
/// follows from their content alone, so that every model is asked the same.
pub fn balanced(items: &[&Item], labels: usize) -> Vec<usize> {
    let mut of_class: Vec<Vec<usize>> = vec![vec![]; labels];
    for (i, item) in items.iter().enumerate() {
        of_class[item.label].push(i);
    }
    let fewest = of_class.iter().map(Vec::len).min().unwrap_or(0);
    let key = |i: &usize| -> [u8; 32] { Sha256::digest(format!("balanced:{}", items[*i].sha256)).into() };
    let mut kept: Vec<usize> = of_class
        .into_iter()
        .flat_map(|mut members| {
            members.sort_by_key(key);
            members.truncate(fewest);
            members
        })
        .collect();
    kept.sort_unstable();
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, Subject};

    #[test]
    fn every_class_has_as_many_as_the_rarest() {
        let item = |i: usize| Item {
            file: i.to_string(),
            label: usize::from(!i.is_multiple_of(4)),
            patient: i.to_string(),
            sha256: format!("{i:064}"),
            pixels: None,
            subject: Subject::default(),
            groups: vec![],
            split: Split::Val,
        };
        let items: Vec<Item> = (0..40).map(item).collect();
        let items: Vec<&Item> = items.iter().collect();
        let kept = balanced(&items, 2);
        assert_eq!(kept.len(), 20);
        assert_eq!(kept.iter().filter(|i| items[**i].label == 0).count(), 10);
        // Not the first ones.
        assert!(kept.iter().any(|i| *i > 30 && items[*i].label == 1));
        assert_eq!(kept, balanced(&items, 2));
    }
}
