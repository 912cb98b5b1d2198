//! Which channels of a graph go together.

use super::GroupReport;
use compresso_base::context::Context;
use compresso_base::error::{Error, Result};
use compresso_base::operation::{Arg, ArgKind, Operation, Options, Signature};
use compresso_base::report::Table;
use compresso_model::names::{Choice, Patterns};
use compresso_model::ops::channels::{Atom, AxisLabels, Labels};
use compresso_model::ops::{is_expectation, quantized_node};
use compresso_model::passes::pipelines;
use compresso_model::{Facts, Graph, Model, Node};
use indexmap::IndexMap;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

compresso_base::options! {
    /// Finds the channels of a model that go together.
    pub struct PruneGroups {}
}

/// The groups of channels that [`Prune`](super::Prune) chooses from.
///
/// # Errors
/// As [`Analysis::new`].
impl Operation for PruneGroups {
    const SIGNATURE: Signature = Signature {
        name: "prune_groups",
        summary: "The groups of channels of a model that can only be pruned together",
        group: "compress",
        args: &[Arg::new("m", ArgKind::Model)],
        returns: "report",
        fields: Self::FIELDS,
        examples: &["prune_groups(model(\"classifier\", #{ classes: 3, image_size: 32 }))"],
        keywords: &["layers", "channels", "dependencies", "structure"],
    };
    type Inputs<'a> = &'a Model;
    type Output = GroupReport;

    fn run(&self, model: &Model, _: &Context) -> Result<GroupReport> {
        GroupReport::new(model)
    }
}

/// Channels that appear at the same places of a graph and so can be removed one like another. Each atom is one choice: all
/// indices with this label go or stay together.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Its own: that of its first layer, with a number where other groups have channels of that layer too (`conv#2`).
    pub name: String,
    /// Layers whose output channels these are.
    pub layers: Vec<String>,
    /// Weights of these layers, by constant name.
    pub weights: Vec<String>,
    /// How many channels can be chosen from.
    pub channels: usize,
    /// Label of each choice, in the order of the first layer's channels.
    #[serde(skip)]
    pub atoms: Vec<Atom>,
}

/// All groups of a graph.
#[derive(Debug, Clone, Serialize)]
pub struct Groups(pub Vec<Group>);

/// A graph ready to be pruned: its labels and groups.
#[derive(Debug)]
pub struct Analysis {
    /// The graph, with computed float constants as initializers and vectors read by several nodes copied for each.
    pub graph: Graph,
    /// Types and shapes of the graph's values.
    pub facts: Arc<Facts>,
    /// Which indices of which axes are one channel, and which must stay.
    pub labels: Labels,
    /// In the order of their first layers.
    pub groups: Groups,
    /// Copies of shared vectors: copy → original.
    pub(super) copies: IndexMap<String, String>,
}

/// The groups of channels that can be removed from `graph`, in the order of their first layers. Channels of the graph's
/// outputs and of the values named in `keep` stay.
///
/// # Errors
/// As [`Analysis::new`].
pub fn groups(graph: &Graph, keep: &[String]) -> Result<Groups> {
    Ok(Analysis::new(graph, keep)?.groups)
}

impl Analysis {
    /// # Errors
    /// `Unsupported` for a quantized graph; what shape inference or a channel rule reports.
    pub fn new(graph: &Graph, keep: &[String]) -> Result<Self> {
        refuse_quantized(graph)?;
        let mut own = pipelines::PRUNE.run(graph)?;
        let copies = std::mem::take(&mut own.copies);
        let graph = own.graph;
        let facts = graph.facts()?;
        let mut labels = Labels::of_graph(&graph, &facts)?;
        for value in keep {
            if !graph.consumers().contains_key(value.as_str()) && !graph.is_output(value) {
                return Err(Error::missing(format!("the model has no value '{value}', which its task names")));
            }
            labels.keep(value, "training reads them by number: they are the model's predictions");
        }
        let groups = group(&graph, &labels);
        Ok(Self { graph, facts, labels, groups, copies })
    }

    /// Layers whose channels all stay.
    pub fn stays(&self) -> Vec<Stay> {
        stays(&self.graph, &self.labels)
    }
}

/// Layers none of whose channels can be removed, for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// Names of their nodes; of a node without, its first output.
    pub layers: Vec<String>,
    /// What keeps them: `LayerNormalization '/norm' takes their mean and variance together`.
    pub because: String,
    /// True where other layers follow; false for those that make the model's outputs.
    pub inner: bool,
}

impl Stay {
    /// Names of the first layers.
    pub fn names(&self) -> String {
        let first = self.layers.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        if self.layers.len() > 3 { format!("{first}, … ({} in all)", self.layers.len()) } else { first }
    }
    /// `conv1 keeps its channels because Softmax '/softmax' …`
    pub fn text(&self) -> String {
        format!("the channels of {} stay because {}", self.names(), self.because)
    }
}

