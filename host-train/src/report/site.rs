//! A site study: one typed record, written as text, JSON and a page.

use super::page::columns;
use super::plots;
use data::curves::{Bin, Point};
use data::metrics::printed;
use data::site::{Estimate, Goal, Plan, Row, Verdict};
use edge_runtime::report::html::{escaped, facts, figures, html, section, table};
use edge_runtime::report::plots::{Axes, Line, lines};
use edge_runtime::site::SiteProfile;
use serde::Serialize;

/// Rows of the printed table besides the chosen one and the model's own.
const SHOWN: usize = 16;

/// A study of a model at a clinic.
#[derive(Serialize)]
pub struct SiteStudy {
    /// The profile that follows.
    pub profile: SiteProfile,
    /// What the clinic wants.
    pub goal: Goal,
    /// What a study needed if the model were as good as on its validation images; `None` where those do not reach the
    /// goal.
    pub plan: Option<Plan>,
    /// The sample that the threshold was chosen on.
    pub sample: Figures,
    /// Where the model decides by itself.
    pub own: Row,
    /// Where it decides here.
    pub chosen: Row,
    /// The second sample.
    pub confirmation: Option<Confirmation>,
    /// Every threshold.
    pub rows: Vec<Row>,
    /// The curve of the sample.
    pub curve: Vec<Point>,
    /// How far probabilities were to be believed before the intercept.
    pub before: Vec<Bin>,
    /// And after it.
    pub after: Vec<Bin>,
    /// What a person should know, a sentence each.
    pub remarks: Vec<String>,
}

/// A sample.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// Radiographs.
    pub images: usize,
    /// People.
    pub patients: usize,
    /// Radiographs of the ill.
    pub positives: usize,
    /// Area under the curve.
    pub auroc: Option<f64>,
    /// Its 95 % interval, by resampling patients.
    pub auroc_ci95: Option<[f64; 2]>,
    /// Share of the radiographs that are unlike the model's training images, where it knows those.
    pub outside: Option<f64>,
}

/// What a second sample says.
#[derive(Debug, Clone, Serialize)]
pub struct Confirmation {
    /// The sample.
    pub sample: Figures,
    /// The chosen threshold there.
    pub row: Row,
    /// What that says of the goal.
    pub verdict: Verdict,
}

impl Confirmation {
    fn sentence(&self, goal: Goal) -> String {
        let goal = goal.sensitivity;
        let shown = interval(&self.row.sensitivity, 3);
        match self.verdict {
            Verdict::Confirmed => {
                format!("Confirmed: on the second sample the sensitivity is {shown}, at least {goal}.")
            }
            Verdict::Open => format!(
                "Not confirmed: on the second sample the sensitivity is {shown}; whether it is at least {goal}, so few \
                 radiographs cannot say. The profile says that it is not confirmed."
            ),
            // The specificity contradicts where the sensitivity does not.
            Verdict::Contradicted if self.row.sensitivity.ci95[1] >= goal => format!(
                "CONTRADICTED: on the second sample the specificity is {}, surely less than on the first. No profile \
                 was written: find out how the samples differ.",
                interval(&self.row.specificity, 3)
            ),
            Verdict::Contradicted => format!(
                "CONTRADICTED: on the second sample the sensitivity is {shown}, below {goal}. No profile was written: \
                 find out how the samples differ."
            ),
        }
    }
}

const HEAD: [&str; 8] = ["", "threshold", "sensitivity", "specificity", "missed", "referred", "PPV", "NPV"];

fn interval(estimate: &Estimate, digits: usize) -> String {
    let Estimate { value, ci95: [low, high] } = estimate;
    format!("{value:.digits$} ({low:.digits$}–{high:.digits$})")
}

fn cells(name: &str, row: &Row) -> Vec<String> {
    let predictive =
        |estimate: &Option<Estimate>, digits: usize| estimate.as_ref().map_or("–".into(), |e| interval(e, digits));
    vec![
        name.to_owned(),
        format!("{:.3}", row.threshold),
        interval(&row.sensitivity, 3),
        interval(&row.specificity, 3),
        interval(&row.missed, 1),
        interval(&row.referred, 0),
        predictive(&row.ppv, 2),
        predictive(&row.npv, 3),
    ]
}

impl SiteStudy {
    /// True if the second sample says that the threshold misses too many.
    pub fn is_contradicted(&self) -> bool {
        self.confirmation.as_ref().is_some_and(|confirmation| confirmation.verdict == Verdict::Contradicted)
    }

