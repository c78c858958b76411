//! The input, so that its 256 codes are the 256 values of a pixel. A pixel `p` is given to the network as
//! `(p − mean) / deviation`. Where the mean is no whole number (127.5, for one), the codes of a common step lie between
//! the pixels, and half a grey level is lost in each. A shift of the image puts that right, and the bias of the layers
//! behind it takes the shift back, but for the windows at the border, where padding stays what it was.

use edge_runtime::model::contract::InputContract;
use edge_runtime::onnx::{self, OnnxError, pb};

/// Largest part of a grey level that is not worth a shift.
const NEGLIGIBLE: f32 = 1e-3;

/// The tensor that is quantised for the image.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelGrid {
    /// Its name.
    pub tensor: String,
    /// What it takes on for a black and for a white pixel.
    pub range: [f32; 2],
}

/// Shifts the image in `model` onto the grid of its pixels, if all its channels are normalised alike and nothing but
/// convolutions reads it. `None`, with `model` as it was, where no step fits all pixels.
pub fn align(model: &mut pb::ModelProto, input: &InputContract) -> Result<Option<PixelGrid>, OnnxError> {
    let Some(graph) = &mut model.graph else { return Ok(None) };
    let ([mean, means @ ..], [deviation, deviations @ ..]) = (input.mean.as_slice(), input.std.as_slice()) else {
        return Ok(None);
    };
    let zero = mean.round();
    let is_one_step = means.iter().all(|other| other == mean) && deviations.iter().all(|other| other == deviation);
    if !is_one_step || !(0.0..=255.0).contains(&zero) {
        return Ok(None);
    }
    let Some(image) = graph.input.first().map(|input| input.name.clone()) else { return Ok(None) };
    let range = [(0.0 - zero) / deviation, (255.0 - zero) / deviation];
    if (zero - mean).abs() < NEGLIGIBLE {
        return Ok(Some(PixelGrid { tensor: image, range }));
    }
    let shift = (zero - mean) / deviation;
    let Some(biases) = biases(graph, &image, shift)? else { return Ok(None) };
    let tensor = format!("{image}/canonical/pixels");
    for (layer, bias) in biases {
        let node = &mut graph.node[layer];
        let name = format!("{}/canonical/shifted_bias", node.output[0]);
        node.input[0].clone_from(&tensor);
        node.input.truncate(2);
        node.input.push(name.clone());
        graph.initializer.push(crate::canonical::float_tensor(&name, &[bias.len()], &bias));
    }
    let by = format!("{tensor}/shift");
    graph.initializer.push(crate::canonical::float_tensor(&by, &[], &[shift]));
    graph.node.insert(0, onnx::node("Sub", &[&image, &by], &tensor, vec![]));
    Ok(Some(PixelGrid { tensor, range }))
}

/// Biases of layers, by their numbers.
type Biases = Vec<(usize, Vec<f32>)>;

/// The bias of each layer that reads `image`, with what `shift` adds to it; `None` if others read it.
fn biases(graph: &pb::GraphProto, image: &str, shift: f32) -> Result<Option<Biases>, OnnxError> {
    let constant = |name: &String| graph.initializer.iter().find(|tensor| tensor.name == *name);
    let mut biases = Vec::new();
    for (i, node) in graph.node.iter().enumerate().filter(|(_, node)| node.input.iter().any(|name| name == image)) {
        let weights = node.input.get(1).and_then(constant);
        let Some(weights) = weights.filter(|_| node.op_type == "Conv" && node.input[0] == image) else {
            return Ok(None);
        };
        let outputs = onnx::dims(weights)?.first().copied().unwrap_or(0);
        let weights = onnx::f32s(weights)?;
        let bias = match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => match constant(name) {
                Some(bias) => onnx::f32s(bias)?,
                None => return Ok(None),
            },
            None => vec![0.0; outputs],
        };
        if outputs == 0 || bias.len() != outputs {
            return Ok(None);
        }
        let sums = weights.chunks_exact((weights.len() / outputs).max(1)).map(|row| row.iter().sum::<f32>());
        biases.push((i, bias.iter().zip(sums).map(|(bias, sum)| bias + shift * sum).collect()));
    }
    Ok((!biases.is_empty()).then_some(biases))
}

/// The node that shifts `image` by one number, if nothing else reads it.
pub fn shift<'a>(graph: &'a pb::GraphProto, image: &str) -> Option<&'a pb::NodeProto> {
    let mut readers = graph.node.iter().filter(|node| node.input.iter().any(|name| name == image));
    let first = readers.next().filter(|_| readers.next().is_none())?;
    let by = graph.initializer.iter().find(|tensor| first.input.get(1) == Some(&tensor.name))?;
    let is_shift = first.op_type == "Sub" && first.input[0] == image && onnx::f32s(by).is_ok_and(|by| by.len() == 1);
    is_shift.then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::engine::{FloatPlan, floats};
    use edge_runtime::model::contract::ResizeRule;
    use edge_runtime::onnx::{GraphBuilder, INPUT, LOGITS, ints};

    fn model(pads: i64) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input(INPUT, &[1, 3, 8, 8]);
        b.floats("w", &[2, 3, 3, 3], &(0..54).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>());
        b.node("Conv", &[INPUT, "w"], LOGITS, vec![ints("kernel_shape", &[3, 3]), ints("pads", &[pads; 4])]);
        let side = 6 + 2 * pads as usize;
        b.output(LOGITS, &[1, 2, side, side]);
        b.finish("m", vec![])
    }

    fn input(mean: [f32; 3]) -> InputContract {
        InputContract { size: 8, channels: 3, resize: ResizeRule::Stretch, mean: mean.to_vec(), std: vec![127.5; 3] }
    }

    #[test]
    fn a_shifted_image_gives_the_same_network() {
        let before = model(0);
        let mut after = before.clone();
        let grid = align(&mut after, &input([127.5; 3])).unwrap().unwrap();
        assert_ne!(grid.tensor, INPUT);
        let values: Vec<f32> = (0..192).map(|i| ((i * 37 % 256) as f32 - 127.5) / 127.5).collect();
        let run = |model| FloatPlan::new(model, None).unwrap().run(&[1, 3, 8, 8], &values).unwrap();
        let [before, after] = [&before, &after].map(run);
        for (a, b) in floats(&before[0]).unwrap().iter().zip(floats(&after[0]).unwrap()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
        let step = edge_runtime::network::Quantisation::covering(grid.range);
        assert_eq!((step.scale, step.zero_point), (1.0 / 127.5, 128));
    }

    #[test]
    fn whole_numbers_need_no_shift_and_several_steps_have_none() {
        let mut unchanged = model(1);
        let grid = align(&mut unchanged, &input([127.0; 3])).unwrap().unwrap();
        assert_eq!((unchanged, grid.tensor.as_str()), (model(1), INPUT));
        assert_eq!(align(&mut model(1), &input([123.675, 116.28, 103.53])).unwrap(), None);
        assert_eq!(align(&mut model(1), &input([-3.5; 3])).unwrap(), None);
    }
}
