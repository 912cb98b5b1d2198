//! Other classes for a model: its last layers get rows for them, and all that comes before keeps its weights.
//!
//! Which constants, sizes and indices depend on the classes is read off the channel labels (see [`crate::ops::channels`]): the
//! class logits have a label per class, and every axis of the graph on which these stand in their order is rewritten.

mod rows;

use crate::classes::{Side, are_generated, listing, names_anew, pairs};
use crate::ops::arithmetic::{DIV, MOD, MUL, SUB};
use crate::ops::channels::{Atom, Channels, Labels, Site, Size};
use crate::ops::order::TOP_K;
use crate::ops::softmax::{LOG_SOFTMAX, SOFTMAX};
use crate::ops::{moves, quantized_node};
use crate::passes::pipelines;
use crate::recut::Recut;
use crate::{Constant, Dim, Element, Facts, Graph, Model, Node, Patch, Task};
use candle_core::{Device, Tensor};
use compresso_base::error::{At, Error, Result};
use rows::{Entry, redrawn};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// A model for other classes than it had.
#[derive(Debug, Clone)]
pub struct Reclassified {
    /// The model, with the classes that were asked for.
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
            let keep = if kept.len() == 1 { "keeps its weights" } else { "keep their weights" };
            parts.push(format!("{} {keep}", listing(&kept)));
        }
        if !fresh.is_empty() {
            parts.push(format!("{} {} untrained", listing(&fresh), if fresh.len() == 1 { "begins" } else { "begin" }));
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

    /// The graph with these rows in place of the classes: numbers of old ones, `None` for new ones.
    fn rewritten(&self, rows: &[Option<usize>], names: &[String]) -> Result<Graph> {
        let mut patch = Patch::new(&self.graph);
        let change = NewRows { head: self, rows };
        change.rewrite(&mut patch)?;
        for (node, slot) in self.told_apart() {
            let name = patch.fresh("classes");
            let dims = self.graph.nodes()[node].input(slot).and_then(|n| self.graph.constant(n)).map_or(&[][..], Constant::dims);
            patch.set_constant(&name, Constant::from_tensor(&Tensor::full(rows.len() as i64, dims, &Device::Cpu)?)?);
            patch.edit(node).inputs[slot] = name;
        }
        if self.graph.metadata().contains_key(NAMES) {
            patch.set_metadata(NAMES, dict(names));
        }
        let graph = patch.apply()?;
        change.check(&graph)?;
        Ok(graph)
    }
}

/// Rows in place of the classes of a head: numbers of old ones, `None` for new ones.
struct NewRows<'a> {
    head: &'a Head,
    rows: &'a [Option<usize>],
}

impl NewRows<'_> {
    /// How many indices there are afterwards where so many are, with so many runs of the classes.
    fn count(&self, labels: usize, runs: usize) -> usize {
        labels + runs * self.rows.len() - runs * self.head.classes
    }
}

impl Recut for NewRows<'_> {
    const WORD: &'static str = "classes";
    const FOLLOWED: &'static str = "the classes";
    const HINT: &'static str = REBUILD;

    fn graph(&self) -> &Graph {
        &self.head.graph
    }
    fn facts(&self) -> &Facts {
        &self.head.facts
    }
    fn labels(&self) -> &Labels {
        &self.head.labels
    }
    /// The number of classes may be the same, their order another.
    fn new_size(&self, labels: &[Atom]) -> Result<Option<usize>> {
        let runs = self.head.runs(labels)?.len();
        Ok((runs > 0).then(|| self.count(labels.len(), runs)))
    }
    fn recut(&self, name: &str, constant: &Tensor, axis: usize, labels: &[Atom]) -> Result<Tensor> {
        let runs = self.head.runs(labels)?;
        let (mut entries, mut at) = (Vec::new(), 0);
        for run in &runs {
            entries.extend((at..run.start).map(Entry::Old));
            entries.extend(self.rows.iter().map(|&row| Entry::Class { start: run.start, row }));
            at = run.end;
        }
        entries.extend((at..labels.len()).map(Entry::Old));
        let classes: Vec<u32> = runs.into_iter().flatten().map(|i| i as u32).collect();
        redrawn(constant, axis, &entries, &classes, name)
    }
    /// All classes, in order, or none of them.
    fn moved(&self, labels: &[Atom], indices: &[usize]) -> Result<Vec<i64>> {
        let runs = self.head.runs(labels)?;
        if let Some(run) = runs.iter().find(|run| indices.iter().any(|i| run.contains(i))) {
            let picked = indices.iter().copied().filter(|i| run.contains(i));
            if !picked.eq(run.clone()) {
                return Err(Error::unsupported("the graph picks single classes").hint(REBUILD));
            }
        }
        let mut moved: Vec<i64> = Vec::new();
        for &i in indices {
            let own = runs.iter().find(|r| r.contains(&i));
            // What is before an index, or the run that it is in.
            let until = own.map_or(i, |r| r.start);
            let before = self.count(until, runs.iter().filter(|r| r.end <= until).count());
            match own {
                Some(run) if run.start == i => moved.extend((0..self.rows.len()).map(|k| (before + k) as i64)),
                Some(_) => {}
                None => moved.push(before as i64),
            }
        }
        Ok(moved)
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
