//! When a run ends, and which epoch's weights it keeps.

use crate::recipe::Keep;

/// Watches the score of the validation images, of which the smallest is the best: the loss, or a metric's negative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EarlyStopping {
    /// Epochs without a better score after which a run ends.
    patience: usize,
    keep: Keep,
    /// The epoch whose weights are kept so far, from 1; 0 before the first.
    pub best_epoch: usize,
    /// Its score.
    pub best_score: f64,
}

impl EarlyStopping {
    /// Nothing seen yet.
    pub fn new(patience: usize, keep: Keep) -> EarlyStopping {
        EarlyStopping { patience, keep, best_epoch: 0, best_score: f64::INFINITY }
    }

    /// As it was when `best_epoch` was the best.
    pub fn resumed(self, best_epoch: usize, best_score: f64) -> EarlyStopping {
        EarlyStopping { best_epoch, best_score, ..self }
    }

    /// True if `epoch` shall not begin any more.
    pub fn stops_before(&self, epoch: usize) -> bool {
        self.best_epoch > 0 && epoch > self.best_epoch + self.patience
    }

    /// Takes note of an epoch's score; true if its weights are to be kept.
    pub fn observe(&mut self, epoch: usize, score: f64) -> bool {
        let best = self.keep == Keep::Last || score < self.best_score;
        if best {
            self.best_epoch = epoch;
            self.best_score = score;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_after_as_many_epochs_as_it_has_patience() {
        let mut stopping = EarlyStopping::new(2, Keep::Best);
        assert!(!stopping.stops_before(1));
        assert!(stopping.observe(1, 0.5) && !stopping.observe(2, 0.5) && !stopping.stops_before(3));
        assert!(!stopping.observe(3, 0.6) && stopping.stops_before(4));
        assert!(stopping.observe(3, 0.4) && !stopping.stops_before(5));
    }

    #[test]
    fn a_run_that_keeps_the_last_goes_to_its_end() {
        let mut stopping = EarlyStopping::new(1, Keep::Last);
        assert!(stopping.observe(1, 0.5) && stopping.observe(2, 0.9) && stopping.observe(3, 0.9));
        assert!(!stopping.stops_before(4));
        assert_eq!(stopping.best_epoch, 3);
    }
}
