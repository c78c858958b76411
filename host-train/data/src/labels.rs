//! The classes of a data set.

use edge_runtime::model::contract::label_group as group;
use serde::{Deserialize, Serialize};

/// Names of the classes; an item's label is an index. A name may have a group in front of a slash (`PNEUMONIA/VIRAL`):
/// all classes of the group of the one that is looked for are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    names: Vec<String>,
    positive: usize,
}

impl Labels {
    /// `names`, of which number `positive` is looked for. `None` unless there are two, and that one among them.
    pub fn new(names: Vec<String>, positive: usize) -> Option<Labels> {
        (names.len() >= 2 && positive < names.len()).then_some(Labels { names, positive })
    }

    /// Names in order.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)] // two at least
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Index of the label that is looked for; the first, where that is a group.
    pub fn positive(&self) -> usize {
        self.positive
    }

    /// True if an image with `label` shows what is looked for.
    pub fn is_positive(&self, label: usize) -> bool {
        group(&self.names[label]) == group(&self.names[self.positive])
    }

    /// True for each of `labels` that is looked for.
    pub fn truths(&self, labels: impl IntoIterator<Item = usize>) -> Vec<bool> {
        labels.into_iter().map(|label| self.is_positive(label)).collect()
    }

    /// True if what is looked for are several labels of a group.
    pub fn is_grouped(&self) -> bool {
        (0..self.len()).filter(|label| self.is_positive(*label)).count() > 1
    }

    /// The name of what is looked for.
    pub fn positive_name(&self) -> &str {
        group(&self.names[self.positive])
    }
}

/// What a data set's images are told apart by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classes {
    /// No finding, and pneumonia.
    #[default]
    Pneumonia,
    /// No finding, bacterial pneumonia and viral pneumonia.
    BacterialViral,
}

impl Classes {
    /// The classes; pneumonia is looked for.
    pub fn labels(self) -> Labels {
        let names: &[&str] = match self {
            Classes::Pneumonia => &["NORMAL", "PNEUMONIA"],
            Classes::BacterialViral => &["NORMAL", "PNEUMONIA/BACTERIAL", "PNEUMONIA/VIRAL"],
        };
        Labels::new(names.iter().map(|name| (*name).to_owned()).collect(), 1).expect("two names and more")
    }

    /// Those of a model with the labels `names`: where no data set has these, the usual two.
    pub fn of_model(names: &[String]) -> Classes {
        let all = [Classes::Pneumonia, Classes::BacterialViral];
        all.into_iter().find(|classes| classes.labels().names() == names).unwrap_or_default()
    }

    /// Index of the class that people call `name`: as it is, the part behind the slash, or its number.
    pub fn parse(self, name: &str) -> Option<usize> {
        let labels = self.labels();
        // Whoever tells more apart than is wanted has said enough.
        let name = match self {
            Classes::Pneumonia => name.split('/').next().unwrap_or(name),
            Classes::BacterialViral => name,
        };
        let is_called = |label: &String| {
            let short = label.rsplit('/').next().unwrap_or(label);
            name.eq_ignore_ascii_case(label) || name.eq_ignore_ascii_case(short)
        };
        let number = || name.parse::<usize>().ok().filter(|number| *number < labels.len());
        labels.names().iter().position(is_called).or_else(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_classes_of_the_group_are_looked_for() {
        let labels = Classes::BacterialViral.labels();
        assert_eq!(labels.truths([0, 1, 2]), [false, true, true]);
        assert_eq!(labels.positive_name(), "PNEUMONIA");
        assert_eq!(Classes::Pneumonia.labels().truths([0, 1]), [false, true]);
    }

    #[test]
    fn classes_are_known_by_name_and_number() {
        let parse = |name| Classes::BacterialViral.parse(name);
        assert_eq!(
            [parse("normal"), parse("Viral"), parse("pneumonia/bacterial"), parse("2")],
            [Some(0), Some(2), Some(1), Some(2)]
        );
        assert_eq!([parse("3"), parse("tuberculosis"), parse("")], [None; 3]);
    }

    #[test]
    fn a_model_has_the_classes_of_its_labels() {
        let names = Classes::BacterialViral.labels().names().to_vec();
        assert_eq!(Classes::of_model(&names), Classes::BacterialViral);
        assert_eq!(Classes::of_model(&["a".into(), "b".into()]), Classes::Pneumonia);
    }
}
