//! What a network of ours looks at: Grad-CAM (Selvaraju et al. 2017) and saliency (Simonyan et al. 2014), by the
//! gradient of what speaks for the finding.

use crate::network::{Network, Operators, values};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use data::Labels;
use edge_runtime::explain::Heat;
use edge_runtime::image::GreyPlane;
use edge_runtime::image::preprocess::normalise;
use edge_runtime::model::contract::InputContract;

/// Pixels whose gradients are this much larger than all but so many others are as hot as it gets: a few edges would
/// make all else cold.
const HOTTEST: f64 = 0.995;

/// A network that explains itself.
pub struct Explainer {
    network: Network,
    device: Device,
    input: InputContract,
    /// Indices of the labels that are looked for; one logit has none.
    positives: Vec<usize>,
}

/// Both explanations of an image, each from 0 to 1.
pub struct Explanation {
    /// Where the last feature map speaks for the finding, on its cells.
    pub grad_cam: Heat,
    /// Which pixels change the decision most.
    pub saliency: Heat,
}

impl Explainer {
    /// Of `network`, trained or loaded on `device`, an autodiff device.
    pub fn new(network: Network, device: Device, input: InputContract, labels: &Labels) -> Explainer {
        // Frozen, norms use their running statistics and dropout drops nothing.
        let positives = (0..labels.len()).filter(|label| labels.is_positive(*label)).collect();
        Explainer { network: network.freeze(), device, input, positives }
    }

    /// What the network looks at in `frame`, which has its size.
    pub fn explain(&self, frame: &GreyPlane) -> Explanation {
        let side = self.input.size as usize;
        let data = TensorData::new(normalise(frame, &self.input), [1, self.input.channels as usize, side, side]);
        let image = Tensor::<4>::from_data(data, &self.device).require_grad();
        let features = self.network.features_from(0, image.clone());
        let cells = features.clone().detach().require_grad();
        let of_cells = self.evidence(self.network.classify(cells.clone())).backward();
        let grad_cam = self.grad_cam(&cells, cells.grad(&of_cells));
        let of_pixels = self.evidence(self.network.classify(features)).backward();
        let saliency = image.grad(&of_pixels).map(values).unwrap_or_default();
        Explanation { grad_cam, saliency: self.saliency(&saliency) }
    }

    /// By how much the labels that are looked for are ahead of the others.
    fn evidence(&self, logits: Tensor<2>) -> Tensor<1> {
        let [_, count] = logits.dims();
        if count == 1 {
            return logits.sum();
        }
        let positives = self.positives.len() as f32;
        let weight = |label: usize| match self.positives.contains(&label) {
            true => 1.0 / positives,
            false => -1.0 / (count as f32 - positives),
        };
        let weights = TensorData::new((0..count).map(weight).collect::<Vec<f32>>(), [1, count]);
        (logits * Tensor::<2>::from_data(weights, &self.device)).sum()
    }

    fn grad_cam(&self, cells: &Tensor<4>, gradient: Option<Tensor<4>>) -> Heat {
        let dims = cells.dims();
        let ([_, height, width, channels], is_last) = match self.network.operators {
            Operators::Own => (dims, true),
            Operators::Burn => ([dims[0], dims[2], dims[3], dims[1]], false),
        };
        let pixels = height * width;
        let at = |all: &[f32], pixel: usize, channel: usize| match is_last {
            true => all[pixel * channels + channel],
            false => all[channel * pixels + pixel],
        };
        let activations = values(cells.clone());
        let gradient = gradient.map_or(vec![0.0; activations.len()], values);
        let weight = |channel: usize| (0..pixels).map(|p| at(&gradient, p, channel)).sum::<f32>() / pixels as f32;
        let weights: Vec<f32> = (0..channels).map(weight).collect();
        let heat = |p: usize| (0..channels).map(|c| weights[c] * at(&activations, p, c)).sum::<f32>().max(0.0);
        scaled(width, height, (0..pixels).map(heat).collect(), 1.0)
    }

    fn saliency(&self, gradient: &[f32]) -> Heat {
        let side = self.input.size as usize;
        let mut largest = vec![0f32; side * side];
        for plane in gradient.chunks_exact(side * side) {
            largest.iter_mut().zip(plane).for_each(|(most, g)| *most = most.max(g.abs()));
        }
        scaled(side, side, largest, HOTTEST)
    }
}

