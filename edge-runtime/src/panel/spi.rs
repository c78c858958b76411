//! Colour panels on an SPI bus, driven by `mipidsi`: ILI9341, ILI9488, ST7789.

use super::{Panel, PanelError};
use crate::board::{ColourOrder, Controller, Wiring};
use crate::display::Canvas;
use embedded_graphics::pixelcolor::{Rgb565, Rgb666};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use embedded_hal::delay::DelayNs;
use embedded_hal::digital::OutputPin;
use embedded_hal::spi::SpiDevice;
use linux_embedded_hal::gpio_cdev::{Chip, LineRequestFlags};
use linux_embedded_hal::spidev::SpidevOptions;
use linux_embedded_hal::{CdevPin, Delay, SpidevDevice};
use mipidsi::interface::{Interface, InterfacePixelFormat, SpiInterface};
use mipidsi::models::{ILI9341Rgb565, ILI9488Rgb666, Model, ST7789};
use mipidsi::options::{ColorInversion, ColorOrder, Orientation, Rotation};
use mipidsi::{Builder, Display};
use std::path::Path;

/// Bytes that are sent at once: what spidev takes by default.
const BUFFER: usize = 4096;

/// The panel that `wiring` says.
pub fn open(wiring: &Wiring) -> Result<Box<dyn Panel>, PanelError> {
    let device = wiring.device.display();
    let mut spi = SpidevDevice::open(&wiring.device).map_err(|e| PanelError::device(device.to_string(), e))?;
    let options = SpidevOptions::new().bits_per_word(8).max_speed_hz(wiring.speed_hz).build();
    spi.0.configure(&options).map_err(|e| PanelError::io(&wiring.device, e))?;
    let data = output(&wiring.gpio, wiring.data_line)?;
    let reset = output(&wiring.gpio, wiring.reset_line)?;
    let panel = start(wiring, spi, data, reset, &mut Delay)?;
    let Some(line) = wiring.light_line else { return Ok(panel) };
    let mut light = output(&wiring.gpio, line)?;
    light.set_high().map_err(|e| PanelError::device(wiring.gpio.display(), e))?;
    Ok(Box::new(Lit { panel, _light: light }))
}

/// A panel whose light goes out when its line is let go.
struct Lit {
    panel: Box<dyn Panel>,
    _light: CdevPin,
}

impl Panel for Lit {
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        self.panel.show(canvas, changed)
    }
}

fn output(chip: &Path, line: u32) -> Result<CdevPin, PanelError> {
    let failed = |e: String| PanelError::device(format!("line {line} of {}", chip.display()), e);
    let mut chip = Chip::new(chip).map_err(|e| failed(e.to_string()))?;
    let handle = chip
        .get_line(line)
        .and_then(|line| line.request(LineRequestFlags::OUTPUT, 0, "hilum"))
        .map_err(|e| failed(e.to_string()))?;
    CdevPin::new(handle).map_err(|e| failed(e.to_string()))
}

/// The panel on any bus; a recorder stands in for it in tests.
fn start<S, P, D>(wiring: &Wiring, spi: S, data: P, reset: P, delay: &mut D) -> Result<Box<dyn Panel>, PanelError>
where
    S: SpiDevice + 'static,
    P: OutputPin + 'static,
    D: DelayNs,
{
    // The interface borrows its buffer for the rest of the program, of which it is a part.
    let buffer: &'static mut [u8] = Box::leak(vec![0; BUFFER].into_boxed_slice());
    let interface = SpiInterface::new(spi, data, buffer);
    let name = wiring.device.display().to_string();
    match wiring.controller {
        Controller::Ili9341 => build(ILI9341Rgb565, interface, reset, wiring, delay, name),
        Controller::Ili9488 => build(ILI9488Rgb666, interface, reset, wiring, delay, name),
        Controller::St7789 => build(ST7789, interface, reset, wiring, delay, name),
    }
}

fn build<M, I, P, D>(
    model: M,
    interface: I,
    reset: P,
    wiring: &Wiring,
    delay: &mut D,
    name: String,
) -> Result<Box<dyn Panel>, PanelError>
where
    M: Model + 'static,
    M::ColorFormat: InterfacePixelFormat<I::Word> + FromRgb565 + 'static,
    I: Interface + 'static,
    P: OutputPin + 'static,
    D: DelayNs,
{
    let rotation = match wiring.rotation {
        0 => Rotation::Deg0,
        90 => Rotation::Deg90,
        180 => Rotation::Deg180,
        _ => Rotation::Deg270,
    };
    let is_turned = matches!(wiring.rotation, 90 | 270);
    let [width, height] = if is_turned { [wiring.height, wiring.width] } else { [wiring.width, wiring.height] };
    let order = match wiring.colour_order {
        ColourOrder::Rgb => ColorOrder::Rgb,
        ColourOrder::Bgr => ColorOrder::Bgr,
    };
    let inversion = if wiring.inverted { ColorInversion::Inverted } else { ColorInversion::Normal };
    let display = Builder::new(model, interface)
        .display_size(width as u16, height as u16)
        .orientation(Orientation::new().rotate(rotation))
        .color_order(order)
        .invert_colors(inversion)
        .reset_pin(reset)
        .init(delay)
        .map_err(|_| PanelError::device(&name, "the controller does not answer"))?;
    Ok(Box::new(Spi { display, name }))
}

/// Colours that the screens' can become.
trait FromRgb565: RgbColor {
    fn from_rgb565(colour: Rgb565) -> Self;
}

