//! A trained [`Network`] as plain ONNX: batch norms folded, tensors named by stage, the class activation map beside the logits.

use crate::network::{Activation, Network, values};
use burn::tensor::Tensor;
use edge_runtime::onnx::{GraphBuilder, INPUT, LOGITS, MAP, int, ints, pb};

/// Name of the output of [`trunk`].
pub const FEATURES: &str = "features";

/// Shape of the activations between two nodes, `[1, channels, side, side]`.
type Shape = [usize; 4];

/// The whole network with its contract in `metadata`.
pub fn network(
    net: &Network,
    input: Shape,
    labels: usize,
    name: &str,
    metadata: Vec<(String, String)>,
) -> pb::ModelProto {
    let mut b = GraphBuilder::default();
    b.input(INPUT, &input);
    let (features, [_, channels, h, w]) = stages(&mut b, net, net.stages.len(), input);
    let head = &net.head;
    let (weight, bias) = linear(&head.linear);
    let pooled = match &head.dense {
        Some(dense) => {
            b.node("Flatten", &[&features], "head/flatten", vec![int("axis", 1)]);
            let (w, bias) = linear(dense);
            b.floats("head/dense/weight", &[bias.len(), w.len() / bias.len()], &w);
            b.floats("head/dense/bias", &[bias.len()], &bias);
            let inputs = ["head/flatten", "head/dense/weight", "head/dense/bias"];
            b.node("Gemm", &inputs, "head/dense", vec![int("transB", 1)]);
            b.node("Relu", &["head/dense"], "head/dense/relu", vec![]);
            "head/dense/relu"
        }
        None => {
            b.node("GlobalAveragePool", &[&features], "head/pool", vec![]);
            b.node("Flatten", &["head/pool"], "head/flatten", vec![int("axis", 1)]);
            "head/flatten"
        }
    };
    b.floats("head/linear/weight", &[labels, weight.len() / labels], &weight);
    b.floats("head/linear/bias", &[labels], &bias);
    b.node("Gemm", &[pooled, "head/linear/weight", "head/linear/bias"], LOGITS, vec![int("transB", 1)]);
    b.output(LOGITS, &[1, labels]);
    if head.dense.is_none() {
        // Pooling and the linear layer commute, so the layer applied to each pixel is the evidence for each label there
        // (Zhou et al. 2016); its mean plus the bias is the logit.
        b.floats("map/weight", &[labels, channels, 1, 1], &weight);
        b.node("Conv", &[&features, "map/weight"], MAP, vec![ints("kernel_shape", &[1, 1])]);
        b.output(MAP, &[1, labels, h, w]);
    }
    b.finish(name, metadata)
}

/// The first `count` stages alone; output [`FEATURES`]. Also gives that output's shape.
pub fn trunk(net: &Network, count: usize, input: Shape) -> (pb::ModelProto, Shape) {
    let mut b = GraphBuilder::default();
    b.input(INPUT, &input);
    let (last, shape) = stages(&mut b, net, count, input);
    b.node("Identity", &[&last], FEATURES, vec![]);
    b.output(FEATURES, &shape);
    (b.finish("trunk", vec![]), shape)
}

fn stages(b: &mut GraphBuilder, net: &Network, count: usize, input: Shape) -> (String, Shape) {
    let mut x = INPUT.to_owned();
    let mut shape = input;
    for (i, stage) in net.stages[..count].iter().enumerate() {
        let entry = x.clone();
        for (j, conv) in stage.convs.iter().enumerate() {
            let name = format!("stage{i}/conv{j}");
            let (dims, weight, bias) = conv.folded();
            b.floats(&format!("{name}/weight"), &dims, &weight);
            b.floats(&format!("{name}/bias"), &[dims[0]], &bias);
            let (k, s) = (dims[2] as i64, conv.shape.stride);
            let pads = conv.shape.padding;
            let attributes = vec![
                ints("kernel_shape", &[k, k]),
                ints("strides", &[s as i64; 2]),
                ints("pads", &pads.map(|p| p as i64)),
                int("group", conv.shape.groups as i64),
            ];
            b.node("Conv", &[&x, &format!("{name}/weight"), &format!("{name}/bias")], &name, attributes);
            let side = |n: usize, p: usize| (n + p - dims[2]) / s + 1;
            shape = [1, dims[0], side(shape[2], pads[0] + pads[2]), side(shape[3], pads[1] + pads[3])];
            x = match conv.shape.activation {
                Activation::None => name,
                Activation::Relu => {
                    let out = format!("{name}/relu");
                    b.node("Relu", &[&name], &out, vec![]);
                    out
                }
                Activation::Relu6 => {
                    let out = format!("{name}/relu6");
                    if !b.graph.initializer.iter().any(|t| t.name == "six") {
                        b.floats("zero", &[], &[0.0]);
                        b.floats("six", &[], &[6.0]);
                    }
                    b.node("Clip", &[&name, "zero", "six"], &out, vec![]);
                    out
                }
            };
        }
        if stage.residual {
            let out = format!("stage{i}/add");
            b.node("Add", &[&x, &entry], &out, vec![]);
            x = out;
        }
        if stage.pool.is_some() {
            let out = format!("stage{i}/pool");
            b.node("MaxPool", &[&x], &out, vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]);
            shape = [1, shape[1], shape[2] / 2, shape[3] / 2];
            x = out;
        }
    }
    (x, shape)
}

/// Weight `[out, in]` in memory order, and bias.
fn linear(layer: &burn::nn::Linear) -> (Vec<f32>, Vec<f32>) {
    let weight: Tensor<2> = layer.weight.val();
    let outputs = weight.dims()[1];
    (values(weight.transpose()), layer.bias.as_ref().map_or(vec![0.0; outputs], |b| values(b.val())))
}
