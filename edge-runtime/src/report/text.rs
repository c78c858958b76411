//! A finding as a person reads it in a terminal.

use crate::finding::{Answer, Finding, STATEMENT};

/// `finding` of `file`, on a board whose title is `board`.
pub fn finding(file: &str, finding: &Finding, board: &str) -> String {
    let total = finding.latency_ms.total();
    let ran = finding.latency_ms.iter().filter(|(_, ms)| *ms > 0.0);
    let stages: Vec<String> = ran.map(|(stage, ms)| format!("{} {ms:.1}", stage.name())).collect();
    let point = &finding.operating_point;
    let rates =
        format!("sensitivity {:.1} %, specificity {:.1} %", point.sensitivity * 100.0, point.specificity * 100.0);
    let images = point.images;
    let basis = match &finding.site {
        None if images == 0 => "operating point not tuned".to_owned(),
        None => format!("chosen for {rates} on {images} validation images"),
        Some(site) if site.is_confirmed => {
            format!("of site {}: {rates}, confirmed on {images} radiographs there", site.name)
        }
        Some(site) => format!("of site {}: {rates} on {images} radiographs there, NOT CONFIRMED on others", site.name),
    };
    let relation = if finding.positive { "at or above" } else { "below" };
    let band = match (finding.answer, finding.uncertain) {
        (Answer::Uncertain, Some([low, high])) => {
            format!("  Uncertain    between {low:.3} and {high:.3}, too near to the operating point to call\n")
        }
        _ => String::new(),
    };
    let assumed: Vec<String> =
        finding.image.origin.assumptions().iter().map(|a| format!("  Assumed      {a}\n")).collect();
    let warnings: Vec<String> = finding.warnings.iter().map(|w| format!("  Warning      {}\n", w.sentence())).collect();
    let fits = if finding.within_budget() { "within" } else { "OVER" };
    // At a rare illness a site's probabilities are small: as many digits as tell the two apart.
    let alike = |digits: usize| format!("{:.digits$}", finding.probability) == format!("{:.digits$}", point.threshold);
    let digits = (3..8).find(|digits| !alike(*digits)).unwrap_or(3);
    format!(
        "{file}\n  Finding      {}\n{}  Probability  {:.digits$}, {relation} the operating point {:.digits$} \
         ({basis})\n{band}  Latency      {} = {total:.1} ms, {fits} the {:.0} ms budget of {board}\n{}  \
         {STATEMENT}",
        finding.in_words(),
        warnings.concat(),
        finding.probability,
        point.threshold,
        stages.join(" + "),
        finding.budget(),
        assumed.concat(),
    )
}

#[cfg(test)]
mod tests {
    use crate::finding::tests::example;
    use crate::finding::{Answer, Decision, Finding, Warning};
    use crate::site::SiteId;

    #[test]
    fn a_person_reads_the_finding_and_that_it_is_none() {
        let text = super::finding("a.jpeg", &example(false), "This computer");
        assert!(text.contains("no sign of PNEUMONIA") && text.contains("not a diagnosis"), "{text}");
        let doubtful = Finding { warnings: vec![Warning::Inverted], ..example(false) };
        let lines = super::finding("a.jpeg", &doubtful, "This computer");
        assert!(lines.lines().nth(2).is_some_and(|l| l.contains("Warning") && l.contains("negative")), "{lines}");
        let unclear = Finding { answer: Answer::Uncertain, probability: 0.42, ..example(true) };
        let lines = super::finding("a.jpeg", &unclear, "This computer");
        assert!(lines.contains("uncertain, send to a reader") && lines.contains("between 0.300 and 0.500"), "{lines}");
        let site = |is_confirmed| Some(SiteId { name: "Kisumu".into(), digest: "ab".into(), is_confirmed });
        let at_site = super::finding("a.jpeg", &Finding { site: site(false), ..example(true) }, "This computer");
        assert!(at_site.contains("of site Kisumu: ") && at_site.contains("NOT CONFIRMED"), "{at_site}");
        let at_site = super::finding("a.jpeg", &Finding { site: site(true), ..example(true) }, "This computer");
        let rare = Finding {
            probability: 0.00031,
            operating_point: Decision { threshold: 0.0003, ..example(true).operating_point },
            ..example(true)
        };
        let rare = super::finding("a.jpeg", &rare, "This computer");
        assert!(rare.contains("Probability  0.00031, at or above the operating point 0.00030"), "{rare}");
        assert!(at_site.contains(", confirmed on 784 radiographs there"), "{at_site}");
        assert!(text.contains("read 2.0 + decode 30.0 + infer 10.0 = 42.0 ms, within the 455 ms budget"), "{text}");
    }
}
