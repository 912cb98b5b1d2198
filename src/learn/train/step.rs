//! One training step: forward, loss, backward, update; and the search for the culprit when numbers are not finite.

use super::loss::Loss;
use super::objective::Objective;
use super::optimizer::{Optimizer, Pace, UpdateRule, gradient_norm};
use super::options::{ScaleKind, Train};
use super::parametrize::{Chain, Mask, Parametrization, QuantizedWeights, StepCount, Tensors};
use super::params::{Param, ParamSet};
use super::reach::in_reach;
use super::room::claim_step;
use super::scaler::Scaler;
use crate::data::Batch;
use crate::eval::model_input;
use candle_core::{DType, Tensor};
use compresso_base::context::Context;
use compresso_base::error::{At, Error, Result};
use compresso_exec::{self as exec, Outputs, Tape};
use compresso_kernels::memory::Reuse;
use compresso_model::ops::{MixedPrecision, RunMode};
use compresso_model::passes::pipelines;
use compresso_model::{Dim, Graph, Model, Patch, Task, Value, ValueInfo};
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// The one input that images go into.
///
/// # Errors
/// `Unsupported` for graphs with several inputs or none.
pub(super) fn image_input(graph: &Graph) -> Result<&ValueInfo> {
    let feeds: Vec<&ValueInfo> = graph.feeds().collect();
    match feeds[..] {
        [one] => Ok(one),
        _ => Err(Error::unsupported(format!("training needs a model with one input, this one has {}", feeds.len()))),
    }
}

/// Settings of one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pacing {
    pub step: usize,
    /// Steps of the whole training; 0 where it has no planned end.
    pub total: usize,
    pub learning_rate: f64,
    /// Learning rate of biases.
    pub bias_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    /// Largest norm of the gradients; 0: no limit.
    pub clip: f64,
    /// Only add the gradients to those of the batches that follow.
    pub hold: bool,
}

/// What a step reports.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub parts: Vec<(&'static str, f64)>,
    /// Norm of the gradients before clipping, where the weights followed them.
    pub gradient_norm: Option<f64>,
    /// Short numbers overflowed, and the batch was left out.
    pub overflowed: bool,
}

/// The forward pass.
struct Pass<'a> {
    graph: Graph,
    task: Task,
    input: String,
    wanted: Vec<String>,
    /// Values that gradients do not pass.
    stops: Vec<String>,
    ctx: &'a Context,
}

impl Pass<'_> {
    /// `bound` are the tensors that stand in for constants.
    fn forward(&self, bound: &Tensors, batch: &Batch, mode: &RunMode, observer: Option<exec::Observer<'_>>) -> Result<(Outputs, Tape<'_>)> {
        let feeds = HashMap::from([(self.input.clone(), Value::plain(model_input(&self.task, &batch.images)?)?)]);
        let wanted: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        let stops: Vec<&str> = self.stops.iter().map(String::as_str).collect();
        // A closure of this function's own shortens the observer's lifetime to that of the run.
        let mut relay = observer.map(|o| move |name: &str, value: &Value| o(name, value));
        let run = exec::Run {
            wanted: &wanted,
            params: Some(bound),
            stops: &stops,
            mode: Some(mode),
            cancel: Some(&self.ctx.cancel),
            observer: relay.as_mut().map(|r| r as exec::Observer<'_>),
            device: Some(self.ctx.device.clone()),
        };
        exec::run_with_tape(&self.graph, &feeds, run)
    }
}

/// A model under training.
pub(super) struct Stepper<'a> {
    pass: Pass<'a>,
    /// The model's graph with its parameters where training reaches them.
    stored: Graph,
    objective: Box<dyn Objective + 'a>,
    ctx: &'a Context,
    pub params: ParamSet,
    chain: Chain,
    /// Constants that are there for training alone.
    beside: HashSet<String>,
    /// The model's parameters, those of parametrizations, then the objective's.
    trained: Vec<Param>,
    optimizer: Optimizer,
    precision: MixedPrecision,
    /// For float16.
    scaler: Option<Scaler>,
    /// Sums of the gradients of batches that wait for others.
    held: Option<Gradients>,
    /// Memory of a step serves the next.
    _reuse: Reuse,
}

type Gradients = Vec<Option<Tensor>>;

