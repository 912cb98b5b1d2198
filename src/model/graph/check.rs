//! What every graph must satisfy.

use super::Graph;
use compresso_base::error::{Error, Result, nearest};
use std::collections::HashSet;

/// Values that are made already, here and in the enclosing graphs.
struct Scope<'a> {
    made: HashSet<&'a str>,
    outer: Option<&'a Scope<'a>>,
}

impl Scope<'_> {
    fn has(&self, name: &str) -> bool {
        self.made.contains(name) || self.outer.is_some_and(|o| o.has(name))
    }
}

impl Graph {
    /// Checks that each value is made once and before it is read, and that outputs exist.
    ///
    /// # Errors
    /// `Check`, naming the node and the value.
    pub fn check(&self) -> Result<()> {
        self.check_within(&Scope { made: HashSet::new(), outer: None })
    }

    /// As [`Graph::check`], for an inner graph that may read the values of `outer`.
    fn check_within(&self, outer: &Scope<'_>) -> Result<()> {
        let mut scope = Scope { made: HashSet::new(), outer: Some(outer) };
        let mut own: HashSet<&str> = HashSet::new();
        for name in self.inputs.iter().map(|i| i.name.as_str()) {
            if !own.insert(name) {
                return Err(Error::check(format!("the input '{name}' is declared twice")));
            }
        }
        own.extend(self.constants.keys().map(String::as_str));
        scope.made.extend(&own);
        for node in &self.nodes {
            for input in node.inputs.iter().map(String::as_str).chain(node.captured()).filter(|n| !n.is_empty()) {
                if !scope.has(input) {
                    let later = self.nodes.iter().any(|n| n.outputs.iter().any(|o| o == input));
                    let e = Error::check(if later {
                        format!("reads '{input}' before it is made (cycle, or nodes out of order)")
                    } else {
                        format!("reads '{input}', which nothing makes")
                    });
                    let e = match nearest(input, scope.made.iter().copied()) {
                        Some(near) if !later => e.hint(format!("did you mean '{near}'?")),
                        _ => e,
                    };
                    return Err(e.at(node.label()));
                }
            }
            for output in node.outputs.iter().map(String::as_str).filter(|n| !n.is_empty()) {
                if !own.insert(output) {
                    let other = self.nodes.iter().find(|n| n.outputs.iter().any(|o| o == output));
                    let of = other.filter(|n| !std::ptr::eq(*n, node)).map_or_else(String::new, |n| format!(": {} makes it", n.label()));
                    return Err(Error::check(format!("makes '{output}', which exists already{of}")).at(node.label()));
                }
                scope.made.insert(output);
            }
            for g in node.inner() {
                g.check_within(&scope).map_err(|e| e.at(node.label()))?;
            }
        }
        for out in &self.outputs {
            if !scope.has(&out.name) {
                return Err(Error::check(format!("nothing makes the graph output '{}'", out.name)));
            }
        }
        Ok(())
    }
}
