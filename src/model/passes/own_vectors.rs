//! Gives each reader of a shared vector a vector of its own.
//!
//! Exporters store equal vectors (zero biases) once. Layers that share only such a vector need not lose the same channels.

use super::{Pass, PassContext, Rewrite};
use compresso_base::error::Result;

/// Copies float vectors that several nodes read, or one twice, for each read but the first.
#[derive(Debug, Clone, Copy)]
pub struct OwnVectors;

impl Pass for OwnVectors {
    fn name(&self) -> &'static str {
        "own_vectors"
    }
    fn summary(&self) -> &'static str {
        "Copies vectors that several nodes read, one for each"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let graph = cx.graph();
        for (name, constant) in graph.constants() {
            if !constant.element().is_float() || constant.dims().len() != 1 || constant.count() < 2 {
                continue;
            }
            // A graph output goes on being the original.
            let mut first = !cx.stays(name);
            let mut readers = cx.readers(name).to_vec();
            readers.dedup();
            for node in readers {
                for input in 0..graph.nodes()[node].inputs.len() {
                    if graph.nodes()[node].inputs[input] != *name || std::mem::take(&mut first) {
                        continue;
                    }
                    let copy = out.patch.fresh(name);
                    out.patch.set_constant(&copy, constant.clone());
                    out.patch.edit(node).inputs[input].clone_from(&copy);
                    out.done.push(format!("{} reads '{copy}', a copy of '{name}'", graph.nodes()[node].label()));
                    out.copies.push((copy, name.clone()));
                }
            }
        }
        Ok(out)
    }
}