impl<'a> Stepper<'a> {
    /// `open_batch`: the model is trained on batches of other sizes than its own. Weights that the model lists as sparse keep their zeros, and weights that it stores as integers are trained as such,
    /// whatever `parametrizations` there are between.
    pub fn new(
        model: &Model,
        objective: Box<dyn Objective + 'a>,
        parametrizations: Vec<Box<dyn Parametrization>>,
        (rule, open_batch): (UpdateRule, bool),
        options: &Train,
        ctx: &'a Context,
    ) -> Result<Self> {
        let input = image_input(model.graph())?.name.clone();
        let wanted = objective.wanted();
        let mask = if options.keep_zeros { Mask::of_all_weights() } else { Mask::listed(model.graph())? };
        let mut list: Vec<Box<dyn Parametrization>> = vec![Box::new(mask)];
        list.extend(parametrizations);
        let quantized = QuantizedWeights::default();
        list.push(Box::new(if options.scales == ScaleKind::Learned { quantized.learned() } else { quantized }));
        let mut chain = Chain::new(list);
        let stored = in_reach(model.graph(), &wanted)?.unwrap_or_else(|| model.graph().clone());
        let mut graph = chain.rewrite(&stored)?;
        let (mut beside, mut stops) = (HashSet::new(), Vec::new());
        if let Some(b) = objective.beside(&graph)? {
            (graph, beside, stops) = (b.graph, b.constants, b.stops);
        }
        let mut params = ParamSet::of(&graph, &wanted, &ctx.device)?;
        if let Some(freeze) = &options.freeze {
            params.freeze(freeze)?;
        }
        // What is there for training alone needs no likeness to what is stored.
        let own: Vec<Param> = params.params.iter().filter(|p| !beside.contains(&p.name)).cloned().collect();
        params.variables = chain.start(&graph, &own)?;
        let trained: Vec<Param> = params.trained().cloned().chain(objective.variables()).collect();
        let optimizer = Optimizer::new(rule, &trained)?;
        let kept: Vec<String> = wanted.iter().chain(&stops).cloned().collect();
        let mut graph = pipelines::TRAINING.run_keeping(&graph, &kept)?.graph;
        if open_batch {
            graph = compresso_model::graph::open_batch(&graph)?
                .ok_or_else(|| Error::unsupported("what is trained beside the model depends on the size of its batches"))?;
        }
        if options.multi_scale > 0.0 {
            graph = of_any_size(&graph, &input)?;
        }
        let precision = options.precision;
        let scaler = (precision == MixedPrecision::Float16).then(Scaler::default);
        let pass = Pass { graph, task: model.task().clone(), input, wanted, stops, ctx };
        Ok(Self {
            pass,
            stored,
            objective,
            ctx,
            params,
            chain,
            beside,
            trained,
            optimizer,
            precision,
            scaler,
            held: None,
            _reuse: Reuse::new(),
        })
    }

    /// Fails when a step on `batch` images of `[height, width]` cannot fit into memory.
    ///
    /// # Errors
    /// `Memory`; those of inferring shapes.
    pub fn claim(&self, batch: usize, size: [usize; 2]) -> Result<()> {
        // Other devices have memory of their own.
        if self.ctx.device.is_cpu() { claim_step(&self.pass.graph, batch, size) } else { Ok(()) }
    }

    /// Everything beside the model's own tensors that the next step depends on.
    ///
    /// # Errors
    /// Whatever a copy reports.
    pub fn state(&self) -> Result<StepperState> {
        let own = self.trained.iter().skip(self.params.trained().count());
        Ok(StepperState {
            steps: self.optimizer.steps(),
            moments: self.optimizer.moments(&self.trained)?,
            variables: own.map(|p| p.var.as_tensor().copy()).collect::<candle_core::Result<_>>()?,
            scaler: self.scaler,
            parametrizations: self.chain.state(),
        })
    }

    /// Names of the trained parameters: those in [`ParamSet::tensors`], then the objective's.
    pub fn names(&self) -> (Vec<&str>, Vec<&str>) {
        let names: Vec<&str> = self.trained.iter().map(|p| p.name.as_str()).collect();
        let (stored, own) = names.split_at(self.params.trained().count());
        (stored.to_vec(), own.to_vec())
    }

