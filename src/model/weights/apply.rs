//! Putting loaded weights into a graph.

use crate::{Constant, Graph, Patch, Value};
use candle_core::DType;
use compresso_base::error::{Error, Result};
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

/// Endings of the names of learnt constants in PyTorch's state dicts.
const LEARNT: [&str; 4] = [".weight", ".bias", ".running_mean", ".running_var"];

/// Sets the constants of a zoo model's graph from a state dict. Names may lack or have a prefix that all share, such as
/// `module.` of a parallel training. PyTorch's counts of batches are passed over, and only learnt constants are missed.
///
/// # Errors
/// `Argument` when not a single tensor fits.
pub fn apply_state_dict(graph: &Graph, tensors: IndexMap<String, Value>) -> Result<(Graph, Applied)> {
    let own = prefixes(graph.constants().keys().filter(|n| is_learnt(n)));
    let theirs = prefixes(tensors.keys());
    let fits = |name: &str, v: &Value| graph.constant(name).is_some_and(|c| c.dims() == v.dims());
    let count = |strip: &str, add: &str| tensors.iter().filter(|(n, v)| fits(&renamed(n, strip, add), v)).count();
    let ways = theirs.iter().flat_map(|s| own.iter().map(move |a| (s.as_str(), a.as_str())));
    // The first of equals, which changes the least.
    let best = ways.map(|(s, a)| (count(s, a), s, a)).reduce(|best, way| if way.0 > best.0 { way } else { best });
    let (_, strip, add) = best.unwrap_or((0, "", ""));
    let tensors: IndexMap<String, Value> =
        tensors.iter().filter(|(n, _)| !n.ends_with(".num_batches_tracked")).map(|(n, v)| (renamed(n, strip, add), v.clone())).collect();
    let (graph, mut report) = apply_weights(graph, &tensors)?;
    // The bins of box sides are constants that look like weights.
    report.missing.retain(|n| is_learnt(n) && !n.ends_with(".dfl.conv.weight"));
    Ok((graph, report))
}

fn is_learnt(name: &str) -> bool {
    LEARNT.iter().any(|e| name.ends_with(e))
}

fn renamed(name: &str, strip: &str, add: &str) -> String {
    format!("{add}{}", name.strip_prefix(strip).unwrap_or(name))
}

/// The empty prefix, and those of up to three parts that more than half of the names begin with.
fn prefixes<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let names: Vec<&str> = names.map(String::as_str).collect();
    let mut found = vec![String::new()];
    for _ in 0..3 {
        let base = found.last().cloned().unwrap_or_default();
        let mut counts = IndexMap::<&str, usize>::new();
        for rest in names.iter().filter_map(|n| n.strip_prefix(&base)) {
            if let Some(dot) = rest.find('.') {
                *counts.entry(&rest[..=dot]).or_default() += 1;
            }
        }
        match counts.into_iter().find(|(_, n)| 2 * n > names.len()) {
            Some((part, _)) => found.push(base + part),
            None => break,
        }
    }
    found
}

impl Applied {
    /// One line: how many tensors were set, and which were not.
    pub fn summary(&self) -> String {
        let some = |names: &[String]| {
            let more = if names.len() > 3 { ", …" } else { "" };
            format!("{}{more}", names.iter().take(3).map(|n| n.escape_debug().to_string()).collect::<Vec<_>>().join(", "))
        };
        let mut text = format!("{} tensors set", self.matched);
        for (what, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                text += &format!("; {} {what}: {}", names.len(), some(names));
            }
        }
        if let Some((name, ours, theirs)) = self.mismatched.first() {
            let more = if self.mismatched.len() > 1 { ", …" } else { "" };
            text += &format!("; {} of another shape: {name} {theirs:?} in the file, {ours:?} in the model{more}", self.mismatched.len());
        }
        text
    }
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
