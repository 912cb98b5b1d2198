//! Keeps one of things that are the same: stored constants, and nodes that compute the same from the same.

use super::{Pass, PassContext, Rewrite};
use crate::graph::Node;
use crate::ops;
use compresso_base::error::Result;
use std::collections::HashMap;

/// Stores equal constants once.
#[derive(Debug, Clone, Copy)]
pub struct EliminateDuplicateInitializer;

/// Computes what two nodes compute alike once.
#[derive(Debug, Clone, Copy)]
pub struct EliminateCommonSubexpression;

impl Pass for EliminateDuplicateInitializer {
    fn name(&self) -> &'static str {
        "eliminate_duplicate_initializer"
    }
    fn summary(&self) -> &'static str {
        "Stores constants of the same type, shape and bytes once"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut seen: HashMap<(i32, Vec<usize>, Vec<u8>), &str> = HashMap::new();
        // A constant by a name of its own has a reader, or nothing is to be gained.
        for (name, constant) in cx.graph().constants().iter().filter(|(n, _)| !cx.readers(n).is_empty()) {
            let key = (constant.element().code(), constant.dims().to_vec(), constant.to_raw()?.to_vec());
            match seen.get(&key) {
                Some(first) if !cx.stays(name) => {
                    out.patch.redirect(name, first);
                    out.done.push(format!("constant '{name}' is '{first}'"));
                }
                Some(_) => {}
                None => {
                    seen.insert(key, name);
                }
            }
        }
        Ok(out)
    }
}

impl Pass for EliminateCommonSubexpression {
    fn name(&self) -> &'static str {
        "eliminate_common_subexpression"
    }
    fn summary(&self) -> &'static str {
        "Computes what two nodes compute from the same values once"
    }
    fn rewrite<'g>(&self, cx: &PassContext<'g>) -> Result<Rewrite<'g>> {
        let mut out = cx.rewrite();
        let mut seen: HashMap<(&str, &str, &[String]), Vec<&Node>> = HashMap::new();
        for (i, node) in cx.graph().nodes().iter().enumerate() {
            // Not of what draws random numbers.
            if !ops::find(node)?.foldable || !node.captured().is_empty() || node.inputs.is_empty() {
                continue;
            }
            let alike = seen.entry((&node.op, &node.domain, &node.inputs)).or_default();
            let Some(first) = alike.iter().find(|n| n.attrs == node.attrs && n.outputs.len() == node.outputs.len()) else {
                alike.push(node);
                continue;
            };
            let pairs: Vec<(&String, &String)> = node.outputs.iter().zip(&first.outputs).filter(|(a, _)| !a.is_empty()).collect();
            if let Some((name, _)) = pairs.iter().find(|(name, to)| cx.stays(name) || to.is_empty()) {
                out.refused.push(format!("{} stays: a node must make '{name}'", node.label()));
                continue;
            }
            out.patch.remove(i);
            for (from, to) in pairs {
                out.patch.redirect(from, to);
            }
            out.done.push(format!("{} is removed: {} computes the same", node.label(), first.label()));
        }
        Ok(out)
    }
}
