//! What operators ask of the graph while they are lowered.

use super::{LowerError, Lowered, Lowering, OnnxNode, Source, not_quantised, unsupported};
use crate::network::{Quantisation, Window};
use crate::onnx::{self, dims, pb};
use crate::operators::table::Function;

/// Weights of a layer as the graph holds them.
pub struct DequantisedWeights {
    /// In ONNX's order.
    pub codes: Vec<i8>,
    /// Their dimensions.
    pub dims: Vec<usize>,
    /// A scale for each output channel.
    pub scales: Vec<f32>,
}

impl Lowering<'_> {
    /// The activation whose real values `tensor` holds.
    pub fn value(&self, node: &OnnxNode, tensor: &str) -> Result<u32, LowerError> {
        self.quantised(tensor).ok_or_else(|| not_quantised(node, tensor))
    }

    /// `[height, width, channels]` of an activation.
    pub fn shape(&self, value: u32) -> [u32; 3] {
        self.values[value as usize].shape
    }

    /// What the first input of `node` stands for, passed on as it is.
    pub fn passed(&self, node: &OnnxNode) -> Result<Lowered, LowerError> {
        self.floats.get(node.input(0)).cloned().ok_or_else(|| not_quantised(node, node.input(0)))
    }

    /// A function of the first input of `node`.
    pub fn function(&self, node: &OnnxNode, function: Function) -> Result<Lowered, LowerError> {
        let input = self.value(node, node.input(0))?;
        Ok(Lowered::of(Source::Function { function, input }))
    }

    /// The first input of `node` within bounds.
    pub fn clamped(&self, node: &OnnxNode, [low, high]: [f32; 2]) -> Result<Lowered, LowerError> {
        let Some(Lowered::Pending { source, low: least, high: most }) = self.floats.get(node.input(0)) else {
            return Err(unsupported(&node.name, "a clamp must directly follow the operator it belongs to"));
        };
        let source = match source {
            Source::Value(input) => Source::Function { function: Function::Identity, input: *input },
            source => source.clone(),
        };
        Ok(Lowered::Pending { source, low: least.max(low), high: most.min(high) })
    }

    /// The window that the attributes of `node` describe; `kernel` is the size of its weights.
    pub fn window(&self, node: &OnnxNode, kernel: Option<[u32; 2]>) -> Result<Window, LowerError> {
        let bad = |what: &str| unsupported(&node.name, what);
        let auto_pad = onnx::attribute(node.proto, "auto_pad").map(|a| a.s.as_slice()).unwrap_or(b"NOTSET");
        if auto_pad != b"NOTSET" && !auto_pad.is_empty() {
            return Err(bad("auto_pad is not supported: write the padding out"));
        }
        if onnx::int_or(node.proto, "ceil_mode", 0) != 0 && node.proto.op_type != "MaxPool" {
            return Err(bad("ceil_mode is not supported"));
        }
        let read = |key: &str, default: &[i64]| -> Result<Vec<u32>, LowerError> {
            let values = onnx::ints_or(node.proto, key, default);
            values.iter().map(|v| u32::try_from(*v).map_err(|_| bad(key))).collect()
        };
        let pair = |v: Vec<u32>| <[u32; 2]>::try_from(v).map_err(|_| bad("its window is not two-dimensional"));
        let declared = pair(read("kernel_shape", &kernel.unwrap_or([0, 0]).map(i64::from))?)?;
        if kernel.is_some_and(|k| k != declared) || declared.contains(&0) {
            return Err(bad("kernel_shape does not fit its weights"));
        }
        let stride = pair(read("strides", &[1, 1])?)?;
        let padding = <[u32; 4]>::try_from(read("pads", &[0; 4])?).map_err(|_| bad("pads must be four numbers"))?;
        let dilation = pair(read("dilations", &[1, 1])?)?;
        Ok(Window { kernel: declared, stride, padding, dilation })
    }

    /// `[height, width, channels]` of what `window` gives from an input of shape `input`.
    pub fn output_shape(
        &self,
        node: &OnnxNode,
        window: &Window,
        input: [u32; 3],
        channels: u32,
    ) -> Result<[u32; 3], LowerError> {
        let [height, width, _] = input;
        let output = window.output([height, width]);
        let [out_h, out_w] = output.ok_or_else(|| unsupported(&node.name, "its window does not fit its input"))?;
        Ok([out_h, out_w, channels])
    }

    fn constant(&self, node: &OnnxNode, tensor: &str) -> Result<&pb::TensorProto, LowerError> {
        let missing = || unsupported(&node.name, format!("`{tensor}` is no initializer"));
        self.constants.get(tensor).copied().ok_or_else(missing)
    }

    /// The constant `tensor`, which must be one number.
    pub fn scalar(&self, node: &OnnxNode, tensor: &str) -> Result<f32, LowerError> {
        match onnx::f32s(self.constant(node, tensor)?)?.as_slice() {
            [v] => Ok(*v),
            _ => Err(unsupported(&node.name, format!("`{tensor}` must be one number"))),
        }
    }

    /// Scale and zero point of the `QuantizeLinear` that `node` is.
    pub(super) fn step(&self, node: &OnnxNode) -> Result<Quantisation, LowerError> {
        let scale = self.scalar(node, node.input(1))?;
        match onnx::u8s(self.constant(node, node.input(2))?)?.as_slice() {
            [zero_point] => Ok(Quantisation { scale, zero_point: *zero_point }),
            _ => Err(unsupported(&node.name, "activations need one uint8 zero point")),
        }
    }

    /// The weights in `tensor`.
    pub fn weights(&self, node: &OnnxNode, tensor: &str) -> Result<DequantisedWeights, LowerError> {
        let Some(Lowered::Constant { codes, scale }) = self.floats.get(tensor) else {
            let reason = format!("its weights `{tensor}` are not dequantised int8");
            return Err(unsupported(&node.name, reason));
        };
        let codes = self.constant(node, codes)?;
        let dims = dims(codes)?;
        let mut scales = onnx::f32s(self.constant(node, scale)?)?;
        let outputs = dims.first().copied().unwrap_or(0);
        if scales.len() == 1 {
            scales.resize(outputs, scales[0]);
        }
        if scales.len() != outputs || outputs == 0 {
            return Err(unsupported(&node.name, "its weights need one scale for each output channel"));
        }
        Ok(DequantisedWeights { codes: onnx::i8s(codes)?, dims, scales })
    }

    /// The bias, the third input of `node`; zeros where there is none.
    pub fn bias(&self, node: &OnnxNode, outputs: usize) -> Result<Vec<i32>, LowerError> {
        let tensor = node.input(2);
        if tensor.is_empty() {
            return Ok(vec![0; outputs]);
        }
        let Some(Lowered::Constant { codes, .. }) = self.floats.get(tensor) else {
            let reason = format!("its bias `{tensor}` is not dequantised int32");
            return Err(unsupported(&node.name, reason));
        };
        Ok(onnx::i32s(self.constant(node, codes)?)?)
    }
}
