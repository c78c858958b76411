//! Every threshold, with what it means for a thousand people of the clinic.

use super::interval::wilson_share;
use super::plan::fewest_positives;
use super::{Goal, Scored};
use crate::bootstrap::samples;
use crate::curves::Bin;
use serde::Serialize;
use std::collections::HashSet;

/// Thresholds that are looked at, at most, evenly by rank.
const MOST: usize = 400;

/// People who are not ill, at least: fewer say nothing of the specificity.
const FEWEST_NEGATIVES: usize = 30;

/// Distinct probabilities, at least: fewer are calls, or scores of another kind.
const FEWEST_VALUES: usize = 10;

/// Share of the clinic's people, those nearest to the threshold, whom a reader has to decide.
const UNCERTAIN: f64 = 0.1;

/// Intercepts lie between this and its negative.
const LARGEST_INTERCEPT: f64 = 20.0;

/// A figure with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Its interval.
    pub ci95: [f64; 2],
}

/// A threshold.
///
/// Intervals of sensitivity and specificity are the wider at each end of those by resampling patients and by Wilson,
/// who is given people, not radiographs;
/// those of what follows from both are at the ends of both at once, which is cautious.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Row {
    /// Positive from this probability on.
    pub threshold: f32,
    /// Share of the ill who are called so.
    pub sensitivity: Estimate,
    /// Share of the others who are not.
    pub specificity: Estimate,
    /// Share of those called ill who are, at the clinic's prevalence; `None` where nobody is called so.
    pub ppv: Option<Estimate>,
    /// Share of the others who are not ill.
    pub npv: Option<Estimate>,
    /// Of a thousand people: called ill.
    pub referred: Estimate,
    /// Of a thousand people: ill, and not called so.
    pub missed: Estimate,
}

/// Why no threshold is chosen.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// Too few of the ill.
    #[error(
        "{found} people who are ill are too few: even a model that misses none needs {needed} to show a sensitivity of \
         at least {goal}"
    )]
    FewPositives {
        /// How many there are.
        found: usize,
        /// How many it takes.
        needed: usize,
        /// What is wanted.
        goal: f64,
    },
    /// Too few of others.
    #[error("{found} people who are not ill are too few to say how many are called so: at least {FEWEST_NEGATIVES}")]
    FewNegatives {
        /// How many there are.
        found: usize,
    },
    /// Not probabilities.
    #[error(
        "there are {0} different probabilities: these are calls, or scores of another kind; give what the model says, \
         from 0 to 1, unrounded"
    )]
    FewValues(usize),
    /// The intercept has no bound.
    #[error(
        "no intercept brings the mean probability to the prevalence: the probabilities are not this model's, or tell \
         nothing here"
    )]
    NoIntercept,
    /// The model tells nothing here.
    #[error(
        "the model does not tell the ill from others here: at the threshold that would show the sensitivity \
         ({threshold:.3}) the specificity is {specificity:.3}"
    )]
    Useless {
        /// The threshold.
        threshold: f32,
        /// The specificity there.
        specificity: f64,
    },
    /// No threshold shows the sensitivity.
    #[error(
        "no threshold that tells the ill from others has a sensitivity of at least {goal} for sure: the lowest has \
         {value:.3} ({low:.3} to {high:.3}); collect more radiographs of the ill, or aim lower"
    )]
    Unreached {
        /// What is wanted.
        goal: f64,
        /// What the lowest threshold has.
        value: f64,
        /// The lower end of its interval.
        low: f64,
        /// The upper end.
        high: f64,
    },
}

/// Thresholds between the probabilities of `scored`, from high to low, at most 400, evenly by rank.
pub fn thresholds(scored: &Scored) -> Vec<f32> {
    let mut values: Vec<f32> = scored.probabilities.clone();
    values.sort_by(|a, b| b.total_cmp(a));
    values.dedup();
    let between: Vec<f32> = values.windows(2).map(|pair| pair[1] + (pair[0] - pair[1]) / 2.0).collect();
    let step = between.len().div_ceil(MOST).max(1);
    between.into_iter().step_by(step).collect()
}

