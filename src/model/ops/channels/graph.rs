//! Labels of a whole graph.

use super::{Channels, Labels, fixed};
use crate::graph::{Facts, Graph};
use crate::ops::registry::find;
use compresso_base::error::{At, ErrorKind, Result};

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
        for (index, node) in graph.nodes().iter().enumerate() {
            let rule = find(node)?.channels;
            let mut cx = Channels { node, index, opset: graph.opset_of(node), facts, labels: &mut labels };
            match rule(&mut cx) {
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
            labels.freeze_value(&out.name);
        }
        Ok(labels)
    }
}
