//! Making the next graph from the old one and its edits.

use super::Names;
use super::Patch;
use crate::constant::Constant;
use crate::graph::inferred::Inferred;
use crate::graph::{Fact, Graph, Node};
use compresso_base::error::{At, Error, Result};
use indexmap::IndexMap;
use std::collections::{BTreeSet, HashMap, HashSet};

impl Patch<'_> {
    /// The new graph: edits made, nodes put in an order in which they can run, nodes and constants that nothing reads
    /// any more dropped where this patch cut them off, and the whole checked.
    ///
    /// # Errors
    /// `Check` when two edits contradict each other or one is of what does not exist; when the result reads a value nobody
    /// makes, makes one twice, or has a cycle.
    pub fn apply(mut self) -> Result<Graph> {
        if let Some(conflict) = self.conflict.take() {
            return Err(contradiction(conflict));
        }
        let old = self.graph;
        let redirects = self.followed()?;
        let mut g = old.without_nodes();
        g.nodes.reserve(old.nodes.len() + self.added.len());
        for (i, node) in old.nodes.iter().enumerate().filter(|(i, _)| !self.removed.contains(i)) {
            let mut node = self.changed.remove(&i).unwrap_or_else(|| node.clone());
            rename_reads(&mut node, &redirects)?;
            g.nodes.push(node);
        }
        g.nodes.append(&mut self.added);
        set_constants(&mut g, std::mem::take(&mut self.constants));
        for (name, shape) in self.shapes {
            if let Some(info) = g.value_info.get_mut(&name) {
                info.fact.shape = Some(shape);
            }
        }
        g.inputs = self.inputs.unwrap_or(g.inputs);
        g.outputs = self.outputs.unwrap_or(g.outputs);
        g.metadata.extend(self.metadata);
        g.opsets.extend(self.opsets);
        if !redirects.is_empty() {
            self.removed.iter().try_for_each(|&i| check_ends(&g, &old.nodes[i], &redirects))?;
            name_outputs(&mut g, &redirects, &self.kept)?;
            g.value_info.retain(|name, _| !redirects.contains_key(name));
        }
        g.drop_unread(old, &self.kept);
        g.sort()?;
        g.check()?;
        Ok(g)
    }

    /// Each redirected name with the name that its readers read in the end.
    ///
    /// # Errors
    /// `Check` for redirections in a circle and of values that do not exist.
    fn followed(&self) -> Result<IndexMap<String, String>> {
        let redirects = &self.redirects;
        if redirects.is_empty() {
            return Ok(IndexMap::new());
        }
        let makers = self.graph.producers();
        let exists = |name: &str| {
            makers.contains_key(name) || self.graph.constants.contains_key(name) || self.graph.inputs.iter().any(|i| i.name == name)
        };
        let mut ends = IndexMap::with_capacity(redirects.len());
        for (from, to) in redirects {
            if !exists(from) {
                return Err(contradiction(format!("'{from}' is redirected to '{to}', but the graph has no such value")));
            }
            let mut end = to;
            // More steps than redirections go in a circle.
            for _ in 0..redirects.len() {
                let Some(next) = redirects.get(end) else { break };
                end = next;
            }
            if let Some(next) = redirects.get(end) {
                let next_of = redirects.get(next).unwrap_or(next);
                return Err(contradiction(format!("'{end}' is redirected to '{next}', and '{next}' to '{next_of}', in a circle")));
            }
            ends.insert(from.clone(), end.clone());
        }
        Ok(ends)
    }
}

/// # Errors
/// `Check` when a value is redirected to one that `removed` made and nothing makes now.
fn check_ends(g: &Graph, removed: &Node, redirects: &IndexMap<String, String>) -> Result<()> {
    for name in removed.outputs.iter().filter(|o| !o.is_empty()) {
        if let Some((from, _)) = redirects.iter().find(|(_, to)| *to == name)
            && !g.nodes.iter().any(|n| n.outputs.contains(name))
            && !g.constants.contains_key(name)
        {
            let label = removed.label();
            return Err(contradiction(format!("'{from}' is redirected to '{name}', and {label}, which makes it, is removed")));
        }
    }
    Ok(())
}

fn contradiction(edits: String) -> Error {
    Error::check(format!("edits of the graph contradict each other: {edits}"))
}