/// What each of `thresholds` means; `scored` has both classes. `seed` draws the samples of patients.
pub fn rows(scored: &Scored, thresholds: &[f32], goal: Goal, seed: u64) -> Vec<Row> {
    let patients: Vec<&str> = scored.patients.iter().map(String::as_str).collect();
    let drawn = samples(&patients, seed, |drawn| Shares::of(scored, drawn, thresholds));
    let all: Vec<usize> = (0..scored.truths.len()).collect();
    let own = Shares::of(scored, &all, thresholds);
    let row = |(k, threshold): (usize, &f32)| {
        let estimate = |shares: fn(&Shares) -> &Vec<f64>, of: usize| {
            let value = shares(&own)[k];
            let values: Vec<f64> = drawn.iter().map(|s| shares(s)[k]).filter(|v| v.is_finite()).collect();
            Estimate { value, ci95: wider(value, of, values) }
        };
        let sensitivity = estimate(|s| &s.sensitivity, scored.people_with(true));
        let specificity = estimate(|s| &s.specificity, scored.people_with(false));
        Row::new(*threshold, sensitivity, specificity, goal)
    };
    thresholds.iter().enumerate().map(row).collect()
}

/// Sensitivity and specificity of some radiographs at thresholds; not a number where a class is missing.
struct Shares {
    sensitivity: Vec<f64>,
    specificity: Vec<f64>,
}

impl Shares {
    fn of(scored: &Scored, chosen: &[usize], thresholds: &[f32]) -> Shares {
        let sorted = |class: bool| {
            let of_class = chosen.iter().filter(|i| scored.truths[**i] == class);
            let mut values: Vec<f32> = of_class.map(|i| scored.probabilities[*i]).collect();
            values.sort_by(f32::total_cmp);
            values
        };
        let below =
            |values: &[f32], threshold: f32| values.partition_point(|p| *p < threshold) as f64 / values.len() as f64;
        let [ill, others] = [sorted(true), sorted(false)];
        Shares {
            sensitivity: thresholds.iter().map(|t| 1.0 - below(&ill, *t)).collect(),
            specificity: thresholds.iter().map(|t| below(&others, *t)).collect(),
        }
    }
}

/// The wider at each end of the middle 95 % of `samples` and of Wilson's interval, of so many people.
fn wider(share: f64, people: usize, mut samples: Vec<f64>) -> [f64; 2] {
    let [low, high] = wilson_share(share, people as f64);
    samples.sort_by(f64::total_cmp);
    let at = |part: f64| samples.get(((part * samples.len() as f64) as usize).min(samples.len().saturating_sub(1)));
    [at(0.025).map_or(low, |sample| low.min(*sample)), at(0.975).map_or(high, |sample| high.max(*sample))]
}

impl Row {
    fn new(threshold: f32, sensitivity: Estimate, specificity: Estimate, goal: Goal) -> Row {
        let prevalence = goal.prevalence;
        let missed = |sensitivity: f64| 1e3 * prevalence * (1.0 - sensitivity);
        let alarms = |specificity: f64| 1e3 * (1.0 - prevalence) * (1.0 - specificity);
        let caught = |sensitivity: f64| 1e3 * prevalence * sensitivity;
        let spared = |specificity: f64| 1e3 * (1.0 - prevalence) * specificity;
        let share = |a: f64, b: f64| (a + b > 0.0).then(|| a / (a + b));
        let ppv = |at: [f64; 2]| share(caught(at[0]), alarms(at[1]));
        let npv = |at: [f64; 2]| share(spared(at[1]), missed(at[0]));
        let own = [sensitivity.value, specificity.value];
        let worst = [sensitivity.ci95[0], specificity.ci95[0]];
        let best = [sensitivity.ci95[1], specificity.ci95[1]];
        let of = |predictive: &dyn Fn([f64; 2]) -> Option<f64>| {
            Some(Estimate { value: predictive(own)?, ci95: [predictive(worst)?, predictive(best)?] })
        };
        let referred = |at: [f64; 2]| caught(at[0]) + alarms(at[1]);
        Row {
            threshold,
            sensitivity,
            specificity,
            ppv: of(&ppv),
            npv: of(&npv),
            referred: Estimate {
                value: referred(own),
                ci95: [referred([worst[0], best[1]]), referred([best[0], worst[1]])],
            },
            missed: Estimate { value: missed(own[0]), ci95: [missed(best[0]), missed(worst[0])] },
        }
    }
}

