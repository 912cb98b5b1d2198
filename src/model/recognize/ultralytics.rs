//! Models that Ultralytics exported: their metadata says task, class names and image size.

use super::{LoadOptions, class_names, head, image_size, output};
use crate::literal::Literal;
use crate::{Decode, Detect, Graph};
use compresso_base::error::{Error, Result};

/// Ultralytics' default image size.
const DEFAULT_SIZE: usize = 640;

/// The detector of a graph. `asked`: the user says that it is one, whatever the metadata says.
pub fn detector(graph: &Graph, options: &LoadOptions, asked: bool) -> Result<Detect> {
    let size = image_size_of(graph)?.unwrap_or([DEFAULT_SIZE; 2]);
    let image_size = image_size(graph, options, size)?;
    let (name, fact) = output(graph, image_size)?;
    if fact.rank().is_some_and(|r| r != 3) {
        return Err(Error::argument(format!("expected an output [batch, 4 + classes, anchors], got {fact}")));
    }
    let count = fact.dim(1).map(|channels| channels.checked_sub(4).filter(|&n| n > 0));
    if count == Some(None) {
        return Err(Error::argument(format!("expected an output [batch, 4 + classes, anchors], got {fact}")));
    }
    let count = count.flatten();
    let named = match &options.classes {
        Some(_) => None,
        None => names(graph)?,
    };
    let classes = match (named, count) {
        (Some(names), Some(n)) if names.len() != n && asked => class_names(options, n)?,
        (Some(names), Some(n)) if names.len() != n => {
            let e = Error::format(format!("the metadata names {} classes, the output {fact} has room for {n}", names.len()));
            return Err(e.hint("say how it is read with option 'decode', or give option 'classes'"));
        }
        (Some(names), _) => names,
        (None, Some(n)) => class_names(options, n)?,
        (None, None) => match &options.classes {
            Some(c) => c.names()?,
            None => return Err(Error::argument("the number of classes is not known").hint("give option 'classes'")),
        },
    };
    let head = head::find(graph, &name, classes.len(), image_size);
    Ok(Detect { classes, image_size, decode: Decode::Yolo { output: name }, head, anchors: None })
}

/// The image size that the metadata says.
///
/// # Errors
/// `Format` when it cannot be read.
pub fn image_size_of(graph: &Graph) -> Result<Option<[usize; 2]>> {
    Ok(metadata(graph, "imgsz")?.as_ref().and_then(pair))
}

/// Class names in the order of their numbers, from a dict such as `{0: 'RBC', 1: 'WBC'}` or a list.
///
/// # Errors
/// `Format` when they cannot be read.
pub fn names(graph: &Graph) -> Result<Option<Vec<String>>> {
    let Some(literal) = metadata(graph, "names")? else { return Ok(None) };
    let bad = || {
        let e = Error::format("the metadata 'names' is not a dict of class names numbered from 0");
        e.hint("give the names with option 'classes'")
    };
    let mut entries = match literal {
        Literal::Dict(entries) => entries,
        Literal::List(items) => (0..).map(Literal::Int).zip(items).collect(),
        _ => return Err(bad()),
    };
    entries.sort_by_key(|(k, _)| number(k));
    let mut names = Vec::with_capacity(entries.len());
    for (i, (key, name)) in entries.iter().enumerate() {
        let (Some(k), Some(name)) = (number(key), name.text()) else { return Err(bad()) };
        if usize::try_from(k) != Ok(i) {
            return Err(bad());
        }
        names.push(name.to_string());
    }
    if names.is_empty() { Err(bad()) } else { Ok(Some(names)) }
}

/// A class number; JSON writes keys as text.
fn number(key: &Literal) -> Option<i64> {
    key.int().or_else(|| key.text().and_then(|t| t.parse().ok()))
}

fn pair(size: &Literal) -> Option<[usize; 2]> {
    let one = |l: &Literal| l.int().and_then(|i| usize::try_from(i).ok()).filter(|&n| n > 0);
    match size {
        Literal::List(items) => match items.as_slice() {
            [n] => one(n).map(|n| [n, n]),
            [h, w] => Some([one(h)?, one(w)?]),
            _ => None,
        },
        n => one(n).map(|n| [n, n]),
    }
}

fn metadata(graph: &Graph, key: &str) -> Result<Option<Literal>> {
    let Some(text) = graph.metadata().get(key) else { return Ok(None) };
    Literal::parse(text).map(Some).map_err(|e| e.at(format!("metadata '{key}'")))
}
