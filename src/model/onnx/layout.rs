//! Which tensors are written into files beside the model, and where in them.

use super::export::Places;
use super::external::ExternalData;
use super::proto::{EXTERNAL, TensorHead};
use super::scan::decode;
use crate::{Constant, Element, Graph};
use compresso_base::error::{Error, Result};
use compresso_base::files::Stage;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// Smaller tensors stay in the model file.
const SMALL: usize = 1024;
/// Alignment of tensors in a data file.
const ALIGN: u64 = 64;

/// Tensors outside the model file, by the file they go to.
#[derive(Default)]
pub struct Layout<'g> {
    pub places: Places,
    files: BTreeMap<String, Vec<(u64, &'g Constant)>>,
}

impl<'g> Layout<'g> {
    /// How a graph is to be saved. Tensors that came from external data go to files of the same names, unless that would
    /// overwrite a file of another model; then, or when `all` is asked for, tensors go to one file named after the model.
    pub fn plan(graph: &'g Graph, path: &Path, all: bool) -> Result<Self> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| Error::argument("the file name is not text"))?;
        let own = format!("{name}.data");
        let mut kept = Self::default();
        for (name, c) in &graph.constants {
            if let Some(place) = origin(c)? {
                kept.put(name, c, place);
            }
        }
        if kept.files.is_empty() && !all {
            return Ok(kept);
        }
        let free = |location: &String| *location == own || (plain(location) && !folder.join(location).exists());
        if !all && kept.files.keys().all(free) && kept.is_dense() {
            return Ok(kept);
        }
        let mut layout = Self::default();
        let mut offset = 0u64;
        for (name, c) in graph.constants.iter().filter(|(_, c)| c.byte_size() >= SMALL && c.element() != Element::Str) {
            let length = c.byte_size() as u64;
            layout.put(name, c, ExternalData { location: own.clone(), offset, length: Some(length) });
            offset = (offset + length).next_multiple_of(ALIGN);
        }
        Ok(layout)
    }

    fn put(&mut self, name: &str, c: &'g Constant, place: ExternalData) {
        self.files.entry(place.location.clone()).or_default().push((place.offset, c));
        self.places.insert(name.to_string(), place);
    }

    /// Whether the files consist of the tensors, give or take some padding.
    fn is_dense(&self) -> bool {
        self.files.values().all(|tensors| {
            let end = tensors.iter().map(|(at, c)| at.saturating_add(c.byte_size() as u64)).max().unwrap_or(0);
            let held: u64 = tensors.iter().map(|(_, c)| c.byte_size() as u64 + (1 << 16)).sum();
            end <= held
        })
    }

    /// Whether no data file is written.
    pub fn is_one_file(&self) -> bool {
        self.files.is_empty()
    }

    /// Writes the data files.
    pub fn write(&self, stage: &Stage) -> Result<()> {
        for (location, tensors) in &self.files {
            let mut tensors = tensors.clone();
            tensors.sort_by_key(|(at, _)| *at);
            stage.write_with(location, |w| {
                let io = |e| Error::io(location, e);
                let mut at = 0;
                for (offset, c) in tensors {
                    // Tensors that share their data are written once.
                    let Some(gap) = offset.checked_sub(at) else { continue };
                    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), gap), w).map_err(io)?;
                    let bytes = c.to_raw()?;
                    w.write_all(&bytes).map_err(io)?;
                    at = offset + bytes.len() as u64;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Where a constant lay that came from external data and did not change.
fn origin(c: &Constant) -> Result<Option<ExternalData>> {
    let Some(wire) = c.wire() else { return Ok(None) };
    let head: TensorHead = decode(wire, "a tensor")?;
    if head.data_location != Some(EXTERNAL) {
        return Ok(None);
    }
    Ok(Some(ExternalData::parse(&head.external_data)?).filter(|p| !p.is_given()))
}

fn plain(location: &str) -> bool {
    Path::new(location).components().all(|c| matches!(c, Component::Normal(_)))
}