/// Refuses a sample that can say nothing: too few people of either kind for `goal`, or no probabilities.
pub fn check(scored: &Scored, goal: Goal) -> Result<(), ChooseError> {
    let found = scored.people_with(true);
    let needed = fewest_positives(goal);
    if found < needed {
        return Err(ChooseError::FewPositives { found, needed, goal: goal.sensitivity });
    }
    let found = scored.people_with(false);
    if found < FEWEST_NEGATIVES {
        return Err(ChooseError::FewNegatives { found });
    }
    let values: HashSet<u32> = scored.probabilities.iter().map(|p| p.to_bits()).collect();
    if values.len() < FEWEST_VALUES {
        return Err(ChooseError::FewValues(values.len()));
    }
    Ok(())
}

/// The highest threshold of `rows` whose sensitivity reaches the goal with the lower end of its interval.
pub fn choose(rows: &[Row], goal: Goal) -> Result<Row, ChooseError> {
    let reaches = |row: &&Row| row.sensitivity.ci95[0] >= goal.sensitivity;
    let chosen = rows.iter().filter(reaches).max_by(|a, b| a.threshold.total_cmp(&b.threshold));
    let Some(chosen) = chosen.copied() else {
        let lowest = rows.iter().min_by(|a, b| a.threshold.total_cmp(&b.threshold)).map(|row| row.sensitivity);
        let Estimate { value, ci95: [low, high] } = lowest.unwrap_or(Estimate { value: 0.0, ci95: [0.0, 1.0] });
        return Err(ChooseError::Unreached { goal: goal.sensitivity, value, low, high });
    };
    // No better than calling people ill by lot.
    if chosen.sensitivity.ci95[0] + chosen.specificity.ci95[0] <= 1.0 {
        let specificity = chosen.specificity.value;
        return Err(ChooseError::Useless { threshold: chosen.threshold, specificity });
    }
    Ok(chosen)
}

/// What a second sample says of the goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The sensitivity is at least the goal, for sure.
    Confirmed,
    /// It may be and may not.
    Open,
    /// The sensitivity is less than the goal, or the specificity less than on the first sample, for sure.
    Contradicted,
}

/// What `row`, of a second sample, says of `goal` and of the `chosen` row of the first.
pub fn verdict(row: &Row, chosen: &Row, goal: Goal) -> Verdict {
    let [low, high] = row.sensitivity.ci95;
    match () {
        () if row.specificity.ci95[1] < chosen.specificity.ci95[0] => Verdict::Contradicted,
        () if low >= goal.sensitivity => Verdict::Confirmed,
        () if high < goal.sensitivity => Verdict::Contradicted,
        () => Verdict::Open,
    }
}

