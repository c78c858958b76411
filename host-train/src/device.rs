//! Where training runs: this computer's CPU, or its graphics card.

use crate::network::Operators;
use burn::tensor::Device;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Place {
    /// This computer's processor, on Hilum's own operators
    Cpu,
    /// Its first graphics card (Vulkan, Metal or DirectX 12), on burn's operators; needs the feature `wgpu`
    Gpu,
}

/// Why the graphics card cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// This build has no GPU backend.
    #[error("this host-train was built without GPU support: build it with --features wgpu, or leave out --device gpu")]
    NotBuilt,
    /// wgpu finds nothing to run on.
    #[error(
        "no graphics adapter was found: check the driver (vulkaninfo shows what there is), or leave out --device gpu \
         to train on the CPU ({0})"
    )]
    NoAdapter(String),
}

/// Opens `place`, and says whose operators networks run on there.
pub fn open(place: Place) -> Result<(Device, Operators), DeviceError> {
    match place {
        Place::Cpu => Ok((Device::flex(), Operators::Own)),
        Place::Gpu => gpu().map(|device| (device, Operators::Burn)),
    }
}

#[cfg(feature = "wgpu")]
fn gpu() -> Result<Device, DeviceError> {
    Device::wgpu_options().init().map_err(|e| DeviceError::NoAdapter(e.to_string()))
}

#[cfg(not(feature = "wgpu"))]
fn gpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}
