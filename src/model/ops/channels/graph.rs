//! Labels of a whole graph.

use super::{AxisLabels, Channels, Labels, Reason, fixed, reason};
use crate::graph::{Dim, Facts, Graph, Node};
use crate::ops::registry::find;
use crate::ops::shape::RESHAPE;
use compresso_base::error::{At, Error, ErrorKind, Result};
use std::collections::{HashMap, HashSet};

/// Sizes up to which the readers of a value are asked about an axis.
const AHEAD_LIMIT: usize = 1 << 20;
/// Indices, over all axes of a node's outputs, up to which they are labelled: a size in a file is not a request for memory.
const LABEL_LIMIT: usize = 1 << 24;

impl Labels {
    /// Labels of a whole graph, by the rules of its operators. Graph outputs are frozen.
    ///
    /// # Errors
    /// Whatever a rule reports, with its node. A rule that finds its node `Unsupported` freezes the node's inputs instead.
    pub fn of_graph(graph: &Graph, facts: &Facts) -> Result<Self> {
        Self::of_graph_and(graph, facts, |_| {})
    }

    /// As [`Labels::of_graph`]; `more` may add labels after the rule of each node.
    ///
    /// # Errors
    /// As [`Labels::of_graph`].
    pub(crate) fn of_graph_and(graph: &Graph, facts: &Facts, mut more: impl FnMut(&mut Channels<'_>)) -> Result<Self> {
        let mut labels = Self::new();
        let readers = graph.consumers();
        for (index, node) in graph.nodes().iter().enumerate() {
            let rule = find(node)?.channels;
            labels.cause = Reason { node: Some(index), why: reason::WHOLE };
            labels.ahead = match node.output(0).filter(|_| node.is(RESHAPE)) {
                Some(out) => fixed_ahead(graph, facts, &readers, out)?,
                None => HashSet::new(),
            };
            let mut cx = Channels { node, index, opset: graph.opset_of(node), facts, labels: &mut labels };
            let ruled =
                if labels_of(node, facts) > LABEL_LIMIT { Err(Error::unsupported("it makes too many channels")) } else { rule(&mut cx) };
            match ruled {
                Err(e) if e.kind() == ErrorKind::Unsupported => {
                    fixed(&mut cx).at(|| node.label())?;
                    labels.edits.retain(|e| e.node() != index);
                    for out in &node.outputs {
                        labels.freeze_value(out);
                        labels.axes.remove(out);
                    }
                }
                r => r.at(|| node.label())?,
            }
            more(&mut Channels { node, index, opset: graph.opset_of(node), facts, labels: &mut labels });
        }
        for out in graph.outputs() {
            labels.keep(&out.name, "they are an output of the model");
        }
        Ok(labels)
    }
}

/// Indices of all axes of a node's outputs, as far as they are known.
fn labels_of(node: &Node, facts: &Facts) -> usize {
    let dims = node.outputs.iter().filter_map(|o| facts.get(o)?.shape.as_ref()).flatten();
    dims.filter_map(Dim::known).fold(0, usize::saturating_add)
}

/// Axes of a value that one of its readers fixes whatever their labels are, as norms fix what they take means over.
fn fixed_ahead(graph: &Graph, facts: &Facts, readers: &HashMap<&str, Vec<usize>>, value: &str) -> Result<HashSet<usize>> {
    let mut fixed = HashSet::new();
    for &index in readers.get(value).into_iter().flatten() {
        let node = &graph.nodes()[index];
        let mut labels = Labels::new();
        for name in &node.inputs {
            let Some(fact) = facts.get(name).filter(|f| f.constant.is_none() && f.element.is_float()) else { continue };
            let Some(shape) = &fact.shape else { continue };
            if labels.of(name).is_empty() {
                let size = |d: &Dim| d.known().filter(|&n| n <= AHEAD_LIMIT);
                let axes: Vec<AxisLabels> = shape.iter().map(|d| size(d).map(|n| labels.fresh(n))).collect();
                labels.set(name, axes);
                labels.zero.insert(name.clone());
            }
        }
        let own = labels.of(value).to_vec();
        let mut cx = Channels { node, index, opset: graph.opset_of(node), facts, labels: &mut labels };
        // A rule that does not apply here says so, with its node, when its turn comes.
        let applies = (find(node)?.channels)(&mut cx).is_ok();
        let stays = |l: &AxisLabels| l.as_ref().is_some_and(|l| l.iter().any(|&a| labels.is_frozen(a)));
        fixed.extend(own.iter().enumerate().filter(|(_, l)| !applies || stays(l)).map(|(axis, _)| axis));
    }
    Ok(fixed)
}
