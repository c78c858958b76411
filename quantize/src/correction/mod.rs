//! What calibration images can put right before and while weights are rounded: channels are given a common scale
//! (`equalise`), and each weight is rounded so that the ones after it take back its error (`rounding`).

mod equalise;
mod layers;
mod rounding;
mod samples;

pub use equalise::{ChannelMaxima, Maxima, equalise};
pub use rounding::{Factor, Rounded, Rounding};
pub use samples::{IMAGES, Samples, maxima};
