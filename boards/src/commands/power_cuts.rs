//! `boards power-cuts`.

use edge_runtime::process::progress::Reporter;
use edge_runtime::process::{Failure, output};
use slots::power_cuts::{Report, Scenario, run as cut};

#[derive(clap::Args)]
pub struct Args {
    /// Cut the power a second time too, at every write of the recovery from the first cut
    #[arg(long)]
    full: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let reporter = Reporter::new(false);
    let count = Scenario::all().len();
    let report = cut(args.full, |scenario, done, all| {
        reporter.step(&format!("scenario {} of {count}", scenario + 1), done, all, "");
    })
    .map_err(Failure::work)?;
    drop(reporter);
    match args.json {
        true => output::json(&report, true),
        false => output::line(text(&report)),
    }
}

fn text(report: &Report) -> String {
    let mut lines =
        vec![format!("{:<54} {:>6} {:>8} {:>8}", "an update, and how it behaves", "steps", "one cut", "two cuts")];
    lines.extend(report.scenarios.iter().map(|tried| {
        let Scenario { from, kind, behaviour, has_keys, starts } = tried.scenario;
        let keys = if has_keys { ", with keys" } else { "" };
        let bad = if starts > 0 { ", after bad starts" } else { "" };
        let name = format!("{kind:?} over slot {from}, {behaviour:?}{keys}{bad}");
        format!("{name:<54} {:>6} {:>8} {:>8}", tried.steps, tried.once, tried.twice)
    }));
    lines.push(format!("{} states: the device came up in all of them", report.states));
    lines.join("\n")
}
