//! The course of the learning rate.

use crate::recipe::Schedule;

impl Schedule {
    /// Learning rate of step `step` of `steps`, if `peak` is the highest.
    pub fn rate(self, peak: f64, step: usize, steps: usize) -> f64 {
        match self {
            Schedule::Constant => peak,
            Schedule::Cosine => {
                let warm = (steps / 20).max(1);
                if step < warm {
                    return peak * (step + 1) as f64 / warm as f64;
                }
                let done = (step - warm) as f64 / (steps - warm).max(1) as f64;
                peak * (0.01 + 0.99 * (1.0 + (std::f64::consts::PI * done).cos()) / 2.0)
            }
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
}
