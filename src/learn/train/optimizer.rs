//! Optimizers: SGD with momentum, Adam and AdamW, with the arithmetic of PyTorch's.
//!
//! On the CPU parameters and state are updated in place, one pass per parameter; elsewhere by tensor operations.

use super::params::Param;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor};
use compresso_base::error::{Error, Result};
use compresso_kernels::update;
use compresso_model::ops::ParamKind;
use std::cell::RefCell;

/// An update rule. Momentum (for Adam: the first decay rate) comes with each step, as it may change during warm-up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum UpdateRule {
    /// v ← μ·v + g; w ← w − rate · (g + μ·v with Nesterov, else v). Decay is added to the gradient.
    Sgd {
        /// Looks ahead by the momentum (Nesterov), as in the formula.
        nesterov: bool,
    },
    /// Kingma & Ba 2015; decay is added to the gradient.
    Adam {
        /// Decay rate of the mean square of the gradient.
        beta2: f64,
        /// Added to the root of the mean square, by which steps are divided.
        epsilon: f64,
    },
    /// Loshchilov & Hutter 2019; weights decay by rate · decay on their own.
    AdamW {
        /// Decay rate of the mean square of the gradient.
        beta2: f64,
        /// Added to the root of the mean square, by which steps are divided.
        epsilon: f64,
    },
}

/// What changes from step to step.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Learning rate of all parameters but biases.
    pub learning_rate: f64,
    /// Learning rate of biases.
    pub bias_rate: f64,
    /// Momentum of SGD; of Adam and AdamW, the decay rate of the mean gradient.
    pub momentum: f64,
    /// Decay of the parameters that decay.
    pub weight_decay: f64,
    /// Factor on all gradients, from clipping.
    pub gradient_scale: f64,
}

/// State of one parameter.
#[derive(Debug)]
enum State {
    Host { first: Vec<f32>, second: Vec<f32> },
    Device { first: Tensor, second: Option<Tensor> },
}

/// An optimizer over a fixed list of parameters.
#[derive(Debug)]
pub struct Optimizer {
    rule: UpdateRule,
    states: Vec<State>,
    steps: i32,
}

impl Optimizer {
    /// For parameters that have not been updated yet; state lies on the device of each.
    pub fn new(rule: UpdateRule, params: &[Param]) -> Result<Self> {
        let two = !matches!(rule, UpdateRule::Sgd { .. });
        let state = |p: &Param| -> Result<State> {
            let tensor = p.var.as_tensor();
            if tensor.device().is_cpu() {
                let n = tensor.elem_count();
                return Ok(State::Host { first: vec![0.0; n], second: if two { vec![0.0; n] } else { Vec::new() } });
            }
            let zeros = tensor.zeros_like()?;
            Ok(State::Device { second: two.then(|| zeros.copy()).transpose()?, first: zeros })
        };
        Ok(Self { rule, states: params.iter().map(state).collect::<Result<_>>()?, steps: 0 })
    }

    /// One step. `gradients` stand in the order of `params`; a parameter without one stays as it is.
    ///
    /// # Errors
    /// `Internal` when `params` are not those that the optimizer was made for.
    pub fn step(&mut self, params: &[Param], gradients: &[Option<Tensor>], pace: &Pace) -> Result<()> {
        if params.len() != self.states.len() || gradients.len() != self.states.len() {
            return Err(Error::internal("the optimizer was made for other parameters"));
        }
        self.steps += 1;
        for ((param, gradient), state) in params.iter().zip(gradients).zip(&mut self.states) {
            let Some(gradient) = gradient else { continue };
            let rate = if param.kind == ParamKind::Bias { pace.bias_rate } else { pace.learning_rate };
            let decay = if param.decays() { pace.weight_decay } else { 0.0 };
            let update = Update::new(self.rule, &Pace { learning_rate: rate, ..*pace }, decay, self.steps);
            match state {
                State::Host { first, second } => {
                    let gradient = gradient.contiguous()?;
                    param.var.as_tensor().inplace_op2(&gradient, &HostUpdate { update, first: first.into(), second: second.into() })?;
                }
                State::Device { first, second } => update.on_device(param, gradient, first, second)?,
            }
        }
        Ok(())
    }
}

