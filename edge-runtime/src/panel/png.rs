//! A panel that is a PNG file: for tests, and for machines without a display.

use super::{Panel, PanelError};
use crate::display::Canvas;
use crate::process::files::write_atomically;
use embedded_graphics::primitives::Rectangle;
use std::path::PathBuf;

/// A PNG file.
pub struct Png {
    path: PathBuf,
}

impl Png {
    /// The file `path`, which need not be there.
    pub fn new(path: PathBuf) -> Png {
        Png { path }
    }
}

impl Panel for Png {
    fn show(&mut self, canvas: &Canvas, _: &[Rectangle]) -> Result<(), PanelError> {
        let bytes = canvas.to_picture().to_png().map_err(|e| PanelError::device(self.path.display(), e))?;
        write_atomically(&self.path, &bytes).map_err(|e| PanelError::io(&self.path, e))
    }
}
