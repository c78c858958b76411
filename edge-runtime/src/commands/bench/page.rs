//! The page of a measurement.

use super::{Percentiles, Report};
use crate::board::Board;
use crate::process::measure::percentile;
use crate::report::html::{escaped, facts, figures, html, section, table};
use crate::report::plots::{Axes, Line, lines, span};

/// Points of a cumulative curve.
const STEPS: usize = 200;
/// Fewer runs have no 99th percentile.
const ENOUGH: u32 = 100;

/// The page of `report`, measured for `board`.
pub fn page(report: &Report, board: &Board) -> String {
    let mut body = summary(report, board);
    body += &section("Stages", &stages(report, board));
    body += &section("Runs", &figures(&[over_time(report, board), shares(report, board)]));
    body += &section("Measured beside predicted", &predicted(report, board));
    body += &section("Conditions", &conditions(report, board));
    html(&format!("Latency against the budget of {}", board.title), &body)
}

fn summary(report: &Report, board: &Board) -> String {
    let total = &report.total_ms;
    let budget = board.budget_ms.total();
    let verdict = if report.within_budget { "within" } else { "over" };
    if report.runs < ENOUGH {
        let slowest = report.runs_ms.total.iter().copied().fold(0.0, f64::max);
        return format!(
            "<p>Measured on {}.</p><p>The slowest of {} scans took <strong>{slowest:.1} ms</strong>; the budget is \
             {budget:.0} ms. These are too few to say how long most take.</p>",
            escaped(&report.machine),
            report.runs
        );
    }
    let slowed = match report.is_slowed() {
        true => "<p><strong>The processor was slowed down: these times are not all that it can do.</strong></p>",
        false => "",
    };
    format!(
        "<p>Measured on {}.</p><p>95 of 100 scans took at most <strong>{:.1} ms</strong>, {verdict} the budget of \
         {budget:.0} ms. Half took at most {:.1} ms, 99 of 100 at most {:.1} ms.</p>{slowed}",
        escaped(&report.machine),
        total.p95,
        total.p50,
        total.p99
    )
}

fn cells(name: &str, values: &Percentiles, budget: Option<f64>) -> Vec<String> {
    let Percentiles { p50, p95, p99 } = values;
    let budget = budget.map_or(String::new(), |b| format!("{b:.0}"));
    vec![name.to_owned(), format!("{p50:.2}"), format!("{p95:.2}"), format!("{p99:.2}"), budget]
}

fn stages(report: &Report, board: &Board) -> String {
    let mut rows: Vec<Vec<String>> =
        report.stages.iter().map(|(s, values)| cells(s.name(), values, Some(board.budget_ms[*s]))).collect();
    rows.push(cells("total", &report.total_ms, Some(board.budget_ms.total())));
    let cpu = if report.threads == 1 { "CPU time" } else { "CPU time, mean of all runs" };
    rows.push(cells(&format!("total, {cpu}"), &report.total_cpu_ms, None));
    rows.push(cells("network alone", &report.network_ms, None));
    rows.push(cells(&format!("network alone, {cpu}"), &report.network_cpu_ms, None));
    let head = ["ms", "half of all", "95 %", "99 %", "budget"].map(str::to_owned);
    table(&head, &rows)
}

fn over_time(report: &Report, board: &Board) -> String {
    let runs = |values: &[f64]| values.iter().enumerate().map(|(i, ms)| (i as f64 + 1.0, *ms)).collect();
    let last = report.runs_ms.total.len() as f64;
    let budget = board.budget_ms.total();
    let shown = [
        Line { name: "scan".into(), points: runs(&report.runs_ms.total) },
        Line { name: "network alone".into(), points: runs(&report.runs_ms.network) },
        Line { name: "budget".into(), points: vec![(1.0, budget), (last, budget)] },
    ];
    // A budget far away would flatten the runs.
    let slowest = report.runs_ms.total.iter().copied().fold(0.0, f64::max);
    let shown = if budget > 4.0 * slowest { &shown[..2] } else { &shown[..] };
    let up = 0.0..span(shown.iter().flat_map(|line| line.points.iter().map(|(_, ms)| *ms))).end;
    let axes = Axes { title: "Run after run", x: "run", y: "ms", across: 0.5..last + 0.5, up };
    // A single run is no line.
    let marks: &[(f64, f64)] = if report.runs == 1 { &shown[0].points } else { &[] };
    lines(&axes, shown, marks)
}

fn shares(report: &Report, board: &Board) -> String {
    let curve = |values: &[f64]| -> Vec<(f64, f64)> {
        let share = |step: usize| step as f64 / STEPS as f64;
        (1..=STEPS).filter_map(|step| Some((percentile(values, share(step))?, share(step)))).collect()
    };
    let total = curve(&report.runs_ms.total);
    let network = curve(&report.runs_ms.network);
    let across = 0.0..span(total.iter().map(|(ms, _)| *ms)).end;
    let title = format!("Share of runs that are done (budget {:.0} ms)", board.budget_ms.total());
    let axes = Axes { title: &title, x: "ms", y: "share", across, up: 0.0..1.0 };
    let shown = [Line { name: "scan".into(), points: total }, Line { name: "network alone".into(), points: network }];
    lines(&axes, &shown, &[])
}

fn predicted(report: &Report, board: &Board) -> String {
    let Some(predicted) = &report.predicted else {
        return format!(
            "<p>No prediction: {} has no assumed rate of instructions, or the network has float layers, whose \
             instructions are not known.</p>",
            escaped(&board.title)
        );
    };
    let measured = report.network_ms.p50;
    let row = |name: String, ms: f64, kernel: &str| vec![name, format!("{ms:.2}"), kernel.to_owned()];
    let rows = [
        row(format!("predicted for {}, one thread", board.title), predicted.network_ms, predicted.kernel),
        row(format!("measured here, {} thread(s)", report.threads), measured, report.kernel),
    ];
    let compared = match report.kernel == predicted.kernel {
        true => format!(
            "Measured ÷ predicted: {:.2}. That says something of the prediction only if this machine is that board, on \
             one thread.",
            measured / predicted.network_ms
        ),
        false => "This machine runs another kernel, so it is not that board: the two cannot be compared.".to_owned(),
    };
    let note = format!("Predicted from {:.1} million counted instructions. {compared}", predicted.instructions_m);
    let head = ["network, ms", "half of all", "kernel"].map(str::to_owned);
    format!("{}<p class=\"small\">{}</p>", table(&head, &rows), escaped(&note))
}

fn conditions(report: &Report, board: &Board) -> String {
    let [before, after] = &report.processor;
    let image = &report.image;
    let memory = report.peak_rss_mib.map_or("unknown".to_owned(), |mib| format!("{mib:.1} MiB"));
    let rows = [
        ("measured on", report.machine.clone()),
        ("budget of", board.title.clone()),
        ("model", format!("{} {} {:.8}", report.model.name, report.model.version, report.model.digest)),
        ("kernel", report.kernel.to_owned()),
        ("threads", report.threads.to_string()),
        ("runs", format!("{}, after {} to warm up", report.runs, report.runs.div_ceil(10))),
        ("image", format!("{}×{} {}, {} bytes", image.width, image.height, image.format.name(), image.bytes)),
        ("cold start", format!("{:.1} ms, {:.1} ms of CPU", report.cold_start_ms, report.cold_start_cpu_ms)),
        ("peak memory", memory),
        ("processor before", before.in_words()),
        ("processor after", after.in_words()),
        ("program", format!("edge-runtime {}", env!("CARGO_PKG_VERSION"))),
    ];
    facts(&rows.map(|(name, value)| (name.to_owned(), value)))
}
