//! The input as the contract knows it: one image, channels first, of a known size.

use crate::qdq::QuantizeError;
use edge_runtime::onnx::{self, pb};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value::DimValue;
use tract_onnx::pb::type_proto::Value::TensorType;

/// Channels before rows and columns, of rows and columns before channels.
const TO_CHANNELS_FIRST: [i64; 4] = [0, 3, 1, 2];
/// The way back.
const TO_CHANNELS_LAST: [i64; 4] = [0, 2, 3, 1];

/// Fixes the dimensions of `graph`'s one image input: an open batch becomes one image, an open side `size`, and
/// channels come first. Inputs of other forms are left to [`crate::foreign::contract`], which refuses them.
pub fn settle(graph: &mut pb::GraphProto, size: Option<u32>) -> Result<(), QuantizeError> {
    let is_constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let mut inputs = graph.input.iter().enumerate().filter(|(_, i)| !is_constant(&i.name));
    let (Some((at, input)), None) = (inputs.next(), inputs.next()) else { return Ok(()) };
    let tensor = tensor_type(input);
    if tensor.is_some_and(|t| t.elem_type != DataType::Float as i32) {
        return Err(QuantizeError::Input("it is no tensor of floats, and radiographs come as floats".into()));
    }
    let name = input.name.clone();
    let declared = tensor.and_then(dims).unwrap_or_default();
    let open = || channels_of_first_convolution(graph);
    let (channels_last, [batch, channels, height, width]) = match declared.as_slice() {
        [] => (false, [None, open(), None, None]),
        [b, h, w, Some(c @ (1 | 3))] if !matches!(h, Some(1 | 3)) => (true, [*b, Some(*c), *h, *w]),
        [b, c, h, w] => (false, [*b, c.or_else(open), *h, *w]),
        _ => return Ok(()),
    };
    let side = |declared: Option<i64>| match (declared, size) {
        (Some(side), Some(size)) if side != i64::from(size) => {
            Err(QuantizeError::Input(format!("its side is {side}, not the {size} of --size")))
        }
        (Some(side), _) => Ok(side),
        (None, Some(size)) => Ok(i64::from(size)),
        (None, None) => Err(QuantizeError::Input(
            "its height and width are open: say with --size which side it was trained with".into(),
        )),
    };
    let channels = channels.ok_or_else(|| QuantizeError::Input("nothing says how many channels it has".into()))?;
    let settled = [batch.unwrap_or(1), channels, side(height)?, side(width)?];
    let Ok(settled) = settled.map(usize::try_from).into_iter().collect::<Result<Vec<usize>, _>>() else {
        return Ok(());
    };
    graph.input[at] = onnx::value_info(&name, &settled);
    if channels_last {
        read_channels_first(graph, &name);
    }
    Ok(())
}