/// The layers whose output channels all stay, by their reasons in the order of the graph.
fn stays(graph: &Graph, labels: &Labels) -> Vec<Stay> {
    let makers = graph.producers();
    let layers: HashSet<usize> =
        labels.layers().iter().map(|l| l.node).filter(|&i| !is_expectation(graph, &makers, &graph.nodes()[i])).collect();
    // Values on which a layer depends.
    let mut before: HashSet<&str> = HashSet::new();
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        if layers.contains(&i) || node.outputs.iter().any(|o| before.contains(o.as_str())) {
            before.extend(node.reads());
        }
    }
    let mut found: IndexMap<(String, bool), Vec<String>> = IndexMap::new();
    for layer in labels.layers() {
        let Some(axis) = labels.axis(&layer.weight, layer.axis).filter(|l| l.iter().all(|&a| labels.is_frozen(a))) else { continue };
        let Some(reason) = axis.first().and_then(|&a| labels.reason(a)) else { continue };
        let node = &graph.nodes()[layer.node];
        let inner = node.outputs.iter().any(|o| before.contains(o.as_str()));
        let names = found.entry((reason.text(graph), inner)).or_default();
        if names.iter().all(|n| n != name_of(node)) {
            names.push(name_of(node).to_string());
        }
    }
    found.into_iter().map(|((because, inner), layers)| Stay { layers, because, inner }).collect()
}

/// Groups by the places at which atoms appear.
fn group(graph: &Graph, labels: &Labels) -> Groups {
    // The places of each root: (axis number, how often).
    let mut places: HashMap<Atom, Vec<(u32, u32)>> = HashMap::new();
    let mut values: Vec<(&str, &[AxisLabels])> = labels.values().collect();
    values.sort_unstable_by_key(|(name, _)| *name);
    for (number, axis) in values.iter().flat_map(|(_, axes)| axes.iter()).enumerate() {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        for &a in axis.iter().flat_map(|l| l.iter()) {
            let at = places.entry(labels.root(a)).or_default();
            match at.last_mut() {
                Some((n, times)) if *n == number => *times += 1,
                _ => at.push((number, 1)),
            }
        }
    }
    let mut of_places: HashMap<&[(u32, u32)], usize> = HashMap::new();
    let mut of_root: HashMap<Atom, usize> = HashMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for layer in labels.layers() {
        let Some(axis) = labels.axis(&layer.weight, layer.axis) else { continue };
        let mut named: HashSet<usize> = HashSet::new();
        for &a in axis.iter() {
            let root = labels.root(a);
            if labels.is_frozen(root) {
                continue;
            }
            let g = match of_root.get(&root) {
                Some(&g) => g,
                None => {
                    let g = *of_places.entry(places[&root].as_slice()).or_insert_with(|| {
                        groups.push(Group { name: String::new(), layers: Vec::new(), weights: Vec::new(), channels: 0, atoms: Vec::new() });
                        groups.len() - 1
                    });
                    of_root.insert(root, g);
                    groups[g].atoms.push(root);
                    groups[g].channels += 1;
                    g
                }
            };
            if named.insert(g) {
                groups[g].layers.push(name_of(&graph.nodes()[layer.node]).to_string());
                groups[g].weights.push(layer.weight.clone());
            }
        }
    }
    name(&mut groups);
    Groups(groups)
}

/// Gives each group its name. A layer of one group alone is no pattern for others, so its name does for the group.
fn name(groups: &mut [Group]) {
    let mut count: HashMap<&str, usize> = HashMap::new();
    groups.iter().flat_map(|g| &g.layers).for_each(|l| *count.entry(l).or_default() += 1);
    let mut number: HashMap<&str, usize> = HashMap::new();
    let mut names: Vec<String> = Vec::with_capacity(groups.len());
    for group in groups.iter() {
        let mine: Vec<usize> = group.layers.iter().map(|l| *number.entry(l).and_modify(|n| *n += 1).or_insert(1)).collect();
        let first = group.layers.first().map_or("", String::as_str);
        let alone = count.get(first) == Some(&1);
        let mut name = if alone { first.to_string() } else { format!("{first}#{}", mine.first().unwrap_or(&1)) };
        while names.contains(&name) || !alone && count.contains_key(name.as_str()) {
            name.push('#');
        }
        names.push(name);
    }
    groups.iter_mut().zip(names).for_each(|(g, name)| g.name = name);
}

impl Group {
    /// By which patterns find it.
    pub(super) fn names(&self) -> Vec<&str> {
        std::iter::once(&self.name).chain(&self.layers).chain(&self.weights).map(String::as_str).collect()
    }
}

/// How errors call what patterns look for, and where it is listed.
pub(super) const PRUNABLE: &str = "layer that can be pruned";
pub(super) const LISTED: &str = "prune_groups(m) lists the layers that can be pruned";

/// How lists call a node: by its name, or by its first output where it has none.
pub(super) fn name_of(node: &Node) -> &str {
    if node.name.is_empty() { node.outputs.first().map_or("", String::as_str) } else { &node.name }
}

impl Groups {
    /// The groups that the two lists of patterns leave.
    ///
    /// # Errors
    /// `Missing` for a pattern that matches no layer.
    pub fn chosen(&self, include: &[String], exclude: &[String]) -> Result<Vec<&Group>> {
        let names: Vec<Vec<&str>> = self.0.iter().map(Group::names).collect();
        let choices = Patterns { include, exclude }.choose(&names, PRUNABLE, LISTED)?;
        Ok(self.0.iter().zip(choices).filter(|(_, c)| *c == Choice::Chosen).map(|(g, _)| g).collect())
    }
}

fn refuse_quantized(graph: &Graph) -> Result<()> {
    match quantized_node(graph) {
        Some(node) => Err(Error::unsupported("the model is quantized already").at(node.label()).hint("prune first, then quantize")),
        None => Ok(()),
    }
}

/// Layers that keep all their channels, where there are some.
pub(super) fn stays_table(stays: &[Stay]) -> Option<Table> {
    let mut kept = Table::new("Layers that keep all their channels", &["layers", "because"]);
    for stay in stays {
        kept.row([stay.names(), stay.because.clone()]);
    }
    (!stays.is_empty()).then_some(kept)
}
