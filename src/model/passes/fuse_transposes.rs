//! Makes one Transpose of two, or none ([Transpose](https://onnx.ai/onnx/operators/onnx__Transpose.html)).

use super::{Pass, PassContext, Rewrite};
use crate::graph::{Attr, Node};
use crate::ops::transpose::TRANSPOSE;
use compresso_base::error::Result;
use std::collections::HashSet;

/// Makes one Transpose of a Transpose and the one before it.
#[derive(Debug, Clone, Copy)]
pub struct FuseTransposes;

impl Pass for FuseTransposes {
    fn name(&self) -> &'static str {
        "fuse_consecutive_transposes"
    }
    fn summary(&self) -> &'static str {
        "Makes one Transpose of a Transpose and the one before it"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut touched: HashSet<usize> = HashSet::new();
        for (i, outer) in cx.graph().nodes().iter().enumerate().filter(|(_, n)| n.is(TRANSPOSE)) {
            let Some((p, inner)) = outer.input(0).and_then(|x| cx.producer(x)).filter(|(_, n)| n.is(TRANSPOSE)) else { continue };
            if touched.contains(&p) {
                continue;
            }
            let Some(source) = inner.input(0) else { continue };
            let (Some(first), Some(second)) = (order(cx, inner)?, order(cx, outer)?) else { continue };
            let both: Vec<i64> = second.iter().map(|&a| first[a] as i64).collect();
            touched.insert(i);
            if both.iter().enumerate().all(|(at, &axis)| usize::try_from(axis) == Ok(at)) && !cx.stays(&outer.outputs[0]) {
                out.patch.remove(i);
                out.patch.redirect(&outer.outputs[0], source);
                out.done.push(format!("{} is removed: it undoes {}", outer.label(), inner.label()));
                continue;
            }
            let edited = out.patch.edit(i);
            edited.inputs[0] = source.to_string();
            edited.attrs.insert("perm".into(), Attr::Ints(both));
            out.done.push(format!("{} does what {} did before it", outer.label(), inner.label()));
        }
        Ok(out)
    }
}

/// Which axis of the input each axis of the output is.
pub(super) fn order(cx: &PassContext<'_>, node: &Node) -> Result<Option<Vec<usize>>> {
    let Some(rank) = node.input(0).map(|x| cx.rank(x)).transpose()?.flatten() else { return Ok(None) };
    let perm = match node.find_ints("perm")? {
        Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p < rank)).collect::<Option<Vec<_>>>(),
        None => Some((0..rank).rev().collect()),
    };
    Ok(perm.filter(|p| p.len() == rank))
}
