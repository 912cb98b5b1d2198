//! Putting an inner graph's nodes in the place of the node that runs it.

use super::Patch;
use super::apply::rename_reads;
use crate::graph::Graph;
use compresso_base::error::Result;
use indexmap::IndexMap;

impl Patch<'_> {
    /// Adds the nodes and constants of an inner graph under names of their own. Its inputs are read from `inputs`, values of the
    /// graph that is patched, in their order; what it reads from outside stays. Gives the names of its outputs. `constants` has the
    /// names under which its constants are there already, from an earlier call for the same graph.
    ///
    /// # Errors
    /// `Check` when a graph within the inner one has a value by a name that is given.
    pub fn inline(&mut self, inner: &Graph, inputs: &[String], constants: &mut IndexMap<String, String>) -> Result<Vec<String>> {
        let mut names: IndexMap<String, String> = IndexMap::new();
        for (input, outer) in inner.inputs.iter().zip(inputs) {
            names.insert(input.name.clone(), outer.clone());
        }
        for (name, constant) in &inner.constants {
            // An input that is given counts, not its default.
            if names.contains_key(name) {
                continue;
            }
            let own = match constants.get(name) {
                Some(own) => own.clone(),
                None => {
                    let own = self.fresh(name);
                    self.set_constant(&own, constant.clone());
                    constants.insert(name.clone(), own.clone());
                    own
                }
            };
            names.insert(name.clone(), own);
        }
        for name in inner.nodes.iter().flat_map(|n| &n.outputs).filter(|n| !n.is_empty()) {
            let own = self.fresh(name);
            names.insert(name.clone(), own);
        }
        for node in &inner.nodes {
            let mut node = node.clone();
            rename_reads(&mut node, &names)?;
            if !node.name.is_empty() {
                node.name = self.fresh(&node.name);
            }
            for output in node.outputs.iter_mut().filter(|o| !o.is_empty()) {
                if let Some(own) = names.get(output.as_str()) {
                    output.clone_from(own);
                }
            }
            self.add(node);
        }
        Ok(inner.outputs.iter().map(|o| names.get(&o.name).unwrap_or(&o.name).clone()).collect())
    }
}
