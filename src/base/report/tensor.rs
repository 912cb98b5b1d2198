//! How plain tensors look, and their files.

use super::{Show, Table, number};
use crate::error::{Error, Result};
use crate::files::{Scratch, write_file};
use candle_core::{DType, Tensor};
use std::path::Path;

/// Elements that a tensor's line shows.
const SHOWN: usize = 8;

/// A tensor in passing: type, shape and the first values, as in `float32[2, 3]: 0.1, 0.2, …`.
pub fn tensor_line(element: &str, tensor: &Tensor) -> String {
    let head = format!("{element}{:?}", tensor.dims());
    let total = tensor.elem_count();
    let first = || tensor.flatten_all()?.narrow(0, 0, total.min(SHOWN))?.to_dtype(DType::F64)?.to_vec1::<f64>();
    match first() {
        Ok(v) => {
            let list: Vec<String> = v.iter().map(|x| number(*x)).collect();
            format!("{head}: {}{}", list.join(", "), if total > SHOWN { ", …" } else { "" })
        }
        Err(_) => head,
    }
}

/// The name of a type of numbers as ONNX and NumPy have it.
fn element(dtype: DType) -> String {
    let name = dtype.as_str();
    match name.split_at(1) {
        ("f", bits @ ("16" | "32" | "64")) => format!("float{bits}"),
        ("u", bits) if bits.parse::<u8>().is_ok() => format!("uint{bits}"),
        ("i", bits) if bits.parse::<u8>().is_ok() => format!("int{bits}"),
        ("b", "f16") => "bfloat16".into(),
        _ => name.into(),
    }
}

impl Show for Tensor {
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
    fn notes(&self) -> Vec<String> {
        self.line().into_iter().collect()
    }
    fn data(&self) -> serde_json::Value {
        let values = self.flatten_all().and_then(|t| t.to_dtype(DType::F64)).and_then(|t| t.to_vec1::<f64>());
        serde_json::json!({ "type": element(self.dtype()), "shape": self.dims(), "values": values.ok() })
    }
    fn line(&self) -> Option<String> {
        Some(tensor_line(&element(self.dtype()), self))
    }
    fn noun() -> &'static str {
        "tensor"
    }
    /// A tensor file: .npy, .npz, .safetensors.
    fn save_as(&self, path: &Path) -> Result<()> {
        let folder = Scratch::new()?;
        let whole = folder.path().join("tensor");
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        match path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase().as_str() {
            "npy" => self.write_npy(&whole)?,
            "npz" => Tensor::write_npz(&[(name.as_str(), self)], &whole)?,
            "safetensors" => candle_core::safetensors::save(&[(name, self.clone())].into(), &whole)?,
            other => {
                let e = Error::argument(format!("a tensor cannot be saved as '.{other}'"));
                return Err(e.hint("use one of .npy, .npz, .safetensors").file(path));
            }
        }
        let bytes = std::fs::read(&whole).map_err(|e| Error::io(&whole, e))?;
        write_file(path, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_tensor_is_shown_by_its_first_values_and_saved_by_name() {
        let t = Tensor::from_vec((0..10).map(|v| v as f32).collect::<Vec<_>>(), (2, 5), &Device::Cpu).unwrap();
        assert_eq!(t.line().unwrap(), "float32[2, 5]: 0, 1, 2, 3, 4, 5, 6, 7, …");
        assert_eq!(t.data()["type"], "float32");
        let dir = tempfile::tempdir().unwrap();
        t.save_as(&dir.path().join("x.npz")).unwrap();
        let read = Tensor::read_npz(dir.path().join("x.npz")).unwrap();
        assert_eq!((read[0].0.as_str(), read[0].1.to_vec2::<f32>().unwrap()), ("x", t.to_vec2().unwrap()));
        let e = t.save_as(&dir.path().join("x.txt")).unwrap_err();
        assert!(e.to_string().contains(".npy, .npz, .safetensors"), "{e}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
