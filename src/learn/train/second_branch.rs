//! The head that an end-to-end detector has for training alone.
//!
//! What the graph of such a detector has is the head that gives one box for each object. Training sets a second one beside it,
//! on the same features, which learns to give several (see [`DualLoss`](super::DualLoss)). It begins as a copy of the
//! first, as the two do in YOLOv10, and is dropped at the end, so that the model is the same graph before and after.

use super::params::ancestors;
use compresso_base::error::{Error, Result};
use compresso_model::{DetectHead, Graph, Node, Patch};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A graph with what only training needs.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The given graph, all of whose values are there, and more.
    pub graph: Graph,
    /// Names of the constants that the given graph does not have.
    pub constants: HashSet<String>,
    /// Values that gradients do not pass (see [`Run::stops`](compresso_exec::Run)).
    pub stops: Vec<String>,
}

/// A second head to be built.
#[derive(Debug, Clone)]
pub struct SecondBranch {
    head: DetectHead,
    /// What its names end with.
    suffix: String,
    /// Whether the first head's gradients end at the features.
    pub detached: bool,
}

impl SecondBranch {
    /// Beside the head of a graph, whose gradients then end at the features that it reads.
    pub fn new(graph: &Graph, head: &DetectHead) -> Self {
        let names = || {
            let of_nodes = graph.nodes().iter().flat_map(|n| n.outputs.iter().chain([&n.name]));
            of_nodes.chain(graph.constants().keys()).chain(graph.inputs().iter().map(|i| &i.name))
        };
        let free = |suffix: &String| !names().any(|n| n.ends_with(suffix.as_str()));
        // Of so many endings one more than there are names, one is free.
        let count = names().count();
        let suffix = (0..=count).map(|i| if i == 0 { ".many".to_string() } else { format!(".many{i}") }).find(free).unwrap_or_default();
        Self { head: head.clone(), suffix, detached: true }
    }

    /// The raw values of the second head.
    pub fn head(&self) -> DetectHead {
        let all = |names: &[String]| names.iter().map(|n| self.name(n)).collect();
        DetectHead { boxes: all(&self.head.boxes), scores: all(&self.head.scores), ..self.head.clone() }
    }

    fn name(&self, of: &str) -> String {
        format!("{of}{}", self.suffix)
    }

    /// The graph with both heads.
    ///
    /// # Errors
    /// `Missing` for a graph without the first head; `Unsupported` for branches with control flow of their own.
    pub fn build(&self, graph: &Graph) -> Result<Beside> {
        let branches = self.branches(graph)?;
        let made: HashSet<&str> = branches.iter().flat_map(|&i| graph.nodes()[i].outputs.iter()).map(String::as_str).collect();
        let mut patch = Patch::new(graph);
        let mut constants: BTreeSet<&str> = BTreeSet::new();
        // What the branches read of the rest, and the name under which the first head is to read it.
        let mut features: BTreeMap<&str, String> = BTreeMap::new();
        for &i in &branches {
            let node = &graph.nodes()[i];
            if let Some(inner) = node.captured().into_iter().find(|n| made.contains(n)) {
                let e = Error::unsupported(format!("the head has control flow that reads '{inner}', of which training makes no copy"));
                return Err(e.at(node.label()));
            }
            for name in node.inputs.iter().filter(|n| !n.is_empty() && !made.contains(n.as_str())) {
                match graph.constant(name) {
                    Some(c) if c.element().is_float() => _ = constants.insert(name),
                    Some(_) => {}
                    None => _ = features.insert(name, self.name(&format!("{name}.detached"))),
                }
            }
        }
        for &i in &branches {
            let node = &graph.nodes()[i];
            let own = |n: &String| made.contains(n.as_str()) || constants.contains(n.as_str());
            let renamed = |n: &String| if own(n) { self.name(n) } else { n.clone() };
            let named = |n: &String| if n.is_empty() { n.clone() } else { self.name(n) };
            let mut copy = node.clone();
            copy.name = self.name(&node.name);
            copy.inputs = node.inputs.iter().map(renamed).collect();
            copy.outputs = node.outputs.iter().map(named).collect();
            patch.add(copy);
            if self.detached && node.inputs.iter().any(|n| features.contains_key(n.as_str())) {
                let cut = |n: &mut String| {
                    if let Some(name) = features.get(n.as_str()) {
                        n.clone_from(name);
                    }
                };
                patch.edit(i).inputs.iter_mut().for_each(cut);
            }
        }
        if self.detached {
            for (value, name) in &features {
                patch.add(Node::new("Identity", name.clone(), [*value], [name]));
            }
        }
        for name in &constants {
            if let Some(c) = graph.constant(name) {
                patch.set_constant(self.name(name), c.clone());
            }
        }
        let head = self.head();
        patch.keep(self.head.boxes.iter().chain(&self.head.scores).chain(&head.boxes).chain(&head.scores));
        let stops = if self.detached { features.into_values().collect() } else { Vec::new() };
        Ok(Beside { constants: constants.iter().map(|n| self.name(n)).collect(), graph: patch.apply()?, stops })
    }

    /// Indices of the nodes that lead to one raw value alone, in graph order: each level's branches of boxes and of scores.
    fn branches(&self, graph: &Graph) -> Result<Vec<usize>> {
        let producers = graph.producers();
        let mut leads: HashMap<usize, usize> = HashMap::new();
        for value in self.head.boxes.iter().chain(&self.head.scores) {
            if !producers.contains_key(value.as_str()) {
                return Err(Error::missing(format!("the graph has no value '{value}', which the model's task names as its raw head")));
            }
            for i in ancestors(graph, std::slice::from_ref(value)) {
                *leads.entry(i).or_default() += 1;
            }
        }
        let mut own: Vec<usize> = leads.into_iter().filter(|&(_, n)| n == 1).map(|(i, _)| i).collect();
        own.sort_unstable();
        Ok(own)
    }
}

#[cfg(test)]
#[path = "second_branch_tests.rs"]
mod tests;
