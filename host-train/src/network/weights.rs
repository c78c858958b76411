//! ImageNet weights in the names of their PyTorch releases, from a safetensors file.

use super::{Conv, Network};
use burn::module::{Param, RunningState};
use burn::nn::BatchNorm;
use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeSet;
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
    /// They are of another network.
    #[error("{path}: not the weights of this network: {troubles}; {unused} tensors of the file have no place in it")]
    OtherNetwork {
        /// The weights file.
        path: PathBuf,
        /// What is missing or does not fit.
        troubles: String,
        /// Tensors of the file that the network does not have.
        unused: usize,
    },
    /// The recipe starts from ImageNet weights, and none were given.
    #[error("recipe `{0}` freezes ImageNet blocks: give their weights with --weights FILE.safetensors")]
    Missing(String),
    /// A recipe that needs no weights was given some.
    #[error("recipe `{0}` trains from scratch: leave --weights out")]
    Unused(String),
}

/// So many of the tensors that do not fit are named.
const NAMED: usize = 5;

/// Batch counters of PyTorch's norms, which no network of ours has.
const COUNTER: &str = "num_batches_tracked";

/// A weights file, and what was wrong with it so far.
struct Reader<'a> {
    tensors: SafeTensors<'a>,
    unused: BTreeSet<String>,
    troubles: Vec<String>,
}

impl Reader<'_> {
    /// The values of tensor `name`, if there are `count` of them; notes it down where not.
    fn read(&mut self, name: &str, count: usize) -> Option<Vec<f32>> {
        self.unused.remove(name);
        let tensor = match self.tensors.tensor(name) {
            Ok(tensor) => tensor,
            Err(_) => {
                self.troubles.push(format!("`{name}` is missing"));
                return None;
            }
        };
        if tensor.dtype() != Dtype::F32 {
            self.troubles.push(format!("`{name}` is {:?}, not float32", tensor.dtype()));
            return None;
        }
        let values: Vec<f32> = tensor.data().as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
        if values.len() != count {
            self.troubles.push(format!(
                "`{name}` has the shape {:?}: {} values, not {count}",
                tensor.shape(),
                values.len()
            ));
            return None;
        }
        Some(values)
    }

    fn norm(&mut self, norm: &mut BatchNorm, name: &str, device: &Device) {
        let [channels] = norm.gamma.dims();
        let mut vector = |suffix: &str| {
            let values = self.read(&format!("{name}.{suffix}"), channels)?;
            Some(Tensor::<1>::from_data(TensorData::new(values, [channels]), device))
        };
        let parts = ["weight", "bias", "running_mean", "running_var"].map(&mut vector);
        if let [Some(weight), Some(bias), Some(mean), Some(variance)] = parts {
            norm.gamma = Param::from_tensor(weight);
            norm.beta = Param::from_tensor(bias);
            norm.running_mean = RunningState::new(mean);
            norm.running_var = RunningState::new(variance);
        }
    }

    /// `is_first` if the convolution reads the image.
    fn conv(&mut self, conv: &mut Conv, is_first: bool, device: &Device) {
        let dims = conv.weight.dims();
        let count = dims.iter().product::<usize>();
        let is_grey = is_first && dims[1] == 1;
        if let Some(mut values) =
            self.read(&format!("{}.weight", conv.names[0]), if is_grey { count * 3 } else { count })
        {
            if is_grey {
                let taps = dims[2] * dims[3];
                let planes = values.chunks_exact(3 * taps);
                values = planes.flat_map(|c| (0..taps).map(|k| c[k] + c[taps + k] + c[2 * taps + k])).collect();
            }
            conv.weight = Param::from_tensor(Tensor::from_data(TensorData::new(values, dims), device));
        }
        if let Some(norm) = &mut conv.norm {
            self.norm(norm, &conv.names[1], device);
        }
    }
}

impl Network {
    /// Loads the weights of a PyTorch release from `path` into the stages; the head keeps its own. Also gives the names
    /// of tensors in the file that are not used, its classifier among them. Where the network takes grey images, the
    /// three colour planes of the first convolution are summed: on a grey image repeated three times that is the same
    /// function. Each plane is multiplied by its `scale`, if there is any.
    pub fn load_weights(
        mut self,
        path: &Path,
        scale: Option<&[f32]>,
        device: &Device,
    ) -> Result<(Network, Vec<String>), WeightsError> {
        let bad = |reason: String| WeightsError::Unreadable { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
        if bytes.starts_with(b"PK") || bytes.starts_with(&[0x80]) {
            let advice = "convert it with safetensors.torch.save_file(state_dict, FILE)";
            return Err(bad(format!(
                "it is a file of PyTorch's own format, which may run code when it is read: {advice}"
            )));
        }
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| bad(format!("no safetensors file ({e})")))?;
        let names = tensors.names().into_iter().filter(|name| !name.ends_with(COUNTER));
        let unused = names.map(String::from).collect();
        let mut reader = Reader { tensors, unused, troubles: vec![] };
        for (i, stage) in self.stages.iter_mut().enumerate() {
            if let Some(norm) = &mut stage.entry {
                reader.norm(norm, &stage.entry_name, device);
            }
            for (j, conv) in stage.convs.iter_mut().chain(&mut stage.shortcut).enumerate() {
                reader.conv(conv, i == 0 && j == 0, device);
            }
        }
        if let (Some(scale), Some(conv)) = (scale, self.stages.first_mut().and_then(|stage| stage.convs.first_mut())) {
            let factors = TensorData::new(scale.to_vec(), [1, scale.len(), 1, 1]);
            conv.weight = Param::from_tensor(conv.weight.val() * Tensor::from_data(factors, device));
        }
        let unused: Vec<String> = reader.unused.into_iter().collect();
        let troubles = reader.troubles;
        if troubles.is_empty() {
            return Ok((self, unused));
        }
        let named = troubles.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
        let more = troubles.len().saturating_sub(NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let others = unused.len();
        Err(WeightsError::OtherNetwork { path: path.to_owned(), troubles: format!("{named}{more}"), unused: others })
    }
}