fn set_constants(g: &mut Graph, constants: IndexMap<String, Option<Constant>>) {
    let mut removed: HashSet<String> = HashSet::new();
    for (name, value) in constants {
        match value {
            Some(c) => {
                if let Some(info) = g.inputs.iter_mut().find(|i| i.name == name) {
                    info.fact = Fact::known(c.element(), c.dims());
                }
                g.constants.insert(name, c);
            }
            None => {
                removed.insert(name);
            }
        }
    }
    if !removed.is_empty() {
        g.constants.retain(|name, _| !removed.contains(name));
        g.inputs.retain(|i| !removed.contains(&i.name));
    }
}

/// Redirected graph outputs and kept values: the new producer takes their name, or an Identity does where it cannot. What made
/// them before gets a new name.
fn name_outputs(g: &mut Graph, redirects: &IndexMap<String, String>, kept: &HashSet<String>) -> Result<()> {
    let mut copies: Vec<Node> = Vec::new();
    let renames = {
        let made: HashSet<&str> = g.nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)).collect();
        let mut names = None;
        let mut renames: IndexMap<String, String> = IndexMap::new();
        let mut stay: Vec<&String> = kept.iter().filter(|k| !g.is_output(k)).collect();
        stay.sort_unstable();
        for (name, to) in g.outputs.iter().map(|o| &o.name).chain(stay).filter_map(|name| Some((name, redirects.get(name)?))) {
            // Two outputs of one name share their node.
            if renames.contains_key(name) || renames.get(to) == Some(name) || copies.iter().any(|c| c.outputs[0] == *name) {
                continue;
            }
            if made.contains(to.as_str()) && !g.is_output(to) && !kept.contains(to) && !renames.contains_key(to) {
                renames.insert(to.clone(), name.clone());
            } else {
                copies.push(Node::new("Identity", "", [renames.get(to).unwrap_or(to)], [name]));
            }
            if made.contains(name.as_str()) {
                renames.insert(name.clone(), names.get_or_insert_with(|| Names::of(g)).fresh(name));
            }
        }
        renames
    };
    if !renames.is_empty() {
        for node in &mut g.nodes {
            rename_reads(node, &renames)?;
            for out in &mut node.outputs {
                if let Some(name) = renames.get(out) {
                    out.clone_from(name);
                }
            }
        }
        g.value_info.retain(|name, _| !renames.contains_key(name));
    }
    g.nodes.append(&mut copies);
    Ok(())
}

/// Renames what a node reads, and what its inner graphs read from outside.
///
/// # Errors
/// `Check` when an inner graph has a value of its own with the new name, which would be read instead.
pub(super) fn rename_reads(node: &mut Node, names: &IndexMap<String, String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    for input in &mut node.inputs {
        if let Some(to) = names.get(input.as_str()) {
            input.clone_from(to);
        }
    }
    if !node.captured().iter().any(|n| names.contains_key(*n)) {
        return Ok(());
    }
    let label = node.label();
    for g in node.inner_mut() {
        rename_outer(g, names).at(|| label.clone())?;
    }
    Ok(())
}

/// Renames what an inner graph reads from outside.
fn rename_outer(g: &mut Graph, names: &IndexMap<String, String>) -> Result<()> {
    let local: HashSet<String> =
        g.nodes.iter().flat_map(|n| n.outputs.iter()).chain(g.constants.keys()).chain(g.inputs.iter().map(|i| &i.name)).cloned().collect();
    let outer: IndexMap<String, String> =
        names.iter().filter(|(from, _)| !local.contains(*from)).map(|(from, to)| (from.clone(), to.clone())).collect();
    let reads = |from: &str| {
        g.outputs.iter().any(|o| o.name == from)
            || g.nodes.iter().any(|n| n.inputs.iter().any(|i| i == from) || n.captured().contains(&from))
    };
    if let Some((from, to)) = outer.iter().find(|(from, to)| local.contains(*to) && reads(from)) {
        return Err(Error::check(format!("'{from}' cannot become '{to}' in an inner graph, which has a value of that name")));
    }
    for node in &mut g.nodes {
        rename_reads(node, &outer)?;
    }
    for out in &mut g.outputs {
        if let Some(to) = outer.get(&out.name) {
            out.name.clone_from(to);
        }
    }
    Ok(())
}

