//! ImageNet weights in torchvision's names, from a safetensors file.

use super::Network;
use burn::module::{Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;
use std::path::{Path, PathBuf};

/// Why ImageNet weights cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The weights file.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The recipe starts from ImageNet weights, and none were given.
    #[error("recipe `{0}` freezes ImageNet blocks: give their weights with --weights FILE.safetensors")]
    Missing(String),
    /// A recipe that needs no weights was given some.
    #[error("recipe `{0}` trains from scratch: leave --weights out")]
    Unused(String),
}

impl Network {
    /// Loads torchvision's weights from `path` into the stages; the head keeps its own. Where the network takes grey
    /// images, the three colour planes of the first convolution are summed: on a grey image repeated three times that
    /// is the same function.
    pub fn load_torchvision(mut self, path: &Path, device: &Device) -> Result<Network, WeightsError> {
        let bad = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| bad(e.to_string()))?;
        let read = |name: String, count: usize| -> Result<Vec<f32>, WeightsError> {
            let t = file.tensor(&name).map_err(|e| bad(e.to_string()))?;
            if t.dtype() != safetensors::Dtype::F32 {
                return Err(bad(format!("`{name}` is {:?}, not float32", t.dtype())));
            }
            let values: Vec<f32> = t.data().as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
            match values.len() == count {
                true => Ok(values),
                false => Err(bad(format!("`{name}` has {} values, not {count}", values.len()))),
            }
        };
        let load_norm = |norm: &mut BatchNorm, name: &str| -> Result<(), WeightsError> {
            let [channels] = norm.gamma.dims();
            let vector = |suffix: &str| -> Result<Tensor<1>, WeightsError> {
                let v = read(format!("{name}.{suffix}"), channels)?;
                Ok(Tensor::from_data(TensorData::new(v, [channels]), device))
            };
            norm.gamma = Param::from_tensor(vector("weight")?);
            norm.beta = Param::from_tensor(vector("bias")?);
            norm.running_mean = RunningState::new(vector("running_mean")?);
            norm.running_var = RunningState::new(vector("running_var")?);
            Ok(())
        };
        for (i, stage) in self.stages.iter_mut().enumerate() {
            if let Some(norm) = &mut stage.entry {
                load_norm(norm, &stage.entry_name)?;
            }
            for (j, conv) in stage.convs.iter_mut().chain(&mut stage.shortcut).enumerate() {
                let dims = conv.weight.dims();
                let count = dims.iter().product::<usize>();
                let grey = i == 0 && j == 0 && dims[1] == 1;
                let mut w = read(format!("{}.weight", conv.names[0]), if grey { count * 3 } else { count })?;
                if grey {
                    let taps = dims[2] * dims[3];
                    let planes = w.chunks_exact(3 * taps);
                    w = planes.flat_map(|c| (0..taps).map(|k| c[k] + c[taps + k] + c[2 * taps + k])).collect();
                }
                conv.weight = Param::from_tensor(Tensor::from_data(TensorData::new(w, dims), device));
                if let Some(norm) = &mut conv.norm {
                    load_norm(norm, &conv.names[1])?;
                }
            }
        }
        Ok(self)
    }
}
