//! A graph whose inputs leave no size open.

use super::{Graph, Patch, ValueInfo, specialize};
use compresso_base::error::{Error, Result};

/// The graph with its open sizes filled in: the first of each input by `batch`, heights and widths by `image`. Outputs get the shapes that
/// follow.
///
/// # Errors
/// `Argument`, naming the input, when a size is still open; what inference reports of the sizes.
pub fn fix_sizes(graph: &Graph, batch: usize, image: Option<[usize; 2]>) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    let fixed = |info: &ValueInfo| ValueInfo { fact: specialize(&info.fact, batch, image), ..info.clone() };
    let inputs: Vec<ValueInfo> = graph.inputs().iter().map(fixed).collect();
    for input in inputs.iter().filter(|i| graph.constant(&i.name).is_none()) {
        if input.fact.dims().is_none() {
            let e = Error::argument(format!("the sizes of input '{}' must be known, and it is {}", input.name, input.fact));
            return Err(e.hint("open the model with image_size: [height, width] or batch: 1"));
        }
    }
    if inputs == graph.inputs() {
        return Ok(graph.clone());
    }
    patch.set_inputs(inputs);
    let graph = patch.apply()?;
    let facts = graph.facts()?;
    let known = |o: &ValueInfo| facts.get(&o.name).map_or_else(|| o.clone(), |f| ValueInfo::new(o.name.clone(), f.clone()));
    let outputs = graph.outputs().iter().map(known).collect();
    let mut patch = Patch::new(&graph);
    patch.set_outputs(outputs);
    patch.apply()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dim, Element, Fact, GraphBuilder};

    fn graph(shape: Vec<Dim>) -> Graph {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact { element: Element::F32, shape: Some(shape), ..Fact::known(Element::F32, &[]) });
        let y = b.op("GlobalAveragePool", &[&x]);
        b.output(&y);
        b.finish().unwrap()
    }

    #[test]
    fn open_sizes_are_filled_in_and_outputs_follow() {
        let open = graph(vec![Dim::Symbol("n".into()), 3.into(), Dim::Symbol("h".into()), Dim::Symbol("w".into())]);
        let fixed = fix_sizes(&open, 2, Some([8, 16])).unwrap();
        assert_eq!(fixed.inputs()[0].fact.dims(), Some(vec![2, 3, 8, 16]));
        assert_eq!(fixed.outputs()[0].fact.dims(), Some(vec![2, 3, 1, 1]));
        let e = fix_sizes(&open, 2, None).unwrap_err().to_string();
        assert!(e.contains("input 'x'") && e.contains("image_size"), "{e}");
        let half = graph(vec![1.into(), 3.into(), Dim::Symbol("h".into()), 4.into()]);
        assert!(fix_sizes(&half, 1, None).is_err(), "nothing fills it in");
        // Channels last: height and width stand before them.
        let last = graph(vec![1.into(), Dim::Symbol("h".into()), Dim::Symbol("w".into()), 3.into()]);
        assert_eq!(fix_sizes(&last, 1, Some([8, 16])).unwrap().inputs()[0].fact.dims(), Some(vec![1, 8, 16, 3]));
        let closed = graph(vec![1.into(), 3.into(), 4.into(), 4.into()]);
        assert_eq!(fix_sizes(&closed, 2, Some([8, 16])).unwrap().inputs(), closed.inputs());
    }
}
