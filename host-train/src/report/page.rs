//! The page of a run's report.

use super::{Example, Kind, Named, Report, plots};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use data::curves::PREVALENCES;
use data::metrics::printed;
use edge_runtime::report::html::{escaped, figures, html, section, table};
use edge_runtime::report::plots::{Axes, Line, lines, span};

fn head(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The page of `report`.
pub(super) fn page(report: &Report) -> String {
    let mut body = summary(report);
    body += &section("Curves", &curves(report));
    body += &section("Classes", &classes(report));
    body += &section("What a threshold means", &thresholds(report));
    if !report.subgroups.is_empty() {
        body += &section("Parts of the images", &subgroups(report));
    }
    if !report.training.is_empty() {
        body += &section("Training", &training(report));
    }
    body += &section("Decisions", &gallery(report));
    body += &section("Recipe", &format!("<pre>{}</pre>", escaped(&report.recipe)));
    html(&format!("{}: {} images", report.name, report.split), &body)
}

/// The page `title` that compares runs: a table, a note on it of a paragraph a line, and plots.
pub fn comparison(title: &str, head: &[String], rows: &[Vec<String>], note: &str, plots: &[String]) -> String {
    let note: String = note.lines().map(|line| format!("<p class=\"small\">{}</p>", escaped(line))).collect();
    html(title, &format!("{}{note}{}", table(head, rows), figures(plots)))
}

/// `rows` as text, the first column to the left and all others to the right.
pub fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &Vec<String>| {
        let padded = row.iter().enumerate().map(|(column, cell)| {
            let width = width(column);
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn summary(report: &Report) -> String {
    let m = &report.metrics;
    let i = &report.intervals;
    let range = |range: Option<[f64; 2]>| range.map_or(String::new(), |[low, high]| format!("{low:.3} to {high:.3}"));
    let published = report.published.unwrap_or_default();
    let row = |name: &str, value: Option<f64>, interval: Option<[f64; 2]>, theirs: Option<f64>| {
        let theirs = theirs.map_or(String::new(), |v| format!("{v:.3}"));
        vec![name.to_owned(), printed(value, 3), range(interval), theirs]
    };
    let rows = [
        row("AUROC", m.auroc, i.auroc, None),
        row("accuracy", m.accuracy, i.accuracy, published.accuracy),
        row("sensitivity (recall)", m.sensitivity, i.sensitivity, published.sensitivity),
        row("specificity", m.specificity, i.specificity, published.specificity),
        row("precision (PPV)", m.precision, i.precision, published.precision),
        row("NPV", m.npv, i.npv, None),
        row("F1", m.f1, None, published.f1),
        row("macro F1", m.macro_f1, i.macro_f1, published.macro_f1),
        row("average precision", m.average_precision, None, None),
        row("Brier score", m.brier, None, None),
        row("calibration error (ECE)", m.ece, None, None),
    ];
    let theirs = report.published.map(|published| format!("published, on {}", published.images));
    let columns: Vec<String> = head(&["", "here", "95 %"]).into_iter().chain(theirs).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row[..columns.len()].to_vec()).collect();
    let remarks: String = report.remarks.iter().map(|r| format!("<li>{}</li>", escaped(r))).collect();
    let list = if remarks.is_empty() { String::new() } else { format!("<ul class=\"small\">{remarks}</ul>") };
    format!(
        "<p>{} {} images; input {}. Threshold {:.4} ({}), temperature {:.3}.{} Seed {}, data {}…</p>{}\
         <p class=\"small\">Intervals: 95 %, {} samples of patients; where nothing went wrong, samples cannot \
         tell how seldom it does.</p>{list}",
        m.n,
        escaped(report.split),
        escaped(&report.input),
        m.threshold,
        escaped(&report.rule),
        report.temperature,
        escaped(&report.spread()),
        report.seed,
        escaped(report.data_digest.get(..12).unwrap_or(&report.data_digest)),
        table(&columns, &rows),
        data::bootstrap::SAMPLES
    )
}

fn curves(report: &Report) -> String {
    let names: Vec<String> = report.classes.iter().map(|class| class.name.clone()).collect();
    let at = report.metrics.sensitivity.zip(report.metrics.specificity);
    figures(&[
        plots::roc(&report.curve, at),
        plots::precision_recall(&report.curve),
        plots::reliability("Reliability", &report.reliability),
        plots::confusion(&names, &report.confusion),
    ])
}

fn classes(report: &Report) -> String {
    let row = |c: &super::ClassFigures| {
        vec![c.name.clone(), c.images.to_string(), printed(c.precision, 3), printed(c.recall, 3), printed(c.f1, 3)]
    };
    let rows: Vec<Vec<String>> = report.classes.iter().map(row).collect();
    table(&head(&["class", "images", "precision", "recall", "F1"]), &rows)
}

fn thresholds(report: &Report) -> String {
    let mut columns = head(&["", "threshold", "sensitivity", "specificity"]);
    for prevalence in PREVALENCES {
        let percent = prevalence * 100.0;
        columns.push(format!("PPV / NPV at {percent:.0} %"));
    }
    columns.push("of 1,000 at 10 %: referred / missed".into());
    let row = |named: &Named| {
        let e = &named.expectation;
        let mut row = vec![
            named.name.clone(),
            format!("{:.3}", e.threshold),
            format!("{:.3}", e.sensitivity),
            format!("{:.3}", e.specificity),
        ];
        let value = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
        row.extend(e.at.iter().map(|p| format!("{} / {}", value(p.ppv, 2), value(p.npv, 3))));
        let tenth = e.at.iter().find(|p| p.prevalence == 0.1);
        row.push(tenth.map_or(String::new(), |p| format!("{:.0} / {:.1}", p.referred, p.missed)));
        row
    };
    let rows: Vec<Vec<String>> = report.expectations.iter().map(row).collect();
    let note = "<p class=\"small\">Prevalence: the share of the people examined who are ill. Predictive values follow \
                from sensitivity and specificity on these images (Bayes); every threshold is in report.json.</p>";
    format!("{}{note}", table(&columns, &rows))
}

fn subgroups(report: &Report) -> String {
    let row = |s: &data::subgroups::Subgroup| {
        let m = &s.metrics;
        let figures = [m.auroc, m.accuracy, m.sensitivity, m.specificity].map(|v| printed(v, 3));
        [vec![s.name.clone(), m.n.to_string()], figures.to_vec()].concat()
    };
    let rows: Vec<Vec<String>> = report.subgroups.iter().map(row).collect();
    table(&head(&["part", "images", "AUROC", "accuracy", "sensitivity", "specificity"]), &rows)
}

fn training(report: &Report) -> String {
    let epochs = &report.training;
    let line = |name: &str, value: fn(&crate::training::EpochMetrics) -> f64| Line {
        name: name.into(),
        points: epochs.iter().map(|e| (e.epoch as f64, value(e))).filter(|(_, v)| v.is_finite()).collect(),
    };
    let across = 0.5..epochs.last().map_or(1.0, |e| e.epoch as f64) + 0.5;
    let plot = |title: &str, y: &str, shown: &[Line]| {
        let up = span(shown.iter().flat_map(|l| l.points.iter().map(|(_, v)| *v)));
        lines(&Axes { title, x: "epoch", y, across: across.clone(), up }, shown, &[])
    };
    let seconds: f64 = epochs.iter().map(|e| e.seconds).sum();
    let waiting = epochs.iter().map(|e| e.waiting * e.seconds).sum::<f64>() / seconds.max(1e-9);
    let words = format!(
        "<p>{} epochs, {:.0} minutes of training, {:.0} % of them waiting for images.</p>",
        epochs.len(),
        seconds / 60.0,
        waiting * 100.0
    );
    let plots = figures(&[
        plot("Loss", "loss", &[line("training, as trained on", |e| e.train_loss), line("validation", |e| e.val_loss)]),
        plot("Validation", "share", &[line("AUROC", |e| e.val_auroc), line("accuracy", |e| e.val_accuracy)]),
        plot("Learning rate", "log₁₀ of the rate", &[line("", |e| e.learning_rate.log10())]),
    ]);
    format!("{words}{plots}")
}

fn gallery(report: &Report) -> String {
    let kinds = [
        (Kind::FalseNegative, "Missed"),
        (Kind::FalsePositive, "False alarms"),
        (Kind::TruePositive, "Found"),
        (Kind::TrueNegative, "Rightly passed"),
    ];
    let figure = |example: &Example| {
        let png = example.picture.as_ref().and_then(|picture| picture.to_png().ok()).unwrap_or_default();
        format!(
            "<figure><img alt=\"{0}\" src=\"data:image/png;base64,{1}\">\
             <figcaption>{2}, {3:.3}<br>{0}</figcaption></figure>",
            escaped(&example.file),
            STANDARD.encode(png),
            escaped(&example.label),
            example.probability
        )
    };
    let of_kind = |(kind, title): (Kind, &str)| {
        let figures: String = report.examples.iter().filter(|e| e.kind == kind).map(figure).collect();
        let body =
            if figures.is_empty() { "<p>None.</p>".into() } else { format!("<div class=\"gallery\">{figures}</div>") };
        format!("<h3>{title}</h3>{body}")
    };
    let words = "<p class=\"small\">The surest mistakes, and right decisions from the surest to the least sure. \
                 Colour: what the network's last features say for the finding (Grad-CAM), scaled to each image.</p>";
    format!("{words}{}", kinds.map(of_kind).concat())
}
