//! One training step: forward, loss, backward, update; and the search for the culprit when numbers are not finite.

use super::objective::{Loss, Objective};
use super::optimizer::{Optimizer, Pace, Rule, gradient_norm};
use super::params::{Param, ParamSet};
use super::prepare::prepare;
use crate::context::Context;
use crate::error::{At, Error, Result};
use crate::exec::{self, Outputs, Tape};
use crate::learn::data::Batch;
use crate::model::ops::Mode;
use crate::model::{Graph, Model, Value, ValueInfo};
use candle_core::{DType, Tensor};
use std::collections::HashMap;

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
    pub learning_rate: f64,
    pub momentum: f64,
    pub weight_decay: f64,
    /// Largest norm of the gradients; 0: no limit.
    pub clip: f64,
}

/// What a step reports.
#[derive(Debug, Clone)]
pub(super) struct Done {
    pub parts: Vec<(&'static str, f64)>,
    /// Norm of the gradients before clipping.
    pub gradient_norm: f64,
}

/// The forward pass.
struct Pass<'a> {
    graph: Graph,
    input: String,
    wanted: Vec<String>,
    ctx: &'a Context,
}

impl Pass<'_> {
    fn forward(&self, params: &ParamSet, batch: &Batch, mode: &Mode, observer: Option<exec::Observer<'_>>) -> Result<(Outputs, Tape<'_>)> {
        let bound = params.bind();
        let feeds = HashMap::from([(self.input.clone(), Value::plain(batch.images.clone())?)]);
        let wanted: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        // A closure of this function's own shortens the observer's lifetime to that of the run.
        let mut relay = observer.map(|o| move |name: &str, value: &Value| o(name, value));
        let run = exec::Run {
            wanted: &wanted,
            params: Some(&bound),
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
    objective: Box<dyn Objective + 'a>,
    ctx: &'a Context,
    pub params: ParamSet,
    /// The model's parameters, then the objective's.
    trained: Vec<Param>,
    optimizer: Optimizer,
}

impl<'a> Stepper<'a> {
    pub fn new(model: &Model, objective: Box<dyn Objective + 'a>, rule: Rule, ctx: &'a Context) -> Result<Self> {
        let input = image_input(model.graph())?.name.clone();
        let wanted = objective.wanted();
        let params = ParamSet::of(model.graph(), &wanted, &ctx.device)?;
        let trained: Vec<Param> = params.params.iter().cloned().chain(objective.variables()).collect();
        let optimizer = Optimizer::new(rule, &trained)?;
        let graph = prepare(model.graph(), &wanted)?;
        Ok(Self { pass: Pass { graph, input, wanted, ctx }, objective, ctx, params, trained, optimizer })
    }

    /// # Errors
    /// `Check`, naming the first value or gradient that is not finite; whatever graph and objective report.
    pub fn step(&mut self, batch: &Batch, pacing: &Pacing) -> Result<Done> {
        let mode = Mode { training: true, seed: self.ctx.seed.wrapping_add(pacing.step as u64), ..Mode::default() };
        let (outputs, tape) = self.pass.forward(&self.params, batch, &mode, None)?;
        let loss = self.objective.loss(&outputs, batch, self.ctx)?;
        drop(outputs);
        let value = loss.total.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        if !value.is_finite() || !loss.value().is_finite() {
            return Err(self.culprit(batch, pacing, &loss));
        }
        let mut store = loss.total.backward()?;
        let mut found = tape.backward(&mut store, Some(&self.ctx.cancel))?;
        let gradient = |p: &Param| -> Result<Option<Tensor>> {
            // The loss may read a parameter beside the graph.
            let sum = match (store.remove(p.var.as_tensor()), found.remove(&p.name)) {
                (Some(a), Some(b)) => Some((a + b)?),
                (a, b) => a.or(b),
            };
            Ok(match (sum, &p.mask) {
                (Some(g), Some(mask)) => Some((g * mask)?),
                (g, _) => g,
            })
        };
        let gradients = self.trained.iter().map(gradient).collect::<Result<Vec<_>>>()?;
        drop((store, found));
        let norm = gradient_norm(&self.trained, &gradients)?.map_err(|name| {
            let e = Error::check(format!("the gradient of '{name}' is not finite, at a loss of {value:.4}"));
            e.hint("a lower learning_rate or clip may help")
        })?;
        let gradient_scale = if pacing.clip > 0.0 { (pacing.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let pace =
            Pace { learning_rate: pacing.learning_rate, momentum: pacing.momentum, weight_decay: pacing.weight_decay, gradient_scale };
        self.optimizer.step(&self.trained, &gradients, &pace)?;
        let updates = mode.updates.into_inner().map_err(|_| Error::internal("a thread panicked while training"))?;
        self.params.update_statistics(updates)?;
        Ok(Done { parts: loss.parts, gradient_norm: norm })
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
        let mode = Mode { training: true, seed: self.ctx.seed.wrapping_add(pacing.step as u64), ..Mode::default() };
        self.pass.forward(&self.params, batch, &mode, Some(&mut observe)).at(|| "looking for the value that is not finite".to_string())?;
        Ok(found)
    }
}

fn finite(t: &Tensor) -> Result<bool> {
    // A sum of magnitudes is finite only if all are (or they overflow, which is as bad).
    Ok(t.abs()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite())
}