impl Graph {
    /// All but the nodes.
    fn without_nodes(&self) -> Self {
        Self {
            nodes: Vec::new(),
            name: self.name.clone(),
            opsets: self.opsets.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            constants: self.constants.clone(),
            value_info: self.value_info.clone(),
            metadata: self.metadata.clone(),
            wire: self.wire.clone(),
            inferred: Inferred::default(),
        }
    }

    /// Drops nodes and constants that nothing reads, unless `old` already had them unread or they are to be `kept`.
    fn drop_unread(&mut self, old: &Self, kept: &HashSet<String>) {
        let was_read = old.reads();
        let was_made: HashSet<&str> = old.nodes.iter().flat_map(|n| n.outputs.iter().map(String::as_str)).collect();
        let mut read = self.reads();
        kept.iter().for_each(|name| *read.entry(name).or_default() += 1);
        let unread = |node: &Node, read: &HashMap<&str, usize>| {
            let mut outputs = node.outputs.iter().map(String::as_str).filter(|o| !o.is_empty());
            let was_unread = |o: &str| was_made.contains(o) && !was_read.contains_key(o);
            outputs.clone().all(|o| !read.contains_key(o)) && !outputs.all(was_unread)
        };
        let makers = self.producers();
        let mut dead = vec![false; self.nodes.len()];
        let mut look: Vec<usize> = (0..self.nodes.len()).collect();
        while let Some(i) = look.pop() {
            let node = &self.nodes[i];
            if dead[i] || !unread(node, &read) {
                continue;
            }
            dead[i] = true;
            for name in node.reads() {
                if let Some(count) = read.get_mut(name) {
                    *count -= 1;
                    if *count == 0 {
                        read.remove(name);
                        look.extend(makers.get(name));
                    }
                }
            }
        }
        let stays = |name: &str| read.contains_key(name) || (old.constants.contains_key(name) && !was_read.contains_key(name));
        let gone: HashSet<String> = self.constants.keys().filter(|name| !stays(name)).cloned().collect();
        let mut dead = dead.into_iter();
        self.nodes.retain(|_| !dead.next().unwrap_or(false));
        if !gone.is_empty() {
            self.constants.retain(|name, _| !gone.contains(name));
            self.inputs.retain(|i| !gone.contains(&i.name) || !old.constants.contains_key(&i.name));
        }
    }

    /// How often each value is read, by nodes, their inner graphs and as an output.
    fn reads(&self) -> HashMap<&str, usize> {
        let mut reads: HashMap<&str, usize> = HashMap::with_capacity(2 * self.nodes.len());
        for name in self.nodes.iter().flat_map(Node::reads).chain(self.outputs.iter().map(|o| o.name.as_str())) {
            *reads.entry(name).or_default() += 1;
        }
        reads
    }

    /// Puts the nodes in an order in which they can run, keeping their order where possible.
    ///
    /// # Errors
    /// `Check` naming a node that stands in a cycle.
    pub(crate) fn sort(&mut self) -> Result<()> {
        let order = {
            let makers = self.producers();
            let mut waits = vec![0usize; self.nodes.len()];
            let mut readers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
            for (i, node) in self.nodes.iter().enumerate() {
                for name in node.reads() {
                    if let Some(&p) = makers.get(name) {
                        waits[i] += 1;
                        readers[p].push(i);
                    }
                }
            }
            // Smallest index first keeps the file's order.
            let mut ready: BTreeSet<usize> = (0..self.nodes.len()).filter(|&i| waits[i] == 0).collect();
            let mut order = Vec::with_capacity(self.nodes.len());
            while let Some(i) = ready.pop_first() {
                order.push(i);
                for &r in &readers[i] {
                    waits[r] -= 1;
                    if waits[r] == 0 {
                        ready.insert(r);
                    }
                }
            }
            if let Some(i) = (0..self.nodes.len()).find(|&i| waits[i] > 0) {
                return Err(Error::check("the graph has a cycle through this node").at(self.nodes[i].label()));
            }
            order
        };
        let mut nodes: Vec<Option<Node>> = std::mem::take(&mut self.nodes).into_iter().map(Some).collect();
        self.nodes = order.into_iter().filter_map(|i| nodes[i].take()).collect();
        Ok(())
    }
}
