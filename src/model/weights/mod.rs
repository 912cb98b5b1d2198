//! Tensors in files: .npy, .npz, ONNX .pb, .safetensors, and PyTorch's .pt and .pth, which are only read.
//!
//! ```
//! use compresso_model::{Value, weights};
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("x.npz");
//! let x = Value::ints(&[1, 2, 3], &candle_core::Device::Cpu)?;
//! weights::save_tensors(&[("x".to_string(), x)].into(), &path)?;
//! assert_eq!(weights::load_tensors(&path)?["x"].to_i64s()?, [1, 2, 3]);
//! # Ok::<(), compresso_base::Error>(())
//! ```

mod apply;
mod npy;
mod npz;
pub mod safetensors;

pub use apply::{Applied, apply_state_dict, apply_weights};

use super::constant::Constant;
use super::onnx;
use super::pytorch;
use super::value::Value;
use candle_core::Device;
use compresso_base::error::{At, Error, Result};
use compresso_base::files::{self, write_file};
use indexmap::IndexMap;
use std::path::Path;

/// Files of tensors, by extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Npy,
    Npz,
    Pb,
    Safetensors,
    PyTorch,
}

fn format(path: &Path) -> Result<Format> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("").to_lowercase();
    Ok(match extension.as_str() {
        "npy" => Format::Npy,
        "npz" => Format::Npz,
        "pb" => Format::Pb,
        "safetensors" => Format::Safetensors,
        ending if pytorch::EXTENSIONS.contains(&ending) => Format::PyTorch,
        _ => {
            let e = Error::argument(format!("the extension '.{extension}' is not one of a tensor file"));
            return Err(e.hint("tensors load and save as .npy, .npz, .pb (ONNX) and .safetensors, and load from .pt and .pth").file(path));
        }
    })
}

/// The name of the one tensor of a file that does not store it.
fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads the tensors of a file, by name, onto the CPU. The tensor of a .npy file has the name of the file. Of a PyTorch
/// file, the weights are read: those of a network, or of a dict of tensors, also under a usual key of a checkpoint.
///
/// # Errors
/// `Io`, `Format`; `Argument` for an unknown extension; `Unsupported` for element types that cannot be computed with.
pub fn load_tensors(path: impl AsRef<Path>) -> Result<IndexMap<String, Value>> {
    let path = path.as_ref();
    load_constants(path).in_file(path)?.iter().map(|(name, c)| Ok((name.clone(), value(name, c).in_file(path)?))).collect()
}

fn value(name: &str, c: &Constant) -> Result<Value> {
    Value::of_constant(c, &Device::Cpu).map_err(|e| e.at(format!("tensor '{name}'")))
}

fn load_constants(path: &Path) -> Result<IndexMap<String, Constant>> {
    let format = format(path)?;
    let read = || files::read(path).map(bytes::Bytes::from);
    Ok(match format {
        Format::Npy => IndexMap::from([(stem(path), npy::decode(&read()?)?)]),
        Format::Npz => npz::load(path)?,
        Format::Pb => {
            let (name, c) = onnx::decode_tensor(read()?)?;
            IndexMap::from([(if name.is_empty() { stem(path) } else { name }, c)])
        }
        Format::Safetensors => safetensors::File::parse(read()?)?.tensors,
        Format::PyTorch => pytorch::tensors(path)?,
    })
}

/// Writes tensors to a file, whole or not at all. Files of one tensor (.npy, .pb) take exactly one.
///
/// # Errors
/// `Io`; `Argument` for an unknown extension or number of tensors; `Unsupported` for element types that the format
/// lacks.
pub fn save_tensors(tensors: &IndexMap<String, Value>, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let format = format(path)?;
    let mut constants = IndexMap::with_capacity(tensors.len());
    for (name, v) in tensors {
        let c = Constant::from_storage(v.element, &v.tensor).map_err(|e| e.at(format!("tensor '{name}'"))).in_file(path)?;
        constants.insert(name.clone(), c);
    }
    let one = || match constants.first() {
        Some(first) if constants.len() == 1 => Ok(first),
        _ => Err(Error::argument(format!("this format holds one tensor, got {}", constants.len())).hint("use .npz").file(path)),
    };
    match format {
        Format::Npy => {
            let bytes = npy::encode(one()?.1).in_file(path)?;
            write_all(path, &bytes)
        }
        Format::Npz => npz::save(&constants, path),
        Format::Pb => {
            let (name, c) = one()?;
            write_all(path, &onnx::encode_tensor(name, c)?)
        }
        Format::Safetensors => safetensors::save(&constants, &IndexMap::new(), path),
        Format::PyTorch => {
            Err(Error::unsupported("PyTorch files are only read").hint("save as .safetensors, which PyTorch reads").file(path))
        }
    }
}

fn write_all(path: &Path, bytes: &[u8]) -> Result<()> {
    write_file(path, bytes)
}

#[cfg(test)]
mod tests;
