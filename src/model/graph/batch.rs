//! A graph that was written for batches of one size, for batches of any.

use super::{Dim, Facts, Graph, Patch};
use crate::Constant;
use crate::ops::shape::RESHAPE;
use compresso_base::error::Result;

/// The graph with the first size of its inputs open, where that is a number. A reshape to written sizes takes its first size from its data,
/// or from what the others leave of it. `None` where that is not enough: another size of a value would follow the batch, or an output would
/// not.
///
/// Sizes do not tell everything: who uses the result compares its outputs, image by image.
///
/// # Errors
/// What inference reports of the graph itself.
pub fn open_batch(graph: &Graph) -> Result<Option<Graph>> {
    let before = graph.facts()?;
    let mut batches = graph.feeds().map(|i| i.fact.shape.as_ref().and_then(|s| s.first()?.known()));
    let Some(Some(batch)) = batches.next().filter(|b| batches.all(|other| other == *b)) else { return Ok(None) };
    let mut patch = Patch::new(graph);
    for (i, node) in graph.nodes().iter().enumerate().filter(|(_, n)| n.is(RESHAPE)) {
        let data = node.input(0).filter(|d| graph.constant(d).is_none()).and_then(|d| before.get(d)?.shape.as_ref()?.first()?.known());
        let sizes = node.input(1).and_then(|s| graph.constant(s)).map(Constant::to_i64s).transpose()?;
        let (Some(data), Some(mut sizes)) = (data, sizes) else { continue };
        // A first size of 0 is that of the data.
        match sizes.first() {
            Some(&first) if first > 0 && usize::try_from(first) == Ok(data) && node.get_int("allowzero", 0)? == 0 => sizes[0] = 0,
            Some(&first) if first > 0 && !sizes.contains(&-1) => sizes[0] = -1,
            _ => continue,
        }
        let name = patch.constant(&format!("{}_any_batch", node.output(0).unwrap_or(&node.op)), Constant::ints(&sizes));
        patch.edit(i).inputs[1] = name;
    }
    let feeds: Vec<String> = graph.feeds().map(|f| f.name.clone()).collect();
    let sized = |dim: Dim| {
        let mut inputs = graph.inputs().to_vec();
        let shapes = inputs.iter_mut().filter(|i| feeds.contains(&i.name)).filter_map(|i| i.fact.shape.as_mut());
        shapes.for_each(|s| s[0] = dim.clone());
        inputs
    };
    let mut outputs = graph.outputs().to_vec();
    outputs.iter_mut().for_each(|o| o.fact.shape = None);
    patch.set_outputs(outputs.clone());
    patch.set_inputs(sized(Dim::Known(2 * batch)));
    for name in graph.nodes().iter().flat_map(|n| &n.outputs).filter(|n| !graph.is_output(n)) {
        if let Some(shape) = graph.declared(name).and_then(|f| f.shape.as_ref()) {
            patch.reshape_value(name, vec![Dim::Unknown; shape.len()]);
        }
    }
    let Ok(twice) = patch.apply() else { return Ok(None) };
    let Ok(after) = twice.facts() else { return Ok(None) };
    if !follows(graph, &before, &after, batch) {
        return Ok(None);
    }
    let mut patch = Patch::new(&twice);
    patch.set_inputs(sized(Dim::symbol("batch")));
    for output in &mut outputs {
        let own = before.get(&output.name).and_then(|f| f.shape.clone());
        output.fact.shape = own.map(|own| std::iter::once(Dim::symbol("batch")).chain(own.into_iter().skip(1)).collect());
    }
    patch.set_outputs(outputs);
    let Ok(open) = patch.apply() else { return Ok(None) };
    Ok(open.facts().is_ok().then_some(open))
}

/// Whether twice the images make twice as many of the first size of values, and no other size more.
fn follows(graph: &Graph, before: &Facts, after: &Facts, batch: usize) -> bool {
    let sizes =
        |facts: &Facts, name: &str| facts.get(name).and_then(|f| f.shape.as_ref()?.iter().map(Dim::known).collect::<Option<Vec<_>>>());
    let inner = graph.nodes().iter().flat_map(|n| &n.outputs).all(|name| match (sizes(before, name), sizes(after, name)) {
        (Some(a), Some(b)) => a == b || a.len() == b.len() && a[1..] == b[1..] && b[0] == 2 * a[0],
        (None, _) => true,
        (Some(_), None) => false,
    });
    let whole = |name: &str| matches!(sizes(after, name).as_deref(), Some([n, ..]) if *n == 2 * batch);
    inner && graph.outputs().iter().all(|o| whole(&o.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Element, Fact, GraphBuilder};

    fn graph(build: impl FnOnce(&mut GraphBuilder, &str) -> String) -> Graph {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 4, 6, 6]));
        let y = build(&mut b, &x);
        b.output(&y);
        b.finish().unwrap()
    }

    fn reshaped(b: &mut GraphBuilder, x: &str, sizes: &[i64]) -> String {
        let sizes = b.constant("sizes", Constant::ints(sizes));
        b.op(RESHAPE, &[x, &sizes])
    }

    #[test]
    fn reshapes_follow_the_batch() {
        for sizes in [vec![1, 4, 36], vec![1, -1], vec![1, 2, -1], vec![4, 36], vec![-1, 36], vec![0, 4, -1]] {
            let g = graph(|b, x| {
                let y = reshaped(b, x, &sizes);
                reshaped(b, &y, &[1, 144])
            });
            let open = open_batch(&g).unwrap().unwrap_or_else(|| panic!("{sizes:?}"));
            assert_eq!(open.inputs()[0].fact.shape.as_ref().unwrap()[0], Dim::symbol("batch"));
            assert_eq!(open.outputs()[0].fact.shape.as_deref(), Some([Dim::symbol("batch"), 144.into()].as_slice()), "{sizes:?}");
        }
    }

    #[test]
    fn what_mixes_images_stays() {
        // Another size would follow; an output does not; it is open already.
        assert!(open_batch(&graph(|b, x| reshaped(b, x, &[36, -1]))).unwrap().is_none());
        assert!(open_batch(&graph(|b, x| reshaped(b, x, &[4, -1, 6]))).unwrap().is_none());
        assert!(
            open_batch(&graph(|b, x| {
                let (starts, ends) = (b.constant("s", Constant::ints(&[0])), b.constant("e", Constant::ints(&[1])));
                b.op("Slice", &[x, &starts, &ends])
            }))
            .unwrap()
            .is_none()
        );
        let open = open_batch(&graph(|b, x| reshaped(b, x, &[1, 144]))).unwrap().unwrap();
        assert!(open_batch(&open).unwrap().is_none());
    }
}
