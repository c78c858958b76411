//! Panels: what a screen is shown on. A board file says which ([`crate::board::Display`]); only what changed is sent.

#[cfg(all(feature = "panels", target_os = "linux"))]
mod drm;
mod framebuffer;
#[cfg(all(feature = "panels", target_os = "linux"))]
mod i2c;
mod png;
#[cfg(all(feature = "panels", target_os = "linux"))]
mod spi;
#[cfg(feature = "window")]
mod window;

use crate::board::Display;
use crate::display::{Canvas, palette::Palette};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use std::path::Path;

/// Why a panel cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PanelError {
    /// A device or a file cannot be opened or written.
    #[error("{what} cannot be used ({reason}); check the board's display, the cable and the permissions")]
    Device {
        /// The device.
        what: String,
        /// Why.
        reason: String,
    },
    /// No display is connected.
    #[error("{what}: no display is connected: connect one, and switch it on")]
    NotConnected {
        /// The device.
        what: String,
    },
    /// The panel has another form than the board says.
    #[error("{what} is {found}, and the board says {expected}: correct its file")]
    Other {
        /// The device.
        what: String,
        /// What it is.
        found: String,
        /// What it should be.
        expected: String,
    },
    /// The program was built without drivers of this kind.
    #[error("this program was built without `{0}` panels: build it with that feature")]
    NotBuilt(&'static str),
}

impl PanelError {
    fn device(what: impl std::fmt::Display, reason: impl std::fmt::Debug) -> PanelError {
        PanelError::Device { what: what.to_string(), reason: format!("{reason:?}") }
    }

    fn io(what: &Path, reason: std::io::Error) -> PanelError {
        PanelError::Device { what: what.display().to_string(), reason: reason.to_string() }
    }
}

/// Something that shows screens.
pub trait Panel {
    /// Shows `changed` of `canvas`; the rest is shown already.
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError>;

    /// Keys that the panel itself brings, such as those of a window.
    fn pressed(&mut self) -> Vec<crate::kiosk::input::Input> {
        vec![]
    }
}

/// A panel and what it shows now.
pub struct Shown {
    panel: Box<dyn Panel>,
    current: Option<Canvas>,
    size: Size,
    is_mono: bool,
}

impl Shown {
    /// The panel of `display`; `png` is where one that is a file is written.
    pub fn open(display: &Display, png: &Path) -> Result<Shown, PanelError> {
        let panel: Box<dyn Panel> = match display {
            Display::Png { .. } => Box::new(png::Png::new(png.to_owned())),
            Display::Framebuffer { device, .. } => Box::new(framebuffer::Framebuffer::open(device, display.size())?),
            #[cfg(all(feature = "panels", target_os = "linux"))]
            Display::Drm { device, .. } => Box::new(drm::Drm::open(device, display.size())?),
            #[cfg(all(feature = "panels", target_os = "linux"))]
            Display::Spi(wiring) => spi::open(wiring)?,
            #[cfg(all(feature = "panels", target_os = "linux"))]
            Display::I2c { device, rotation, .. } => Box::new(i2c::open(device, *rotation)?),
            #[cfg(feature = "window")]
            Display::Window { .. } => Box::new(window::Window::open(display.size())),
            #[allow(unreachable_patterns, reason = "what is left depends on the features")]
            other => return Err(PanelError::NotBuilt(other.kind())),
        };
        Ok(Shown { panel, current: None, size: display.size(), is_mono: display.is_mono() })
    }

    /// Columns and rows.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Its colours.
    pub fn palette(&self) -> Palette {
        Palette { is_mono: self.is_mono }
    }

    /// Shows `canvas`; sends what differs from what is shown.
    pub fn show(&mut self, canvas: Canvas) -> Result<(), PanelError> {
        let changed = match &self.current {
            Some(current) => canvas.changes(current),
            None => vec![canvas.bounding_box()],
        };
        if !changed.is_empty() {
            // What fails half-way is sent whole the next time.
            self.current = None;
            self.panel.show(&canvas, &changed)?;
        }
        self.current = Some(canvas);
        Ok(())
    }

    /// Keys that the panel itself brings.
    pub fn pressed(&mut self) -> Vec<crate::kiosk::input::Input> {
        self.panel.pressed()
    }
}