impl Optimizer {
    /// Steps so far.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The state of each parameter: first and second moments (the latter where the rule has them), in the shape of the
    /// parameter.
    ///
    /// # Errors
    /// Whatever a copy reports.
    pub fn moments(&self, params: &[Param]) -> Result<Vec<(Tensor, Option<Tensor>)>> {
        let one = |(param, state): (&Param, &State)| -> Result<(Tensor, Option<Tensor>)> {
            let shape = param.var.shape();
            let host = |v: &Vec<f32>| Tensor::from_slice(v, shape, param.var.device());
            Ok(match state {
                State::Host { first, second } => (host(first)?, if second.is_empty() { None } else { Some(host(second)?) }),
                State::Device { first, second } => (first.clone(), second.clone()),
            })
        };
        params.iter().zip(&self.states).map(one).collect()
    }

    /// Goes on from what [`Optimizer::moments`] gave after so many steps.
    ///
    /// # Errors
    /// `Internal` when the moments are not those of the same parameters and rule.
    pub fn restore(&mut self, steps: i32, moments: Vec<(Tensor, Option<Tensor>)>) -> Result<()> {
        if moments.len() != self.states.len() {
            return Err(Error::internal("the optimizer was made for other parameters"));
        }
        for (state, (one, two)) in self.states.iter_mut().zip(moments) {
            match state {
                State::Host { first, second } => {
                    let two = two.map(|t| t.flatten_all()?.to_vec1::<f32>()).transpose()?.unwrap_or_default();
                    let one = one.flatten_all()?.to_vec1::<f32>()?;
                    if one.len() != first.len() || two.len() != second.len() {
                        return Err(Error::internal("the moments are those of other parameters"));
                    }
                    (*first, *second) = (one, two);
                }
                State::Device { first, second } => (*first, *second) = (one, two),
            }
        }
        self.steps = steps;
        Ok(())
    }
}

/// The numbers of one update, computed once per parameter.
#[derive(Debug, Clone, Copy)]
struct Update {
    rule: UpdateRule,
    rate: f64,
    momentum: f64,
    decay: f64,
    scale: f64,
    /// 1 − β₁ᵗ and 1 − β₂ᵗ.
    corrections: (f64, f64),
    first_step: bool,
}

impl Update {
    fn new(rule: UpdateRule, pace: &Pace, decay: f64, step: i32) -> Self {
        let corrections = match rule {
            UpdateRule::Sgd { .. } => (1.0, 1.0),
            UpdateRule::Adam { beta2, .. } | UpdateRule::AdamW { beta2, .. } => (1.0 - pace.momentum.powi(step), 1.0 - beta2.powi(step)),
        };
        Self {
            rule,
            rate: pace.learning_rate,
            momentum: pace.momentum,
            decay,
            scale: pace.gradient_scale,
            corrections,
            first_step: step == 1,
        }
    }

    fn on_host(&self, weights: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let (rate, mu, decay, scale) = (self.rate as f32, self.momentum as f32, self.decay as f32, self.scale as f32);
        match self.rule {
            UpdateRule::Sgd { nesterov } => {
                let keep = if self.first_step { 0.0 } else { mu };
                update::sgd(weights, gradient, first, update::Sgd { rate, momentum: mu, keep, decay, scale, nesterov });
            }
            UpdateRule::Adam { beta2, epsilon } | UpdateRule::AdamW { beta2, epsilon } => {
                let decoupled = matches!(self.rule, UpdateRule::AdamW { .. });
                let (shrink, decay) = if decoupled { (1.0 - rate * decay, 0.0) } else { (1.0, decay) };
                let numbers = update::Adam {
                    beta1: mu,
                    beta2: beta2 as f32,
                    step: (self.rate / self.corrections.0) as f32,
                    root: (1.0 / self.corrections.1.sqrt()) as f32,
                    epsilon: epsilon as f32,
                    shrink,
                    decay,
                    scale,
                };
                update::adam(weights, gradient, first, second, numbers);
            }
        }
    }

