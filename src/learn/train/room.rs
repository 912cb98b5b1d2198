//! What a training step takes of memory, asked for before the first one.

use compresso_base::error::Result;
use compresso_base::memory;
use compresso_model::graph::infer_at;
use compresso_model::{Fact, Graph};

/// Bytes that one step keeps at least: most results of the nodes, which the backward pass reads, and a gradient of the largest.
fn step_bytes(graph: &Graph, batch: usize, size: [usize; 2]) -> Result<u64> {
    let facts = infer_at(graph, batch, Some(size))?;
    // Other elements are few, and short ones are half as wide.
    let bytes = |fact: &Fact| fact.dims().map_or(0, |dims| dims.iter().fold(4u64, |n, &d| n.saturating_mul(d as u64)));
    let results = graph.nodes().iter().flat_map(|node| node.outputs.iter()).filter_map(|name| facts.get(name));
    let (sum, largest) = results.map(bytes).fold((0u64, 0), |(sum, largest), n| (sum.saturating_add(n), largest.max(n)));
    // What is computed in place, or shares its memory, is a fifth of it in a YOLOv8n.
    Ok(sum.saturating_add(largest) / 4 * 3)
}

/// Fails when a step on `batch` images of `[height, width]` cannot fit into memory.
///
/// # Errors
/// `Memory`, with what it would take at least; those of inferring shapes.
pub(super) fn claim_step(graph: &Graph, batch: usize, size: [usize; 2]) -> Result<()> {
    let what = || format!("a training step on {batch} images of {}×{} pixels, at least,", size[1], size[0]);
    memory::claim(step_bytes(graph, batch, size)?, what).map_err(|e| {
        let less = "a smaller batch, with accumulate: 2 or more in its place, or a smaller image_size takes less";
        // The limit itself is said in the error of a plain claim; here there is more to do than to raise it.
        e.hint(less)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use compresso_model::zoo::{ZooOptions, build};

    #[test]
    fn a_step_takes_its_results_times_the_batch() {
        let model = build(
            "classifier",
            &ZooOptions { classes: Some(vec!["a".into(), "b".into()]), image_size: Some([32, 32]), ..ZooOptions::default() },
        )
        .unwrap();
        let one = step_bytes(model.graph(), 1, [32, 32]).unwrap();
        // The first result alone has a quarter of the pixels in 16 channels or more.
        assert!(one > 4 * 16 * 16 * 16, "{one}");
        assert_eq!(step_bytes(model.graph(), 8, [32, 32]).unwrap(), 8 * one);
        let e = claim_step(model.graph(), 1 << 30, [32, 32]).unwrap_err();
        assert!(e.to_string().starts_with("a training step on 1073741824 images of 32×32 pixels, at least, would take"), "{e}");
        assert!(e.suggestion().is_some_and(|h| h.contains("smaller batch")), "{e}");
    }
}
