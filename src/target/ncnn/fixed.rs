//! The graph that is translated: its sizes are fixed, and constants and activations are joined.

use compresso_base::error::Result;
use compresso_model::graph::{fix_sizes, specialize};
use compresso_model::passes::pipelines;
use compresso_model::{Graph, ValueInfo};

/// A graph's input with sizes that neither a batch of one nor the size of images says.
pub(super) fn open_input(graph: &Graph, image: Option<[usize; 2]>) -> Option<&ValueInfo> {
    graph.feeds().find(|input| specialize(&input.fact, 1, image).dims().is_none())
}

/// The graph for one image of this height and width, where it leaves them open.
///
/// # Errors
/// `Argument` for other open sizes; as the passes.
pub(super) fn fixed(graph: &Graph, image: Option<[usize; 2]>) -> Result<Graph> {
    pipelines::NATIVE.run(&fix_sizes(graph, 1, image)?).map(|out| out.graph)
}
