//! Files of the safetensors format: a JSON header, then the tensors' bytes.

use crate::{Constant, Element, Payload};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A file's contents.
pub struct File {
    /// In the order of the file's data.
    pub tensors: IndexMap<String, Constant>,
    /// Texts by key: the header's `__metadata__`.
    pub metadata: IndexMap<String, String>,
}

const TYPES: [(Dtype, Element, &str); 20] = [
    (Dtype::BOOL, Element::Bool, "BOOL"),
    (Dtype::U8, Element::U8, "U8"),
    (Dtype::I8, Element::I8, "I8"),
    (Dtype::F8_E5M2, Element::F8E5M2, "F8_E5M2"),
    (Dtype::F8_E4M3, Element::F8E4M3FN, "F8_E4M3"),
    (Dtype::F8_E8M0, Element::F8E8M0, "F8_E8M0"),
    (Dtype::F8_E4M3FNUZ, Element::F8E4M3FNUZ, "F8_E4M3FNUZ"),
    (Dtype::F8_E5M2FNUZ, Element::F8E5M2FNUZ, "F8_E5M2FNUZ"),
    (Dtype::I16, Element::I16, "I16"),
    (Dtype::U16, Element::U16, "U16"),
    (Dtype::F16, Element::F16, "F16"),
    (Dtype::BF16, Element::BF16, "BF16"),
    (Dtype::I32, Element::I32, "I32"),
    (Dtype::U32, Element::U32, "U32"),
    (Dtype::F32, Element::F32, "F32"),
    (Dtype::C64, Element::Complex64, "C64"),
    (Dtype::F64, Element::F64, "F64"),
    (Dtype::I64, Element::I64, "I64"),
    (Dtype::U64, Element::U64, "U64"),
    (Dtype::F4, Element::F4E2M1, "F4"),
];

/// Whether the format holds this element type.
pub fn holds(element: Element) -> bool {
    TYPES.iter().any(|(_, e, _)| *e == element)
}

impl File {
    /// # Errors
    /// `Format` for a malformed file; `Unsupported` for unknown element types.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        let bad = |e: safetensors::SafeTensorError| Error::format("not a readable .safetensors file").because(e);
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(bad)?;
        let data = bytes.slice(8 + header..);
        let mut tensors = IndexMap::new();
        for name in metadata.offset_keys() {
            let info = metadata.info(&name).ok_or_else(|| Error::internal("a listed tensor has no description"))?;
            let (start, end) = info.data_offsets;
            let place = |e: Error| e.at(format!("tensor '{name}'"));
            let element = TYPES.iter().find(|(d, _, _)| *d == info.dtype).map(|(_, e, _)| *e);
            let element = element.ok_or_else(|| place(Error::unsupported(format!("the type {:?} is not supported", info.dtype))))?;
            if start > end || end > data.len() {
                return Err(place(Error::format("its data lies outside the file")));
            }
            let c = Constant::new(element, info.shape.clone(), Payload::Raw(data.slice(start..end))).map_err(place)?;
            tensors.insert(name, c);
        }
        let metadata = metadata.metadata().clone().unwrap_or_default().into_iter().collect();
        Ok(Self { tensors, metadata })
    }
}

/// Writes a file, widest elements first so that all are aligned, as the reference implementation does.
///
/// # Errors
/// `Unsupported` for element types that the format lacks; `Io`.
pub fn save(tensors: &IndexMap<String, Constant>, metadata: &IndexMap<String, String>, path: &Path) -> Result<()> {
    let mut order: Vec<(&String, &Constant)> = tensors.iter().collect();
    order.sort_by_key(|(_, c)| std::cmp::Reverse(c.element().bits()));
    let mut header = Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".into(), Value::Object(metadata.iter().map(|(k, v)| (k.clone(), json!(v))).collect()));
    }
    let mut at = 0usize;
    let mut chunks = Vec::with_capacity(order.len());
    for (name, c) in order {
        let place = |e: Error| e.at(format!("tensor '{name}'")).file(path);
        let code = TYPES.iter().find(|(_, e, _)| *e == c.element()).map(|(_, _, code)| *code);
        let code = code.ok_or_else(|| place(Error::unsupported(format!(".safetensors files cannot hold {}", c.element()))))?;
        let bytes = c.to_raw().map_err(place)?;
        let end = at + bytes.len();
        header.insert(name.clone(), json!({ "dtype": code, "shape": c.dims(), "data_offsets": [at, end] }));
        at = end;
        chunks.push(bytes);
    }
    let mut text = serde_json::to_vec(&header).map_err(|e| Error::internal("the header does not serialize").because(e))?;
    text.resize(text.len().next_multiple_of(8), b' ');
    compresso_base::files::atomic_write(path, |w| {
        let io = |e| Error::io(path, e);
        w.write_all(&(text.len() as u64).to_le_bytes()).map_err(io)?;
        w.write_all(&text).map_err(io)?;
        chunks.iter().try_for_each(|c| w.write_all(c).map_err(io))
    })
}
