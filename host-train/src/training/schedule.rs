//! The course of the learning rate.

use crate::recipe::Schedule;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

impl Schedule {
    /// Learning rate of step `step` of `steps`, if `peak` is the highest; before what `Course` takes off.
    pub fn rate(self, peak: f64, step: usize, steps: usize) -> f64 {
        // From 1 to 0 while `done` goes from 0 to 1.
        let half_cosine = |done: f64| (1.0 + (PI * done).cos()) / 2.0;
        match self {
            Schedule::Constant | Schedule::Plateau { .. } => peak,
            Schedule::Cosine => {
                let warm = (steps / 20).max(1);
                if step < warm {
                    return peak * (step + 1) as f64 / warm as f64;
                }
                let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
                peak * (0.01 + 0.99 * half_cosine(done))
            }
            Schedule::OneCycle => {
                let top = (steps * 3 / 10).max(1);
                if step < top {
                    return peak * (0.04 + 0.96 * (1.0 - half_cosine((step + 1) as f64 / top as f64)));
                }
                let done = (step - top) as f64 / (steps - top).max(1) as f64;
                peak * (1e-5 + (1.0 - 1e-5) * half_cosine(done))
            }
            Schedule::Triangular { lowest, step_size } => {
                let position = step % (2 * step_size);
                let climbed = if position <= step_size { position } else { 2 * step_size - position };
                lowest + (peak - lowest) * climbed as f64 / step_size as f64
            }
        }
    }
}

/// What epochs without progress have taken off the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Factor on the rate.
    pub factor: f64,
    /// Epochs since the best score or the last reduction.
    stale: usize,
    /// The best score, smaller being better; none before the first.
    best: Option<f64>,
}

impl Course {
    /// Nothing taken off yet.
    pub fn new() -> Course {
        Course { factor: 1.0, stale: 0, best: None }
    }

    /// Takes note of an epoch's score, of which the smallest is the best.
    pub fn observe(&mut self, score: f64, schedule: Schedule) {
        if self.best.is_none_or(|best| score < best) {
            self.best = Some(score);
            self.stale = 0;
            return;
        }
        self.stale += 1;
        if let Schedule::Plateau { factor, patience } = schedule
            && self.stale >= patience
        {
            self.factor *= factor;
            self.stale = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cosine_warms_up_and_ends_low() {
        let rate = |s| Schedule::Cosine.rate(1.0, s, 1000);
        assert!(rate(0) < 0.03 && rate(49) == 1.0 && rate(999) < 0.02);
        assert!((rate(525) - 0.505).abs() < 0.01);
    }

    #[test]
    fn one_cycle_rises_to_the_peak_and_falls_to_nothing() {
        let rate = |s| Schedule::OneCycle.rate(1.0, s, 1000);
        assert!(rate(0) < 0.05 && (rate(299) - 1.0).abs() < 1e-9 && rate(999) < 1e-4);
        assert!((0..299).all(|s| rate(s) < rate(s + 1)) && (300..998).all(|s| rate(s) > rate(s + 1)));
    }

    #[test]
    fn the_triangle_goes_up_and_down() {
        let schedule = Schedule::Triangular { lowest: 1e-5, step_size: 500 };
        let rate = |s| schedule.rate(1e-4, s, 10_000);
        assert_eq!([rate(0), rate(500), rate(1000), rate(1500)], [1e-5, 1e-4, 1e-5, 1e-4]);
        assert!((rate(250) - 5.5e-5).abs() < 1e-12 && rate(750) == rate(250));
    }

    #[test]
    fn a_plateau_lowers_the_rate_and_waits_again() {
        let plateau = Schedule::Plateau { factor: 0.5, patience: 2 };
        let mut course = Course::new();
        let factors: Vec<f64> = [0.5, 0.5, 0.6, 0.6, 0.6, 0.4, 0.5]
            .into_iter()
            .map(|score| {
                course.observe(score, plateau);
                course.factor
            })
            .collect();
        assert_eq!(factors, [1.0, 1.0, 0.5, 0.5, 0.25, 0.25, 0.25]);
    }
}
