//! A mono panel on an I²C bus, driven by `ssd1306`: 128×64.

use super::{Panel, PanelError};
use crate::display::Canvas;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_hal::i2c::I2c;
use linux_embedded_hal::I2cdev;
use ssd1306::mode::{BufferedGraphicsMode, DisplayConfig};
use ssd1306::prelude::{DisplayRotation, DisplaySize128x64, I2CInterface};
use ssd1306::{I2CDisplayInterface, Ssd1306};
use std::path::Path;

/// A panel of 128×64 pixels.
pub struct Oled<B> {
    display: Ssd1306<I2CInterface<B>, DisplaySize128x64, BufferedGraphicsMode<DisplaySize128x64>>,
    name: String,
}

/// The panel on `device`, such as `/dev/i2c-1`, turned by `rotation` degrees (0 or 180).
pub fn open(device: &Path, rotation: u16) -> Result<Oled<I2cdev>, PanelError> {
    let bus = I2cdev::new(device).map_err(|e| PanelError::device(device.display(), e))?;
    start(bus, rotation, device.display().to_string())
}

/// The panel on any bus; a recorder stands in for it in tests.
fn start<B: I2c>(bus: B, rotation: u16, name: String) -> Result<Oled<B>, PanelError> {
    let rotation = if rotation == 180 { DisplayRotation::Rotate180 } else { DisplayRotation::Rotate0 };
    let interface = I2CDisplayInterface::new(bus);
    let mut display = Ssd1306::new(interface, DisplaySize128x64, rotation).into_buffered_graphics_mode();
    display.init().map_err(|e| PanelError::device(&name, e))?;
    Ok(Oled { display, name })
}

impl<B: I2c> Panel for Oled<B> {
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        for area in changed {
            for row in area.rows() {
                for (x, pixel) in area.columns().zip(canvas.row(row, area.columns())) {
                    self.display.set_pixel(x as u32, row as u32, pixel.g() > 31);
                }
            }
        }
        // The driver sends the columns and pages that changed.
        self.display.flush().map_err(|e| PanelError::device(&self.name, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::pixelcolor::Rgb565;
    use embedded_hal::i2c::{ErrorType, Operation};
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::rc::Rc;

    #[derive(Default, Clone)]
    struct Record(Rc<RefCell<Vec<u8>>>);

    impl ErrorType for Record {
        type Error = Infallible;
    }

    impl I2c for Record {
        fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
            assert_eq!(address, 0x3c);
            for operation in operations {
                if let Operation::Write(bytes) = operation {
                    self.0.borrow_mut().extend_from_slice(bytes);
                }
            }
            Ok(())
        }
    }

    #[test]
    fn a_changed_area_is_sent_and_nothing_where_nothing_changed() {
        let bus = Record::default();
        let mut panel = start(bus.clone(), 0, "bus".into()).unwrap();
        assert!(bus.0.borrow().contains(&0xaf), "the panel is switched on");
        let canvas = Canvas::new(128, 64);
        panel.show(&canvas, &[canvas.bounding_box()]).unwrap();
        bus.0.borrow_mut().clear();
        let mut lit = canvas.clone();
        lit.fill_solid(&Rectangle::new(Point::new(10, 8), Size::new(4, 8)), Rgb565::WHITE).unwrap();
        panel.show(&lit, &lit.changes(&canvas)).unwrap();
        let sent = bus.0.borrow().clone();
        // Four columns of a page, after the byte that says that data follow.
        assert!(sent.windows(5).any(|w| w == [0x40, 0xff, 0xff, 0xff, 0xff]), "{sent:02x?}");
        assert!(sent.len() < 40, "{} bytes", sent.len());
        bus.0.borrow_mut().clear();
        panel.show(&lit, &[]).unwrap();
        assert!(!bus.0.borrow().contains(&0xff));
    }
}
