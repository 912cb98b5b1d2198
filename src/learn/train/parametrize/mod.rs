//! Parametrizations: what stands between the tensors that training stores and those that the graph sees.
//!
//! Training keeps *stored* tensors: the model's parameters, its running statistics, and what parametrizations train of their
//! own. In each step a [`Parametrization`] makes of them the tensors with which the graph runs, by operations that candle
//! differentiates, so that gradients reach what is stored. At the end it makes constants of them in the same way, so that the
//! model needs it no longer. Optimizer, moving average, best weights and checkpoints know stored tensors only.
//!
//! In a list, the first is nearest to what is stored and the last nearest to the graph.

mod fake_quant;
mod mask;
mod quantized;
mod scales;
mod stored;
#[cfg(test)]
mod tests;

pub use fake_quant::{FakeQuantWeights, Limits, fake_quantize, straight_through};
pub use mask::Mask;
pub use quantized::QuantizedWeights;

use super::params::Param;
use candle_core::Tensor;
use compresso_base::error::{At, Error, Result};
use compresso_model::{Constant, Graph, Patch};
use indexmap::IndexMap;
use std::collections::HashSet;

/// Tensors by name.
pub type Tensors = IndexMap<String, Tensor>;

/// How far a training has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepCount {
    /// Batches so far, those included whose gradients wait for others.
    pub done: usize,
    /// Batches of the whole training; 0 where it has no planned end.
    pub total: usize,
}

/// See the [module](self).
pub trait Parametrization: Send {
    /// What errors, the loss's parts and checkpoints call it.
    fn name(&self) -> &'static str;

    /// The graph to train in place of this one; `None`: the same. It has the same values and may have other constants, which
    /// [`Parametrization::finish`] turns back into those of the given graph.
    ///
    /// # Errors
    /// `Unsupported` for graphs that it cannot serve.
    fn rewrite(&mut self, _graph: &Graph) -> Result<Option<Graph>> {
        Ok(None)
    }

    /// Begins, with the parameters that are trained (frozen ones are not among them). Returns what it trains of its own, with
    /// names that no constant of the graph has.
    ///
    /// # Errors
    /// Whatever makes its tensors impossible to compute.
    fn start(&mut self, params: &[Param]) -> Result<Vec<Param>>;

    /// Replaces tensors by what the graph is to see. The result may depend on nothing but the given tensors, its own trained
    /// ones among them, and on [`Parametrization::state`]: it is called for the weights under training, whose gradients flow
    /// back through it, and for their moving average.
    ///
    /// # Errors
    /// Whatever candle reports.
    fn forward(&self, tensors: &mut Tensors) -> Result<()>;

    /// A scalar that is added to the loss; `tensors` are as the parametrization itself gets them.
    ///
    /// # Errors
    /// Whatever candle reports.
    fn penalty(&self, _tensors: &Tensors) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Called after each step of the optimizer, with what is stored then.
    ///
    /// # Errors
    /// Whatever candle reports.
    fn stepped(&mut self, _at: StepCount, _stored: &Tensors) -> Result<()> {
        Ok(())
    }

    /// What it remembers from step to step, beside what is trained; it stands in checkpoints. The weights of the best epoch are
    /// finished with what is remembered last.
    fn state(&self) -> Tensors {
        Tensors::new()
    }

    /// Goes on from a state, of the same names and shapes as [`Parametrization::state`] gives after [`Parametrization::start`].
    ///
    /// # Errors
    /// Whatever candle reports.
    fn restore(&mut self, _state: Tensors) -> Result<()> {
        Ok(())
    }

    /// As [`Parametrization::forward`], for good: what is left in `tensors`, its own tensors aside, becomes constants of the
    /// model, and so does what it puts into `constants`.
    ///
    /// # Errors
    /// As [`Parametrization::forward`].
    fn finish(&self, tensors: &mut Tensors, _constants: &mut IndexMap<String, Constant>) -> Result<()> {
        self.forward(tensors)
    }
}

