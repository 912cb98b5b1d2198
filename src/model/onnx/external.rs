//! Tensors whose values lie in files beside the model.

use super::proto::StringStringEntryProto;
use crate::{Constant, Payload};
use bytes::Bytes;
use compresso_base::error::{Error, Result};
use indexmap::IndexMap;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// The folder that external data may be read from.
#[derive(Debug, Default)]
pub struct Files {
    /// `None`: the model has no folder (it came as bytes).
    folder: Option<PathBuf>,
    /// Tensors that stand beside the model in the same file, by name.
    given: IndexMap<String, Constant>,
    /// What was read, by location and offset: tensors may share their data.
    read: RefCell<HashMap<String, BTreeMap<u64, Bytes>>>,
}

/// Begins the location of a tensor that stands beside the model in the same file; no file has such a name.
const GIVEN: char = '\0';

/// Where a tensor's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalData {
    pub location: String,
    pub offset: u64,
    pub length: Option<u64>,
}

impl ExternalData {
    /// # Errors
    /// `Format` when there is no location or a number is not one.
    pub fn parse(entries: &[StringStringEntryProto]) -> Result<Self> {
        let get = |key: &str| entries.iter().find(|e| e.key.as_deref() == Some(key)).and_then(|e| e.value.as_deref());
        let number = |key: &str| {
            let parse = |s: &str| {
                s.trim().parse::<u64>().map_err(|_| Error::format(format!("the external data's {key} '{s}' is not a whole number")))
            };
            get(key).map(parse).transpose()
        };
        let location = get("location").filter(|l| !l.is_empty()).ok_or_else(|| Error::format("the external data has no location"))?;
        Ok(Self { location: location.to_string(), offset: number("offset")?.unwrap_or(0), length: number("length")? })
    }
    /// The place of a tensor beside the model in the same file.
    pub fn given(name: &str) -> Self {
        Self { location: format!("{GIVEN}{name}"), offset: 0, length: None }
    }
    pub fn is_given(&self) -> bool {
        self.location.starts_with(GIVEN)
    }
    /// The `external_data` entries, as other exporters write them.
    pub fn entries(&self) -> Vec<StringStringEntryProto> {
        let entry = |k: &str, v: String| StringStringEntryProto { key: Some(k.into()), value: Some(v) };
        let mut out = vec![entry("location", self.location.clone()), entry("offset", self.offset.to_string())];
        out.extend(self.length.map(|l| entry("length", l.to_string())));
        out
    }
}

impl Files {
    /// Files in the folder of this model file.
    pub fn beside(model: &Path) -> Self {
        let folder = model.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { folder: Some(folder.to_path_buf()), ..Self::default() }
    }
    /// These tensors, and no files.
    pub fn given(tensors: IndexMap<String, Constant>) -> Self {
        Self { given: tensors, ..Self::default() }
    }

    /// The `size` bytes of a tensor.
    ///
    /// # Errors
    /// `Format` for places outside the folder or the file and for a length other than `size`; `Io`.
    pub fn read(&self, entries: &[StringStringEntryProto], size: usize) -> Result<Bytes> {
        let place = ExternalData::parse(entries)?;
        if let Some(length) = place.length.filter(|&l| l != size as u64) {
            return Err(Error::format(format!("needs {size} bytes, but its external data has {length}")));
        }
        if let Some(name) = place.location.strip_prefix(GIVEN) {
            return match self.given.get(name).map(Constant::payload) {
                Some(Payload::Raw(raw)) if raw.len() == size => Ok(raw.clone()),
                _ => Err(Error::format(format!("needs {size} bytes, which the file does not have"))),
            };
        }
        let folder = self.folder.as_ref().ok_or_else(|| {
            Error::unsupported(format!("its data lies in another file, '{}'", place.location))
                .hint("load the model from its file, not from bytes")
        })?;
        let mut read = self.read.borrow_mut();
        let read = read.entry(place.location.clone()).or_default();
        let end = place.offset.saturating_add(size as u64);
        // Ranges that overlap without being equal are no real model's; refusing them bounds the memory by the file's size.
        if let Some((&at, had)) = read.range(..end.max(1)).next_back() {
            if at == place.offset && had.len() == size {
                return Ok(had.clone());
            }
            if size > 0 && at + had.len() as u64 > place.offset {
                return Err(Error::format(format!("its external data overlaps another tensor's in '{}'", place.location)));
            }
        }
        let path = resolve(folder, &place.location)?;
        let bytes = read_range(&path, place.offset, size).map_err(|e| e.at(format!("external data '{}'", place.location)))?;
        if size > 0 {
            read.insert(place.offset, bytes.clone());
        }
        Ok(bytes)
    }
}

/// The file of a location, which must lie in the folder, links followed.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf> {
    let outside = || {
        Error::format(format!("the external data '{location}' lies outside the model's folder"))
            .hint("only relative paths to files in the folder of the model are read")
    };
    let relative = Path::new(location);
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(plain) || location.contains(['\0', ':']) || location.starts_with(['/', '\\']) {
        return Err(outside());
    }
    let path = folder.join(relative);
    let real = path.canonicalize().map_err(|e| Error::io(&path, e))?;
    let root = folder.canonicalize().map_err(|e| Error::io(folder, e))?;
    if !real.starts_with(&root) {
        return Err(outside());
    }
    if !real.is_file() {
        return Err(Error::format(format!("the external data '{location}' is not a file")));
    }
    Ok(real)
}

fn read_range(path: &Path, offset: u64, size: usize) -> Result<Bytes> {
    let io = |e| Error::io(path, e);
    let mut file = File::open(path).map_err(io)?;
    let have = file.metadata().map_err(io)?.len();
    let end = offset.checked_add(size as u64).filter(|&end| end <= have);
    if end.is_none() {
        return Err(Error::format(format!(
            "bytes {offset} to {} are out of the file, which has {have}",
            offset.saturating_add(size as u64)
        )));
    }
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|e| Error::format(format!("{size} bytes do not fit into memory")).because(e))?;
    file.take(size as u64).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() != size {
        return Err(Error::format(format!("expected {size} bytes, got {}", bytes.len())));
    }
    Ok(bytes.into())
}
