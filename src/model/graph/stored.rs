//! Where the numbers of a graph are stored, and which of them are parameters.
//!
//! A layer need not read the constant that its file stores: exporters put Cast, Transpose, Identity, Reshape or DequantizeLinear between, and
//! some writers keep every constant in a node of its own. So each stored constant is followed to the nodes that compute with it, and is
//! one parameter however many of them there are.

use super::{Graph, Node};
use crate::constant::Constant;
use crate::element::Element;
use crate::ops::norm::INSTANCE_NORMALIZATION;
use crate::ops::shape::RESHAPE;
use crate::ops::{self, Data, OpDef, ParamKind, QuantRule};
use compresso_base::error::Result;
use std::collections::{HashMap, HashSet};

/// A constant as the graph stores it.
#[derive(Debug, Clone)]
pub struct Stored<'g> {
    /// The value that it is.
    pub name: &'g str,
    /// Its elements, as they are stored.
    pub constant: Constant,
    /// Position of the node that holds it; `None` for an initializer.
    pub holder: Option<usize>,
    /// Position of the first node that computes with it, or else carries it.
    pub user: Option<usize>,
    /// What it is to training; `None` for what is no parameter (shapes, bounds, anchors, masks).
    pub kind: Option<ParamKind>,
}

impl Stored<'_> {
    /// True for what PyTorch calls a parameter: running statistics are none.
    pub fn is_parameter(&self) -> bool {
        self.kind.is_some_and(|k| k != ParamKind::Statistic)
    }
}

/// A stored constant that a value consists of.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    stored: usize,
    /// The value has its very elements, moved or cast; else the value is computed from it.
    same: bool,
}

/// Every stored constant of a graph once, initializers first. Those of inner graphs (If, Loop, Scan) are not among them.
///
/// A constant at the place of a weight, bias or scale is a parameter. One that is added to or multiplied with what a layer made, or joined with
/// it, is one where a layer follows and it is stored as the layers' weights are: layer scales, embeddings of positions, class tokens. What
/// comes before the first layer or after the last (means of images, anchors), masks and tables of sines are settings.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub fn stored(graph: &Graph) -> Result<Vec<Stored<'_>>> {
    let mut search = Search::new(graph)?;
    let flow = Flow::new(&search);
    let held = search.found.iter().any(|s| s.holder.is_some() && s.kind == Some(ParamKind::Weight));
    for i in 0..graph.nodes().len() {
        for slot in 0..graph.nodes()[i].inputs.len() {
            search.loose(&flow, held, i, slot)?;
        }
    }
    Ok(search.found)
}

struct Search<'g> {
    graph: &'g Graph,
    found: Vec<Stored<'g>>,
    /// Of what stored constants values are made, where nothing else goes into them.
    parts: HashMap<&'g str, Vec<Part>>,
    makers: HashMap<&'g str, usize>,
    /// Nodes that multiply with a stored weight.
    layers: HashSet<usize>,
    /// Values that a layer makes, be they cast, rounded to a grid, or scaled back from integers.
    made: HashSet<&'g str>,
    /// Scales of grids that are found when the graph runs, and their products.
    scales: HashSet<&'g str>,
}

impl<'g> Search<'g> {
    /// Follows all constants, and tells the parameters at places of operators that say so.
    fn new(graph: &'g Graph) -> Result<Self> {
        Self::among(graph, Vec::new(), HashMap::new())
    }

    /// As [`Search::new`], for a graph that may read what the graphs around it store: `found`, in values made of `parts`.
    fn among(graph: &'g Graph, found: Vec<Stored<'g>>, parts: HashMap<&'g str, Vec<Part>>) -> Result<Self> {
        let mut search =
            Self { graph, found, parts, makers: graph.producers(), layers: HashSet::new(), made: HashSet::new(), scales: HashSet::new() };
        for (name, constant) in graph.constants() {
            search.add(name, constant.clone(), None);
        }
        for (i, node) in graph.nodes().iter().enumerate() {
            let op = ops::find(node)?;
            if let (Some(constant), Some(name)) = (ops::literal(node), node.output(0)) {
                search.add(name, constant, Some(i));
                continue;
            }
            let carried = search.carried(op, node);
            for (slot, name) in node.inputs.iter().enumerate() {
                if carried.as_ref().is_some_and(|c| c.slots.contains(&slot)) {
                    continue;
                }
                let parts = search.parts.get(name.as_str()).cloned().unwrap_or_default();
                // Beside initializers, a constant node is a setting: the zeros that Swin v2 joins to its biases.
                let beside = parts.iter().any(|p| search.found[p.stored].holder.is_none());
                for part in parts {
                    let held = search.found[part.stored].holder.is_some();
                    let kind = if held && beside { None } else { search.kind(op, node, slot, part) };
                    if kind == Some(ParamKind::Weight) {
                        search.layers.insert(i);
                    }
                    search.used(part.stored, i, kind);
                }
            }
            search.inside(i)?;
            search.place(op, i);
            if let Some(Carried { slots, same }) = carried.filter(|_| !search.layers.contains(&i)) {
                let mut parts: Vec<Part> = Vec::new();
                for part in slots.iter().flat_map(|&s| search.parts[node.inputs[s].as_str()].iter()) {
                    let part = Part { same: part.same && same, ..*part };
                    if !parts.contains(&part) {
                        parts.push(part);
                    }
                }
                node.outputs.iter().filter(|o| !o.is_empty()).for_each(|o| {
                    search.parts.insert(o, parts.clone());
                });
            }
        }
        // What is only carried, to an output of the graph, belongs to who carries it.
        for (i, node) in graph.nodes().iter().enumerate() {
            for part in node.inputs.iter().filter_map(|n| search.parts.get(n.as_str())).flatten().copied().collect::<Vec<_>>() {
                search.used(part.stored, i, None);
            }
        }
        Ok(search)
    }

