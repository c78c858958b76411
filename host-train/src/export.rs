//! A trained [`Network`] as plain ONNX: batch norms folded, tensors named by stage, the class activation map beside the
//! logits.

use crate::network::{Activation, Conv, Join, Network, Pool, Stage, values};
use crate::recipe::Pooling;
use burn::tensor::Tensor;
use edge_runtime::onnx::{GraphBuilder, INPUT, LOGITS, MAP, float, int, ints, pb};

/// Name of the output of [`trunk`].
pub const FEATURES: &str = "features";

/// Shape of the activations between two nodes, `[1, channels, side, side]`.
type Shape = [usize; 4];

/// The whole network with its contract in `metadata`.
pub fn network(
    net: &Network,
    input: Shape,
    logits: usize,
    name: &str,
    metadata: Vec<(String, String)>,
) -> pb::ModelProto {
    let mut b = GraphBuilder::default();
    b.input(INPUT, &input);
    let (features, [_, channels, h, w]) = stages(&mut b, net, net.stages.len(), input);
    let head = &net.head;
    let (weight, bias) = linear(&head.linear);
    let mut row = "head/flatten";
    match head.pooling {
        Pooling::Flatten => b.node("Flatten", &[&features], row, vec![int("axis", 1)]),
        Pooling::Average => {
            b.node("GlobalAveragePool", &[&features], "head/pool", vec![]);
            b.node("Flatten", &["head/pool"], row, vec![int("axis", 1)]);
        }
    }
    if let Some(dense) = &head.dense {
        let (w, bias) = linear(dense);
        b.floats("head/dense/weight", &[bias.len(), w.len() / bias.len()], &w);
        b.floats("head/dense/bias", &[bias.len()], &bias);
        b.node("Gemm", &[row, "head/dense/weight", "head/dense/bias"], "head/dense", vec![int("transB", 1)]);
        b.node("Relu", &["head/dense"], "head/dense/relu", vec![]);
        row = "head/dense/relu";
    }
    b.floats("head/linear/weight", &[logits, weight.len() / logits], &weight);
    b.floats("head/linear/bias", &[logits], &bias);
    b.node("Gemm", &[row, "head/linear/weight", "head/linear/bias"], LOGITS, vec![int("transB", 1)]);
    b.output(LOGITS, &[1, logits]);
    if head.is_linear_in_means() {
        // Pooling and the linear layer commute, so the layer applied to each pixel is the evidence for each label there
        // (Zhou et al. 2016); its mean plus the bias is the logit.
        b.floats("map/weight", &[logits, channels, 1, 1], &weight);
        b.node("Conv", &[&features, "map/weight"], MAP, vec![ints("kernel_shape", &[1, 1])]);
        b.output(MAP, &[1, logits, h, w]);
    }
    b.finish(name, metadata)
}

/// The first `count` stages alone; output [`FEATURES`]. Also gives that output's shape. Where only the head is left
/// behind them, and it begins with their mean, they are pooled already.
pub fn trunk(net: &Network, count: usize, input: Shape) -> (pb::ModelProto, Shape) {
    let mut b = GraphBuilder::default();
    b.input(INPUT, &input);
    let (last, mut shape) = stages(&mut b, net, count, input);
    if count == net.stages.len() && net.head.pooling == Pooling::Average {
        b.node("GlobalAveragePool", &[&last], FEATURES, vec![]);
        shape = [1, shape[1], 1, 1];
    } else {
        b.node("Identity", &[&last], FEATURES, vec![]);
    }
    b.output(FEATURES, &shape);
    (b.finish("trunk", vec![]), shape)
}

fn stages(b: &mut GraphBuilder, net: &Network, count: usize, input: Shape) -> (String, Shape) {
    let mut x = (INPUT.to_owned(), input);
    for (i, s) in net.stages[..count].iter().enumerate() {
        x = stage(b, s, &format!("stage{i}"), x);
    }
    x
}

