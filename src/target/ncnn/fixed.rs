//! The graph that is translated: its sizes are fixed, and constants and activations are joined.

use compresso_base::error::{Error, Result};
use compresso_model::graph::specialize;
use compresso_model::passes::pipelines;
use compresso_model::{Fact, Graph, Patch, ValueInfo};

/// A graph's input with sizes that neither a batch of one nor the size of images says.
pub(super) fn open_input(graph: &Graph, image: Option<[usize; 2]>) -> Option<&ValueInfo> {
    graph.feeds().find(|input| specialize(&input.fact, 1, image).dims().is_none())
}

/// The graph for one image of this height and width, where it leaves them open.
///
/// # Errors
/// `Argument` for other open sizes; as the passes.
pub(super) fn fixed(graph: &Graph, image: Option<[usize; 2]>) -> Result<Graph> {
    if let Some(input) = open_input(graph, image) {
        return Err(Error::argument(format!("the input '{}' is {}, with sizes left open", input.name, input.fact))
            .hint("load the model with image_size: [height, width]"));
    }
    let inputs: Vec<ValueInfo> = graph.inputs().iter().map(|input| ValueInfo::new(&input.name, closed(graph, input, image))).collect();
    let mut patch = Patch::new(graph);
    if inputs.iter().zip(graph.inputs()).any(|(new, old)| new.fact != old.fact) {
        patch.set_inputs(inputs);
    }
    pipelines::NATIVE.run(&patch.apply()?).map(|out| out.graph)
}

fn closed(graph: &Graph, input: &ValueInfo, image: Option<[usize; 2]>) -> Fact {
    if graph.constant(&input.name).is_some() { input.fact.clone() } else { specialize(&input.fact, 1, image) }
}
