//! Which constants of a graph are trained, and how they travel between graph and training.
//!
//! Parameters are the constants that count as such wherever they are stored (see [`stored`]) *and* influence the values that the loss reads.
//! So what serves only the decoding of boxes (anchors, strides, the fixed kernel of distribution focal boxes) is never trained.

use super::options::Freeze;
use candle_core::{Device, Tensor, Var};
use compresso_base::error::{Error, Result, nearest};
use compresso_exec as exec;
use compresso_model::graph::{Stored, stored};
use compresso_model::ops::{self, ParamKind, QuantRule};
use compresso_model::{Constant, Element, Graph, Node, Patch};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// Metadata key under which a sparse model lists the constants whose zeros stay, as a JSON list of names.
pub const MASKS_KEY: &str = "compresso.masks";

/// A trained constant.
#[derive(Debug, Clone)]
pub struct Param {
    /// Name of the constant in the graph; of what a parametrization or a loss trains beside it, a name of its own.
    pub name: String,
    /// Its value, which training changes.
    pub var: Var,
    /// What it is for its layer: this decides decay and learning rate.
    pub kind: ParamKind,
}

impl Param {
    /// With a copy of this value.
    pub fn new(name: impl Into<String>, value: &Tensor, kind: ParamKind) -> Result<Self> {
        Ok(Self { name: name.into(), var: Var::from_tensor(&value.copy()?)?, kind })
    }
    /// Weights decay; biases and norms do not.
    pub fn decays(&self) -> bool {
        self.kind == ParamKind::Weight
    }
}

/// The trained constants of a graph, and the running statistics beside them.
#[derive(Debug, Clone)]
pub struct ParamSet {
    /// Trained constants, in the order of the graph.
    pub params: Vec<Param>,
    /// Running means and variances of norms by name, which follow batches and are not trained.
    pub statistics: IndexMap<String, Tensor>,
    /// What parametrizations train of their own.
    pub variables: Vec<Param>,
    /// Parameters on the way that training does not reach, with their numbers of elements.
    pub unreached: Vec<(String, usize)>,
}

impl ParamSet {
    /// The parameters that influence `wanted`, as variables on `device`.
    ///
    /// # Errors
    /// `DType` for parameters that are not float32; `Unsupported` when there are none, or for weights that are stored as integers.
    pub fn of(graph: &Graph, wanted: &[String], device: &Device) -> Result<Self> {
        integer_weights(graph, wanted)?;
        let found = trainable(graph, wanted)?;
        let unreached = unreached(graph, wanted, &found)?;
        let mut set = Self { params: Vec::new(), statistics: IndexMap::new(), variables: Vec::new(), unreached };
        for (name, kind) in found {
            let Some(constant) = graph.constant(&name) else { continue };
            if constant.element() != Element::F32 {
                let e = Error::dtype(format!("constant '{name}' is {}, training needs float32", constant.element()));
                return Err(e.hint("train before converting or quantizing the model"));
            }
            let tensor = constant.tensor(device)?;
            if kind == ParamKind::Statistic {
                set.statistics.insert(name, tensor);
                continue;
            }
            set.params.push(Param::new(name, &tensor, kind)?);
        }
        if set.params.is_empty() {
            return Err(Error::unsupported("the model has no trainable float32 weights on the way to its outputs"));
        }
        Ok(set)
    }

    /// Leaves parameters as they are.
    ///
    /// # Errors
    /// `Argument` when there are none such, or no others.
    pub fn freeze(&mut self, freeze: &Freeze) -> Result<()> {
        if let Freeze::Names(names) = freeze
            && let Some(name) = names.iter().find(|n| !self.params.iter().any(|p| Freeze::Names(vec![(*n).clone()]).holds(&p.name)))
        {
            let e = Error::argument(format!("option 'freeze': no parameter's name begins with '{name}'"));
            return Err(match nearest(name, self.params.iter().map(|p| p.name.as_str())) {
                Some(near) => e.hint(format!("the nearest name is '{near}'")),
                None => e.hint("summary(model) lists the layers"),
            });
        }
        let before = self.params.len();
        self.params.retain(|p| !freeze.holds(&p.name));
        match self.params.len() {
            0 => Err(Error::argument("option 'freeze' leaves nothing to train")),
            n if n == before && *freeze != Freeze::Layers(0) => {
                let e = Error::argument("option 'freeze': the model's layers are not numbered as those of the YOLO family");
                Err(e.hint("give a list of names instead"))
            }
            _ => Ok(()),
        }
    }

    /// What is said of parameters that stay as they are although the loss depends on them.
    pub fn note(&self) -> Option<String> {
        let elements: usize = self.unreached.iter().map(|(_, n)| n).sum();
        let names: Vec<String> = self.unreached.iter().take(3).map(|(name, _)| format!("'{name}'")).collect();
        let more = if self.unreached.len() > names.len() { ", …" } else { "" };
        let (count, of) = (self.unreached.len(), self.count() + elements);
        (count > 0).then(|| {
            let names = names.join(", ");
            format!("{count} weights ({elements} of {of} numbers) stay as they are, as they lie where training does not reach them: {names}{more}")
        })
    }

    /// Number of trained elements.
    pub fn count(&self) -> usize {
        self.params.iter().map(|p| p.var.elem_count()).sum()
    }

    /// All that is trained: the graph's constants, then what parametrizations train.
    pub fn trained(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().chain(&self.variables)
    }

    /// The tensors that are stored, as variables where they are trained.
    pub fn bind(&self) -> exec::Params {
        let params = self.trained().map(|p| (p.name.clone(), p.var.as_tensor().clone()));
        self.statistics.iter().map(|(n, t)| (n.clone(), t.clone())).chain(params).collect()
    }