fn stage(b: &mut GraphBuilder, stage: &Stage, name: &str, input: (String, Shape)) -> (String, Shape) {
    let mut x = input.clone();
    if let Some(norm) = &stage.entry {
        let out = format!("{name}/entry");
        let channels = x.1[1];
        let parts = [
            ("scale", norm.gamma.val()),
            ("bias", norm.beta.val()),
            ("mean", norm.running_mean.value()),
            ("variance", norm.running_var.value()),
        ];
        let names = parts.map(|(part, tensor)| {
            let part = format!("{out}/{part}");
            b.floats(&part, &[channels], &values(tensor));
            part
        });
        let [scale, bias, mean, variance] = names.each_ref().map(String::as_str);
        let epsilon = vec![float("epsilon", norm.epsilon as f32)];
        b.node("BatchNormalization", &[&x.0, scale, bias, mean, variance], &out, epsilon);
        x.0 = activate(b, out, Activation::Relu);
    }
    for (j, conv) in stage.convs.iter().enumerate() {
        let name = format!("{name}/conv{j}");
        x = convolution(b, conv, &name, x);
        // An addition comes before the last activation.
        if stage.join != Join::Add || j + 1 < stage.convs.len() {
            x.0 = activate(b, x.0, conv.shape.activation);
        }
    }
    match stage.join {
        Join::None => {}
        Join::Add => {
            let around = match &stage.shortcut {
                Some(conv) => {
                    let (out, _) = convolution(b, conv, &format!("{name}/shortcut"), input);
                    activate(b, out, conv.shape.activation)
                }
                None => input.0,
            };
            let out = format!("{name}/add");
            b.node("Add", &[&x.0, &around], &out, vec![]);
            x.0 = activate(b, out, stage.convs.last().map_or(Activation::None, |c| c.shape.activation));
        }
        Join::Concat => {
            let out = format!("{name}/concat");
            b.node("Concat", &[&input.0, &x.0], &out, vec![int("axis", 1)]);
            x = (out, [1, input.1[1] + x.1[1], x.1[2], x.1[3]]);
        }
    }
    let (operator, kernel, stride, padding) = match stage.pool {
        Pool::None => return x,
        Pool::Max { kernel, stride, padding } => ("MaxPool", kernel, stride, padding),
        Pool::Average { kernel } => ("AveragePool", kernel, kernel, 0),
    };
    let out = format!("{name}/pool");
    let mut attributes = vec![ints("kernel_shape", &[kernel as i64; 2]), ints("strides", &[stride as i64; 2])];
    if padding > 0 {
        attributes.push(ints("pads", &[padding as i64; 4]));
    }
    b.node(operator, &[&x.0], &out, attributes);
    let side = |n: usize| (n + 2 * padding - kernel) / stride + 1;
    (out, [1, x.1[1], side(x.1[2]), side(x.1[3])])
}

fn convolution(b: &mut GraphBuilder, conv: &Conv, name: &str, (x, shape): (String, Shape)) -> (String, Shape) {
    let (dims, weight, bias) = conv.folded();
    b.floats(&format!("{name}/weight"), &dims, &weight);
    b.floats(&format!("{name}/bias"), &[dims[0]], &bias);
    let k = dims[2] as i64;
    let s = conv.shape.stride;
    let pads = conv.shape.padding;
    let attributes = vec![
        ints("kernel_shape", &[k, k]),
        ints("strides", &[s as i64; 2]),
        ints("pads", &pads.map(|p| p as i64)),
        int("group", conv.shape.groups as i64),
    ];
    b.node("Conv", &[&x, &format!("{name}/weight"), &format!("{name}/bias")], name, attributes);
    let side = |n: usize, p: usize| (n + p - dims[2]) / s + 1;
    (name.to_owned(), [1, dims[0], side(shape[2], pads[0] + pads[2]), side(shape[3], pads[1] + pads[3])])
}

fn activate(b: &mut GraphBuilder, x: String, activation: Activation) -> String {
    match activation {
        Activation::None => x,
        Activation::Relu => {
            let out = format!("{x}/relu");
            b.node("Relu", &[&x], &out, vec![]);
            out
        }
        Activation::Relu6 => {
            let out = format!("{x}/relu6");
            if !b.graph.initializer.iter().any(|t| t.name == "six") {
                b.floats("zero", &[], &[0.0]);
                b.floats("six", &[], &[6.0]);
            }
            b.node("Clip", &[&x, "zero", "six"], &out, vec![]);
            out
        }
    }
}

/// Weight `[out, in]` in memory order, and bias.
fn linear(layer: &burn::nn::Linear) -> (Vec<f32>, Vec<f32>) {
    let weight: Tensor<2> = layer.weight.val();
    let outputs = weight.dims()[1];
    (values(weight.transpose()), layer.bias.as_ref().map_or(vec![0.0; outputs], |b| values(b.val())))
}
