//! Plots as SVG.

use data::curves::{Bin, Point};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

/// Pixels of a plot; pages scale it to their width.
const SIZE: (u32, u32) = (520, 400);
/// Colours of lines, told apart by colour-blind eyes too (Okabe and Ito 2008).
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// A line of a plot.
pub struct Line {
    /// What it is, for the legend; empty leaves it out.
    pub name: String,
    /// Its points.
    pub points: Vec<(f64, f64)>,
}

/// What a plot shows.
pub struct Axes<'a> {
    /// Above it.
    pub title: &'a str,
    /// Below the horizontal axis.
    pub x: &'a str,
    /// Beside the vertical one.
    pub y: &'a str,
    /// What the horizontal axis shows.
    pub across: Range<f64>,
    /// What the vertical one shows.
    pub up: Range<f64>,
}

type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws into a string.
fn svg(draw: impl Fn(&DrawingArea<SVGBackend, Shift>) -> Drawn<()>) -> String {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    let drawn = draw(&area).and_then(|()| area.present());
    drop(area);
    // Drawing into memory does not fail; a plot that did would be left out.
    if drawn.is_ok() { text } else { String::new() }
}

fn chart<'a, 'b>(area: &DrawingArea<SVGBackend<'b>, Shift>, axes: &Axes) -> Drawn<Chart<'a, 'b>> {
    let mut chart = ChartBuilder::on(area)
        .caption(axes.title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(axes.across.clone(), axes.up.clone())?;
    chart
        .configure_mesh()
        .x_desc(axes.x)
        .y_desc(axes.y)
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()?;
    Ok(chart)
}

/// Lines over `axes`, and a mark at each of `marks`.
pub fn lines(axes: &Axes, lines: &[Line], marks: &[(f64, f64)]) -> String {
    svg(|area| {
        let mut chart = chart(area, axes)?;
        for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
            let series = chart.draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?;
            if !line.name.is_empty() {
                series
                    .label(line.name.as_str())
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            }
        }
        chart.draw_series(marks.iter().map(|at| Circle::new(*at, 5, BLACK.filled())))?;
        if lines.iter().any(|line| !line.name.is_empty()) {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::LowerRight)
                .background_style(WHITE.mix(0.85))
                .label_font(("sans-serif", 13))
                .draw()?;
        }
        Ok(())
    })
}

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
pub fn reliability(bins: &[Bin]) -> String {
    let axes = Axes { title: "Reliability", x: "probability said", y: "share that is ill", across: UNIT, up: UNIT };
    let points: Vec<(f64, f64)> = bins.iter().map(|b| (b.probability, b.observed)).collect();
    let marks = points.clone();
    let ideal = vec![(0.0, 0.0), (1.0, 1.0)];
    lines(&axes, &[Line { name: "model".into(), points }, Line { name: "ideal".into(), points: ideal }], &marks)
}

/// The range of `values`, with some room.
pub fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return UNIT;
    }
    let room = ((high - low) * 0.05).max(1e-3);
    low - room..high + room
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
        let axes = Axes { title: "a <b>", x: "x", y: "y", across: 0.0..1.0, up: 0.0..1.0 };
        let text =
            lines(&axes, &[Line { name: "line & co".into(), points: vec![(0.0, 0.0), (1.0, 1.0)] }], &[(0.5, 0.5)]);
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert!(text.contains("a &lt;b&gt;") && text.contains("line &amp; co") && text.contains("<circle"));
        let matrix = confusion(&["no".into(), "yes".into()], &[vec![9, 1], vec![0, 10]]);
        assert!(matrix.contains("9 (90.0 %)") && matrix.contains("10 (100.0 %)"));
        assert!(roc(&[], None).contains("</svg>") && reliability(&[]).contains("</svg>"));
    }

    #[test]
    fn spans_have_room_and_survive_nothing() {
        assert_eq!(span([].into_iter()), UNIT);
        let range = span([1.0, 3.0, f64::NAN].into_iter());
        assert!(range.start < 1.0 && range.end > 3.0);
    }
}
