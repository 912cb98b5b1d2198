//! Makes one Concat of a Concat and the one whose result it alone reads ([Concat](https://onnx.ai/onnx/operators/onnx__Concat.html)).

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Node, normalize_axis};
use crate::ops::concat::CONCAT;
use compresso_base::error::Result;
use std::collections::HashSet;

/// Lets a Concat read the parts of the Concat before it.
#[derive(Debug, Clone, Copy)]
pub struct FuseConcats;

impl Pass for FuseConcats {
    fn name(&self) -> &'static str {
        "fuse_consecutive_concats"
    }
    fn summary(&self) -> &'static str {
        "Lets a Concat read the parts of the Concat before it, along the same axis"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, outer) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(CONCAT)) {
            if touched.contains(&i) {
                continue;
            }
            let mut inputs = Vec::with_capacity(outer.inputs.len());
            for value in &outer.inputs {
                let inner = cx.producer(value).filter(|(p, n)| n.is(CONCAT) && !touched.contains(p) && cx.sole_reader(value).is_some());
                match inner {
                    Some((p, inner)) if axis(cx, inner)?.is_some_and(|a| matches!(axis(cx, outer), Ok(Some(b)) if a == b)) => {
                        touched.extend([p, i]);
                        inputs.extend(inner.inputs.iter().cloned());
                        out.patch.remove(p);
                        out.done.push(format!("{} reads the parts of {}", outer.label(), inner.label()));
                    }
                    Some((_, inner)) => {
                        out.refused.push(format!("{} stays before {}: its axis is another", inner.label(), outer.label()));
                        inputs.push(value.clone());
                    }
                    None => inputs.push(value.clone()),
                }
            }
            if inputs != outer.inputs {
                out.patch.edit(i).inputs = inputs;
            }
        }
        Ok(out)
    }
}

fn axis(cx: &PassContext<'_>, node: &Node) -> Result<Option<usize>> {
    let Some(rank) = node.output(0).map(|y| cx.rank(y)).transpose()?.flatten() else { return Ok(None) };
    normalize_axis(node.get_int("axis", 0)?, rank).map(Some)
}
