//! Putting loaded weights into a graph.

use crate::error::{Error, Result};
use crate::model::{Constant, Graph, Patch, Value};
use candle_core::DType;
use indexmap::IndexMap;
use serde::Serialize;

/// What [`apply_weights`] did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Applied {
    /// Number of constants that were set.
    pub matched: usize,
    /// Float constants of the graph that the file lacks; they keep their values.
    pub missing: Vec<String>,
    /// Tensors of the file that the graph has no constant for.
    pub unexpected: Vec<String>,
    /// Tensors of the wrong shape, which were left out: name, shape in the graph, shape in the file.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

/// Sets the constants of a graph by name. Values are converted to the constants' element types.
///
/// # Errors
/// `Argument` when not a single tensor fits.
pub fn apply_weights(graph: &Graph, tensors: &IndexMap<String, Value>) -> Result<(Graph, Applied)> {
    let mut report = Applied::default();
    let mut patch = Patch::new(graph);
    for (name, value) in tensors {
        let Some(old) = graph.constant(name) else {
            report.unexpected.push(name.clone());
            continue;
        };
        if old.dims() != value.dims() {
            report.mismatched.push((name.clone(), old.dims().to_vec(), value.dims().to_vec()));
            continue;
        }
        patch.set_constant(name.clone(), converted(old, value).map_err(|e| e.at(format!("tensor '{name}'")))?);
        report.matched += 1;
    }
    let lacking = |(name, c): &(&String, &Constant)| c.element().is_float() && !tensors.contains_key(*name);
    report.missing = graph.constants().iter().filter(lacking).map(|(name, _)| name.clone()).collect();
    if report.matched == 0 && !tensors.is_empty() {
        let e = Error::argument(format!("none of the {} tensors belongs to the model", tensors.len()));
        let (has, wants) = (tensors.keys().next(), report.missing.first());
        return Err(match (has, wants) {
            (Some(has), Some(wants)) => e.hint(format!("the file has names like '{has}', the model like '{wants}'")),
            _ => e,
        });
    }
    Ok((patch.apply()?, report))
}

fn converted(old: &Constant, value: &Value) -> Result<Constant> {
    if old.element() == value.element {
        return Constant::from_storage(value.element, &value.tensor);
    }
    if !(old.element().is_float() && value.element.is_float()) {
        return Err(Error::dtype(format!("expected {}, got {}", old.element(), value.element)));
    }
    let storage: DType = old.element().storage().ok_or_else(|| Error::dtype(format!("{} has no storage type", old.element())))?;
    Constant::from_storage(old.element(), &value.tensor.to_dtype(storage)?)
}
