//! Where the channels of a graph stand, and the numbers that stand there: what a criterion looks at.

use super::Analysis;
use compresso_base::error::Result;
use compresso_model::graph::parameter_kind;
use compresso_model::ops::channels::{Atom, AxisLabels};
use compresso_model::ops::{self, ParamKind};
use compresso_model::{Graph, Node};
use std::collections::{HashMap, HashSet};

use super::groups::name_of;

/// What the slices of a constant or value are to the channels that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A weight whose slices make the channels.
    Weight,
    /// A weight whose slices read the channels.
    Reader,
    /// What is added to a channel: a bias, the shift of a norm.
    Bias,
    /// What a norm multiplies a channel with.
    Scale,
    /// Running mean or variance of a norm.
    Statistic,
    /// Another constant, such as a factor in arithmetic.
    Constant,
    /// The value that a layer with a weight reads.
    Input,
    /// The value that a layer with a weight makes, before norm and activation.
    Output,
}

/// One axis of a constant or value that has channels as its indices, as one node sees it.
#[derive(Debug, Clone)]
pub(super) struct Occurrence {
    pub role: Role,
    /// Position of the node in the graph.
    pub node: usize,
    /// Name of the constant or value.
    pub name: String,
    pub axis: usize,
    /// Representative of the label of each index.
    pub roots: Vec<Atom>,
}

/// All occurrences of channels: the weights that make them first, in the order of the graph, then all else.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub(super) fn occurrences(found: &Analysis) -> Result<Vec<Occurrence>> {
    let (graph, labels) = (&found.graph, &found.labels);
    let roots = |l: &AxisLabels| -> Option<Vec<Atom>> {
        let roots: Vec<Atom> = l.as_deref()?.iter().map(|&a| labels.root(a)).collect();
        roots.iter().any(|&r| !labels.is_frozen(r)).then_some(roots)
    };
    let mut occurrences = Vec::new();
    let mut makes: HashSet<(usize, &str, usize)> = HashSet::new();
    for layer in labels.layers() {
        makes.insert((layer.node, &layer.weight, layer.axis));
        if let Some(roots) = roots(&labels.axis(&layer.weight, layer.axis)) {
            occurrences.push(Occurrence { role: Role::Weight, node: layer.node, name: layer.weight.clone(), axis: layer.axis, roots });
        }
    }
    let makers = graph.producers();
    for (i, node) in graph.nodes().iter().enumerate() {
        let has_weight = !weights(graph, node)?.is_empty();
        let mut push = |role: Role, name: &str| {
            for (axis, l) in labels.of(name).iter().enumerate() {
                let Some(roots) = roots(l).filter(|_| !makes.contains(&(i, name, axis))) else { continue };
                occurrences.push(Occurrence { role, node: i, name: name.to_string(), axis, roots });
            }
        };
        for slot in 0..node.inputs.len() {
            let Some(name) = node.input(slot) else { continue };
            let role = match graph.constant(name) {
                Some(_) => match parameter_kind(graph, &makers, node, slot) {
                    Some(ParamKind::Weight) => Role::Reader,
                    Some(ParamKind::Bias) => Role::Bias,
                    Some(ParamKind::Scale) => Role::Scale,
                    Some(ParamKind::Statistic) => Role::Statistic,
                    None => Role::Constant,
                },
                None if has_weight => Role::Input,
                None => continue,
            };
            push(role, name);
        }
        if let Some(out) = node.output(0).filter(|_| has_weight) {
            push(Role::Output, out);
        }
    }
    Ok(occurrences)
}

/// The inputs of a node that are constant weights.
fn weights(graph: &Graph, node: &Node) -> Result<Vec<usize>> {
    let params = ops::find(node)?.params.iter().filter(|(_, k)| *k == ParamKind::Weight);
    Ok(params.map(|&(slot, _)| slot).filter(|&s| node.input(s).is_some_and(|n| graph.constant(n).is_some())).collect())
}

