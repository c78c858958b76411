//! Plots as SVG.

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use std::ops::Range;

/// Pixels of a plot; pages scale it to their width.
const SIZE: (u32, u32) = (520, 400);
/// Colours of lines, told apart by colour-blind eyes too (Okabe and Ito 2008).
pub const COLOURS: [RGBColor; 6] = [
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

/// What drawing gives.
pub type Drawn<T> = Result<T, DrawingAreaErrorKind<std::io::Error>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// Draws into a string.
pub fn svg(draw: impl Fn(&DrawingArea<SVGBackend, Shift>) -> Drawn<()>) -> String {
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

/// The range of `values`, with some room.
pub fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.05).max(1e-3);
    low - room..high + room
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
    }

    #[test]
    fn spans_have_room_and_survive_nothing() {
        assert_eq!(span([].into_iter()), 0.0..1.0);
        let range = span([1.0, 3.0, f64::NAN].into_iter());
        assert!(range.start < 1.0 && range.end > 3.0);
    }
}
