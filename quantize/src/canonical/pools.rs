//! Average pools whose size is rounded up (`ceil_mode`) as pools with padding at their end, which says the same: what
//! is beyond the image counts in neither (ONNX operators, `AveragePool`). Engines differ in how they run the former.

use super::QuantizeError;
use edge_runtime::engine::FloatPlan;
use edge_runtime::network::Window;
use edge_runtime::onnx::{self, int_or, ints_or, pb};

/// Rewrites the average pools of `model`, where that changes nothing; the others stay as they are.
pub fn settle(model: &mut pb::ModelProto) -> Result<(), QuantizeError> {
    let Some(graph) = &model.graph else { return Ok(()) };
    let found = graph.node.iter().enumerate().filter(|(_, node)| is_rounded_up(node));
    let pools: Vec<(usize, String)> = found.filter_map(|(i, node)| Some((i, node.input.first()?.clone()))).collect();
    if pools.is_empty() {
        return Ok(());
    }
    let inputs: Vec<String> = pools.iter().map(|(_, input)| input.clone()).collect();
    // Of the image itself the size is known without a plan, but nobody pools an image.
    let Ok(plan) = FloatPlan::new(model, Some(&inputs)) else { return Ok(()) };
    let Some(graph) = &mut model.graph else { return Ok(()) };
    for (k, (i, _)) in pools.iter().enumerate() {
        let Some([_, _, height, width]) = plan.output_dims(k).and_then(|dims| <[usize; 4]>::try_from(dims).ok()) else {
            continue;
        };
        if let Some(pads) = padded(&graph.node[*i], [height, width]) {
            let node = &mut graph.node[*i];
            let kept = |name: &str| !["ceil_mode", "pads", "count_include_pad", "auto_pad"].contains(&name);
            node.attribute.retain(|attribute| kept(&attribute.name));
            node.attribute.push(onnx::ints("pads", &pads));
        }
    }
    Ok(())
}

fn is_rounded_up(node: &pb::NodeProto) -> bool {
    let counts_padding =
        int_or(node, "count_include_pad", 0) != 0 && ints_or(node, "pads", &[]).iter().any(|p| *p != 0);
    let pads_itself = onnx::attribute(node, "auto_pad").is_some_and(|a| a.s != b"NOTSET");
    let is_dilated = ints_or(node, "dilations", &[]).iter().any(|d| *d != 1);
    let is_average = node.op_type == "AveragePool" && int_or(node, "ceil_mode", 0) != 0;
    is_average && !counts_padding && !pads_itself && !is_dilated
}

/// Padding that makes the size of a pool of an image of `sides` whole.
fn padded(node: &pb::NodeProto, sides: [usize; 2]) -> Option<[i64; 4]> {
    let numbers = |name: &str, default: &[i64]| -> Option<Vec<u32>> {
        ints_or(node, name, default).into_iter().map(|v| u32::try_from(v).ok()).collect()
    };
    let window = Window {
        kernel: numbers("kernel_shape", &[])?.try_into().ok()?,
        stride: numbers("strides", &[1, 1])?.try_into().ok()?,
        padding: numbers("pads", &[0; 4])?.try_into().ok()?,
        dilation: [1, 1],
    };
    let sides: [u32; 2] = [sides[0].try_into().ok()?, sides[1].try_into().ok()?];
    let covering = window.covering(sides);
    // A window of padding alone has no mean.
    covering.fits_pool(sides, covering.output(sides)?).then(|| covering.padding.map(i64::from))
}
