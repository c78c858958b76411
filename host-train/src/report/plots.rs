//! The plots of a run's report.

use data::curves::{Bin, Point};
use edge_runtime::report::plots::{Axes, COLOURS, Line, lines, svg};
use plotters::prelude::*;
use std::ops::Range;

const UNIT: Range<f64> = 0.0..1.0;

/// The receiver operating characteristic, and the operating point on it.
pub fn roc(curve: &[Point], operating_point: Option<(f64, f64)>) -> String {
    let axes = Axes {
        title: "Receiver operating characteristic",
        x: "1 − specificity",
        y: "sensitivity",
        across: UNIT,
        up: UNIT,
    };
    let points = curve.iter().map(|p| (1.0 - p.specificity, p.sensitivity)).collect();
    let chance = vec![(0.0, 0.0), (1.0, 1.0)];
    let mark = operating_point.map(|(sensitivity, specificity)| (1.0 - specificity, sensitivity));
    let all = [Line { name: "model".into(), points }, Line { name: "chance".into(), points: chance }];
    lines(&axes, &all, mark.as_slice())
}

/// Precision over recall.
pub fn precision_recall(curve: &[Point]) -> String {
    let axes = Axes {
        title: "Precision over recall",
        x: "recall (sensitivity)",
        y: "precision (PPV)",
        across: UNIT,
        up: UNIT,
    };
    let points = curve.iter().map(|p| (p.sensitivity, p.precision)).collect();
    lines(&axes, &[Line { name: String::new(), points }], &[])
}

/// How often what is said with a probability is so.
pub fn reliability(title: &str, bins: &[Bin]) -> String {
    let axes = Axes { title, x: "probability said", y: "share that is ill", across: UNIT, up: UNIT };
    let points: Vec<(f64, f64)> = bins.iter().map(|b| (b.probability, b.observed)).collect();
    let marks = points.clone();
    let ideal = vec![(0.0, 0.0), (1.0, 1.0)];
    lines(&axes, &[Line { name: "model".into(), points }, Line { name: "ideal".into(), points: ideal }], &marks)
}

/// Counts as shades; rows are the truth.
pub fn confusion(labels: &[String], counts: &[Vec<usize>]) -> String {
    let n = labels.len() as f64;
    svg(|area| {
        let mut chart = ChartBuilder::on(area)
            .caption("Confusion matrix", ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(150)
            .build_cartesian_2d(0.0..n, 0.0..n)?;
        chart
            .configure_mesh()
            .disable_mesh()
            .x_label_formatter(&|_| String::new())
            .y_label_formatter(&|_| String::new())
            .x_labels(0)
            .y_labels(0)
            .x_desc("called")
            .axis_desc_style(("sans-serif", 14))
            .draw()?;
        let ink = |colour: &RGBColor, size: u32| ("sans-serif", size).into_font().color(colour);
        for (row, counts) in counts.iter().enumerate() {
            let all = counts.iter().sum::<usize>().max(1) as f64;
            for (column, count) in counts.iter().enumerate() {
                let share = *count as f64 / all;
                let y = n - 1.0 - row as f64;
                let x = column as f64;
                chart.draw_series([Rectangle::new(
                    [(x, y), (x + 1.0, y + 1.0)],
                    COLOURS[0].mix(0.05 + 0.9 * share).filled(),
                )])?;
                let (left, top) = chart.backend_coord(&(x, y + 1.0));
                let (right, bottom) = chart.backend_coord(&(x + 1.0, y));
                let contrasting = if share > 0.5 { WHITE } else { BLACK };
                let centre = ((left + right) / 2 - 30, (top + bottom) / 2 - 10);
                let text = format!("{count} ({:.1} %)", share * 100.0);
                area.draw(&Text::new(text, centre, ink(&contrasting, 17)))?;
                if row + 1 == labels.len() {
                    area.draw(&Text::new(labels[column].clone(), (centre.0, bottom + 8), ink(&BLACK, 13)))?;
                }
                if column == 0 {
                    area.draw(&Text::new(labels[row].clone(), (8, (top + bottom) / 2 - 7), ink(&BLACK, 13)))?;
                }
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plots_are_drawings_with_their_words() {
        let matrix = confusion(&["no".into(), "yes".into()], &[vec![9, 1], vec![0, 10]]);
        assert!(matrix.contains("9 (90.0 %)") && matrix.contains("10 (100.0 %)"));
        assert!(roc(&[], None).contains("</svg>") && reliability("", &[]).contains("</svg>"));
    }
}
