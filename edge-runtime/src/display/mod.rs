//! What the device's display shows. The drawing goes to any `embedded-graphics` target: a panel over SPI, a frame
//! buffer, or [`Canvas`], which becomes a PNG.

mod annotated;
mod canvas;
mod screen;

pub use annotated::annotated;
pub use canvas::Canvas;
pub use screen::Screen;

use crate::board::Board;
use crate::explain::{Heat, overlay};
use crate::image::Picture;
use crate::model::Model;
use crate::scan::Scan;
use crate::stages::Stage;
use embedded_graphics::prelude::Size;

/// What `board`'s display shows of `scan`, whose stages "explain" and "render" this is.
pub fn show(scan: &mut Scan, model: &Model, board: &Board) -> Picture {
    let finding = &mut scan.finding;
    let evidence = &scan.evidence;
    let size = Size::new(board.display.width, board.display.height);
    let threshold = finding.operating_point.threshold;
    let picture = finding.latency_ms.time(Stage::Explain, || {
        let heat = Heat::of(&evidence.inference, threshold);
        overlay(&evidence.radiograph.plane, heat.as_ref(), &model.contract.input, Screen::picture_side(size))
    });
    let mut times = finding.latency_ms;
    let shown = times.time(Stage::Render, || {
        let screen = Screen { picture: &picture, finding };
        let mut canvas = Canvas::new(size.width, size.height);
        let Ok(()) = screen.draw(&mut canvas);
        canvas.to_picture()
    });
    finding.latency_ms = times;
    shown
}