/// What is added to the logits of `scored` so that their mean probability is the share of the ill at `goal`'s
/// prevalence, whatever that is in the sample (a logistic model with the intercept alone free: Steyerberg 2019,
/// *Clinical Prediction Models*, 15.3; classes weighed as there).
pub fn intercept(scored: &Scored, goal: Goal) -> Result<f32, ChooseError> {
    let weights = weights(scored, goal);
    let logit = |p: f32| {
        let p = f64::from(p).clamp(1e-7, 1.0 - 1e-7);
        (p / (1.0 - p)).ln()
    };
    let pairs: Vec<(f64, f64)> = scored
        .probabilities
        .iter()
        .zip(&scored.truths)
        .map(|(p, truth)| (logit(*p), weights[usize::from(*truth)]))
        .collect();
    let mean = |a: f64| pairs.iter().map(|(logit, weight)| weight / (1.0 + (-(logit + a)).exp())).sum::<f64>();
    let mut low = -LARGEST_INTERCEPT;
    let mut high = LARGEST_INTERCEPT;
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if mean(middle) < goal.prevalence { low = middle } else { high = middle }
    }
    let found = (low + high) / 2.0;
    match found.abs() < LARGEST_INTERCEPT - 0.1 {
        true => Ok(found as f32),
        false => Err(ChooseError::NoIntercept),
    }
}

/// Probabilities around `threshold`, as far in logits to either side, that hold a tenth of the clinic's people;
/// `None` where no error is among them.
pub fn uncertain(scored: &Scored, threshold: f32, goal: Goal) -> Option<[f32; 2]> {
    let logit = |p: f32| {
        let p = f64::from(p).clamp(1e-12, 1.0 - 1e-7);
        (p / (1.0 - p)).ln()
    };
    let weights = weights(scored, goal);
    let middle = logit(threshold);
    let far = |i: usize| (logit(scored.probabilities[i]) - middle).abs();
    let mut order: Vec<usize> = (0..scored.truths.len()).collect();
    order.sort_by(|a, b| far(*a).total_cmp(&far(*b)));
    let mut held = 0.0;
    let mut reach = None;
    let mut has_error = false;
    for i in order {
        held += weights[usize::from(scored.truths[i])];
        if held > UNCERTAIN {
            break;
        }
        reach = Some(far(i));
        has_error |= (scored.probabilities[i] >= threshold) != scored.truths[i];
    }
    let reach = reach.filter(|_| has_error)?;
    let probability = |logit: f64| (1.0 / (1.0 + (-logit).exp())) as f32;
    Some([probability(middle - reach).min(threshold), probability(middle + reach).max(threshold)])
}

/// How much of the clinic's people a radiograph of the others, and of the ill, stands for.
fn weights(scored: &Scored, goal: Goal) -> [f64; 2] {
    let positives = scored.positives();
    let negatives = scored.truths.len() - positives;
    [(1.0 - goal.prevalence) / negatives.max(1) as f64, goal.prevalence / positives.max(1) as f64]
}

