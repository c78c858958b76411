//! Weights in a file beside the model (ONNX *External Data*): what PyTorch writes by default, and anything above 2 GiB.

use super::{OnnxError, pb};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use tract_onnx::pb::tensor_proto::DataLocation;

/// The tensors of `model`: initializers, and values of nodes.
fn tensors(model: &mut pb::ModelProto) -> impl Iterator<Item = &mut pb::TensorProto> {
    model.graph.iter_mut().flat_map(|graph| {
        let values = graph.node.iter_mut().flat_map(|n| &mut n.attribute).filter_map(|a| a.t.as_mut());
        graph.initializer.iter_mut().chain(values)
    })
}

fn is_external(tensor: &pb::TensorProto) -> bool {
    tensor.data_location == Some(DataLocation::External as i32)
}

/// The file that holds a tensor of `model` whose values lie elsewhere, if there is one.
pub fn external_file(model: &pb::ModelProto) -> Option<String> {
    let graph = model.graph.as_ref()?;
    let values = graph.node.iter().flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    let tensor = graph.initializer.iter().chain(values).find(|t| is_external(t))?;
    Some(entry(tensor, "location").unwrap_or("another file").to_owned())
}

fn entry<'a>(tensor: &'a pb::TensorProto, key: &str) -> Option<&'a str> {
    tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str())
}

/// Reads the values that lie in other files into `model`, whose own file is `path`. Gives those files. A location that
/// leads out of the model's folder is refused (ONNX specification, *External Data*).
pub fn read_external(model: &mut pb::ModelProto, path: &Path) -> Result<Vec<PathBuf>, OnnxError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut files: BTreeMap<PathBuf, File> = BTreeMap::new();
    for tensor in tensors(model).filter(|t| is_external(t)) {
        let bad = |reason: String| OnnxError::Tensor { name: tensor.name.clone(), reason };
        let location =
            entry(tensor, "location").ok_or_else(|| bad("its values lie in a file without a name".into()))?;
        let inside = Path::new(location).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(bad(format!("its values lie in `{location}`, which is not beside the model")));
        }
        let beside = folder.join(location);
        let io = |source| OnnxError::External { path: beside.clone(), source };
        let file = match files.entry(beside.clone()) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(File::open(&beside).map_err(io)?),
        };
        let all = file.metadata().map_err(io)?.len();
        let number = |key: &str| entry(tensor, key).map(|v| v.trim().parse::<u64>()).transpose();
        let malformed = |_| bad(format!("where its values lie in `{location}` cannot be read"));
        let offset = number("offset").map_err(malformed)?.unwrap_or(0);
        let length = number("length").map_err(malformed)?.unwrap_or(all.saturating_sub(offset));
        if offset.checked_add(length).is_none_or(|end| end > all) {
            return Err(bad(format!("its values end behind the end of `{location}`: the file is cut")));
        }
        let mut values = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(io)?;
        file.take(length).read_to_end(&mut values).map_err(io)?;
        tensor.raw_data = values;
        tensor.data_location = None;
        tensor.external_data.clear();
    }
    Ok(files.into_keys().collect())
}

#[cfg(test)]
mod tests {
    use super::super::{GraphBuilder, f32s};
    use super::*;

    /// A model of which the weights `w` lie at `offset` of `location`.
    fn model(location: &str, offset: &str) -> pb::ModelProto {
        let mut b = GraphBuilder::default();
        b.input("x", &[1, 2]);
        b.floats("w", &[2], &[0.0, 0.0]);
        b.node("Add", &["x", "w"], "y", vec![]);
        b.output("y", &[1, 2]);
        let mut model = b.finish("m", vec![]);
        let tensor = &mut model.graph.as_mut().unwrap().initializer[0];
        tensor.raw_data.clear();
        tensor.float_data.clear();
        tensor.data_location = Some(DataLocation::External as i32);
        let entry = |key: &str, value: &str| pb::StringStringEntryProto { key: key.into(), value: value.into() };
        tensor.external_data = vec![entry("location", location), entry("offset", offset), entry("length", "8")];
        model
    }

    #[test]
    fn values_are_read_from_their_place_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        let bytes: Vec<u8> = [9.0f32, 1.5, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(dir.path().join("w.bin"), bytes).unwrap();
        let mut good = model("w.bin", "4");
        assert_eq!(external_file(&good).as_deref(), Some("w.bin"));
        assert_eq!(read_external(&mut good, &path).unwrap(), [dir.path().join("w.bin")]);
        assert_eq!(f32s(&good.graph.as_ref().unwrap().initializer[0]).unwrap(), [1.5, -2.0]);
        assert_eq!(external_file(&good), None);
        for (location, offset, says) in [
            ("w.bin", "8", "the file is cut"),
            ("w.bin", "18446744073709551615", "the file is cut"),
            ("w.bin", "-1", "cannot be read"),
            ("../w.bin", "0", "not beside"),
            ("/etc/hostname", "0", "not beside"),
            ("gone.bin", "0", "gone.bin"),
        ] {
            let error = read_external(&mut model(location, offset), &path).unwrap_err().to_string();
            assert!(error.contains(says), "{location}: {error}");
        }
    }
}
