//! What a target's writer is given.

use compresso_base::error::{Error, Result};
use compresso_base::files::write_file;
use compresso_model::ops::quantized_node;
use compresso_model::{Graph, Model};
use std::path::Path;

compresso_base::choice! {
    /// Precision of the layers of an exported model.
    pub enum ExportPrecision {
        /// Floats of 32 bits.
        Fp32 = "fp32",
        /// Floats of 16 bits, or weights that are stored in so many; see [`Float16`](crate::Float16).
        Fp16 = "fp16",
        /// Weights and activations of 8 bits, as the target has them.
        Int8 = "int8",
        /// Weights in int8; what layers read is rounded while the model runs.
        Dynamic = "dynamic",
        /// Weights in int8, activations in int16.
        Int16 = "int16",
    }
}

impl ExportPrecision {
    /// What a graph is written in as it is: int8 where it is quantized.
    pub fn of(graph: &Graph) -> Self {
        if quantized_node(graph).is_some() { Self::Int8 } else { Self::Fp32 }
    }
}

/// A model as a target is to write it: passes have run, and numbers have the types they will have.
#[derive(Debug, Clone, Copy)]
pub struct Artefact<'a> {
    /// What is written, with its task and metadata.
    pub model: &'a Model,
    /// What was asked for; writers to which float16 is a way to store weights ([`Float16::Stored`](crate::Float16::Stored)) go by it.
    pub precision: ExportPrecision,
    /// Stem of file names, where the target writes several.
    pub name: &'a str,
    /// Batch sizes that the file is made for, where the model leaves it open: the usual and the largest.
    pub batch: [usize; 2],
    /// Height and width of input images, where the model or its task says.
    pub image_size: Option<[usize; 2]>,
    /// Where the model's integers come from, when they were made for this export.
    pub calibration: Option<Calibration<'a>>,
    /// What there is to tell of the model for this target.
    pub notes: &'a [String],
    /// Settings that only this target knows, by name.
    pub settings: &'a serde_json::Map<String, serde_json::Value>,
}

/// What calibration saw of a float model.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// The float32 model, with the target's passes run.
    pub model: &'a Model,
    /// Smallest and largest number of each of its values, in the order in which they are made.
    pub ranges: &'a [(String, [f32; 2])],
}

/// What a file of an export is called, where the target writes several: `model_fp16.onnx`.
pub fn file_name(name: &str, precision: ExportPrecision, ending: &str) -> String {
    format!("{name}_{precision}.{ending}")
}

/// Writes a text file, which appears whole or not at all.
///
/// # Errors
/// `Io`.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_file(path, text.as_bytes())
}

/// Lets a file be run, where files have such a mark.
///
/// # Errors
/// `Io`.
pub fn make_executable(path: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|e| Error::io(path, e))?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