    /// What the inner graphs of a node do with the constants that are stored around them. A node is a layer where one of theirs is.
    fn inside(&mut self, i: usize) -> Result<()> {
        let node = &self.graph.nodes()[i];
        if node.inner().next().is_none() {
            return Ok(());
        }
        let around: Vec<Stored<'g>> = self.found.iter().map(|s| Stored { user: None, kind: None, ..s.clone() }).collect();
        for graph in node.inner() {
            let inner = Self::among(graph, around.clone(), self.parts.clone())?;
            for (at, s) in inner.found.iter().take(around.len()).enumerate().filter(|(_, s)| s.user.is_some()) {
                self.used(at, i, s.kind);
            }
            if !inner.layers.is_empty() {
                self.layers.insert(i);
            }
        }
        // An inner graph may also give a constant of its surroundings out as it is.
        for name in node.captured() {
            for part in self.parts.get(name).cloned().unwrap_or_default() {
                self.used(part.stored, i, None);
            }
        }
        Ok(())
    }

    /// Notes where the outputs of a node stand: behind a layer, or among scales.
    fn place(&mut self, op: &OpDef, i: usize) {
        let node = &self.graph.nodes()[i];
        let has = |set: &HashSet<&str>| node.inputs.iter().any(|n| set.contains(n.as_str()));
        let (made, scales) = (has(&self.made), has(&self.scales));
        let outputs = || node.outputs.iter().map(String::as_str).filter(|o| !o.is_empty());
        let casts = !op.moves && ops::carried(op, node).is_some();
        if self.layers.contains(&i) {
            self.made.extend(outputs());
        } else if op.quant == QuantRule::Quantized {
            self.made.extend(outputs().take(usize::from(made)));
            self.scales.extend(outputs().skip(1));
        } else if made && (casts || (scales && multiplies(op))) {
            self.made.extend(outputs());
        } else if scales && multiplies(op) {
            self.scales.extend(outputs());
        }
    }

    fn add(&mut self, name: &'g str, constant: Constant, holder: Option<usize>) {
        self.parts.insert(name, vec![Part { stored: self.found.len(), same: true }]);
        self.found.push(Stored { name, constant, holder, user: None, kind: None });
    }

    fn used(&mut self, stored: usize, node: usize, kind: Option<ParamKind>) {
        let s = &mut self.found[stored];
        s.user.get_or_insert(node);
        // A statistic that is a parameter elsewhere is one.
        if s.kind.is_none_or(|k| k == ParamKind::Statistic) {
            s.kind = kind.or(s.kind);
        }
    }

    /// The inputs whose stored elements the outputs of a node are, or are computed from, where there is nothing else in them.
    fn carried(&self, op: &OpDef, node: &Node) -> Option<Carried> {
        let is_stored = |&s: &usize| self.parts.contains_key(node.inputs[s].as_str());
        let given = |slots: &[usize]| !slots.is_empty() && slots.iter().all(is_stored);
        if let Some(slots) = ops::carried(op, node) {
            return given(&slots).then_some(Carried { slots, same: true });
        }
        let slots: Vec<usize> = (0..node.inputs.len()).filter(|&s| node.input(s).is_some()).collect();
        (op.foldable && op.weight.is_none() && given(&slots)).then_some(Carried { slots, same: false })
    }

    /// What a part is at an input of a node that computes with it.
    fn kind(&self, op: &OpDef, node: &Node, slot: usize, part: Part) -> Option<ParamKind> {
        let constant = &self.found[part.stored].constant;
        // Of what a weight is computed from, shapes and factors are no parameters.
        let is_tensor = constant.element().is_float() && constant.count() > 1;
        if !(part.same || is_tensor) {
            return None;
        }
        if op.quant == QuantRule::Quantized {
            let rule = op.weight?;
            let bias = constant.element() == Element::I32 && constant.dims().len() == 1 && constant.count() > 1;
            return if slot == rule.input { Some(ParamKind::Weight) } else { bias.then_some(ParamKind::Bias) };
        }
        let (_, kind) = *op.params.iter().find(|(s, _)| *s == slot)?;
        match kind {
            // Of two stored factors, one is the layer's weight.
            ParamKind::Weight => {
                let stored = |s: usize| node.input(s).is_some_and(|n| self.parts.contains_key(n));
                let other = op.weight.is_some_and(|w| w.input != slot && stored(w.input));
                (!other).then_some(kind)
            }
            ParamKind::Bias if is_sum(op) => {
                let follows = || node.inputs.iter().any(|n| self.made.contains(n.as_str()));
                (constant.count() > 1 && follows()).then_some(kind)
            }
            // Of a group norm that is written as a norm of reshaped channels, scale and bias stand after it; its own do nothing.
            _ if node.is(INSTANCE_NORMALIZATION) && self.is_reshaped(node) => {
                let idle = if kind == ParamKind::Scale { 1.0 } else { 0.0 };
                let values = constant.to_f32s().unwrap_or_default();
                values.iter().any(|v| *v != idle).then_some(kind)
            }
            _ => Some(kind),
        }
    }

