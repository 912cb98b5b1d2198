//! How tensors are shown and saved.

use super::value::Value;
use super::weights;
use compresso_base::error::Result;
use compresso_base::report::{Show, Table, tensor_line};
use indexmap::IndexMap;
use std::path::Path;

/// In passing, type, shape and the first values: `float32[2, 3]: 0.1, 0.2, …`.
impl Show for Value {
    fn tables(&self) -> Vec<Table> {
        Vec::new()
    }
    fn notes(&self) -> Vec<String> {
        self.line().into_iter().collect()
    }
    fn data(&self) -> serde_json::Value {
        serde_json::json!({ "type": self.element.to_string(), "shape": self.dims(), "values": self.to_f64s().ok() })
    }
    fn line(&self) -> Option<String> {
        Some(tensor_line(&self.element.to_string(), &self.tensor))
    }
    /// A tensor file: .npy, .npz, .pb.
    fn save_as(&self, path: &Path) -> Result<()> {
        let name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
        weights::save_tensors(&IndexMap::from([(name, self.clone())]), path)
    }
    fn noun() -> &'static str {
        "tensor"
    }
    /// A file of tensors: .npz, .safetensors.
    fn save_named(all: &IndexMap<String, Self>, path: &Path) -> Result<()> {
        weights::save_tensors(all, path)
    }
}