/// `values` as a share of the one that `share` of them do not exceed.
fn scaled(width: usize, height: usize, mut values: Vec<f32>, share: f64) -> Heat {
    let mut sorted = values.clone();
    sorted.sort_by(f32::total_cmp);
    let top = sorted[((sorted.len() - 1) as f64 * share) as usize];
    if top > 0.0 {
        values.iter_mut().for_each(|value| *value = (*value / top).min(1.0));
    }
    Heat { width, height, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{HeadSpec, NetworkSpec};
    use burn::tensor::Distribution;
    use data::Classes;
    use edge_runtime::model::contract::ResizeRule;

    fn explainer(head: HeadSpec, operators: Operators, logits: usize) -> Explainer {
        let device = Device::flex().autodiff();
        device.seed(11);
        let spec = NetworkSpec::Cnn { channels: vec![4, 6], batch_norm: true };
        let network = Network::of(&spec, &head, [32, 1], logits, operators, &device);
        let input =
            InputContract { size: 32, channels: 1, resize: ResizeRule::Stretch, mean: vec![128.0], std: vec![128.0] };
        Explainer::new(network, device, input, &Classes::Pneumonia.labels())
    }

    fn frame() -> GreyPlane {
        let noise = values(Tensor::<1>::random([1024], Distribution::Uniform(0.0, 255.0), &Device::flex()));
        GreyPlane::square(32, noise.into_iter().map(|v| v as u8).collect())
    }

    /// With a linear head on channel means, Grad-CAM is the class activation map, cut at nothing (Selvaraju et al., A).
    #[test]
    fn grad_cam_is_the_class_activation_map_where_it_must_be() {
        for operators in [Operators::Own, Operators::Burn] {
            let explainer = explainer(HeadSpec::default(), operators, 2);
            let frame = frame();
            let got = explainer.explain(&frame).grad_cam;
            let network = &explainer.network;
            let image = TensorData::new(normalise(&frame, &explainer.input), [1, 1, 32, 32]);
            let features = network.features_from(0, Tensor::from_data(image, &explainer.device));
            let cells = match operators {
                Operators::Own => values(features),
                Operators::Burn => values(features.permute([0, 2, 3, 1])),
            };
            let weight = values(network.head.linear.weight.val());
            let map = |cell: &[f32]| {
                cell.iter().enumerate().map(|(c, a)| a * (weight[c * 2 + 1] - weight[c * 2])).sum::<f32>()
            };
            let maps: Vec<f32> = cells.chunks_exact(6).map(|cell| map(cell).max(0.0)).collect();
            let top = maps.iter().copied().fold(0.0, f32::max);
            assert_eq!((got.width, got.height), (8, 8));
            for (got, map) in got.values.iter().zip(&maps) {
                assert!((got - map / top.max(f32::MIN_POSITIVE)).abs() < 1e-4, "{got} {map} {top}");
            }
        }
    }

    #[test]
    fn saliency_is_the_slope_of_the_evidence() {
        let head = HeadSpec { dense: 5, ..HeadSpec::default() };
        let explainer = explainer(head, Operators::Own, 1);
        let frame = frame();
        let side = 32;
        let slope = |index: usize| {
            let evidence = |step: f32| {
                let mut values = normalise(&frame, &explainer.input);
                values[index] += step;
                let x = Tensor::<4>::from_data(TensorData::new(values, [1, 1, side, side]), &explainer.device);
                crate::network::values(explainer.evidence(explainer.network.forward(x)))[0]
            };
            (evidence(0.01) - evidence(-0.01)).abs() / 0.02
        };
        let saliency = explainer.explain(&frame).saliency;
        let hottest = (0..1024).max_by(|a, b| saliency.values[*a].total_cmp(&saliency.values[*b])).unwrap();
        let coldest = (0..1024).min_by(|a, b| saliency.values[*a].total_cmp(&saliency.values[*b])).unwrap();
        assert!(slope(hottest) > 4.0 * slope(coldest), "{} {}", slope(hottest), slope(coldest));
    }
}
