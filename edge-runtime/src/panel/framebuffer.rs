//! Linux's frame buffer (`/dev/fb0`): its form from sysfs, its pixels through the device file, so that no memory is
//! mapped.

use super::{Panel, PanelError};
use crate::display::Canvas;
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A frame buffer.
#[derive(Debug)]
pub struct Framebuffer {
    device: PathBuf,
    file: File,
    format: Format,
    /// Bytes from one row to the next.
    stride: u64,
}

/// How a pixel is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Rgb565,
    Xrgb8888,
}

impl Framebuffer {
    /// The frame buffer `device`, which is at least as large as `size`.
    pub fn open(device: &Path, size: Size) -> Result<Framebuffer, PanelError> {
        let name = device.file_name().unwrap_or_default();
        Framebuffer::open_with(device, &Path::new("/sys/class/graphics").join(name), size)
    }

    fn open_with(device: &Path, sysfs: &Path, size: Size) -> Result<Framebuffer, PanelError> {
        let read = |name: &str| {
            let path = sysfs.join(name);
            std::fs::read_to_string(&path).map_err(|e| PanelError::io(&path, e))
        };
        let other =
            |found: String, expected: String| PanelError::Other { what: device.display().to_string(), found, expected };
        let text = read("virtual_size")?;
        let mut sides = text.trim().split(',').map(|side| side.parse::<u32>().unwrap_or(0));
        let (width, height) = (sides.next().unwrap_or(0), sides.next().unwrap_or(0));
        if width < size.width || height < size.height {
            return Err(other(format!("{width}×{height}"), format!("{}×{}", size.width, size.height)));
        }
        let (format, bytes) = match read("bits_per_pixel")?.trim() {
            "16" => (Format::Rgb565, 2),
            "32" => (Format::Xrgb8888, 4),
            bits => return Err(other(format!("{bits} bits a pixel"), "16 or 32".into())),
        };
        let stride = match read("stride").ok().and_then(|text| text.trim().parse().ok()) {
            Some(stride) => stride,
            None => u64::from(width) * bytes,
        };
        let file = File::options().write(true).open(device).map_err(|e| PanelError::io(device, e))?;
        Ok(Framebuffer { device: device.to_owned(), file, format, stride })
    }
}

impl Panel for Framebuffer {
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        for area in changed {
            for row in area.rows() {
                let pixels = canvas.row(row, area.columns());
                let (bytes, each): (Vec<u8>, u64) = match self.format {
                    Format::Rgb565 => (pixels.iter().flat_map(|p| p.into_storage().to_le_bytes()).collect(), 2),
                    Format::Xrgb8888 => (pixels.iter().flat_map(|p| xrgb8888(*p)).collect(), 4),
                };
                let at = self.stride * row as u64 + each * area.top_left.x as u64;
                self.file.write_all_at(&bytes, at).map_err(|e| PanelError::io(&self.device, e))?;
            }
        }
        Ok(())
    }
}

/// Blue, green, red, unused.
pub(super) fn xrgb8888(pixel: embedded_graphics::pixelcolor::Rgb565) -> [u8; 4] {
    let [red, green, blue] = Canvas::rgb888(pixel);
    [blue, green, red, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use embedded_graphics::pixelcolor::Rgb565;

    fn buffer(bits: &str, stride: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in [("virtual_size", "8,4\n"), ("bits_per_pixel", bits), ("stride", stride)] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let device = dir.path().join("fb0");
        std::fs::write(&device, vec![0; 256]).unwrap();
        (dir, device)
    }

    #[test]
    fn only_what_changed_is_written_where_it_belongs() {
        for (bits, stride, each) in [("16\n", "20\n", 2), ("32\n", "40\n", 4)] {
            let (dir, device) = buffer(bits, stride);
            let mut panel = Framebuffer::open_with(&device, dir.path(), Size::new(8, 4)).unwrap();
            let before = Canvas::new(8, 4);
            let mut canvas = before.clone();
            let area = Rectangle::new(Point::new(2, 1), Size::new(3, 2));
            canvas.fill_solid(&area, Rgb565::WHITE).unwrap();
            panel.show(&canvas, &canvas.changes(&before)).unwrap();
            let bytes = std::fs::read(&device).unwrap();
            let stride: usize = stride.trim().parse().unwrap();
            for y in 0..4 {
                for x in 0..8 {
                    let pixel = &bytes[y * stride + x * each..][..each];
                    let is_set = pixel[..each.min(3)].iter().all(|byte| *byte == 255);
                    assert_eq!(is_set, area.contains(Point::new(x as i32, y as i32)), "{bits} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn a_buffer_of_another_form_is_refused() {
        let (dir, device) = buffer("24\n", "24\n");
        let error = Framebuffer::open_with(&device, dir.path(), Size::new(8, 4)).unwrap_err().to_string();
        assert!(error.contains("24 bits a pixel"), "{error}");
        let error = Framebuffer::open_with(&device, dir.path(), Size::new(9, 4)).unwrap_err().to_string();
        assert!(error.contains("is 8×4, and the board says 9×4"), "{error}");
    }
}
