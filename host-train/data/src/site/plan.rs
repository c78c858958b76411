//! How many radiographs a study needs before it begins.

use super::Goal;
use super::interval::{share_for_bound, wilson, wilson_share};
use serde::Serialize;

/// No study is larger.
const MOST: usize = 1_000_000;

/// 80th percentile of the normal distribution: so likely is a study of the planned size to show what is expected.
const POWER: f64 = 0.841_621_233_572_914;

/// Width of the interval of the specificity that a study aims at.
const SPECIFICITY_WIDTH: f64 = 0.1;

/// What a study needs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Plan {
    /// The sensitivity that is expected of the model.
    pub expected_sensitivity: f64,
    /// The specificity that is expected of it.
    pub expected_specificity: f64,
    /// People who are ill, so that the lower end of the interval reaches the goal in four studies of five.
    pub positives: usize,
    /// People who are not, so that their interval is no wider than 10 points.
    pub negatives: usize,
    /// People who have to be examined at the clinic's prevalence to find both.
    pub people: usize,
    /// People who are ill in a second sample, so that it confirms in four studies of five: the first sample puts the
    /// threshold where its own interval begins at the goal, which leaves nothing to spare.
    pub confirming_positives: usize,
    /// People who have to be examined for that.
    pub confirming_people: usize,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The model is not expected to reach the goal.
    #[error(
        "no study can show a sensitivity of at least {goal} of a model from which {expected} is expected: aim lower, \
         or expect more with reason"
    )]
    Unreachable {
        /// What the clinic wants.
        goal: f64,
        /// What is expected.
        expected: f64,
    },
}

/// The fewest radiographs of the ill with which `goal` can be shown if none is missed.
pub(super) fn fewest_positives(goal: Goal) -> usize {
    let is_enough = |n: &usize| wilson(*n, *n)[0] >= goal.sensitivity;
    (1..=MOST).find(is_enough).unwrap_or(MOST)
}

/// What a study needs if the model has the `expected` sensitivity and specificity.
pub fn plan(goal: Goal, expected: [f64; 2]) -> Result<Plan, PlanError> {
    let [sensitivity, specificity] = expected;
    let unreachable = PlanError::Unreachable { goal: goal.sensitivity, expected: sensitivity };
    if sensitivity <= goal.sensitivity {
        return Err(unreachable);
    }
    let shows = |n: &usize| {
        let n = *n as f64;
        let unlucky = sensitivity - POWER * (sensitivity * (1.0 - sensitivity) / n).sqrt();
        wilson_share(unlucky.max(0.0), n)[0] >= goal.sensitivity
    };
    let fewest = fewest_positives(goal);
    let positives = (fewest..=MOST).find(shows).ok_or(unreachable)?;
    let is_narrow = |n: &usize| {
        let [low, high] = wilson_share(specificity, *n as f64);
        high - low <= SPECIFICITY_WIDTH
    };
    let negatives = (1..=MOST).find(is_narrow).unwrap_or(MOST);
    let people = (positives as f64 / goal.prevalence).max(negatives as f64 / (1.0 - goal.prevalence)).ceil() as usize;
    let confirming_positives = confirming(goal, positives);
    Ok(Plan {
        expected_sensitivity: sensitivity,
        expected_specificity: specificity,
        positives,
        negatives,
        people,
        confirming_positives,
        confirming_people: (confirming_positives as f64 / goal.prevalence).ceil() as usize,
    })
}

/// How many of the ill a second sample needs after a first one of so many `positives`. The first says of its threshold
/// no more than that the sensitivity is the share whose interval begins at the goal, give or take its own error.
fn confirming(goal: Goal, positives: usize) -> usize {
    let first = positives as f64;
    let share = share_for_bound(goal.sensitivity, first);
    let shows = |n: &usize| {
        let n = *n as f64;
        let error = (share * (1.0 - share) * (1.0 / first + 1.0 / n)).sqrt();
        share - POWER * error >= share_for_bound(goal.sensitivity, n)
    };
    // In steps of a hundredth: nobody counts closer.
    (positives..=MOST).step_by((positives / 100).max(1)).find(shows).unwrap_or(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn four_studies_of_five_show_what_is_expected() {
        let goal = Goal { sensitivity: 0.9, prevalence: 0.1 };
        let plan = plan(goal, [0.96, 0.9]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut study = || {
            let caught = (0..plan.positives).filter(|_| rng.random_bool(0.96)).count();
            wilson(caught, plan.positives)[0] >= 0.9
        };
        let shown = (0..2000).filter(|_| study()).count();
        assert!((1500..1780).contains(&shown), "{shown} of 2000, {plan:?}");
        assert_eq!(plan.people, plan.positives * 10);
        let [low, high] = wilson_share(0.9, plan.negatives as f64);
        assert!((0.099..=0.1).contains(&(high - low)), "{plan:?}");
    }

    #[test]
    fn four_second_samples_of_five_confirm() {
        let goal = Goal { sensitivity: 0.9, prevalence: 0.1 };
        let first = 239;
        let second = confirming(goal, first);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let chosen = share_for_bound(0.9, first as f64);
        let mut confirms = || {
            // What the threshold's sensitivity really is: the first sample's share and its error.
            let error = (chosen * (1.0 - chosen) / first as f64).sqrt();
            let normal: f64 = (0..12).map(|_| rng.random::<f64>() - 0.5).sum();
            let truth = (chosen + error * normal).clamp(0.0, 1.0);
            let caught = (0..second).filter(|_| rng.random_bool(truth)).count();
            wilson(caught, second)[0] >= 0.9
        };
        let confirmed = (0..2000).filter(|_| confirms()).count();
        assert!((1500..1700).contains(&confirmed), "{confirmed} of 2000 with {second}");
    }

    #[test]
    fn the_fewest_are_those_of_a_perfect_model() {
        // n / (n + z²) ≥ 0.95.
        assert_eq!(fewest_positives(Goal { sensitivity: 0.95, prevalence: 0.1 }), 73);
        assert_eq!(fewest_positives(Goal { sensitivity: 0.9, prevalence: 0.1 }), 35);
    }

    #[test]
    fn what_the_model_cannot_do_no_study_shows() {
        let goal = Goal { sensitivity: 0.95, prevalence: 0.1 };
        assert!(plan(goal, [0.95, 0.9]).unwrap_err().to_string().contains("aim lower"));
    }
}
