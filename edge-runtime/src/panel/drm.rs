//! A display of the kernel's mode setting (DRM/KMS): one dumb buffer, shown by the first connected connector.

use super::framebuffer::xrgb8888;
use super::{Panel, PanelError};
use crate::display::Canvas;
use ::drm::buffer::{Buffer, DrmFourcc};
use ::drm::control::{ClipRect, Device as ControlDevice, Mode, connector, dumbbuffer::DumbBuffer, framebuffer};
use embedded_graphics::prelude::*;
use embedded_graphics::primitives::Rectangle;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

struct Card(File);

impl AsFd for Card {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ::drm::Device for Card {}
impl ControlDevice for Card {}

/// A display of the kernel's mode setting.
pub struct Drm {
    card: Card,
    buffer: DumbBuffer,
    framebuffer: framebuffer::Handle,
    name: String,
}

impl Drm {
    /// The display on `device`, such as `/dev/dri/card0`, in its smallest mode that is at least as large as `size`:
    /// what is drawn is not scaled, and stands in its corner.
    pub fn open(device: &Path, size: Size) -> Result<Drm, PanelError> {
        let failed = |e: std::io::Error| PanelError::io(device, e);
        let missing = |what: &str| PanelError::device(device.display(), what);
        let not_connected = || PanelError::NotConnected { what: device.display().to_string() };
        let opened = File::options().read(true).write(true).open(device);
        let card = Card(opened.map_err(|e| match e.kind() {
            // The driver may still be on its way.
            std::io::ErrorKind::NotFound => not_connected(),
            _ => failed(e),
        })?);
        let resources = card.resource_handles().map_err(failed)?;
        let connector = resources
            .connectors()
            .iter()
            .filter_map(|handle| card.get_connector(*handle, true).ok())
            .find(|info| info.state() == connector::State::Connected && !info.modes().is_empty())
            .ok_or_else(not_connected)?;
        let mode = mode_for(connector.modes(), size).ok_or_else(|| PanelError::Other {
            what: device.display().to_string(),
            found: format!("{:?} at most", connector.modes()[0].size()),
            expected: format!("{}×{}", size.width, size.height),
        })?;
        let (width, height) = mode.size();
        let crtc = connector
            .current_encoder()
            .and_then(|encoder| card.get_encoder(encoder).ok()?.crtc())
            .or_else(|| resources.crtcs().first().copied())
            .ok_or_else(|| missing("nothing drives the display"))?;
        let buffer = card.create_dumb_buffer((width.into(), height.into()), DrmFourcc::Xrgb8888, 32).map_err(failed)?;
        let framebuffer = card.add_framebuffer(&buffer, 24, 32).map_err(failed)?;
        card.set_crtc(crtc, Some(framebuffer), (0, 0), &[connector.handle()], Some(mode)).map_err(failed)?;
        Ok(Drm { card, buffer, framebuffer, name: device.display().to_string() })
    }
}

/// The smallest of `modes` that `size` fits; of several the first, which the display prefers.
fn mode_for(modes: &[Mode], size: Size) -> Option<Mode> {
    let area = |mode: &Mode| u32::from(mode.size().0) * u32::from(mode.size().1);
    let fits = |mode: &&Mode| u32::from(mode.size().0) >= size.width && u32::from(mode.size().1) >= size.height;
    modes.iter().filter(fits).min_by_key(|mode| area(mode)).copied()
}

impl Panel for Drm {
    fn show(&mut self, canvas: &Canvas, changed: &[Rectangle]) -> Result<(), PanelError> {
        let pitch = self.buffer.pitch() as usize;
        let mut map = self.card.map_dumb_buffer(&mut self.buffer).map_err(|e| PanelError::device(&self.name, e))?;
        for area in changed {
            for row in area.rows() {
                let bytes = canvas.row(row, area.columns()).iter().flat_map(|pixel| xrgb8888(*pixel));
                let start = row as usize * pitch + 4 * area.top_left.x as usize;
                map.as_mut().iter_mut().skip(start).zip(bytes).for_each(|(to, from)| *to = from);
            }
        }
        drop(map);
        let clips: Vec<ClipRect> = changed
            .iter()
            .map(|area| {
                let end = area.top_left + Point::new(area.size.width as i32, area.size.height as i32);
                ClipRect::new(area.top_left.x as u16, area.top_left.y as u16, end.x as u16, end.y as u16)
            })
            .collect();
        // Drivers that show the buffer itself do not know the call.
        let _ = self.card.dirty_framebuffer(self.framebuffer, &clips);
        Ok(())
    }
}