/// A list of parametrizations at work.
#[derive(Default)]
pub(super) struct Chain {
    list: Vec<Box<dyn Parametrization>>,
    /// Names of what they train of their own.
    variables: HashSet<String>,
}

impl Chain {
    pub fn new(list: Vec<Box<dyn Parametrization>>) -> Self {
        Self { list, variables: HashSet::new() }
    }
    /// The graph to train.
    pub fn rewrite(&mut self, graph: &Graph) -> Result<Graph> {
        let mut graph = graph.clone();
        for p in self.list.iter_mut().rev() {
            if let Some(other) = p.rewrite(&graph).at(|| p.name().to_string())? {
                graph = other;
            }
        }
        Ok(graph)
    }
    /// What they train of their own.
    ///
    /// # Errors
    /// `Internal` for a name that is taken.
    pub fn start(&mut self, graph: &Graph, params: &[Param]) -> Result<Vec<Param>> {
        let mut variables: Vec<Param> = Vec::new();
        for p in &mut self.list {
            for own in p.start(params).at(|| p.name().to_string())? {
                if graph.constant(&own.name).is_some() || variables.iter().any(|v| v.name == own.name) {
                    return Err(Error::internal(format!("{} trains '{}', a name that is taken", p.name(), own.name)));
                }
                variables.push(own);
            }
        }
        self.variables = variables.iter().map(|v| v.name.clone()).collect();
        Ok(variables)
    }
    /// What the graph sees of stored tensors, and the sum of the penalties by name.
    pub fn forward(&self, mut tensors: Tensors) -> Result<(Tensors, Vec<(&'static str, Tensor)>)> {
        let mut penalties = Vec::new();
        for p in &self.list {
            let place = || p.name().to_string();
            if let Some(penalty) = p.penalty(&tensors).at(place)? {
                penalties.push((p.name(), penalty));
            }
            p.forward(&mut tensors).at(place)?;
        }
        self.drop_variables(&mut tensors);
        Ok((tensors, penalties))
    }
    pub fn stepped(&mut self, at: StepCount, stored: &Tensors) -> Result<()> {
        self.list.iter_mut().try_for_each(|p| p.stepped(at, stored).at(|| p.name().to_string()))
    }
    /// The states, each tensor's name behind the place and name of its parametrization.
    pub fn state(&self) -> Tensors {
        let one = |(i, p): (usize, &dyn Parametrization)| {
            let scope = format!("{i}.{}", p.name());
            p.state().into_iter().map(move |(n, t)| (format!("{scope}.{n}"), t)).collect::<Vec<_>>()
        };
        self.list.iter().map(|p| &**p).enumerate().flat_map(one).collect()
    }
    /// Goes on from what [`Chain::state`] gave.
    pub fn restore(&mut self, mut state: Tensors) -> Result<()> {
        for (i, p) in self.list.iter_mut().enumerate() {
            let scope = format!("{i}.{}.", p.name());
            let own: Tensors =
                p.state().into_keys().filter_map(|n| Some((n.clone(), state.swap_remove(&format!("{scope}{n}"))?))).collect();
            p.restore(own).at(|| p.name().to_string())?;
        }
        Ok(())
    }
    /// The graph as it was given, with constants made of stored tensors.
    pub fn finish(&self, graph: &Graph, mut tensors: Tensors) -> Result<Graph> {
        let mut constants = IndexMap::new();
        for p in &self.list {
            p.finish(&mut tensors, &mut constants).at(|| p.name().to_string())?;
        }
        self.drop_variables(&mut tensors);
        let mut patch = Patch::new(graph);
        for (name, tensor) in tensors {
            patch.set_constant(name, Constant::from_tensor(&tensor.copy()?)?);
        }
        for (name, constant) in constants {
            patch.set_constant(name, constant);
        }
        patch.apply()
    }
    /// Names, for telling one training from another.
    pub fn names(&self) -> Vec<&'static str> {
        self.list.iter().map(|p| p.name()).collect()
    }
    fn drop_variables(&self, tensors: &mut Tensors) {
        tensors.retain(|name, _| !self.variables.contains(name));
    }
}
