//! `[augment]`: random changes to training images.

use serde::{Deserialize, Serialize};

/// Random changes to training images; each is drawn evenly from its range. All zero: none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Mirror left and right half of the time.
    pub flip: bool,
    /// Rotation by up to this many degrees either way.
    pub rotation: f32,
    /// Zoom in or out by up to this share.
    pub zoom: f32,
    /// Shift by up to this share of the side.
    pub shift: f32,
    /// Independent stretch of width and height by up to this share: undoes what the loss of aspect ratio gives away.
    pub stretch: f32,
    /// Brightness by up to this share of the full scale.
    pub brightness: f32,
    /// Contrast factor from 1 − this to 1 + this.
    pub contrast: f32,
    /// Gamma from 1/(1 + this) to 1 + this.
    pub gamma: f32,
    /// Half of the time, blur by shrinking to no less than 1/(1 + this) of the side and back: hides which scanner it
    /// was.
    pub blur: f32,
    /// Noise of up to this many grey levels (standard deviation).
    pub noise: f32,
    /// Smallest share of the area of a random part that is brought to full size; its sides are as 3 : 4 to 4 : 3. 0
    /// leaves images whole.
    pub crop: f32,
    /// This share of the images get the grey-level histogram of a random training image of any class: hides what
    /// exposure and processing give away of the label.
    pub histogram_exchange: f32,
    /// Half of the time, a square of up to this share of the side becomes as grey as the image is on average (DeVries
    /// and Taylor 2017).
    pub cutout: f32,
    /// Two images are laid over each other, and so are their labels: the parameter of the beta distribution that says
    /// how much of each (Zhang et al. 2018). 0 leaves images alone.
    pub mixup: f32,
}

impl Augment {
    /// Says which value makes no sense, and what is possible.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_share = |value: f32| (0.0..=1.0).contains(&value);
        if ![self.crop, self.histogram_exchange, self.cutout].into_iter().all(is_share) {
            return Err("augment.crop, augment.histogram_exchange and augment.cutout must lie between 0 and 1".into());
        }
        if ![self.zoom, self.shift, self.stretch].into_iter().all(|v| (0.0..1.0).contains(&v)) {
            return Err("augment.zoom, augment.shift and augment.stretch must be 0 to below 1".into());
        }
        let bounded = [
            ("rotation", self.rotation, 180.0),
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("gamma", self.gamma, 10.0),
            ("blur", self.blur, 100.0),
            ("noise", self.noise, 255.0),
            ("mixup", self.mixup, 1.0),
        ];
        for (name, value, most) in bounded {
            if !(0.0..=most).contains(&value) {
                return Err(format!("augment.{name} must be 0 to {most}"));
            }
        }
        Ok(())
    }
}
