//! What inference found out about a graph, kept with it.

use super::{Facts, Graph, infer};
use compresso_base::error::Result;
use std::sync::{Arc, OnceLock};

/// The facts of a graph, once they were asked for. A clone of a graph is made to be changed, so it starts without them.
#[derive(Default)]
pub(crate) struct Inferred(OnceLock<Arc<Facts>>);

impl Clone for Inferred {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Inferred {
    /// Always equal: facts follow from the rest of the graph.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::fmt::Debug for Inferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.get().is_some() { "Inferred(..)" } else { "Inferred" })
    }
}

impl Graph {
    /// Type and shape of every value, inferred when they are first asked for and kept as long as this graph is.
    ///
    /// # Errors
    /// As [`infer`].
    pub fn facts(&self) -> Result<Arc<Facts>> {
        if let Some(facts) = self.inferred.0.get() {
            return Ok(facts.clone());
        }
        let facts = Arc::new(infer(self)?);
        Ok(self.inferred.0.get_or_init(|| facts).clone())
    }
    /// True once the facts are known.
    pub(crate) fn is_inferred(&self) -> bool {
        self.inferred.0.get().is_some()
    }
    /// A copy that is not going to be changed: it keeps the facts.
    pub(crate) fn same(&self) -> Self {
        let copy = self.clone();
        if let Some(facts) = self.inferred.0.get() {
            let _ = copy.inferred.0.set(facts.clone());
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Element, Fact, GraphBuilder, Node, Patch};

    #[test]
    fn facts_are_kept_and_a_changed_graph_has_its_own() {
        let mut b = GraphBuilder::new("g", 17);
        let x = b.input("x", Fact::known(Element::F32, &[1, 3]));
        let y = b.node(Node::new("Relu", "relu", [x.as_str()], ["y"]));
        b.output(&y);
        let g = b.finish().unwrap();
        let facts = g.facts().unwrap();
        assert!(Arc::ptr_eq(&facts, &g.facts().unwrap()) && Arc::ptr_eq(&facts, &g.same().facts().unwrap()));
        let mut patch = Patch::new(&g);
        patch.edit(0).op = "Identity".into();
        let changed = patch.apply().unwrap();
        assert!(!changed.is_inferred() && !g.clone().is_inferred());
        assert_eq!(*changed.facts().unwrap(), *facts);
    }
}
