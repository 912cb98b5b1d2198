//! What inference found out about a graph, kept with it.

use super::{Facts, Graph, infer, infer_with};
use compresso_base::error::Result;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The facts of a graph, once they were asked for. A clone of a graph is made to be changed, so it starts without them.
#[derive(Default)]
pub(crate) struct Inferred {
    own: OnceLock<Arc<Facts>>,
    /// The last that were asked for of inputs of other sizes, with these.
    sized: Mutex<Option<(Facts, Arc<Facts>)>>,
}

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
        f.write_str(if self.own.get().is_some() { "Inferred(..)" } else { "Inferred" })
    }
}

impl Graph {
    /// Type and shape of every value, inferred when they are first asked for and kept as long as this graph is.
    ///
    /// # Errors
    /// As [`infer`].
    pub fn facts(&self) -> Result<Arc<Facts>> {
        if let Some(facts) = self.inferred.own.get() {
            return Ok(facts.clone());
        }
        let facts = Arc::new(infer(self)?);
        Ok(self.inferred.own.get_or_init(|| facts).clone())
    }
    /// As [`Graph::facts`], with these types of inputs instead of the graph's own; the last are kept.
    ///
    /// # Errors
    /// As [`infer_with`].
    pub(super) fn facts_of(&self, given: Facts) -> Result<Arc<Facts>> {
        let sized = || self.inferred.sized.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, facts)) = sized().as_ref().filter(|(kept, _)| *kept == given) {
            return Ok(facts.clone());
        }
        let facts = Arc::new(infer_with(self, &given)?);
        *sized() = Some((given, facts.clone()));
        Ok(facts)
    }
    /// True once the facts are known.
    pub(crate) fn is_inferred(&self) -> bool {
        self.inferred.own.get().is_some()
    }
    /// A copy that is not going to be changed: it keeps the facts.
    pub(crate) fn same(&self) -> Self {
        let copy = self.clone();
        if let Some(facts) = self.inferred.own.get() {
            let _ = copy.inferred.own.set(facts.clone());
        }
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::infer_at;
    use crate::{Dim, Element, Fact, GraphBuilder, Node, Patch};

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

    #[test]
    fn the_last_facts_at_a_size_are_kept() {
        let mut b = GraphBuilder::new("g", 17);
        let open = |s: &str| Dim::symbol(s);
        let x = b.input("x", Fact::new(Element::F32, vec![open("n"), Dim::Known(3), open("h"), open("w")]));
        let y = b.node(Node::new("Relu", "relu", [x.as_str()], ["y"]));
        b.output(&y);
        let g = b.finish().unwrap();
        let at = |side: usize| infer_at(&g, 1, Some([side; 2])).unwrap();
        let small = at(8);
        assert!(Arc::ptr_eq(&small, &at(8)));
        let large = at(16);
        assert_eq!((small["y"].dim(2), large["y"].dim(2)), (Some(8), Some(16)));
        assert!(Arc::ptr_eq(&large, &at(16)) && !Arc::ptr_eq(&small, &at(8)) && at(8) == small);
    }
}