    /// Names of the parametrizations that were given.
    pub fn parametrizations(&self) -> Vec<&'static str> {
        let names = self.chain.names();
        names[1..names.len() - 1].to_vec()
    }

    /// The model's graph with constants made of stored tensors (all of [`ParamSet::tensors`]).
    ///
    /// # Errors
    /// Whatever the parametrizations report.
    pub fn finish(&self, mut tensors: Tensors) -> Result<Graph> {
        tensors.retain(|name, _| !self.beside.contains(name));
        self.chain.finish(&self.stored, tensors)
    }

    /// Goes on from stored tensors (all of [`ParamSet::tensors`]) and a state.
    ///
    /// # Errors
    /// `Internal` when they do not fit.
    pub fn restore(&mut self, tensors: &IndexMap<String, Tensor>, state: StepperState) -> Result<()> {
        for param in self.params.trained() {
            let t = tensors.get(&param.name).ok_or_else(|| Error::internal(format!("no tensor '{}'", param.name)))?;
            param.var.set(t)?;
        }
        for (name, slot) in &mut self.params.statistics {
            *slot = tensors.get(name).ok_or_else(|| Error::internal(format!("no tensor '{name}'")))?.clone();
        }
        for (param, t) in self.trained.iter().skip(self.params.trained().count()).zip(&state.variables) {
            param.var.set(t)?;
        }
        self.chain.restore(state.parametrizations)?;
        self.scaler = state.scaler;
        self.optimizer.restore(state.steps, state.moments)
    }

    /// Runs on a thread of the pool that kernels share: handing work to the pool and waiting for it from outside would cost two
    /// switches of threads for each kernel.
    ///
    /// # Errors
    /// `Check`, naming the first value or gradient that is not finite (under float16, once scaling the loss down has not
    /// helped); whatever graph and objective report.
    pub fn step(&mut self, batch: &Batch, pacing: &Pacing) -> Result<Done> {
        rayon::scope(|_| self.step_here(batch, pacing))
    }

    fn step_here(&mut self, batch: &Batch, pacing: &Pacing) -> Result<Done> {
        let mode = self.mode(pacing);
        let (bound, penalties) = self.chain.forward(self.params.bind())?;
        let (outputs, tape) = self.pass.forward(&bound, batch, &mode, None)?;
        self.objective.advance(StepCount { done: pacing.step, total: pacing.total });
        let mut loss = self.objective.loss(&outputs, batch, self.ctx)?;
        drop(outputs);
        for (name, penalty) in penalties {
            loss.parts.push((name, penalty.to_dtype(DType::F64)?.to_scalar()?));
            loss.total = (loss.total + penalty)?;
        }
        let value = loss.total.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() || !loss.value().is_finite() {
            if self.retries() {
                return Ok(self.skipped(loss));
            }
            return Err(self.culprit(batch, pacing, &loss));
        }
        let scale = self.scaler.map_or(1.0, |s| s.scale);
        let total = if self.scaler.is_some() { (&loss.total * scale)? } else { loss.total.clone() };
        let mut store = total.backward()?;
        let mut found = tape.backward(&mut store, Some(&self.ctx.cancel))?;
        // From what the graph saw back to what is stored.
        let made = bound.iter().filter(|(_, t)| t.track_op() && !t.is_variable());
        let made: Vec<(Tensor, Tensor)> = made.filter_map(|(n, t)| Some((t.clone(), found.remove(n)?))).collect();
        let mut behind = exec::through_candle(made)?;
        let mut gradient = |p: &Param| -> Result<Option<Tensor>> {
            // The loss may read a parameter beside the graph.
            let var = p.var.as_tensor();
            let parts = [store.remove(var), found.remove(&p.name), behind.as_mut().and_then(|b| b.remove(var))];
            let mut parts = parts.into_iter().flatten();
            let first = parts.next();
            parts.try_fold(first, |sum, part| {
                Ok(match sum {
                    Some(sum) => Some((sum + part)?),
                    None => Some(part),
                })
            })
        };
        let mut gradients = self.trained.iter().map(&mut gradient).collect::<Result<Gradients>>()?;
        drop((store, found, behind));
        if let Some(held) = self.held.take() {
            for (g, before) in gradients.iter_mut().zip(held) {
                *g = match (g.take(), before) {
                    (Some(a), Some(b)) => Some((a + b)?),
                    (a, b) => a.or(b),
                };
            }
        }
        let mut gradient_norm = None;
        if pacing.hold {
            self.held = Some(gradients);
        } else {
            let norm = match self::gradient_norm(&self.trained, &gradients)? {
                Ok(norm) => norm / scale,
                Err(_) if self.retries() => return Ok(self.skipped(loss)),
                Err(name) => {
                    let e = Error::check(format!("the gradient of '{name}' is not finite, at a loss of {value:.4}"));
                    return Err(e.hint("a lower learning_rate or clip may help"));
                }
            };
            self.follow(&gradients, norm, scale, pacing)?;
            gradient_norm = Some(norm);
        }
        let updates = mode.updates.into_inner().map_err(|_| Error::internal("a thread panicked while training"))?;
        self.params.update_statistics(updates)?;
        if gradient_norm.is_some() {
            self.chain.stepped(StepCount { done: pacing.step + 1, total: pacing.total }, &self.params.tensors())?;
        }
        Ok(Done { parts: loss.parts, gradient_norm, overflowed: false })
    }

    fn mode(&self, pacing: &Pacing) -> RunMode {
        let seed = self.ctx.seed.wrapping_add(pacing.step as u64);
        RunMode { training: true, seed, precision: self.precision, ..RunMode::default() }
    }

    /// Moves the weights. The gradients are `scale` times too large; `norm` is what it is without.
    fn follow(&mut self, gradients: &Gradients, norm: f64, scale: f64, pacing: &Pacing) -> Result<()> {
        let clip = if pacing.clip > 0.0 { (pacing.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let pace = Pace {
            learning_rate: pacing.learning_rate,
            bias_rate: pacing.bias_rate,
            momentum: pacing.momentum,
            weight_decay: pacing.weight_decay,
            gradient_scale: clip / scale,
        };
        if let Some(scaler) = &mut self.scaler {
            scaler.succeeded();
        }
        self.optimizer.step(&self.trained, gradients, &pace)
    }

    /// Scales the loss down after an overflow; false when that is no way out.
    fn retries(&mut self) -> bool {
        self.scaler.as_mut().is_some_and(Scaler::overflowed)
    }

    /// What a batch that overflowed reports; gradients that it would have been added to are lost with it.
    fn skipped(&mut self, loss: Loss) -> Done {
        self.held = None;
        Done { parts: loss.parts, gradient_norm: None, overflowed: true }
    }

    /// Which number went wrong first: a weight, an image, or a value of the graph.
    fn culprit(&self, batch: &Batch, pacing: &Pacing, loss: &Loss) -> Error {
        let parts: Vec<String> = loss.parts.iter().map(|(n, v)| format!("{n} {v}")).collect();
        let found = self.first_not_finite(batch, pacing);
        let hint = "a lower learning_rate helps where training diverged; else look at the data and the model's weights";
        match found {
            Ok(Some(what)) => Error::check(format!("the loss is not finite ({}): {what}", parts.join(", "))).hint(hint),
            Ok(None) => Error::check(format!("the loss is not finite ({}), although all values are", parts.join(", "))).hint(hint),
            Err(e) => e,
        }
    }

    fn first_not_finite(&self, batch: &Batch, pacing: &Pacing) -> Result<Option<String>> {
        for p in &self.trained {
            if !finite(p.var.as_tensor())? {
                return Ok(Some(format!("the weights '{}' are not", p.name)));
            }
        }
        for (name, t) in &self.params.statistics {
            if !finite(t)? {
                return Ok(Some(format!("the statistics '{name}' are not")));
            }
        }
        let makers = self.pass.graph.producers();
        let mut found = None;
        let mut observe = |name: &str, value: &Value| -> Result<()> {
            if found.is_none() && value.element.is_float() && !finite(&value.tensor)? {
                found = Some(match makers.get(name) {
                    Some(&i) => format!("the first such value is '{name}', of {}", self.pass.graph.nodes()[i].label()),
                    None => format!("the input '{name}' has such values"),
                });
            }
            Ok(())
        };
        let mode = self.mode(pacing);
        let (bound, _) = self.chain.forward(self.params.bind())?;
        self.pass.forward(&bound, batch, &mode, Some(&mut observe)).at(|| "looking for the value that is not finite".to_string())?;
        Ok(found)
    }
}

/// What a [`Stepper`] remembers beside the model's tensors.
pub(super) struct StepperState {
    pub steps: i32,
    /// Of all trained parameters, in order.
    pub moments: Vec<(Tensor, Option<Tensor>)>,
    /// The objective's own.
    pub variables: Vec<Tensor>,
    pub scaler: Option<Scaler>,
    /// What parametrizations remember, by name.
    pub parametrizations: Tensors,
}

/// The graph for images of any height and width.
fn of_any_size(graph: &Graph, input: &str) -> Result<Graph> {
    let mut patch = Patch::new(graph);
    let mut inputs = graph.inputs().to_vec();
    for info in inputs.iter_mut().filter(|i| i.name == input) {
        if let Some(shape) = info.fact.shape.as_mut().filter(|s| s.len() == 4) {
            (shape[2], shape[3]) = (Dim::symbol("height"), Dim::symbol("width"));
        }
    }
    patch.set_inputs(inputs);
    patch.apply()
}

fn finite(t: &Tensor) -> Result<bool> {
    // A sum of magnitudes is finite only if all are (or they overflow, which is as bad).
    Ok(t.abs()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite())
}