impl FromRgb565 for Rgb565 {
    fn from_rgb565(colour: Rgb565) -> Rgb565 {
        colour
    }
}

impl FromRgb565 for Rgb666 {
    fn from_rgb565(colour: Rgb565) -> Rgb666 {
        colour.into()
    }
}

struct Spi<I, M, P>
where
    I: Interface,
    M: Model,
    M::ColorFormat: InterfacePixelFormat<I::Word>,
    P: OutputPin,
{
    display: Display<I, M, P>,
    name: String,
}

impl<I, M, P> Panel for Spi<I, M, P>
where
    I: Interface,
    M: Model,
    M::ColorFormat: InterfacePixelFormat<I::Word> + FromRgb565,
    P: OutputPin,
{
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        for area in changed {
            let pixels = area.rows().flat_map(|row| canvas.row(row, area.columns()));
            let colours = pixels.map(|pixel| M::ColorFormat::from_rgb565(*pixel));
            self.display.fill_contiguous(area, colours).map_err(|_| PanelError::device(&self.name, "no answer"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_hal::digital::{ErrorType as PinErrorType, PinState};
    use embedded_hal::spi::{ErrorType, Operation};
    use std::cell::RefCell;
    use std::convert::Infallible;
    use std::rc::Rc;

    /// What went over the bus: bytes, each with the level of the line that tells data from commands.
    #[derive(Default, Clone)]
    struct Record(Rc<RefCell<Sent>>);

    /// The level of that line now, and what was sent.
    type Sent = (bool, Vec<(bool, u8)>);

    impl ErrorType for Record {
        type Error = Infallible;
    }

    impl SpiDevice for Record {
        fn transaction(&mut self, operations: &mut [Operation<'_, u8>]) -> Result<(), Infallible> {
            let mut record = self.0.borrow_mut();
            let is_data = record.0;
            for operation in operations {
                if let Operation::Write(bytes) = operation {
                    record.1.extend(bytes.iter().map(|byte| (is_data, *byte)));
                }
            }
            Ok(())
        }
    }

    impl PinErrorType for Record {
        type Error = Infallible;
    }

    impl OutputPin for Record {
        fn set_low(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().0 = false;
            Ok(())
        }

        fn set_high(&mut self) -> Result<(), Infallible> {
            self.0.borrow_mut().0 = true;
            Ok(())
        }

        fn set_state(&mut self, state: PinState) -> Result<(), Infallible> {
            self.0.borrow_mut().0 = state == PinState::High;
            Ok(())
        }
    }

    struct NoDelay;

    impl DelayNs for NoDelay {
        fn delay_ns(&mut self, _: u32) {}
    }

    /// The controller's whole panel, turned by a quarter.
    fn wiring(controller: Controller) -> Wiring {
        let [width, height] = if controller == Controller::Ili9488 { [480, 320] } else { [320, 240] };
        Wiring {
            controller,
            device: "/dev/spidev0.0".into(),
            gpio: "/dev/gpiochip0".into(),
            data_line: 25,
            reset_line: 24,
            light_line: None,
            speed_hz: 32_000_000,
            rotation: 90,
            colour_order: ColourOrder::Bgr,
            inverted: false,
            width,
            height,
        }
    }

    /// Commands with their data.
    fn commands(record: &[(bool, u8)]) -> Vec<(u8, Vec<u8>)> {
        let mut commands: Vec<(u8, Vec<u8>)> = Vec::new();
        for (is_data, byte) in record {
            match (is_data, commands.last_mut()) {
                (true, Some((_, data))) => data.push(*byte),
                _ => commands.push((*byte, vec![])),
            }
        }
        commands
    }

    /// The MIPI display command set: column and page address, then memory write.
    #[test]
    fn a_changed_area_is_addressed_and_sent_and_nothing_else() {
        for (controller, each) in [(Controller::Ili9341, 2), (Controller::St7789, 2), (Controller::Ili9488, 3)] {
            let bus = Record::default();
            let data = Record(Rc::clone(&bus.0));
            let mut panel = start(&wiring(controller), bus.clone(), data, Record::default(), &mut NoDelay).unwrap();
            let set_up = commands(&bus.0.borrow().1);
            assert!(set_up.iter().any(|(command, _)| *command == 0x11), "{controller:?} leaves sleep");
            assert!(set_up.iter().any(|(command, _)| *command == 0x29), "{controller:?} is switched on");
            let address = set_up.iter().rfind(|(command, _)| *command == 0x36).map(|(_, data)| data[0]);
            assert_eq!(address.unwrap() & 0b1000, 0b1000, "{controller:?}: blue comes first");
            assert_eq!(address.unwrap() & 0b10_0000, 0b10_0000, "{controller:?}: rows and columns change places");
            bus.0.borrow_mut().1.clear();
            let mut canvas = Canvas::new(480, 320);
            let area = Rectangle::new(Point::new(300, 2), Size::new(10, 3));
            canvas.fill_solid(&area, Rgb565::WHITE).unwrap();
            panel.show(&canvas, &[area]).unwrap();
            let sent = commands(&bus.0.borrow().1);
            assert_eq!(sent[0], (0x2a, vec![1, 44, 1, 53]), "{controller:?} columns 300 to 309");
            assert_eq!(sent[1], (0x2b, vec![0, 2, 0, 4]), "{controller:?} rows 2 to 4");
            assert_eq!((sent[2].0, sent[2].1.len(), sent.len()), (0x2c, 30 * each, 3), "{controller:?}");
            assert!(sent[2].1.iter().all(|byte| *byte >= 0xf8), "{controller:?} white");
        }
    }
}
