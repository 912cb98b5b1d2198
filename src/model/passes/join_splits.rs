//! Takes out a Split whose parts a Concat puts together again: the Concat reads what was split.

use super::{Pass, PassContext, Rewrite};
use crate::graph::Node;
use crate::ops::concat::CONCAT;
use crate::ops::slice::SPLIT;
use compresso_base::error::Result;
use std::collections::HashMap;

/// Lets a Concat that reads all parts of a Split side by side read what was split.
#[derive(Debug, Clone, Copy)]
pub struct JoinSplits;

impl Pass for JoinSplits {
    fn name(&self) -> &'static str {
        "join_splits"
    }
    fn summary(&self) -> &'static str {
        "Lets a Concat that reads all parts of a Split read what was split"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let nodes = cx.graph().nodes();
        let axis = |n: &Node| n.get_int("axis", 0).ok();
        // By the name of their first part.
        let splits: HashMap<&str, &Node> = nodes.iter().filter(|n| n.is(SPLIT)).filter_map(|n| Some((n.output(0)?, n))).collect();
        for (i, concat) in nodes.iter().enumerate().filter(|(_, n)| n.is(CONCAT)) {
            let mut inputs: Vec<String> = Vec::with_capacity(concat.inputs.len());
            let mut rest = concat.inputs.as_slice();
            while let Some(first) = rest.first() {
                match splits.get(first.as_str()) {
                    Some(split) if axis(split) == axis(concat) && rest.starts_with(&split.outputs) => {
                        out.done.push(format!("{} reads what {} splits", concat.label(), split.label()));
                        inputs.push(split.inputs[0].clone());
                        rest = &rest[split.outputs.len()..];
                    }
                    _ => {
                        inputs.push(first.clone());
                        rest = &rest[1..];
                    }
                }
            }
            if inputs != concat.inputs {
                out.patch.edit(i).inputs = inputs;
            }
        }
        Ok(out)
    }
}
