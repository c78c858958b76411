//! Tensors to values.

use super::{OnnxError, pb};
use tract_onnx::pb::tensor_proto::DataType;

/// The dimensions of `tensor` as sizes.
pub fn dims(tensor: &pb::TensorProto) -> Result<Vec<usize>, OnnxError> {
    let bad = || OnnxError::Tensor { name: tensor.name.clone(), reason: format!("dimensions {:?}", tensor.dims) };
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|d| usize::try_from(*d).ok()).collect();
    let dims = dims.ok_or_else(bad)?;
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n < 1 << 31).ok_or_else(bad)?;
    Ok(dims)
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident, $ty:ty, $data_type:ident, $field:ident) => {
        $(#[$doc])*
        pub fn $name(tensor: &pb::TensorProto) -> Result<Vec<$ty>, OnnxError> {
            let bad = |reason: String| OnnxError::Tensor { name: tensor.name.clone(), reason };
            if tensor.data_type != DataType::$data_type as i32 {
                return Err(bad(format!("data type {} where {} was expected", tensor.data_type, stringify!($ty))));
            }
            let count: usize = dims(tensor)?.iter().product();
            let values: Vec<$ty> = if tensor.raw_data.is_empty() {
                tensor.$field.iter().map(|v| *v as $ty).collect()
            } else {
                let (chunks, rest) = tensor.raw_data.as_chunks::<{ size_of::<$ty>() }>();
                if !rest.is_empty() {
                    return Err(bad("a cut value at the end of its data".into()));
                }
                chunks.iter().map(|c| <$ty>::from_le_bytes(*c)).collect()
            };
            if values.len() != count {
                let count = values.len();
                let dims = &tensor.dims;
                return Err(bad(format!("{count} values for dimensions {dims:?}")));
            }
            Ok(values)
        }
    };
}

reader!(
    /// The values of a float tensor.
    f32s, f32, Float, float_data
);
reader!(
    /// The values of an int8 tensor.
    i8s, i8, Int8, int32_data
);
reader!(
    /// The values of a uint8 tensor.
    u8s, u8, Uint8, int32_data
);
reader!(
    /// The values of an int32 tensor.
    i32s, i32, Int32, int32_data
);
reader!(
    /// The values of an int64 tensor.
    i64s, i64, Int64, int64_data
);