    fn is_reshaped(&self, node: &Node) -> bool {
        let maker = node.input(0).and_then(|x| self.makers.get(x));
        maker.is_some_and(|&i| self.graph.nodes()[i].is(RESHAPE))
    }

    /// Parameters that stand between layers.
    fn loose(&mut self, flow: &Flow<'g>, held: bool, i: usize, slot: usize) -> Result<()> {
        let node = &self.graph.nodes()[i];
        let op = ops::find(node)?;
        let combines = is_sum(op) || multiplies(op);
        let joins = op.data == Data::All && op.moves;
        let Some(parts) = node.input(slot).filter(|_| combines || joins).and_then(|n| self.parts.get(n)).cloned() else { return Ok(()) };
        let dynamic = |&(s, n): &(usize, &String)| s != slot && !n.is_empty() && !self.parts.contains_key(n.as_str());
        let others: Vec<&str> = node.inputs.iter().enumerate().filter(dynamic).map(|(_, n)| n.as_str()).collect();
        let within = !others.is_empty()
            && others.iter().any(|n| flow.after.contains(n))
            && node.outputs.iter().any(|o| flow.before.contains(o.as_str()));
        if others.iter().any(|n| self.scales.contains(n)) {
            return Ok(());
        }
        let direct = multiplies(op) && others.iter().any(|n| self.made.contains(n));
        for part in parts {
            let s = &self.found[part.stored];
            let single = s.constant.count() == 1 && direct && part.same && s.holder.is_none();
            let several = s.constant.count() > 1 && within && (s.holder.is_none() || held);
            if s.kind.is_none() && s.constant.element().is_float() && (single || several) && !is_setting(&s.constant)? {
                self.found[part.stored].kind = Some(if is_sum(op) { ParamKind::Bias } else { ParamKind::Scale });
            }
        }
        Ok(())
    }
}

/// Inputs whose stored constants go on in the outputs.
struct Carried {
    slots: Vec<usize>,
    same: bool,
}

/// True for operators that only add.
fn is_sum(op: &OpDef) -> bool {
    !op.params.is_empty() && op.params.iter().all(|(_, k)| *k == ParamKind::Bias)
}

/// True for Mul and its like: what combines values element by element, and adds no bias.
fn multiplies(op: &OpDef) -> bool {
    op.data == Data::Broadcast && op.quant == QuantRule::Elementwise && !is_sum(op)
}

/// Where values stand among the layers.
struct Flow<'g> {
    /// Values that depend on a layer.
    after: HashSet<&'g str>,
    /// Values on which a layer depends.
    before: HashSet<&'g str>,
}

impl<'g> Flow<'g> {
    fn new(search: &Search<'g>) -> Self {
        let nodes = search.graph.nodes();
        let mut flow = Self { after: HashSet::new(), before: HashSet::new() };
        for (i, node) in nodes.iter().enumerate() {
            let layer = search.layers.contains(&i);
            if layer || node.reads().any(|n| flow.after.contains(n)) {
                flow.after.extend(node.outputs.iter().map(String::as_str));
            }
        }
        for (i, node) in nodes.iter().enumerate().rev() {
            if search.layers.contains(&i) || node.outputs.iter().any(|o| flow.before.contains(o.as_str())) {
                flow.before.extend(node.reads());
            }
        }
        flow
    }
}

/// True for numbers that nobody trains: infinite ones, a mask of zeros and one other number, a table of sines and cosines.
fn is_setting(constant: &Constant) -> Result<bool> {
    let values = constant.to_f32s()?;
    if values.iter().any(|v| !v.is_finite()) {
        return Ok(true);
    }
    let other = values.iter().find(|v| **v != 0.0);
    if other.is_some_and(|o| values.iter().all(|v| *v == 0.0 || v == o) && values.contains(&0.0)) {
        return Ok(true);
    }
    let width = constant.dims().last().copied().unwrap_or(0);
    // A sine and a cosine of each angle: their squares add up to the number of angles.
    let circular = |row: &[f32]| {
        let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        row.iter().all(|v| v.abs() <= 1.0) && (squares - width as f64 / 2.0).abs() < 1e-4 * width as f64
    };
    Ok(constant.dims().len() >= 2 && width >= 4 && width % 2 == 0 && values.chunks_exact(width).all(circular))
}

#[cfg(test)]
mod tests;
