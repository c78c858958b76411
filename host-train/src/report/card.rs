//! The model card (Mitchell et al. 2019), as Markdown.

use super::Report;
use data::metrics::printed;
use edge_runtime::finding::STATEMENT;

/// The card of `report`.
pub(super) fn card(report: &Report) -> String {
    let m = &report.metrics;
    let i = &report.intervals;
    let row = |name: &str, value: Option<f64>, range: Option<[f64; 2]>| {
        let range = range.map_or(String::new(), |[low, high]| format!("{low:.3} to {high:.3}"));
        format!("| {name} | {} | {range} |\n", printed(value, 3))
    };
    let figures = [
        row("AUROC", m.auroc, i.auroc),
        row("accuracy", m.accuracy, i.accuracy),
        row("sensitivity", m.sensitivity, i.sensitivity),
        row("specificity", m.specificity, i.specificity),
        row("macro F1", m.macro_f1, i.macro_f1),
        row("calibration error", m.ece, None),
    ];
    let parts: String = report
        .subgroups
        .iter()
        .map(|s| {
            let [auroc, sensitivity, specificity] =
                [s.metrics.auroc, s.metrics.sensitivity, s.metrics.specificity].map(|v| printed(v, 3));
            format!("| {} | {} | {auroc} | {sensitivity} | {specificity} |\n", s.name, s.metrics.n)
        })
        .collect();
    let parts = match parts.is_empty() {
        true => {
            "The data set says nothing of age, sex, view or site: how the model does on parts of a population is not \
                 known.\n"
                .to_owned()
        }
        false => {
            format!("| part | images | AUROC | sensitivity | specificity |\n| --- | --- | --- | --- | --- |\n{parts}")
        }
    };
    let remarks: String = report.remarks.iter().map(|remark| format!("- {remark}\n")).collect();
    format!(
        "# {name}\n\n{STATEMENT}\n\n\
         ## Model\n\nInput {input}. Threshold {threshold:.4} ({rule}), temperature {temperature:.3}.{spread} The \
         recipe, which says all else, is at the end.\n\n\
         ## Data\n\nDigest `{digest}`, seed {seed}. Judged on {n} {split} images; no patient is on two sides of the \
         split.\n{remarks}\n\
         ## How it does\n\n| | here | 95 % (patients resampled) |\n| --- | --- | --- |\n{figures}\n\
         ## Parts of the images\n\n{parts}\n\
         ## Limits\n\nImages like those it was judged on come from the same source as its training images; on those of \
         other hospitals, machines and ages it can be much worse. Judge it on your own before you rely on it \
         (`host-train evaluate`).\n\n\
         ## Recipe\n\n```toml\n{recipe}```\n",
        name = report.name,
        input = report.input,
        threshold = m.threshold,
        rule = report.rule,
        temperature = report.temperature,
        spread = report.spread(),
        digest = report.data_digest,
        seed = report.seed,
        n = m.n,
        split = report.split,
        figures = figures.concat(),
        recipe = report.recipe,
    )
}
