//! ONNX files, read into a [`Graph`] and written back without loss.
//!
//! [`encode`] after [`decode`] gives the bytes of the file again: every item of the graph remembers how it was encoded,
//! and an item that did not change is written as it was. A patched graph keeps what its untouched items had
//! (documentation, metadata, device configurations, fields of future versions), and types that the change made wrong are
//! corrected. Operators that a model defines itself (functions) are replaced by what they are made of when it is read, and it is
//! saved so. Operator sets 7 to [`NEWEST_OPSET`](crate::graph::NEWEST_OPSET) are read, of IR version 3 or newer.
//!
//! ```no_run
//! let graph = compresso_model::onnx::load("model.onnx")?;
//! println!("{}", graph.dump(None));
//! compresso_model::onnx::save(&graph, "copy.onnx")?;
//! # Ok::<(), compresso_base::Error>(())
//! ```

mod export;
mod external;
mod functions;
mod import;
mod layout;
mod proto;
mod scan;
mod sparse;
mod tensor;
mod text;
mod types;

use super::constant::Constant;
use super::graph::Graph;
use bytes::Bytes;
use compresso_base::error::{At, Result};
use compresso_base::files::{self, Stage, write_file};
use indexmap::IndexMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

/// The graph of an encoded ONNX model.
///
/// # Errors
/// `Format`, `Check` or `Unsupported`, naming node and attribute or tensor. Tensors in external files are `Unsupported`
/// here: use [`load`].
pub fn decode(bytes: impl Into<Bytes>) -> Result<Graph> {
    import::model(&bytes.into(), &external::Files::default())
}

/// The encoded ONNX model of a graph, all tensors within.
///
/// # Errors
/// `Unsupported` above 2 GB: use [`save`].
pub fn encode(graph: &Graph) -> Result<Vec<u8>> {
    export::model(graph, &export::Places::new())
}

/// Reads an ONNX file, and the files beside it that hold its external tensors.
///
/// # Errors
/// As [`decode`], and `Io`; all name the file.
pub fn load(path: impl AsRef<Path>) -> Result<Graph> {
    let path = path.as_ref();
    let bytes = files::read(path)?;
    import::model(&bytes.into(), &external::Files::beside(path)).in_file(path)
}

/// Writes an ONNX file, whole or not at all. Tensors that came from external data are external again, and so are all
/// large ones where a single file cannot hold the model (2 GB).
///
/// # Errors
/// `Io`, naming the file.
pub fn save(graph: &Graph, path: impl AsRef<Path>) -> Result<()> {
    let bytes: usize = graph.constants().values().map(Constant::byte_size).sum();
    write(graph, path.as_ref(), bytes > SINGLE_FILE)
}

/// The file beside a model that [`save_external`] puts tensors into.
pub fn data_path(model: &Path) -> std::path::PathBuf {
    let mut name = model.as_os_str().to_owned();
    name.push(".data");
    name.into()
}

/// Writes an ONNX file whose tensors of 1 KiB or more stand in a second file beside it, named like it with `.data` added.
///
/// # Errors
/// `Io`, naming the file.
pub fn save_external(graph: &Graph, path: impl AsRef<Path>) -> Result<()> {
    write(graph, path.as_ref(), true)
}

/// Tensors of more bytes than this leave the model file, which must stay below [`export::MESSAGE_LIMIT`].
const SINGLE_FILE: usize = 2_000_000_000;

fn write(graph: &Graph, path: &Path, external: bool) -> Result<()> {
    let layout = layout::Layout::plan(graph, path, external).in_file(path)?;
    let bytes = export::model(graph, &layout.places).in_file(path)?;
    if layout.is_one_file() {
        return write_file(path, &bytes);
    }
    // Tensors of one model beside the graph of another would be read without complaint.
    let stage = Stage::new(path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().map_or(Path::new(""), Path::new);
    layout.write(&stage).in_file(path)?;
    stage.write(name, &bytes)?;
    stage.commit().in_file(path)
}

/// The tensor of an encoded `TensorProto` (a .pb file), and its name.
pub(crate) fn decode_tensor(bytes: Bytes) -> Result<(String, Constant)> {
    tensor::import(&bytes, &external::Files::default())
}

/// The encoded `TensorProto` of a constant.
pub(crate) fn encode_tensor(name: &str, constant: &Constant) -> Result<Bytes> {
    tensor::export(constant, Some(name), None)
}

/// The encoded model of a graph, with the named constants declared but empty: [`decode_with`] gives them back.
pub(crate) fn encode_without(graph: &Graph, names: &[&str]) -> Result<Vec<u8>> {
    let place = |name: &&str| ((*name).to_string(), external::ExternalData::given(name));
    export::model(graph, &names.iter().map(place).collect())
}

/// The graph that [`encode_without`] encoded, with its constants.
pub(crate) fn decode_with(bytes: impl Into<Bytes>, constants: IndexMap<String, Constant>) -> Result<Graph> {
    import::model(&bytes.into(), &external::Files::given(constants))
}

/// A fingerprint of the parts of a graph that decide the types of its values.
#[derive(Default)]
struct Print(DefaultHasher);

impl Print {
    fn bytes(&mut self, b: &[u8]) {
        b.hash(&mut self.0);
    }
    fn constant(&mut self, name: &str, c: &Constant) {
        (name, c.element().code(), c.dims()).hash(&mut self.0);
    }
    fn finish(self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests;