/// A batch norm right after a layer: the only reader of the layer's output.
#[derive(Debug, Clone)]
pub struct Norm {
    /// |scale| of each channel.
    pub scale: Vec<f64>,
    /// |scale| / √(variance + epsilon) of each channel: by how much it multiplies the layer's weights.
    pub factor: Vec<f64>,
}

impl Norm {
    /// The norms that follow layers, by the layer's node.
    pub(super) fn all(found: &Analysis) -> Result<HashMap<usize, Self>> {
        let graph = &found.graph;
        let readers = graph.consumers();
        let mut norms = HashMap::new();
        for layer in found.labels.layers() {
            let Some(out) = graph.nodes()[layer.node].output(0) else { continue };
            let Some(&[reader]) = readers.get(out).map(Vec::as_slice) else { continue };
            let node = &graph.nodes()[reader];
            let params = ops::find(node)?.params;
            let slots = |kind: ParamKind| params.iter().filter(move |p| p.1 == kind).map(|p| p.0);
            // The variance stands after the mean.
            let (Some(scale), Some(variance)) = (slots(ParamKind::Scale).next(), slots(ParamKind::Statistic).next_back()) else { continue };
            let values = |i: usize| node.input(i).and_then(|n| graph.constant(n)).map(|c| c.to_f64s()).transpose();
            let (Some(scale), Some(variance)) = (values(scale)?, values(variance)?) else { continue };
            let channels = found.labels.axis(&layer.weight, layer.axis).map(|l| l.len());
            if node.input(0) != Some(out) || channels != Some(scale.len()) || channels != Some(variance.len()) {
                continue;
            }
            let epsilon = f64::from(node.get_float("epsilon", 1e-5)?);
            let scale: Vec<f64> = scale.iter().map(|g| g.abs()).collect();
            let factor = scale.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
            norms.insert(layer.node, Self { scale, factor });
        }
        Ok(norms)
    }
}

/// What images showed of a value, per index of the axis that has the channels. Means over images and all other axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// Mean of the absolute values.
    pub magnitude: Vec<f64>,
    /// Share of zeros.
    pub zeros: Vec<f64>,
}

/// One axis of a constant or value whose indices are channels, and its numbers: those that the criterion needs.
#[derive(Debug, Clone, Copy)]
pub struct Slice<'a> {
    /// What the constant or value is to the channels.
    pub role: Role,
    /// The layer that the constant or value belongs to: name of its node.
    pub layer: &'a str,
    /// Name of the constant or value.
    pub name: &'a str,
    /// The axis that has the channels as its indices.
    pub axis: usize,
    pub(super) roots: &'a [Atom],
    pub(super) dims: &'a [usize],
    pub(super) weights: Option<&'a [f32]>,
    pub(super) gradients: Option<&'a [f32]>,
    pub(super) curvature: Option<&'a [f32]>,
    pub(super) effects: Option<&'a [f64]>,
    pub(super) activations: Option<&'a Activations>,
    pub(super) norm: Option<&'a Norm>,
}

