//! A window of a desktop (SDL2), for development; the keys of [`crate::kiosk::input`] and the mouse work in it.

use super::{Panel, PanelError};
use crate::display::Canvas;
use crate::kiosk::input::Input;
use crate::kiosk::state::Button;
use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_graphics_simulator::sdl2::Keycode;
use embedded_graphics_simulator::{OutputSettings, SimulatorDisplay, SimulatorEvent};

/// A window.
pub struct Window {
    window: embedded_graphics_simulator::Window,
    display: SimulatorDisplay<Rgb565>,
}

impl Window {
    /// A window of `size`.
    pub fn open(size: Size) -> Window {
        let window = embedded_graphics_simulator::Window::new("Hilum", &OutputSettings::default());
        Window { window, display: SimulatorDisplay::new(size) }
    }
}

impl Panel for Window {
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        for area in changed {
            let pixels = area.rows().flat_map(|row| canvas.row(row, area.columns())).copied();
            let Ok(()) = self.display.fill_contiguous(area, pixels);
        }
        self.window.update(&self.display);
        Ok(())
    }

    fn pressed(&mut self) -> Vec<Input> {
        self.window.update(&self.display);
        self.window
            .events()
            .filter_map(|event| match event {
                SimulatorEvent::Quit => Some(Input::Quit),
                SimulatorEvent::KeyDown { keycode, .. } => match keycode {
                    Keycode::Left | Keycode::Escape => Some(Input::Button(Button::Left)),
                    Keycode::Down | Keycode::Up | Keycode::Return | Keycode::Space => {
                        Some(Input::Button(Button::Middle))
                    }
                    Keycode::Right | Keycode::Tab => Some(Input::Button(Button::Right)),
                    _ => None,
                },
                SimulatorEvent::MouseButtonUp { point, .. } => {
                    let size = self.display.size();
                    let x = point.x as f32 / size.width as f32;
                    Some(Input::Touch { x, y: point.y as f32 / size.height as f32 })
                }
                _ => None,
            })
            .collect()
    }
}
