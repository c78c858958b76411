//! The classes of a data set.

/// Names of the classes; an item's label is an index.
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

    /// Index of the label that is looked for.
    pub fn positive(&self) -> usize {
        self.positive
    }

    /// True for each of `labels` that is looked for.
    pub fn truths(&self, labels: impl IntoIterator<Item = usize>) -> Vec<bool> {
        labels.into_iter().map(|label| label == self.positive).collect()
    }
}