impl<'a> Slice<'a> {
    pub(super) fn bare(occurrence: &'a Occurrence, graph: &'a Graph) -> Self {
        let dims = graph.constant(&occurrence.name).map_or(&[][..], |c| c.dims());
        let (layer, roots) = (name_of(&graph.nodes()[occurrence.node]), occurrence.roots.as_slice());
        let (role, name, axis) = (occurrence.role, occurrence.name.as_str(), occurrence.axis);
        Self {
            role,
            layer,
            name,
            axis,
            roots,
            dims,
            weights: None,
            gradients: None,
            curvature: None,
            effects: None,
            activations: None,
            norm: None,
        }
    }
    /// Indices along the axis.
    pub fn len(&self) -> usize {
        self.roots.len()
    }
    /// Whether the axis has no index.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }
    /// The numbers of two constants of this shape, row by row: for each index, the sum of what `f` makes of each pair.
    pub fn pairs(&self, a: Rows<'_>, b: Rows<'_>, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        (0..self.len()).map(|i| a.row(i).zip(b.row(i)).map(|(a, b)| f(a, b)).sum()).collect()
    }
    /// True for weights of layers, be they makers or readers of the channels.
    pub fn is_weight(&self) -> bool {
        matches!(self.role, Role::Weight | Role::Reader)
    }
    /// The numbers of a constant, where the criterion needs [weights](super::Need::Weights).
    pub fn weights(&self) -> Option<Rows<'a>> {
        self.rows(self.weights?)
    }
    /// The mean gradient of the loss with respect to each number of a constant, where the criterion needs
    /// [gradients](super::Need::Gradients) and the loss depends on the constant.
    pub fn gradients(&self) -> Option<Rows<'a>> {
        self.rows(self.gradients?)
    }
    /// The mean square over images of the gradient with respect to each number of a constant, where the criterion needs
    /// [curvature](super::Need::Curvature).
    pub fn curvature(&self) -> Option<Rows<'a>> {
        self.rows(self.curvature?)
    }
    /// For each index, the mean square over images of the sum of weights times gradients, where the criterion needs
    /// [curvature](super::Need::Curvature).
    pub fn effects(&self) -> Option<&'a [f64]> {
        self.effects
    }
    /// What images showed of a value ([`Role::Input`], [`Role::Output`]), where the criterion needs
    /// [activations](super::Need::Activations).
    pub fn activations(&self) -> Option<&'a Activations> {
        self.activations
    }
    /// The batch norm right after the layer whose weight this is ([`Role::Weight`]).
    pub fn norm(&self) -> Option<&'a Norm> {
        self.norm
    }
    fn rows(&self, values: &'a [f32]) -> Option<Rows<'a>> {
        let inner = self.dims.get(self.axis + 1..)?.iter().product();
        Some(Rows { values, count: self.len(), inner })
    }
}

/// The numbers of a constant, index by index of one axis.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row-major: `[outer, count, inner]`.
    values: &'a [f32],
    count: usize,
    inner: usize,
}

impl<'a> Rows<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// All numbers with index `i` on the axis, in the order of the constant; none beyond the axis.
    pub fn row(&self, i: usize) -> impl Iterator<Item = f64> + use<'a> {
        let inner = self.inner.max(1);
        let own = if i < self.count { self.values.chunks_exact(inner) } else { [].chunks_exact(inner) };
        own.skip(i).step_by(self.count.max(1)).flatten().map(|&w| f64::from(w))
    }
    /// One number for each row.
    pub fn map(&self, f: impl Fn(&mut dyn Iterator<Item = f64>) -> f64) -> Vec<f64> {
        (0..self.count).map(|i| f(&mut self.row(i))).collect()
    }
}

/// The slices of a group of channels, for criteria that look at all of them together.
#[derive(Debug)]
pub struct GroupSlices<'a> {
    /// Slices that have channels of the group.
    pub slices: Vec<Slice<'a>>,
    /// Label of each channel of the group.
    pub(super) atoms: &'a [Atom],
    /// A stream of numbers that the context's seed and the groups before this one decide.
    pub rng: &'a mut rand_chacha::ChaCha8Rng,
}

impl GroupSlices<'_> {
    /// How many channels the group has: as many scores are wanted.
    pub fn channels(&self) -> usize {
        self.atoms.len()
    }
    /// Which of the group's channels each index of a slice is; `None` for channels of other groups.
    pub fn channels_of(&self, slice: &Slice<'_>) -> Vec<Option<usize>> {
        let at: HashMap<Atom, usize> = self.atoms.iter().enumerate().map(|(i, &a)| (a, i)).collect();
        slice.roots.iter().map(|r| at.get(r).copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_run_along_any_axis() {
        let values: Vec<f32> = (0..12u8).map(f32::from).collect();
        // [2, 3, 2], along the middle axis.
        let rows = Rows { values: &values, count: 3, inner: 2 };
        assert_eq!(rows.row(1).collect::<Vec<_>>(), [2.0, 3.0, 8.0, 9.0]);
        assert_eq!(rows.map(|row| row.sum()), [14.0, 22.0, 30.0]);
        assert_eq!(rows.row(3).count(), 0);
    }
}
