//! What the device's display shows: screens ([`screens`]) say a [`page::Page`], [`layout`] gives it a place on a panel
//! of any size in any language, and it is drawn to any `embedded-graphics` target: a panel, or [`Canvas`], which
//! becomes a PNG.

mod annotated;
mod canvas;
#[cfg(test)]
mod gallery;
pub mod layout;
mod mark;
pub mod page;
pub mod palette;
pub mod screens;
pub mod text;

pub use annotated::annotated;
pub use canvas::Canvas;
pub use mark::Mark;

use crate::board::Board;
use crate::explain::{Heat, overlay};
use crate::image::Picture;
use crate::model::Model;
use crate::scan::Scan;
use crate::stages::Stage;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use layout::{Shortfall, Style, draw_page, draw_picture, picture_side};
use palette::Palette;
use screens::{ResultView, Screen};
use text::Lettering;

/// Draws `screen`.
pub fn draw<D>(target: &mut D, screen: &Screen, style: Style) -> Result<Shortfall, D::Error>
where
    D: DrawTarget<Color = Rgb565>,
{
    match screen {
        Screen::Picture { picture, .. } => draw_picture(target, picture, &screen.page(), style),
        _ => draw_page(target, &screen.page(), style),
    }
}

/// What `board`'s display shows of `scan`, whose stages "explain" and "render" this is.
pub fn show(scan: &mut Scan, model: &Model, board: &Board, lettering: &Lettering) -> Picture {
    let finding = &mut scan.finding;
    let evidence = &scan.evidence;
    let size = board.display.size();
    let threshold = finding.operating_point.threshold;
    let picture = picture_side(size).map(|side| {
        finding.latency_ms.time(Stage::Explain, || {
            let heat = Heat::of(&evidence.inference, threshold);
            overlay(&evidence.radiograph.plane, heat.as_ref(), &model.contract.input, side)
        })
    });
    let mut times = finding.latency_ms;
    let shown = times.time(Stage::Render, || {
        let view = ResultView {
            finding,
            picture: picture.as_ref(),
            has_map: false,
            has_next: false,
            repeated: None,
            problem: None,
        };
        let style = Style { lettering, palette: Palette { is_mono: board.display.is_mono() }, turn: 0 };
        let mut canvas = Canvas::new(size.width, size.height);
        let Ok(_) = draw(&mut canvas, &Screen::Result(view), style);
        canvas.to_picture()
    });
    finding.latency_ms = times;
    shown
}