fn tensor_type(value: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    let TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The dimensions of `tensor`, those that are open as `None`.
fn dims(tensor: &pb::type_proto::Tensor) -> Option<Vec<Option<i64>>> {
    let fixed = |d: &pb::tensor_shape_proto::Dimension| match d.value {
        Some(DimValue(length)) if length > 0 => Some(length),
        _ => None,
    };
    Some(tensor.shape.as_ref()?.dim.iter().map(fixed).collect())
}

/// Channels that the first convolution reads.
fn channels_of_first_convolution(graph: &pb::GraphProto) -> Option<i64> {
    let conv = graph.node.iter().find(|n| n.op_type == "Conv")?;
    let weights = graph.initializer.iter().find(|t| Some(&t.name) == conv.input.get(1))?;
    Some(weights.dims.get(1)? * onnx::int_or(conv, "group", 1))
}

/// Lets the nodes that read `input` channels last read it channels first: those that turn it go, others get it turned
/// back.
fn read_channels_first(graph: &mut pb::GraphProto, input: &str) {
    let outputs: Vec<&String> = graph.output.iter().map(|o| &o.name).collect();
    let turns = |n: &pb::NodeProto| {
        n.op_type == "Transpose"
            && n.input.first().is_some_and(|i| i == input)
            && onnx::ints_or(n, "perm", &[]) == TO_CHANNELS_FIRST
            && !n.output.iter().any(|o| outputs.contains(&o))
    };
    let turned: Vec<String> = graph.node.iter().filter(|n| turns(n)).flat_map(|n| n.output.clone()).collect();
    graph.node.retain(|n| !n.output.iter().any(|o| turned.contains(o)));
    let back = format!("{input}/channels last");
    let mut is_read = false;
    for name in graph.node.iter_mut().flat_map(|n| &mut n.input) {
        if name == input {
            name.clone_from(&back);
            is_read = true;
        } else if turned.contains(name) {
            input.clone_into(name);
        }
    }
    if is_read {
        let perm = vec![onnx::ints("perm", &TO_CHANNELS_LAST)];
        graph.node.insert(0, onnx::node("Transpose", &[input], &back, perm));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use edge_runtime::lower::input_shape;
    use edge_runtime::onnx::GraphBuilder;

    /// A convolution of three channels; `dims` of 0 are open.
    fn graph(dims: &[usize]) -> pb::GraphProto {
        let mut b = GraphBuilder::default();
        b.input("x", dims);
        b.floats("w", &[2, 3, 1, 1], &[0.5; 6]);
        b.node("Conv", &["x", "w"], "y", vec![]);
        b.output("y", &[1, 2, 8, 8]);
        b.finish("m", vec![]).graph.unwrap()
    }

    #[test]
    fn open_dimensions_are_settled_or_asked_for() {
        for (dims, size, settled) in [
            ([0, 3, 8, 8].as_slice(), None, Some([8, 8, 3])),
            (&[0, 3, 0, 0], Some(16), Some([16, 16, 3])),
            (&[0, 0, 0, 0], Some(16), Some([16, 16, 3])),
            (&[], Some(16), Some([16, 16, 3])),
            (&[1, 3, 0, 0], None, None),
            (&[], None, None),
            (&[1, 3, 8, 8], Some(16), None),
        ] {
            let mut graph = graph(dims);
            let result = settle(&mut graph, size);
            assert_eq!(result.is_ok(), settled.is_some(), "{dims:?} {result:?}");
            if settled.is_some() {
                assert_eq!(input_shape(&graph.input[0]), settled, "{dims:?}");
            } else {
                assert!(result.unwrap_err().to_string().contains("--size"), "{dims:?}");
            }
        }
    }

    #[test]
    fn an_input_with_its_channels_last_is_turned_once() {
        let mut graph = graph(&[0, 8, 8, 3]);
        let turn = pb::NodeProto {
            op_type: "Transpose".into(),
            input: vec!["x".into()],
            output: vec!["turned".into()],
            attribute: vec![onnx::ints("perm", &TO_CHANNELS_FIRST)],
            ..Default::default()
        };
        graph.node[0].input[0] = "turned".into();
        graph.node.insert(0, turn);
        let mut scaled = graph.clone();
        settle(&mut graph, None).unwrap();
        assert_eq!(input_shape(&graph.input[0]), Some([8, 8, 3]));
        assert_eq!(graph.node.len(), 1);
        assert_eq!(graph.node[0].input[0], "x");
        // Who computes on it before it is turned gets it as it was.
        let scale = pb::NodeProto {
            op_type: "Neg".into(),
            input: vec!["x".into()],
            output: vec!["scaled".into()],
            ..Default::default()
        };
        scaled.node[0].input[0] = "scaled".into();
        scaled.node.insert(0, scale);
        settle(&mut scaled, None).unwrap();
        let operators: Vec<&str> = scaled.node.iter().map(|n| n.op_type.as_str()).collect();
        assert_eq!(operators, ["Transpose", "Neg", "Transpose", "Conv"]);
        assert_eq!(scaled.node[1].input, scaled.node[0].output);
    }
}
