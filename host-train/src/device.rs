//! Where training runs: this computer's CPU, or its graphics card.

use crate::network::Operators;
use burn::tensor::Device;

/// `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DeviceKind {
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
         to train on the CPU"
    )]
    NoAdapter,
    /// There is a card, and it does not start.
    #[error("the graphics card cannot be used ({0}): leave out --device gpu to train on the CPU")]
    Refused(String),
}

/// Opens `kind`, and says whose operators networks run on there.
pub fn open(kind: DeviceKind) -> Result<(Device, Operators), DeviceError> {
    match kind {
        DeviceKind::Cpu => Ok((Device::flex(), Operators::Own)),
        DeviceKind::Gpu => gpu().map(|device| (device, Operators::Burn)),
    }
}

/// The first real card. A software rasteriser is none: it is slower than the CPU backend, and serves for tests alone,
/// where `CUBECL_WGPU_DEFAULT_DEVICE=Cpu` asks for it.
#[cfg(feature = "wgpu")]
fn gpu() -> Result<Device, DeviceError> {
    use burn::tensor::DeviceKind;
    use burn::tensor::wgpu::WgpuInitError;
    let kinds = match std::env::var_os("CUBECL_WGPU_DEFAULT_DEVICE") {
        Some(_) => vec![DeviceKind::DefaultDevice],
        None => vec![DeviceKind::DiscreteGpu(0), DeviceKind::IntegratedGpu(0), DeviceKind::VirtualGpu(0)],
    };
    let mut error = DeviceError::NoAdapter;
    for kind in kinds {
        match Device::wgpu_options().device_kind(kind).init() {
            Ok(device) => return Ok(device),
            Err(WgpuInitError::AdapterUnavailable { .. }) => {}
            Err(e) => error = DeviceError::Refused(e.to_string()),
        }
    }
    Err(error)
}

#[cfg(not(feature = "wgpu"))]
fn gpu() -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt)
}
