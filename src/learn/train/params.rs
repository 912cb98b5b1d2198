//! Which constants of a graph are trained, and how they travel between graph and training.
//!
//! Parameters are the constants that stand in a parameter slot of an operator (see
//! [`OpDef::params`](compresso_model::ops::OpDef)) *and* influence the values that the loss reads. So what serves only the
//! decoding of boxes (anchors, strides, the fixed kernel of distribution focal boxes) is never trained.

use super::options::Freeze;
use candle_core::{Device, Tensor, Var};
use compresso_base::error::{At, Error, Result, nearest};
use compresso_exec as exec;
use compresso_model::graph::parameter_kind;
use compresso_model::ops::{self, ParamKind};
use compresso_model::{Constant, Element, Graph, Patch};
use indexmap::IndexMap;
use std::collections::HashSet;

/// Metadata key under which a sparse model lists the constants whose zeros are frozen, as a JSON list of names.
pub const MASKS_KEY: &str = "compresso.masks";

/// A trained constant.
#[derive(Debug, Clone)]
pub struct Param {
    pub name: String,
    pub var: Var,
    pub kind: ParamKind,
    /// 1 where the element may change, 0 where it is a frozen zero.
    pub mask: Option<Tensor>,
}

impl Param {
    pub fn new(name: impl Into<String>, value: &Tensor, kind: ParamKind) -> Result<Self> {
        Ok(Self { name: name.into(), var: Var::from_tensor(&value.copy()?)?, kind, mask: None })
    }
    /// Weights decay; biases and norms do not.
    pub fn decays(&self) -> bool {
        self.kind == ParamKind::Weight
    }
}

/// The trained constants of a graph, and the running statistics beside them.
#[derive(Debug, Clone)]
pub struct ParamSet {
    pub params: Vec<Param>,
    pub statistics: IndexMap<String, Tensor>,
}

impl ParamSet {
    /// The parameters that influence `wanted`, as variables on `device`.
    ///
    /// # Errors
    /// `DType` for parameters that are not float32; `Unsupported` when there are none; `Format` for a broken list of masks.
    pub fn of(graph: &Graph, wanted: &[String], device: &Device) -> Result<Self> {
        let found = trainable(graph, wanted)?;
        let masked = masked_names(graph)?;
        let mut set = Self { params: Vec::new(), statistics: IndexMap::new() };
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
            let mut param = Param::new(name, &tensor, kind)?;
            if masked.contains(&param.name) {
                param.mask = Some(tensor.ne(0f32)?.to_dtype(tensor.dtype())?);
            }
            set.params.push(param);
        }
        if set.params.is_empty() {
            let e = Error::unsupported("the model has no trainable float32 weights on the way to its outputs");
            return Err(e.hint("a quantized model is trained before quantization"));
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

    /// Number of trained elements.
    pub fn count(&self) -> usize {
        self.params.iter().map(|p| p.var.elem_count()).sum()
    }

    /// The tensors with which the graph runs under training.
    pub fn bind(&self) -> exec::Params {
        let params = self.params.iter().map(|p| (p.name.clone(), p.var.as_tensor().clone()));
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
        let params = self.params.iter().map(|p| (p.name.clone(), p.var.as_tensor().detach()));
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
    let makers = graph.producers();
    let mut found = IndexMap::new();
    for i in ancestors(graph, wanted) {
        let node = &graph.nodes()[i];
        let op = ops::find(node)?;
        for &(slot, _) in op.params {
            if !node.input(slot).and_then(|n| graph.constant(n)).is_some_and(|c| c.element().is_float()) {
                continue;
            }
            if let Some(kind) = parameter_kind(graph, &makers, node, slot) {
                found.entry(node.inputs[slot].clone()).or_insert(kind);
            }
        }
    }
    Ok(found)
}

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

fn masked_names(graph: &Graph) -> Result<HashSet<String>> {
    match graph.metadata().get(MASKS_KEY) {
        None => Ok(HashSet::new()),
        Some(text) => serde_json::from_str::<Vec<String>>(text)
            .map(HashSet::from_iter)
            .map_err(|e| Error::format("expected a list of constant names").because(e))
            .at(|| format!("metadata '{MASKS_KEY}'")),
    }
}