    fn on_device(&self, param: &Param, gradient: &Tensor, first: &mut Tensor, second: &mut Option<Tensor>) -> Result<()> {
        let w = param.var.as_tensor().detach();
        let decoupled = matches!(self.rule, UpdateRule::AdamW { .. });
        let mut g = (gradient * self.scale)?;
        if self.decay > 0.0 && !decoupled {
            g = (g + (&w * self.decay)?)?;
        }
        let next = match self.rule {
            UpdateRule::Sgd { nesterov } => {
                let keep = if self.first_step { 0.0 } else { self.momentum };
                *first = ((&*first * keep)? + &g)?;
                let by = if nesterov { (g + (&*first * self.momentum)?)? } else { first.clone() };
                (w - (by * self.rate)?)?
            }
            UpdateRule::Adam { beta2, epsilon } | UpdateRule::AdamW { beta2, epsilon } => {
                let second = second.as_mut().ok_or_else(|| Error::internal("Adam without its second moment"))?;
                *first = ((&*first * self.momentum)? + (&g * (1.0 - self.momentum))?)?;
                *second = ((&*second * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
                let root = ((second.sqrt()? * (1.0 / self.corrections.1.sqrt()))? + epsilon)?;
                let by = ((&*first / root)? * (self.rate / self.corrections.0))?;
                let shrink = if decoupled { 1.0 - self.rate * self.decay } else { 1.0 };
                ((w * shrink)? - by)?
            }
        };
        Ok(param.var.set(&next.detach())?)
    }
}

struct HostUpdate<'a> {
    update: Update,
    first: RefCell<&'a mut Vec<f32>>,
    second: RefCell<&'a mut Vec<f32>>,
}

impl InplaceOp2 for HostUpdate<'_> {
    fn name(&self) -> &'static str {
        "optimizer"
    }
    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> candle_core::Result<()> {
        let weights = slice_mut(s1, l1)?;
        let gradient = slice(s2, l2)?;
        self.update.on_host(weights, gradient, &mut self.first.borrow_mut(), &mut self.second.borrow_mut());
        Ok(())
    }
}

/// The elements of a contiguous float32 tensor.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(candle_core::Error::RequiresContiguous { op: "slice" })?;
    Ok(&storage.as_slice::<f32>()?[start..end])
}

pub(super) fn slice_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> candle_core::Result<&'a mut [f32]> {
    let (start, end) = layout.contiguous_offsets().ok_or(candle_core::Error::RequiresContiguous { op: "slice" })?;
    match storage {
        CpuStorage::F32(v) => Ok(&mut v[start..end]),
        _ => Err(candle_core::Error::UnsupportedDTypeForOp(candle_core::DType::F64, "slice")),
    }
}

/// Euclidean norm of all gradients together; the name of the first parameter whose gradient is not finite, if any.
pub fn gradient_norm(params: &[Param], gradients: &[Option<Tensor>]) -> Result<Result<f64, String>> {
    let mut sum = 0.0;
    for (param, gradient) in params.iter().zip(gradients) {
        let Some(g) = gradient else { continue };
        let squares = if g.device().is_cpu() && g.is_contiguous() {
            let (storage, layout) = g.storage_and_layout();
            match &*storage {
                candle_core::Storage::Cpu(s) => update::sum_of_squares(slice(s, layout)?),
                _ => return Err(Error::internal("a CPU tensor outside the CPU")),
            }
        } else {
            f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?)
        };
        if !squares.is_finite() {
            return Ok(Err(param.name.clone()));
        }
        sum += squares;
    }
    Ok(Ok(sum.sqrt()))
}