    /// Takes the running statistics that a training run left.
    ///
    /// # Errors
    /// `Internal` when an operator reports a statistic that it did not declare.
    pub fn update_statistics(&mut self, updates: Vec<(String, Tensor)>) -> Result<()> {
        for (name, tensor) in updates {
            let Some(slot) = self.statistics.get_mut(&name) else {
                return Err(Error::internal(format!("an operator updated '{name}', which is not one of its statistics")));
            };
            *slot = tensor.detach();
        }
        Ok(())
    }

    /// All tensors by name, trained ones and statistics, as they are now.
    pub fn tensors(&self) -> IndexMap<String, Tensor> {
        let params = self.trained().map(|p| (p.name.clone(), p.var.as_tensor().detach()));
        params.chain(self.statistics.iter().map(|(n, t)| (n.clone(), t.clone()))).collect()
    }
}

/// The graph with these constants in place of its own.
///
/// # Errors
/// As [`Patch::apply`].
pub fn write_back(graph: &Graph, tensors: &IndexMap<String, Tensor>) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    for (name, tensor) in tensors {
        patch.set_constant(name.clone(), Constant::from_tensor(&tensor.copy()?)?);
    }
    patch.apply()
}

/// Names of the constants that training changes, with what they are, in graph order.
///
/// # Errors
/// `Unsupported` for operators that the library does not know.
pub fn trainable(graph: &Graph, wanted: &[String]) -> Result<IndexMap<String, ParamKind>> {
    let held = stored(graph)?;
    let kinds: HashMap<&str, ParamKind> = held.iter().filter(|s| s.holder.is_none()).filter_map(|s| Some((s.name, s.kind?))).collect();
    let mut found = IndexMap::new();
    for i in ancestors(graph, wanted) {
        let node = &graph.nodes()[i];
        let op = ops::find(node)?;
        for name in node.reads() {
            let (Some(&kind), Some(constant)) = (kinds.get(name), graph.constant(name).filter(|c| !is_ramp(c))) else { continue };
            // Other types at a layer itself are an error of who trains; behind a Cast they are out of reach.
            let direct = op.params.iter().any(|&(slot, _)| node.input(slot) == Some(name));
            if constant.element() == Element::F32 || direct && constant.element().is_float() {
                found.entry(name.to_string()).or_insert(kind);
            }
        }
    }
    Ok(found)
}

/// Parameters on which the values depend, and that are not among those `found`: stored in other types, or inside inner graphs.
fn unreached(graph: &Graph, wanted: &[String], found: &IndexMap<String, ParamKind>) -> Result<Vec<(String, usize)>> {
    let nodes: Vec<&Node> = ancestors(graph, wanted).into_iter().map(|i| &graph.nodes()[i]).collect();
    let read: HashSet<&str> = nodes.iter().flat_map(|n| n.reads()).collect();
    let missed = |s: &Stored<'_>| s.is_parameter() && !found.contains_key(s.name) && !is_ramp(&s.constant);
    let name = |s: &Stored<'_>| (s.name.to_string(), s.constant.count());
    let mut all: Vec<_> = stored(graph)?.iter().filter(|s| read.contains(s.name) && missed(s)).map(name).collect();
    let mut inner: Vec<&Graph> = nodes.iter().flat_map(|n| n.inner()).collect();
    while let Some(graph) = inner.pop() {
        all.extend(stored(graph)?.iter().filter(|s| missed(s)).map(name));
        inner.extend(graph.nodes().iter().flat_map(Node::inner));
    }
    Ok(all)
}

/// Whether a kernel takes the mean of a distribution over 0, 1, 2, …: that of distribution focal boxes (Li et al. 2020), which
/// is no weight.
fn is_ramp(constant: &Constant) -> bool {
    let &[1, bins, 1, 1] = constant.dims() else { return false };
    let is_step = |(i, v): (usize, f64)| v == i as f64;
    (2..=MOST_BINS).contains(&bins) && constant.to_f64s().is_ok_and(|values| values.into_iter().enumerate().all(is_step))
}

/// Bins of a distribution focal box are fewer.
const MOST_BINS: usize = 1024;

/// Indices of the nodes on which the values depend, in graph order.
pub fn ancestors(graph: &Graph, values: &[String]) -> Vec<usize> {
    let makers = graph.producers();
    let mut seen = HashSet::new();
    let mut stack: Vec<&str> = values.iter().map(String::as_str).collect();
    while let Some(name) = stack.pop() {
        if let Some(&i) = makers.get(name)
            && seen.insert(i)
        {
            let node = &graph.nodes()[i];
            stack.extend(node.inputs.iter().map(String::as_str).chain(node.captured()));
        }
    }
    let mut order: Vec<usize> = seen.into_iter().collect();
    order.sort_unstable();
    order
}

/// Weights that are stored as integers have no gradient, and what comes before them would silently have none either.
fn integer_weights(graph: &Graph, wanted: &[String]) -> Result<()> {
    for node in ancestors(graph, wanted).into_iter().map(|i| &graph.nodes()[i]) {
        let op = ops::find(node)?;
        if op.weight.is_none() && op.quant != QuantRule::Quantized {
            continue;
        }
        for (name, c) in node.inputs.iter().filter_map(|n| Some((n, graph.constant(n)?))) {
            if c.dims().len() >= 2 && c.element().int_range().is_some() && c.element().bits() <= 16 {
                let e =
                    Error::unsupported(format!("its weights '{name}' are stored as {}, where training does not reach them", c.element()));
                return Err(e.at(node.label()).hint("train the float model before it is quantized, or quantize with mode: \"static\""));
            }
        }
    }
    Ok(())
}
