//! Other classes for a model: its last layers get rows for them, and all that comes before keeps its weights.
//!
//! Which constants, sizes and indices depend on the classes is read off the channel labels (see [`crate::ops::channels`]): the
//! class logits have a label per class, and every axis of the graph on which these stand in their order is rewritten.

use crate::classes::{Side, are_generated, listing, names_anew, pairs};
use crate::ops::arithmetic::{DIV, MOD, MUL, SUB};
use crate::ops::channels::{Atom, AxisLabels, Channels, Edit, Labels, Site, Size};
use crate::ops::order::TOP_K;
use crate::ops::softmax::{LOG_SOFTMAX, SOFTMAX};
use crate::ops::{moves, quantized_node};
use crate::passes::pipelines;
use crate::renumber::Renumber;
use crate::{Constant, Dim, Element, Facts, Graph, Model, Node, Patch, Task};
use candle_core::{DType, Device, Tensor};
use compresso_base::error::{At, Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A model for other classes than it had.
#[derive(Debug, Clone)]
pub struct Reclassified {
    pub model: Model,
    /// What is to be said of it, where anything is.
    pub note: Option<String>,
    /// Its last layers have other weights.
    pub new_head: bool,
}

impl Reclassified {
    /// A model that stays as it is.
    pub fn unchanged(model: Model) -> Self {
        Self { model, note: None, new_head: false }
    }
}

impl Model {
    /// The same model, whose classes are called by these names, as many as it has.
    #[must_use]
    pub fn renamed(self, names: &[String]) -> Self {
        let task = self.task().clone().with_classes(names.to_vec());
        if !self.graph().metadata().contains_key(NAMES) {
            return self.with_task(task);
        }
        let graph = self.graph().clone().with_metadata(NAMES, dict(names));
        Self { graph: Arc::new(graph), ..self }.with_task(task)
    }

    /// The model for the classes `names`.
    ///
    /// - As many other names, none of which the model has under another number, are new names for its classes: no weight changes.
    /// - Otherwise the last layers get a row for each of the names: the model's own where it has a class of that name, else a new one,
    ///   drawn from a fixed seed, with the spread of the others and, for biases, their mean. All other weights stay.
    ///
    /// # Errors
    /// `Unsupported` for models whose class logits are not known or cannot be followed to the outputs, and for quantized ones;
    /// `Argument` for names that stand more than once.
    pub fn with_classes(self, names: &[String]) -> Result<Reclassified> {
        let own = self.task().classes().to_vec();
        let (of_model, given) = (Side { who: "the model", names: &own }, Side { who: "option 'classes'", names });
        if own == names {
            return Ok(Reclassified::unchanged(self));
        }
        if names_anew(of_model, given) {
            let bare = are_generated(&own);
            let note = (!bare).then(|| format!("the model's classes {} are now called {}", listing(&own), listing(names)));
            return Ok(Reclassified { model: self.renamed(names), note, new_head: false });
        }
        let rows = pairs(of_model, given)?;
        let graph = Head::new(self.graph(), self.task()).and_then(|head| head.rewritten(&rows, names)).map_err(|e| {
            let (has, asked) = (own.len(), names.len());
            let differ = if has == asked { String::from("their order differs") } else { format!("option 'classes' names {asked}") };
            let hint = e.suggestion().unwrap_or(REBUILD).to_string();
            Error::new(e.kind(), format!("the model has {has} classes, {differ}")).because(e).hint(hint)
        })?;
        let task = self.task().clone().with_classes(names.to_vec());
        let kept: Vec<String> = rows.iter().zip(names).filter(|(r, _)| r.is_some()).map(|(_, n)| n.clone()).collect();
        let fresh: Vec<String> = rows.iter().zip(names).filter(|(r, _)| r.is_none()).map(|(_, n)| n.clone()).collect();
        let mut parts = Vec::new();
        if !kept.is_empty() {
            parts.push(format!("{} keep their weights", listing(&kept)));
        }
        if !fresh.is_empty() {
            parts.push(format!("{} begin untrained", listing(&fresh)));
        }
        let note = format!("a new head in place of that for {}: {}; all other weights are kept", listing(&own), parts.join(", "));
        Ok(Reclassified { model: Self::new(graph, task), note: Some(note), new_head: true })
    }
}

/// Key of the metadata in which Ultralytics' exports name the classes.
const NAMES: &str = "names";

fn dict(names: &[String]) -> String {
    let entries: Vec<String> = names.iter().enumerate().map(|(i, n)| format!("{i}: {}", serde_json::json!(n))).collect();
    format!("{{{}}}", entries.join(", "))
}

/// A graph whose axes of classes are known.
struct Head {
    graph: Graph,
    facts: Arc<Facts>,
    labels: Labels,
    classes: usize,
    /// The class of each label that stands for one.
    class_of: HashMap<Atom, usize>,
}

/// What stands at an index of a rewritten axis: an old index, or a class of a run that began at an old index.
#[derive(Clone, Copy)]
enum Entry {
    Old(usize),
    Class { start: usize, row: Option<usize> },
}

impl Head {
    fn new(graph: &Graph, task: &Task) -> Result<Self> {
        if let Some(node) = quantized_node(graph) {
            let e = Error::unsupported("a quantized model gets no new head").at(node.label());
            return Err(e.hint("give the float model its new head, train it, then quantize"));
        }
        let values = logits(task)?;
        let kept: Vec<String> = values.iter().map(|v| v.name.clone()).collect();
        let graph = pipelines::PRUNE.run_keeping(graph, &kept)?.graph;
        let facts = graph.facts()?;
        let labels = Labels::of_graph_and(&graph, &facts, through_ones)?;
        let classes = task.classes().len();
        let mut head = Self { graph, facts, labels, classes, class_of: HashMap::new() };
        for mut v in values {
            head.before_softmax(&mut v);
            head.mark(&v).at(|| format!("class logits '{}'", v.name))?;
        }
        // What is read must still tell the classes apart, else a step between mixes them in a way that is not known.
        let outputs = match task {
            Task::Detect(d) => d.decode.outputs(),
            _ => Vec::new(),
        };
        let shows = |name: &&str| head.labels.of(name).iter().flatten().any(|l| l.iter().any(|&a| head.class(a).is_some()));
        if !outputs.is_empty() && !outputs.iter().any(shows) && head.told_apart().is_empty() {
            let e = Error::unsupported("the classes cannot be followed from the head's logits to the output");
            return Err(e.hint(REBUILD));
        }
        Ok(head)
    }

    fn class(&self, a: Atom) -> Option<usize> {
        self.class_of.get(&self.labels.root(a)).copied()
    }

    /// A softmax mixes the classes, but only to normalize them: the logits are what it reads, and it keeps their axes.
    fn before_softmax(&mut self, v: &mut Logits) {
        let mut after = Vec::new();
        while self.labels.of(&v.name).last().is_none_or(Option::is_none)
            && let Some(node) = self.graph.producers().get(v.name.as_str()).map(|&i| &self.graph.nodes()[i])
            && (node.is(SOFTMAX) || node.is(LOG_SOFTMAX))
            && let Some(input) = node.input(0)
        {
            after.push(std::mem::replace(&mut v.name, input.to_string()));
        }
        let axes = self.labels.of(&v.name).to_vec();
        for name in after {
            self.labels.set(&name, axes.clone());
        }
    }

    /// Notes which labels of the axis of some logits are classes.
    fn mark(&mut self, v: &Logits) -> Result<()> {
        let unknown = || Error::unsupported("its axis of classes is not known").hint(REBUILD);
        let axis = self.facts.get(&v.name).and_then(|f| f.rank()).and_then(|rank| if v.last { rank.checked_sub(1) } else { Some(1) });
        let labels = self.labels.axis(&v.name, axis.ok_or_else(unknown)?).ok_or_else(unknown)?;
        let block = v.before + self.classes;
        if self.classes == 0 || labels.is_empty() || !labels.len().is_multiple_of(block) {
            return Err(Error::shape(format!("expected blocks of {block} channels, got {}", labels.len())));
        }
        for (i, &a) in labels.iter().enumerate() {
            let class = (i % block).checked_sub(v.before);
            let root = self.labels.root(a);
            match class {
                Some(c) if self.class_of.insert(root, c).is_some_and(|other| other != c) => {
                    return Err(Error::unsupported("classes depend on each other").hint(REBUILD));
                }
                Some(_) => {}
                None if self.class_of.contains_key(&root) => {
                    return Err(Error::unsupported("classes and boxes depend on each other").hint(REBUILD));
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The runs of all classes in order among labels; `None` where there are none.
    ///
    /// # Errors
    /// `Unsupported` for classes that stand otherwise.
    fn runs(&self, labels: &[Atom]) -> Result<Vec<Range<usize>>> {
        let (mut runs, mut i) = (Vec::new(), 0);
        while i < labels.len() {
            if self.class(labels[i]).is_none() {
                i += 1;
                continue;
            }
            let end = i + self.classes;
            let whole = end <= labels.len() && (i..end).all(|k| self.class(labels[k]) == Some(k - i));
            if !whole {
                return Err(Error::unsupported("an axis has the classes in another order than the head").hint(REBUILD));
            }
            runs.push(i..end);
            i = end;
        }
        Ok(runs)
    }

    /// Inputs (node, slot) that divide numbers of candidates, one for each class of each cell, by the number of classes: rows of
    /// finished detections tell their classes so.
    fn told_apart(&self) -> Vec<(usize, usize)> {
        let chosen = |node: &&Node| {
            let labels = node.input(0).and_then(|n| self.labels.of(n).last()).and_then(Option::as_deref);
            let all = |l: &[Atom]| self.runs(l).is_ok_and(|runs| runs.len() * self.classes == l.len() && !runs.is_empty());
            node.is(TOP_K) && labels.is_some_and(all)
        };
        let mut numbers: HashSet<&str> = self.graph.nodes().iter().filter(chosen).filter_map(|n| n.output(1)).collect();
        let mut found = Vec::new();
        for (i, node) in self.graph.nodes().iter().enumerate() {
            let reads = |slot: usize| node.input(slot).is_some_and(|n| numbers.contains(n));
            let is_count = |slot: usize| {
                let constant =
                    node.input(slot).and_then(|n| self.graph.constant(n)).filter(|c| c.element() == Element::I64 && c.count() == 1);
                constant.and_then(|c| c.to_i64s().ok()).is_some_and(|v| v == [self.classes as i64])
            };
            if !(reads(0) || reads(1)) {
                continue;
            }
            match node {
                n if (n.is(DIV) || n.is(MOD)) && reads(0) && is_count(1) => found.push((i, 1)),
                n if n.is(MUL) => found.extend((0..2).filter(|&slot| is_count(slot)).map(|slot| (i, slot))),
                n if n.is(SUB) || moves(n) => {}
                // What else is done with them is not known.
                _ => continue,
            }
            numbers.extend(node.outputs.iter().map(String::as_str));
        }
        found
    }

    /// What stands on an axis afterwards; `None` where it stays.
    fn entries(&self, labels: &[Atom], rows: &[Option<usize>]) -> Result<Option<Vec<Entry>>> {
        let runs = self.runs(labels)?;
        if runs.is_empty() {
            return Ok(None);
        }
        let (mut entries, mut at) = (Vec::new(), 0);
        for run in runs {
            entries.extend((at..run.start).map(Entry::Old));
            entries.extend(rows.iter().map(|&row| Entry::Class { start: run.start, row }));
            at = run.end;
        }
        entries.extend((at..labels.len()).map(Entry::Old));
        Ok(Some(entries))
    }

    /// How many indices with these labels there are afterwards.
    fn count(&self, labels: &[Atom], new: usize) -> Result<usize> {
        // A part of an axis may end within the classes only where it ends before or after all of them.
        let runs = self.runs(labels)?;
        Ok(labels.len() + runs.len() * new - runs.len() * self.classes)
    }

    /// The graph with these rows in place of the classes: numbers of old ones, `None` for new ones.
    fn rewritten(&self, rows: &[Option<usize>], names: &[String]) -> Result<Graph> {
        let mut patch = Patch::new(&self.graph);
        // Names in order, so that draws do not depend on the order of a map.
        for (name, constant) in self.graph.constants() {
            let mut changed: Option<Tensor> = None;
            for (axis, labels) in self.labels.of(name).iter().enumerate() {
                let Some(labels) = labels else { continue };
                let Some(entries) = self.entries(labels, rows).at(|| format!("constant '{name}'"))? else { continue };
                let full = changed.take().map_or_else(|| constant.tensor(&Device::Cpu), Ok)?;
                let classes: Vec<u32> = self.runs(labels)?.into_iter().flatten().map(|i| i as u32).collect();
                changed = Some(redrawn(&full, axis, &entries, &classes, name).at(|| format!("constant '{name}'"))?);
            }
            if let Some(t) = changed {
                patch.set_constant(name, Constant::from_storage(constant.element(), &t)?);
            }
        }
        for edit in self.labels.edits() {
            self.edit(&mut patch, edit, rows).at(|| self.graph.nodes()[edit.node()].label())?;
        }
        for (node, slot) in self.told_apart() {
            let name = patch.fresh("classes");
            let dims = self.graph.nodes()[node].input(slot).and_then(|n| self.graph.constant(n)).map_or(&[][..], Constant::dims);
            patch.set_constant(&name, Constant::from_tensor(&Tensor::full(rows.len() as i64, dims, &Device::Cpu)?)?);
            patch.edit(node).inputs[slot] = name;
        }
        let mut outputs = self.graph.outputs().to_vec();
        for output in &mut outputs {
            if let Some(shape) = output.fact.shape.take() {
                output.fact.shape = Some(self.shape(self.labels.of(&output.name), &shape, rows.len())?);
            }
        }
        patch.set_outputs(outputs);
        for (name, axes) in self.labels.values().filter(|(name, _)| !self.graph.is_output(name)) {
            let Some(shape) = self.facts.get(name).and_then(|f| f.shape.clone()) else { continue };
            let new = self.shape(axes, &shape, rows.len())?;
            if new != shape {
                patch.reshape_value(name, new);
            }
        }
        if self.graph.metadata().contains_key(NAMES) {
            patch.set_metadata(NAMES, dict(names));
        }
        let graph = patch.apply()?;
        self.check(&graph, rows.len())?;
        Ok(graph)
    }

    fn shape(&self, axes: &[AxisLabels], shape: &[Dim], new: usize) -> Result<Vec<Dim>> {
        let size = |(i, d): (usize, &Dim)| match axes.get(i).and_then(Option::as_deref) {
            Some(labels) if !self.runs(labels)?.is_empty() => Ok(Dim::Known(self.count(labels, new)?)),
            _ => Ok(d.clone()),
        };
        shape.iter().enumerate().map(size).collect()
    }

    fn numbers(&self) -> Renumber<'_> {
        Renumber { graph: &self.graph, facts: &self.facts, word: "classes" }
    }

    /// One change of sizes or indices in a node.
    fn edit(&self, patch: &mut Patch<'_>, edit: &Edit, rows: &[Option<usize>]) -> Result<()> {
        let new = rows.len();
        match edit {
            Edit::Indices { node, input, labels, indices } => {
                let runs = self.runs(labels)?;
                if runs.is_empty() {
                    return Ok(());
                }
                if let Some(run) = runs.iter().find(|run| indices.iter().any(|i| run.contains(i))) {
                    // All classes, in order, or none of them.
                    let picked: Vec<usize> = indices.iter().copied().filter(|i| run.contains(i)).collect();
                    if picked != run.clone().collect::<Vec<_>>() {
                        return Err(Error::unsupported("the graph picks single classes").hint(REBUILD));
                    }
                }
                let mut moved: Vec<i64> = Vec::new();
                for &i in indices {
                    let before = self.count(&labels[..runs.iter().find(|r| r.contains(&i)).map_or(i, |r| r.start)], new)?;
                    match runs.iter().find(|r| r.contains(&i)) {
                        Some(run) if run.start == i => moved.extend((0..new).map(|k| (before + k) as i64)),
                        Some(_) => {}
                        None => moved.push(before as i64),
                    }
                }
                self.numbers().input(patch, *node, *input, &moved)
            }
            Edit::Sizes { node, place, sizes } => {
                let changed = |s: &Size| -> Result<Option<i64>> {
                    match s {
                        Size::Count(l) => Ok(Some(self.count(l, new)? as i64)),
                        Size::Fixed(n) => Ok(Some(*n)),
                        Size::Open => Ok(None),
                    }
                };
                let concerns = |s: &Size| matches!(s, Size::Count(l) if l.iter().any(|&a| self.class(a).is_some()));
                if !sizes.iter().any(concerns) {
                    return Ok(());
                }
                let numbers = sizes.iter().map(changed).collect::<Result<Vec<_>>>()?;
                self.numbers().write(patch, *node, place, &numbers)
            }
        }
    }

    /// Every value has the size that its labels say.
    fn check(&self, graph: &Graph, new: usize) -> Result<()> {
        let follows = |e: Error| e.hint(REBUILD);
        let facts = graph.facts().map_err(follows)?;
        for node in graph.nodes() {
            for name in &node.outputs {
                let (Some(now), Some(old)) = (facts.get(name), self.facts.get(name)) else { continue };
                let (Some(got), Some(shape)) = (&now.shape, &old.shape) else { continue };
                let expected = self.shape(self.labels.of(name), shape, new)?;
                if got.len() != expected.len() || !got.iter().zip(&expected).all(|(a, b)| a.compatible(b)) {
                    let wanted = crate::Fact::new(now.element, expected);
                    let e = Error::unsupported(format!("a size does not follow the classes: '{name}' should be {wanted}, got {now}"));
                    return Err(e.at(node.label()).hint(REBUILD));
                }
            }
        }
        Ok(())
    }
}

/// Labels of an axis of one index (of a model of one class) go through what keeps it, and the target sizes follow. No rule of an
/// operator gives them, for such an axis says nothing to pruning.
fn through_ones(cx: &mut Channels<'_>) {
    let Some(output) = cx.node.output(0).filter(|_| moves(cx.node)) else { return };
    let (Ok(from), Ok(to), Ok(labels), Some(target)) = (cx.shape(0), cx.out_shape(0), cx.axes(0), cx.ints(1)) else { return };
    let mut out = cx.labels.of(output).to_vec();
    out.resize(to.len(), None);
    let one = Dim::Known(1);
    let kept = |k: &usize| from[*k] == one && to[*k] == one && from[..*k] == to[..*k] && labels[*k].is_some();
    let kept: Vec<usize> = (0..from.len().min(to.len())).filter(kept).filter(|k| out[*k].is_none()).collect();
    if kept.is_empty() || target.len() != to.len() {
        return;
    }
    kept.iter().for_each(|&k| out[k].clone_from(&labels[k]));
    let size = |(k, &n): (usize, &i64)| match &out[k] {
        Some(l) if n == 1 && kept.contains(&k) => Size::Count(l.clone()),
        _ => Size::Fixed(n),
    };
    let sizes = target.iter().enumerate().map(size).collect();
    cx.set(0, out);
    cx.sizes(Site::Input(1), sizes);
}

const REBUILD: &str =
    "build the model for the classes and put these weights in: model(\"yolov8n\", #{ classes: d.classes, weights: file })";

/// A value of class logits: blocks of `before` other channels and all classes, on axis 1 or the last.
struct Logits {
    name: String,
    before: usize,
    last: bool,
}

fn logits(task: &Task) -> Result<Vec<Logits>> {
    let all = |names: &[String], before| names.iter().map(|n| Logits { name: n.clone(), before, last: false }).collect();
    match task {
        Task::Classify(c) => Ok(vec![Logits { name: c.output.clone(), before: 0, last: true }]),
        Task::Detect(d) => match (&d.head, &d.anchors) {
            (Some(head), _) => Ok(all(&head.scores, 0)),
            // Box and objectness before the classes.
            (None, Some(head)) => Ok(all(&head.outputs, 5)),
            (None, None) => Err(Error::unsupported("a new head needs a detector whose raw head values are known")
                .hint("detectors of the YOLO family know theirs; names alone change where there are as many of them")),
        },
        Task::Instances(_) => {
            Err(Error::unsupported("a new head is for detectors and classifiers, not for masks, key points or turned boxes").hint(REBUILD))
        }
        Task::Unknown => {
            Err(Error::unsupported("the model's task is not known, so it has no classes").hint("open it with option 'decode'"))
        }
    }
}

/// A constant with other entries along an axis, on which the old `classes` stand at these indices. New rows have the spread of theirs,
/// new biases (of rank 1) their mean.
fn redrawn(full: &Tensor, axis: usize, entries: &[Entry], classes: &[u32], name: &str) -> Result<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(name.bytes().fold(0, |h: u64, b| h.wrapping_mul(0x0100_0000_01b3) ^ u64::from(b)));
    let mut spread: Option<Spread> = None;
    let mut parts = Vec::with_capacity(entries.len());
    for entry in entries {
        parts.push(match *entry {
            Entry::Old(i) => full.narrow(axis, i, 1)?,
            Entry::Class { start, row: Some(row) } => full.narrow(axis, start + row, 1)?,
            Entry::Class { row: None, .. } => {
                let of = match spread.take() {
                    Some(known) => known,
                    None => Spread::of(&full.index_select(&Tensor::new(classes, &Device::Cpu)?, axis)?)?,
                };
                spread.insert(of).draw(full, axis, &mut rng)?
            }
        });
    }
    if parts.is_empty() {
        return Err(Error::argument("option 'classes' has no names"));
    }
    Ok(Tensor::cat(&parts, axis)?.contiguous()?)
}

/// Mean and standard deviation of a constant's numbers.
struct Spread {
    mean: f64,
    deviation: f64,
}

impl Spread {
    /// # Errors
    /// `Unsupported` for integers, of which no row can be drawn.
    fn of(t: &Tensor) -> Result<Self> {
        if !t.dtype().is_float() {
            return Err(Error::unsupported("a row of integers cannot be drawn for a new class"));
        }
        let values = t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        Ok(Self { mean, deviation })
    }
    /// One entry along `axis`: uniform numbers around 0 of this deviation; of a vector, the mean.
    fn draw(&self, like: &Tensor, axis: usize, rng: &mut ChaCha8Rng) -> Result<Tensor> {
        let mut dims = like.dims().to_vec();
        dims[axis] = 1;
        let count: usize = dims.iter().product();
        let bound = 3f64.sqrt() * self.deviation;
        let values: Vec<f64> =
            if dims.len() == 1 { vec![self.mean; count] } else { (0..count).map(|_| bound * rng.random_range(-1.0..=1.0)).collect() };
        Ok(Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(like.dtype())?)
    }
}
