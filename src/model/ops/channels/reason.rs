//! Why channels stay.

use crate::graph::Graph;

/// What rules say that do not say more.
pub(super) const WHOLE: &str = "needs all of them";
/// What must match something that stays.
pub(super) const BESIDE: &str = "joins them with values that stay";

/// Why indices of an axis stay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason {
    /// Position of the node that keeps them; `None` where that is no node.
    pub node: Option<usize>,
    /// A clause about the channels: of the node (`takes their mean`), or a whole one.
    pub why: &'static str,
}

impl Default for Reason {
    fn default() -> Self {
        Self { node: None, why: WHOLE }
    }
}

impl Reason {
    /// `LayerNormalization '/norm' takes their mean and variance`.
    pub fn text(&self, graph: &Graph) -> String {
        match self.node.and_then(|i| graph.nodes().get(i)) {
            Some(node) => {
                let name = if node.name.is_empty() { node.outputs.first().map_or("", String::as_str) } else { &node.name };
                format!("{} '{name}' {}", node.op, self.why)
            }
            None => self.why.to_string(),
        }
    }
}
