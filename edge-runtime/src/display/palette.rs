//! The colours of the screens. Meaning is in word and shape; colours only help, and are told apart by colour-blind eyes
//! (Okabe and Ito 2008).

use embedded_graphics::pixelcolor::Rgb565;
use embedded_graphics::prelude::*;

/// What something is, as far as its colour says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Text.
    Plain,
    /// Text of less weight.
    Dim,
    /// Something was found, or is wrong.
    Alarm,
    /// Nothing was found.
    Calm,
    /// Undecided.
    Undecided,
}

/// The colours of a panel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    /// True for panels that know on and off alone.
    pub is_mono: bool,
}

impl Palette {
    /// The ground of the screen.
    pub fn ground(self) -> Rgb565 {
        if self.is_mono { Rgb565::BLACK } else { Rgb565::new(1, 3, 3) }
    }

    /// The ground of bars and buttons.
    pub fn panel(self) -> Rgb565 {
        if self.is_mono { Rgb565::BLACK } else { Rgb565::new(5, 11, 7) }
    }

    /// The colour of `tone`.
    pub fn tone(self, tone: Tone) -> Rgb565 {
        match tone {
            _ if self.is_mono => Rgb565::WHITE,
            Tone::Plain => Rgb565::new(29, 59, 29),
            Tone::Dim => Rgb565::new(20, 42, 21),
            // Orange, sky blue and yellow of the palette.
            Tone::Alarm => Rgb565::new(28, 40, 0),
            Tone::Calm => Rgb565::new(11, 45, 29),
            Tone::Undecided => Rgb565::new(30, 57, 8),
        }
    }

    /// Ink of `tone` on the ground.
    pub fn ink(self, tone: Tone) -> Ink {
        Ink { colour: self.tone(tone), paper: self.ground(), is_mono: self.is_mono }
    }

    /// Ink of `tone` on a panel.
    pub fn ink_on_panel(self, tone: Tone) -> Ink {
        Ink { paper: self.panel(), ..self.ink(tone) }
    }

    /// Ink in the colour of the ground on `tone`.
    pub fn inverse(self, tone: Tone) -> Ink {
        Ink { colour: self.ground(), paper: self.tone(tone), is_mono: self.is_mono }
    }
}

/// A colour on another.
#[derive(Debug, Clone, Copy)]
pub struct Ink {
    /// The colour.
    pub colour: Rgb565,
    /// What it covers.
    pub paper: Rgb565,
    /// No mixtures.
    pub is_mono: bool,
}

impl Ink {
    /// The mixture at `alpha`, 0 to 15; on a mono panel one of the two.
    pub fn at(self, alpha: u8) -> Rgb565 {
        if self.is_mono {
            return if alpha >= 7 { self.colour } else { self.paper };
        }
        let mix =
            |a: u8, b: u8| ((u16::from(a) * u16::from(alpha) + u16::from(b) * u16::from(15 - alpha) + 7) / 15) as u8;
        let [c, p] = [self.colour, self.paper];
        Rgb565::new(mix(c.r(), p.r()), mix(c.g(), p.g()), mix(c.b(), p.b()))
    }
}