    /// Named rows, and of `of` rows so many as are asked for, from high to low.
    fn table(&self, shown: usize) -> Vec<Vec<String>> {
        let step = self.rows.len().div_ceil(shown).max(1);
        let named = [("chosen here", &self.chosen), ("the model's own", &self.own)];
        let mut rows: Vec<(&str, &Row)> = self.rows.iter().step_by(step).map(|row| ("", row)).collect();
        rows.extend(named);
        if let Some(confirmation) = &self.confirmation {
            rows.push(("second sample", &confirmation.row));
        }
        rows.sort_by(|a, b| b.1.threshold.total_cmp(&a.1.threshold));
        let head = HEAD.map(String::from).to_vec();
        std::iter::once(head).chain(rows.into_iter().map(|(name, row)| cells(name, row))).collect()
    }

    fn summary(&self) -> Vec<String> {
        let s = &self.sample;
        let goal = self.goal;
        let auroc = s.auroc_ci95.map_or(String::new(), |[low, high]| format!(" (95 % {low:.3} to {high:.3})"));
        let mut lines = vec![
            format!(
                "{} radiographs of {} people, {} of the ill; {:.1} % of the people screened are ill",
                s.images,
                s.patients,
                s.positives,
                goal.prevalence * 100.0
            ),
            format!("AUROC {}{auroc}", printed(s.auroc, 3)),
            format!(
                "chosen: threshold {:.3}, the highest whose sensitivity is at least {} with the lower end of its 95 % \
                 interval; intercept {:+.3}",
                self.chosen.threshold, goal.sensitivity, self.profile.intercept
            ),
        ];
        lines.push(match &self.confirmation {
            Some(confirmation) => confirmation.sentence(goal),
            None => {
                "Not confirmed: a threshold looks better on the radiographs that chose it. Give a second sample with \
                     --confirm."
                    .into()
            }
        });
        lines.extend(self.remarks.iter().cloned());
        lines
    }

    /// The study as text.
    pub fn text(&self) -> String {
        format!(
            "{} at {}\n{}\n\n{}\n\n{}",
            self.profile.model,
            self.profile.site,
            self.summary().join("\n"),
            columns(&self.table(SHOWN)),
            note(self.goal)
        )
    }

    /// The study as a page.
    pub fn page(&self) -> String {
        let summary: String = self.summary().iter().map(|line| format!("<p>{}</p>", escaped(line))).collect();
        let p = &self.profile;
        let mut known = vec![
            ("site".to_owned(), p.site.clone()),
            ("model".to_owned(), p.model.clone()),
            ("digest".to_owned(), p.model_digest.clone()),
            ("made".to_owned(), p.made.clone()),
        ];
        if let Some(plan) = &self.plan {
            let text = format!(
                "{} radiographs of the ill and {} of others, from about {} people, if sensitivity and specificity were \
                 {:.3} and {:.3}",
                plan.positives, plan.negatives, plan.people, plan.expected_sensitivity, plan.expected_specificity
            );
            known.push(("a study needs".to_owned(), text));
        }
        let plots = figures(&[
            self.rates(),
            plots::roc(&self.curve, Some((self.chosen.sensitivity.value, self.chosen.specificity.value))),
            plots::reliability("Reliability before the intercept", &self.before),
            plots::reliability("Reliability with the intercept", &self.after),
        ]);
        let rows = self.table(2 * SHOWN);
        let note = format!("<p class=\"small\">{}</p>", escaped(&note(self.goal)));
        let body = summary
            + &section("What is known", &facts(&known))
            + &section("What a threshold means here", &format!("{}{note}", table(&rows[0], &rows[1..])))
            + &section("Curves", &plots);
        html(&format!("Site study: {} at {}", p.model, p.site), &body)
    }

    /// Sensitivity and specificity over the threshold, with the ends of their intervals.
    fn rates(&self) -> String {
        let axes = Axes {
            title: "Sensitivity and specificity",
            x: "threshold",
            y: "share, with 95 % intervals",
            across: 0.0..1.0,
            up: 0.0..1.0,
        };
        let line = |name: &str, value: &dyn Fn(&Row) -> f64| Line {
            name: name.into(),
            points: self.rows.iter().map(|row| (f64::from(row.threshold), value(row))).collect(),
        };
        let all = [
            line("sensitivity", &|row| row.sensitivity.value),
            line("lower end", &|row| row.sensitivity.ci95[0]),
            line("specificity", &|row| row.specificity.value),
            line("lower end", &|row| row.specificity.ci95[0]),
        ];
        let at = f64::from(self.chosen.threshold);
        lines(&axes, &all, &[(at, self.chosen.sensitivity.value), (at, self.chosen.specificity.value)])
    }
}

fn note(goal: Goal) -> String {
    format!(
        "Missed and referred: of 1,000 people of whom {:.0} are ill; missed are ill and not called so. Intervals are \
         of 95 %: of sensitivity and specificity the wider of {} samples of patients and of Wilson's; what follows \
         from both is at the ends of both at once. Thresholds and probabilities contain the intercept. Every threshold \
         is in site-study.json.",
        goal.prevalence * 1e3,
        data::bootstrap::SAMPLES
    )
}