/// Ten bins of equally many radiographs by probability, with the means that the clinic would see: in the sample the ill
/// may be more.
pub fn reliability(scored: &Scored, goal: Goal) -> Vec<Bin> {
    const BINS: usize = 10;
    let weights = weights(scored, goal);
    let weight = |i: &usize| weights[usize::from(scored.truths[*i])];
    let mut order: Vec<usize> = (0..scored.truths.len()).collect();
    order.sort_by(|a, b| scored.probabilities[*a].total_cmp(&scored.probabilities[*b]));
    let bin = |members: &[usize]| {
        let sum: f64 = members.iter().map(weight).sum();
        let ill: f64 = members.iter().filter(|i| scored.truths[**i]).map(weight).sum();
        let said: f64 = members.iter().map(|i| weight(i) * f64::from(scored.probabilities[*i])).sum();
        Bin { images: members.len(), probability: said / sum, observed: ill / sum }
    };
    order.chunks(order.len().div_ceil(BINS).max(1)).map(bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const GOAL: Goal = Goal { sensitivity: 0.9, prevalence: 0.1 };

    /// Radiographs, the first `ill` of the ill, whose probabilities are true before `shift` of their logits.
    fn scored(count: usize, shift: f64) -> Scored {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut scored = Scored::default();
        for i in 0..count {
            let logit = rng.random_range(-6.0..6.0);
            let truth = rng.random_bool(1.0 / (1.0 + f64::exp(-logit)));
            scored.probabilities.push((1.0 / (1.0 + f64::exp(-(logit + shift)))) as f32);
            scored.truths.push(truth);
            scored.patients.push((i / 2).to_string());
        }
        scored
    }

    #[test]
    fn the_chosen_threshold_is_the_highest_that_reaches_the_goal_for_sure() {
        let scored = scored(1200, 0.0);
        let rows = rows(&scored, &thresholds(&scored), GOAL, 1);
        check(&scored, GOAL).unwrap();
        let chosen = choose(&rows, GOAL).unwrap();
        assert!(chosen.sensitivity.ci95[0] >= 0.9 && chosen.sensitivity.value > 0.91);
        for row in &rows {
            assert!(row.threshold <= chosen.threshold || row.sensitivity.ci95[0] < 0.9);
            let Estimate { value, ci95: [low, high] } = row.sensitivity;
            assert!(low <= value && value <= high, "{row:?}");
            let direct = scored.probabilities.iter().zip(&scored.truths).filter(|(p, t)| **t && **p >= row.threshold);
            assert_eq!((value * scored.positives() as f64).round() as usize, direct.count());
        }
    }

    #[test]
    fn a_thousand_people_are_as_many_as_sensitivity_and_specificity_say() {
        let estimate = |value: f64, low: f64, high: f64| Estimate { value, ci95: [low, high] };
        let row = Row::new(0.3, estimate(0.9, 0.8, 0.95), estimate(0.8, 0.7, 0.9), GOAL);
        let close = |e: Estimate, expected: [f64; 3]| {
            [e.value, e.ci95[0], e.ci95[1]].iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9)
        };
        assert!(close(row.missed, [10.0, 5.0, 20.0]), "{row:?}");
        assert!(close(row.referred, [270.0, 170.0, 365.0]), "{row:?}");
        assert!(close(row.ppv.unwrap(), [90.0 / 270.0, 80.0 / 350.0, 95.0 / 185.0]), "{row:?}");
        assert!(close(row.npv.unwrap(), [720.0 / 730.0, 630.0 / 650.0, 810.0 / 815.0]), "{row:?}");
    }

    #[test]
    fn an_interval_says_something_where_nothing_was_missed() {
        let mut perfect = scored(200, 0.0);
        perfect.probabilities = perfect.truths.iter().map(|t| if *t { 0.9 } else { 0.1 }).collect();
        let rows = rows(&perfect, &thresholds(&perfect), GOAL, 1);
        assert_eq!((rows.len(), rows[0].sensitivity.value), (1, 1.0));
        assert!(rows[0].sensitivity.ci95[0] < 0.98 && rows[0].missed.ci95[1] > 1.0, "{:?}", rows[0]);
    }

    #[test]
    fn too_few_and_too_bad_are_refused() {
        let refused = |scored: &Scored, goal: Goal| {
            let rows = rows(scored, &thresholds(scored), goal, 1);
            check(scored, goal).and_then(|()| choose(&rows, goal).map(|_| ())).unwrap_err().to_string()
        };
        assert!(refused(&scored(40, 0.0), GOAL).contains("needs 35"));
        let mut ill = scored(400, 0.0);
        ill.truths = (0..400).map(|i| i % 20 != 0).collect();
        assert!(refused(&ill, GOAL).starts_with("20 people who are not ill"));
        let one = |truth: bool| if truth { "ill".to_owned() } else { "well".to_owned() };
        let few = scored(400, 0.0);
        let few = Scored { patients: few.truths.iter().map(|t| one(*t)).collect(), ..few };
        assert!(refused(&few, GOAL).starts_with("1 people who are ill are too few"));
        let mut calls = scored(400, 0.0);
        calls.probabilities.iter_mut().for_each(|p| *p = p.round());
        assert!(refused(&calls, GOAL).contains("there are 2 different probabilities"));
        let mut inverted = scored(400, 0.0);
        inverted.truths.iter_mut().for_each(|truth| *truth = !*truth);
        assert!(refused(&inverted, GOAL).contains("does not tell the ill from others"));
    }

    #[test]
    fn radiographs_of_one_person_count_as_one() {
        let mut alone = scored(400, 0.0);
        alone.patients = (0..400).map(|i| i.to_string()).collect();
        let many = Scored {
            probabilities: alone.probabilities.repeat(4),
            truths: alone.truths.repeat(4),
            patients: vec![alone.patients.clone(); 4].concat(),
        };
        let at = |scored: &Scored| rows(scored, &[0.3], GOAL, 1)[0].sensitivity;
        let [alone, many] = [at(&alone), at(&many)];
        assert!((alone.ci95[0] - many.ci95[0]).abs() < 1e-9 && (alone.ci95[1] - many.ci95[1]).abs() < 1e-9);
    }

    #[test]
    fn the_uncertain_are_a_tenth_of_the_clinics_people() {
        let scored = scored(4000, 0.0);
        let [low, high] = uncertain(&scored, 0.3, GOAL).unwrap();
        assert!(low < 0.3 && 0.3 < high);
        let weights = weights(&scored, GOAL);
        let inside = |i: &usize| (low..=high).contains(&scored.probabilities[*i]);
        let held: f64 = (0..4000).filter(inside).map(|i| weights[usize::from(scored.truths[i])]).sum();
        assert!((held - 0.1).abs() < 0.002, "{held}");
    }

    #[test]
    fn the_intercept_is_the_shift_and_the_change_of_prevalence() {
        let scored = scored(20_000, 1.2);
        let share = scored.positives() as f64 / 20_000.0;
        let same = intercept(&scored, Goal { prevalence: share, ..GOAL }).unwrap();
        assert!((same + 1.2).abs() < 0.06, "{same}");
        // Fewer ill people: probabilities are lower.
        assert!(intercept(&scored, GOAL).unwrap() < same - 1.0);
        let patients = vec![String::new(); 4];
        let one = Scored { probabilities: vec![1.0; 4], truths: vec![true, false, true, false], patients };
        assert!(intercept(&one, Goal { prevalence: 0.01, ..GOAL }).is_err());
    }

    #[test]
    fn with_the_intercept_probabilities_are_those_of_the_clinic() {
        let mut scored = scored(20_000, 1.2);
        let added = f64::from(intercept(&scored, GOAL).unwrap());
        let move_by = |p: f32| {
            let p = f64::from(p);
            (1.0 / (1.0 + (-((p / (1.0 - p)).ln() + added)).exp())) as f32
        };
        let far = |scored: &Scored| {
            let bins = reliability(scored, GOAL);
            bins.iter().map(|bin| (bin.probability - bin.observed).abs()).fold(0.0, f64::max)
        };
        assert!(far(&scored) > 0.3);
        scored.probabilities = scored.probabilities.iter().map(|p| move_by(*p)).collect();
        assert!(far(&scored) < 0.05, "{}", far(&scored));
    }

    #[test]
    fn a_second_sample_confirms_contradicts_or_leaves_open() {
        let row = |low: f64, high: f64| {
            let sensitivity = Estimate { value: (low + high) / 2.0, ci95: [low, high] };
            Row::new(0.5, sensitivity, Estimate { value: 0.8, ci95: [0.7, 0.9] }, GOAL)
        };
        let verdicts = [row(0.91, 0.99), row(0.85, 0.95), row(0.7, 0.89)].map(|row| verdict(&row, &row, GOAL));
        assert_eq!(verdicts, [Verdict::Confirmed, Verdict::Open, Verdict::Contradicted]);
        let first = Row { specificity: Estimate { value: 0.97, ci95: [0.95, 0.99] }, ..row(0.91, 0.99) };
        assert_eq!(verdict(&row(0.91, 0.99), &first, GOAL), Verdict::Contradicted);
    }
}
