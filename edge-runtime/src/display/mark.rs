//! Shapes that carry a meaning, so that no screen rests on colour alone.

use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::{
    Circle, Line, PrimitiveStyle, PrimitiveStyleBuilder, Rectangle, StrokeAlignment, Triangle,
};

/// A shape by what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A filled triangle with an exclamation mark: something was found.
    Found,
    /// A ring: nothing was found.
    Nothing,
    /// A diamond with a bar: undecided.
    Undecided,
    /// A crossed square: not read, failed.
    Failed,
    /// A tick: in order.
    Passed,
    /// Three dots: at work.
    Working,
    /// An empty circle with a dot: information, or waiting.
    Waiting,
}

impl Mark {
    /// Draws it in `side` pixels from `corner`; `paper` is what shows through.
    pub fn draw<D>(
        self,
        target: &mut D,
        corner: Point,
        side: u32,
        colour: Rgb565,
        paper: Rgb565,
    ) -> Result<(), D::Error>
    where
        D: DrawTarget<Color = Rgb565>,
    {
        let side = side.max(5);
        let s = side as i32 - 1;
        let at = |x: i32, y: i32| corner + Point::new(s * x / 100, s * y / 100);
        let stroke = (side / 9).max(1);
        let fill = PrimitiveStyle::with_fill(colour);
        let outline = PrimitiveStyleBuilder::new()
            .stroke_color(colour)
            .stroke_width(stroke)
            .stroke_alignment(StrokeAlignment::Inside)
            .build();
        let pen = |colour| PrimitiveStyle::with_stroke(colour, stroke);
        match self {
            Mark::Found => {
                Triangle::new(at(50, 4), at(0, 96), at(100, 96)).into_styled(fill).draw(target)?;
                Line::new(at(50, 38), at(50, 68)).into_styled(pen(paper)).draw(target)?;
                Line::new(at(50, 80), at(50, 84)).into_styled(pen(paper)).draw(target)
            }
            Mark::Nothing => Circle::new(corner, side).into_styled(outline).draw(target),
            Mark::Undecided => {
                Triangle::new(at(50, 0), at(0, 50), at(100, 50)).into_styled(fill).draw(target)?;
                Triangle::new(at(50, 100), at(0, 50), at(100, 50)).into_styled(fill).draw(target)?;
                Line::new(at(30, 50), at(70, 50)).into_styled(pen(paper)).draw(target)
            }
            Mark::Failed => {
                Rectangle::new(corner, Size::new(side, side)).into_styled(outline).draw(target)?;
                Line::new(at(25, 25), at(75, 75)).into_styled(pen(colour)).draw(target)?;
                Line::new(at(75, 25), at(25, 75)).into_styled(pen(colour)).draw(target)
            }
            Mark::Passed => {
                Line::new(at(8, 55), at(38, 85)).into_styled(pen(colour)).draw(target)?;
                Line::new(at(38, 85), at(94, 15)).into_styled(pen(colour)).draw(target)
            }
            Mark::Working => [15, 50, 85].into_iter().try_for_each(|x| {
                let dot = (side / 5).max(2);
                Circle::with_center(at(x, 50), dot).into_styled(fill).draw(target)
            }),
            Mark::Waiting => {
                Circle::new(corner, side).into_styled(outline).draw(target)?;
                Circle::with_center(at(50, 50), (side / 4).max(2)).into_styled(fill).draw(target)
            }
        }
    }
}
